// Snippets of every feature against what Jinja2 made of them (tests/goldens/make_jinja.py).
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "llm/template/template.h"

namespace busbar {
namespace {

TEST(Golden, SnippetsAsJinja2) {
    std::ifstream file(BUSBAR_SOURCE_DIR "/tests/goldens/jinja.json");
    const auto golden = nlohmann::ordered_json::parse(file);
    ASSERT_GT(golden["cases"].size(), 600u);
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

}  // namespace
}  // namespace busbar
