// Snippets of every feature against what Jinja2 made of them (tests/goldens/make_jinja.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "llm/template/template.h"

namespace busbar {
namespace {

void compare_with(const std::string& path) {
    std::ifstream file(path);
    const auto golden = nlohmann::ordered_json::parse(file);
    ASSERT_GT(golden["cases"].size(), 600u);
    std::printf("%zu snippets of %s\n", golden["cases"].size(), golden["made_by"].get<std::string>().c_str());
    for (const auto& item : golden["cases"]) {
        const std::string source = item[0];
        std::string text, error;
        try {
            ChatTemplate chat_template(source, "snippet");
            chat_template.set_clock(golden["clock"]);
            text = chat_template.render_text(golden["variables"]);
        } catch (const Error& e) {
            error = e.what();
            EXPECT_EQ(e.code(), ErrorCode::bad_input) << source;
        }
        if (item[1].is_null()) {
            EXPECT_NE(error, "") << "expected " << item[2] << " of " << source << "\ngot " << text;
        } else {
            EXPECT_EQ(error, "") << source;
            EXPECT_EQ(text, item[1].get<std::string>()) << source;
        }
    }
}

TEST(Golden, SnippetsAsJinja2) {
    compare_with(BUSBAR_SOURCE_DIR "/tests/goldens/jinja.json");
}

TEST(Golden, RandomExpressionsAsJinja2) {
    const char* path = std::getenv("BUSBAR_JINJA");
    if (!path) GTEST_SKIP() << "BUSBAR_JINJA does not name a file made by tests/goldens/random_jinja.py";
    compare_with(path);
}

}  // namespace
}  // namespace busbar
