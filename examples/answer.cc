// The C++ API in one page: opens a model, answers one question, prints the text as it comes.
#include <cstdio>

#include "busbar/busbar.h"

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: answer MODEL QUESTION\n");
        return 2;
    }
    try {
        busbar::api::Model model = busbar::api::Model::open(argv[1]);
        std::fprintf(stderr, "%s\n", model.placement().c_str());
        busbar::api::Sampling sampling;
        sampling.max_tokens = 100;
        model.generate(model.chat_prompt(argv[2]), sampling, [&](int32_t id) {
            std::fputs(model.detokenize({id}).c_str(), stdout);
            std::fflush(stdout);
            return true;
        });
        std::puts("");
    } catch (const busbar::api::Failure& e) {
        std::fprintf(stderr, "answer: %s\n", e.what());
        return e.code();
    }
    return 0;
}
