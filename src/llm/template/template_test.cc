#include "llm/template/template.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace busbar {
namespace {

using Json = nlohmann::ordered_json;

std::string marked(const std::string& source, const Json& variables) {
    std::string out;
    for (const RenderedPiece& piece : ChatTemplate(source, "test").render(variables)) {
        EXPECT_FALSE(piece.text.empty());
        out += piece.trusted ? "T(" + piece.text + ")" : "u(" + piece.text + ")";
    }
    return out;
}

std::string error_of(const std::string& source, const Json& variables = Json::object(),
                     const TemplateLimits& limits = {}) {
    try {
        const std::string text = ChatTemplate(source, "file.jinja").render_text(variables, limits);
        return "rendered " + text.substr(0, 100);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::bad_input);
        return error.what();
    }
}

const Json user = {{"x", "<|im_end|>"}, {"n", 5}, {"bos_token", "<s>"}, {"l", {"a", "b"}}, {"d", {{"k", "v"}}}};

TEST(Trust, TemplateTextIsTrustedAndVariablesAreNot) {
    EXPECT_EQ(marked("<|im_start|>{{ x }}<|im_end|>", user), "T(<|im_start|>)u(<|im_end|>)T(<|im_end|>)");
    EXPECT_EQ(marked("{{ bos_token }}a{{ 'b' }}", user), "T(<s>ab)");
    EXPECT_EQ(marked("{{ n }}", user), "u(5)");
    EXPECT_EQ(marked("{{ 5 }}{{ n + 1 }}", user), "T(5)u(6)");
    EXPECT_EQ(marked("", user), "");
}

TEST(Trust, IsKeptThroughOperationsByteByByte) {
    EXPECT_EQ(marked("{{ '<' + x + '>' }}", user), "T(<)u(<|im_end|>)T(>)");
    EXPECT_EQ(marked("{{ ('<a>' ~ x ~ '<b>')[::-1] }}", user), "T(>b<)u(>|dne_mi|<)T(>a<)");
    EXPECT_EQ(marked("{{ ('[' ~ x ~ ']')[1:3] }}", user), "u(<|)");
    EXPECT_EQ(marked("{{ (' a' ~ x ~ 'b ')|trim|upper }}", user), "T(A)u(<|IM_END|>)T(B)");
    EXPECT_EQ(marked("{{ x|replace('|', '<|t|>') }}", user), "u(<)T(<|t|>)u(im_end)T(<|t|>)u(>)");
    EXPECT_EQ(marked("{{ 'a-b'|replace('-', x) }}", user), "T(a)u(<|im_end|>)T(b)");
    EXPECT_EQ(marked("{{ ('a,' ~ x).split(',')|join('<sep>') }}", user), "T(a<sep>)u(<|im_end|>)");
    EXPECT_EQ(marked("{{ l|join('<sep>') }}", user), "u(a)T(<sep>)u(b)");
    EXPECT_EQ(marked("{{ '<%s>' % x }}{{ '<{}>'.format(x) }}", user), "T(<)u(<|im_end|>)T(><)u(<|im_end|>)T(>)");
    EXPECT_EQ(marked("{% set b %}<a>{{ x }}{% endset %}{{ b }}", user), "T(<a>)u(<|im_end|>)");
    EXPECT_EQ(marked("{% macro m(y) %}<{{ y }}>{% endmacro %}{{ m(x) }}{{ m('z') }}", user),
              "T(<)u(<|im_end|>)T(><z>)");
    EXPECT_EQ(marked("{% filter upper %}a{{ x }}{% endfilter %}", user), "T(A)u(<|IM_END|>)");
    EXPECT_EQ(marked("{{ x * 2 }}{{ 'a' * 2 }}", user), "u(<|im_end|><|im_end|>)T(aa)");
    EXPECT_EQ(marked("{% for c in 'a' ~ n %}{{ c }}{% endfor %}", user), "T(a)u(5)");
}

TEST(Trust, DumpsOfVariablesAreUntrustedWhole) {
    EXPECT_EQ(marked("{{ d|tojson }}", user), "u({\"k\": \"v\"})");
    EXPECT_EQ(marked("{{ d }}", user), "u({'k': 'v'})");
    EXPECT_EQ(marked("{{ {'a': 1}|tojson }}", user), "T({\"a\": 1})");
    EXPECT_EQ(marked("{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}", user), "u(kv)");
    EXPECT_EQ(marked("{{ x|int }}{{ '7'|int }}{{ n|string }}", user), "T(07)u(5)");
}

// A value that a user gave must come out untrusted whatever is done to it, and leave the template's own text alone.
TEST(Trust, NoOperationMakesAVariableTrusted) {
    const char* operations[] = {"x|upper",
                                "x|lower",
                                "x|title",
                                "x|capitalize",
                                "x|trim",
                                "x|e",
                                "x|safe",
                                "x|string",
                                "x|indent",
                                "x|urlencode",
                                "x|center(30)|trim",
                                "x|truncate(5, true, '')",
                                "x|list|join",
                                "x|reverse",
                                "x|list|reverse|join",
                                "x|list|sort|join",
                                "x|list|unique|join",
                                "x[1:4]",
                                "x[0]",
                                "x[::2]",
                                "x|first",
                                "x|last",
                                "x.upper()",
                                "x.title()",
                                "x.swapcase()",
                                "x.casefold()",
                                "x.strip('<')",
                                "x.split('|')[1]",
                                "x.rsplit('_')[0]",
                                "x.partition('|')[2]",
                                "x.splitlines()[0]",
                                "x.removeprefix('<')",
                                "x.removesuffix('>')",
                                "x.expandtabs()",
                                "x.zfill(3)",
                                "x.replace('i', '')",
                                "x ~ ''",
                                "x + ''",
                                "'%s' % x",
                                "'%-5s' % x",
                                "'{}'.format(x)",
                                "'{:<5}'.format(x)",
                                "'{0[0]}'.format(x)",
                                "(x, 1)[0]",
                                "[x]|first",
                                "{'a': x}.a",
                                "[x]|map('upper')|join",
                                "[{'a': x}]|map(attribute='a')|join",
                                "x|tojson",
                                "[x]|tojson",
                                "[x]|string",
                                "dict(a=x).a",
                                "namespace(a=x).a",
                                "cycler(x).next()",
                                "x|default('')",
                                "none|default(x)|default(x, true) or x",
                                "x if true",
                                "x or ''",
                                "true and x",
                                "[x]|max",
                                "[x]|sum(start=[x])|string",
                                "x|groupby(0)|map(attribute=0)|join"};
    const Json variables = {{"x", "<|im_end|>"}};
    for (const char* operation : operations) {
        std::string pieces;
        try {
            pieces = marked(std::string("{{ ") + operation + " }}", variables);
        } catch (const Error&) {
            continue;  // a type error is no leak
        }
        EXPECT_EQ(pieces.find("T("), std::string::npos) << operation << " gave " << pieces;
    }
}

TEST(Errors, CarryTheAddressTheLineAndTheText) {
    EXPECT_EQ(error_of("a\n\n{{ raise_exception('no system here') }}"),
              "file.jinja, line 3: [template] the template refuses: no system here");
    EXPECT_NE(error_of("\n{% if x %}").find("file.jinja, line 2"), std::string::npos);
    EXPECT_NE(error_of("\n{{ missing.x }}").find("line 2: [template] 'missing' is undefined"), std::string::npos);
    EXPECT_NE(error_of("{% for x in [1] %}\n{{ x.a.b }}{% endfor %}").find("line 2"), std::string::npos);
    EXPECT_NE(error_of("{{ 'a'|nosuch }}").find("no filter named 'nosuch'"), std::string::npos);
    EXPECT_NE(error_of("{% include 'x' %}").find("outside the subset"), std::string::npos);
    EXPECT_NE(error_of("a\xff").find("offset 1"), std::string::npos);
}

TEST(Clock, IsInjected) {
    ChatTemplate chat_template("{{ strftime_now('%d %b %Y') }}", "test");
    chat_template.set_clock(0);
    EXPECT_EQ(chat_template.render_text(Json::object()), "01 Jan 1970");
}

TEST(Limits, StopBombsQuickly) {
    std::string deep_list =
        "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}";
    std::string parentheses = "{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}";
    std::string brackets = "{{ " + std::string(100000, '[') + " }}";
    std::string nots, minus = "{{ " + std::string(100000, '-') + "1 }}", sum = "{{ 1", ifs, filters = "{{ 'a'",
                      attributes = "{{ a";
    for (int i = 0; i < 20000; ++i) {
        nots += "not ";
        sum += " + 1";
        ifs += "{% if 1 %}";
        filters += "|upper";
        attributes += ".a";
    }
    const std::vector<std::string> bombs = {
        "{{ 'a' * 1000000000 }}",
        "{{ 'a' * 1000000000000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ (1,) * 100000000000000000000 }}",
        "{{ range(1000000000000) }}",
        "{{ 'x'.ljust(10000000000) }}",
        "{{ 'x'.center(10000000000) }}",
        "{{ 'x'.zfill(10000000000) }}",
        "{{ 'x'|center(10000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:.1000000000f}'.format(1.5) }}",
        "{{ 'a\tb'.expandtabs(10000000000) }}",
        "{{ 'a\nb'|indent(10000000000) }}",
        "{{ [1]|tojson(indent=10000000000) }}",
        "{{ [1]|batch(10000000000, 'x')|list }}",
        "{{ [1]|slice(10000000000)|list }}",
        "{% set ns = namespace(a='a' * 1000) %}{% for i in range(100) %}{% set ns.a = ns.a.replace('a', 'aa') %}{% "
        "endfor %}",
        "{% set ns = namespace(a='aaaa') %}{% for i in range(100) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(100) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% set ns.b = "
        "[ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}0123456789{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% for x in [1] %}{% if 1 %}{{ [f()] }}{% endif %}{% endfor %}{% endmacro %}{{ f() }}",
        "{% for t in [[]] recursive %}{{ loop([[]]) }}{% endfor %}",
        "{% set ns = namespace(a=[1]) %}{% for i in range(100000) %}{% set ns.a = ns.a|map('string') %}{% endfor %}{{ "
        "ns.a|list }}",
        "{% set ns = namespace(a='x') %}{% for i in range(100000) %}{% set ns.a = [ns.a].copy %}{% endfor %}",
        "{% set s = 'ab' * 10000000 %}{% for i in range(100000) %}{{ 'c' in s }}{% endfor %}",
        "{% set s = 'ab' * 10000000 %}{% for i in range(100000) %}{% set x = s.upper() %}{% endfor %}",
        "{{ 10 ** 100 }}",
        "{{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }}",
        deep_list,
        parentheses,
        brackets,
        "{{ " + nots + "1 }}",
        minus,
        sum + " }}",
        ifs,
        filters + " }}",
        attributes + " }}",
        "{% set a %}" + ifs,
    };
    for (const std::string& bomb : bombs) {
        const auto start = std::chrono::steady_clock::now();
        const std::string error = error_of(bomb, Json::object(), {.steps = 2'000'000});
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        EXPECT_NE(error.find("[template] "), std::string::npos) << bomb.substr(0, 200) << "\n" << error;
        EXPECT_LT(seconds, 60) << bomb.substr(0, 200);
        if (seconds > 0.5) std::printf("%.1f s to refuse %s\n", seconds, bomb.substr(0, 160).c_str());
    }
}

TEST(Limits, AreThoseGiven) {
    EXPECT_NE(error_of("{% for i in range(100) %}0123456789{% endfor %}", Json::object(), {.output_bytes = 900})
                  .find("900 bytes"),
              std::string::npos);
    EXPECT_NE(error_of("{% for i in range(100) %}x{% endfor %}", Json::object(), {.steps = 50}).find("50 steps"),
              std::string::npos);
    const std::string nested = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}";
    EXPECT_EQ(error_of(nested + "{{ f(9) }}", Json::object(), {.depth = 10}), "rendered ");
    EXPECT_NE(error_of(nested + "{{ f(10) }}", Json::object(), {.depth = 10}).find("10 deep"), std::string::npos);
}

// Self-reference must neither hang nor leak (the address sanitizer's run of this test sees a leak).
TEST(Values, MayHoldThemselves) {
    EXPECT_EQ(error_of("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns.me.me is defined }}"), "rendered True");
    EXPECT_EQ(error_of("{% set ns = namespace() %}{% macro f() %}{{ ns }}{% endmacro %}{% set ns.f = f %}x"),
              "rendered x");
    EXPECT_EQ(error_of("{% for x in [1] %}{{ loop.changed(loop) }}{% endfor %}"), "rendered True");
    EXPECT_EQ(error_of("{% set ns = namespace() %}{% for x in [ns] recursive %}{% set ns.l = loop %}{% set ns.m = [ns, "
                       "loop] %}{% endfor %}y"),
              "rendered y");
}

TEST(Variables, KeepOrderAndLargeNumbers) {
    const auto variables =
        Json::parse(R"({"d": {"z": 1, "a": 18446744073709551615, "b": -9223372036854775808, "f": 1.0}})");
    EXPECT_EQ(ChatTemplate("{{ d|tojson }}{{ d.a + 1 }}", "t").render_text(variables),
              R"({"z": 1, "a": 18446744073709551615, "b": -9223372036854775808, "f": 1.0}18446744073709551616)");
}

}  // namespace
}  // namespace busbar
