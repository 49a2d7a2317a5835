#include <fmt/format.h>

#include <sys/resource.h>

#include <iostream>
#include <system_error>

#include "base/error.h"
#include "common.h"
#include "flags.h"

namespace busbar {

namespace {

int run_command(int argc, char** argv) {
    CLI::App app{"Busbar runs an AI model, unchanged, on any maker's chip, and shows that the answers agree.",
                 "busbar"};
    app.formatter(std::make_shared<HelpFormatter>());
    app.footer(
        "Examples:\n"
        "  busbar run model.gguf                           a chat\n"
        "  busbar run model.gguf -p \"Why is the sky blue?\"\n"
        "  busbar doctor                                   is this machine ready?\n\n"
        "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 bad input, 4 chip, 5 does not fit,\n"
        "            6 not enough evidence, 70 a defect of ours, 130 interrupted.");
    app.require_subcommand(1);
    app.set_version_flag("--version", std::string("busbar ") + BUSBAR_VERSION);
    int exit_code = 0;
    add_run(app, exit_code);
    add_serve(app, exit_code);
    add_tokenize(app, exit_code);
    add_eval(app, exit_code);
    add_show(app, exit_code);
    add_chips(app, exit_code);
    add_doctor(app, exit_code);
    add_bench(app, exit_code);
    add_conform(app, exit_code);
    add_verify(app, exit_code);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp& e) {
        put(app.help());
        return 0;
    } catch (const CLI::CallForVersion& e) {
        put(std::string(e.what()) + "\n");
        return 0;
    } catch (const CLI::ParseError& e) {
        std::cerr << "busbar: " << usage_message(app, e) << '\n';
        return static_cast<int>(ErrorCode::usage);
    }
    return exit_code;
}

// What the process may have and what it took, for messages about memory.
std::string memory_words() {
    struct rusage usage {};
    struct rlimit limit {};
    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_AS, &limit);
    std::string words = fmt::format("{} MB were in use", usage.ru_maxrss / 1000);
    if (limit.rlim_cur != RLIM_INFINITY)
        words += fmt::format(", {} MB are allowed (ulimit -v)", limit.rlim_cur / 1000000);
    return words + "; a smaller --context or model may fit";
}

}  // namespace

}  // namespace busbar

// The one place where an exception becomes an exit code and a message.
int main(int argc, char** argv) {
    using namespace busbar;
    catch_interrupt();
    int exit_code = 0;
    const auto guarded = [&](auto work) {
        try {
            work();
        } catch (const ClosedPipe&) {
            // the reader has what it wanted
        } catch (const Error& e) {
            std::cerr << "busbar: " << e.what() << '\n';
            exit_code = static_cast<int>(e.code());
        } catch (const std::bad_alloc&) {
            std::cerr << "busbar: [memory] the system gave no more memory; " << memory_words() << '\n';
            exit_code = static_cast<int>(ErrorCode::does_not_fit);
        } catch (const std::system_error& e) {
            // The only one that the standard library throws here: no thread could be started.
            std::cerr << "busbar: [memory] the system gave no more threads or memory (" << e.what() << "); "
                      << memory_words() << '\n';
            exit_code = static_cast<int>(ErrorCode::does_not_fit);
        } catch (const std::exception& e) {
            std::cerr << "busbar: internal: " << e.what()
                      << "\n        This is a defect in Busbar: please report it.\n";
            exit_code = static_cast<int>(ErrorCode::internal);
        }
    };
    guarded([&] { exit_code = run_command(argc, argv); });
    guarded([] { write_trace(); });  // what there is of it, also after an error
    return exit_code;
}
