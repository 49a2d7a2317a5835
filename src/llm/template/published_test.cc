// Published chat templates against Jinja2. They are not ours to commit: tests/goldens/make_templates.py says how to get
// them and makes the expected results; BUSBAR_TEMPLATES names their folder.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "llm/template/template.h"

namespace busbar {
namespace {

std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

TEST(Published, RenderAsJinja2) {
    const char* folder = std::getenv("BUSBAR_TEMPLATES");
    if (!folder) GTEST_SKIP() << "BUSBAR_TEMPLATES is not set";
    const auto expected = nlohmann::ordered_json::parse(read(std::filesystem::path(folder) / "expected.json"));
    size_t rendered = 0, refused = 0;
    for (const auto& [file, results] : expected["templates"].items()) {
        std::string compile_error;
        std::unique_ptr<ChatTemplate> chat_template;
        try {
            chat_template = std::make_unique<ChatTemplate>(read(std::filesystem::path(folder) / file), file);
            chat_template->set_clock(expected["clock"]);
        } catch (const Error& error) {
            compile_error = error.what();
        }
        for (const auto& [name, result] : results.items()) {
            SCOPED_TRACE(file + " over " + name);
            std::string text, error = compile_error;
            try {
                if (chat_template) text = chat_template->render_text(expected["cases"][name]);
            } catch (const Error& e) {
                error = e.what();
            }
            if (result.contains("error")) {
                EXPECT_FALSE(error.empty()) << "expected " << result.dump() << "\ngot " << text;
                // What raise_exception says reaches the user.
                if (result["error"] == "TemplateError") {
                    EXPECT_NE(error.find(result["message"].get<std::string>()), std::string::npos) << error << "\n"
                                                                                                   << result.dump();
                }
                ++refused;
            } else {
                EXPECT_EQ(error, "") << "expected " << result["text"].dump();
                EXPECT_EQ(text, result["text"].get<std::string>());
                ++rendered;
            }
        }
    }
    EXPECT_GT(rendered, 0u);
    std::printf("%zu texts equal to those of %s, %zu refusals\n", rendered,
                expected["made_by"].get<std::string>().c_str(), refused);
}

}  // namespace
}  // namespace busbar
