#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "llm/tokenizer/regex.h"

namespace busbar {

namespace {

constexpr int deepest = 64;
constexpr size_t longest_pattern = 32 << 10;

// Insides of classes. PCRE2's own \s has U+180E and its \w lacks marks and connectors; Oniguruma's have and lack them.
constexpr std::string_view white_space = R"(\p{White_Space})", not_white_space = R"(\P{White_Space})";
constexpr std::string_view word = R"(\p{Alphabetic}\p{M}\p{N}\p{Pc})";
constexpr std::string_view hex_digit = "0-9A-Fa-f";

// Long and POSIX property names that Oniguruma knows and PCRE2 10.42 does not. Oniguruma compares without case, '_',
// '-', ' '.
constexpr std::array<std::pair<std::string_view, std::string_view>, 38> property_names = {{
    {"letter", "L"},
    {"casedletter", "L&"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"alpha", "Alphabetic"},
    {"digit", "Nd"},
}};

/// One pass over the pattern, writing as it reads. It keeps where the last atom began in the output, because Ruby's
/// {n,m}+ repeats the whole quantified atom where PCRE2's would be possessive.
class Translator {
  public:
    Translator(std::string_view pattern, const std::string& address) : in_(pattern), address_(address) {}

    std::string run() {
        if (in_.size() > longest_pattern) refuse("more than 32 KiB");
        while (pos_ < in_.size()) {
            const size_t before = out_.size();
            const char c = in_[pos_];
            if (c == '[') {
                out_ += class_item(0);
                atom_ = before;
            } else if (c == '\\') {
                out_ += escape(false);
                atom_ = before;
            } else if (c == '(') {
                groups_.push_back(before);
                open_group();
            } else if (c == ')') {
                out_ += in_[pos_++];
                atom_ = groups_.empty() ? before : groups_.back();
                if (!groups_.empty()) groups_.pop_back();
            } else if (c == '{') {
                interval();
            } else if (c == '*' || c == '+' || c == '?' || c == '|' || c == '^' || c == '$') {
                out_ += in_[pos_++];
            } else {
                atom_ = before;
                copy_code_point(out_);
            }
        }
        return std::move(out_);
    }

  private:
    [[noreturn]] void refuse(std::string_view what) const {
        throw bad_input(address_, "[tokenizer] expected a pattern of the supported kinds, got {} in {}", what,
                        quote(in_, 200));
    }

    bool at(std::string_view s) const { return in_.substr(pos_, s.size()) == s; }

    void copy_code_point(std::string& out) {
        const size_t n = std::max<size_t>(1, utf8_length(in_.substr(pos_)));
        out += in_.substr(pos_, n);
        pos_ += n;
    }

    void open_group() {
        out_ += '(';
        ++pos_;
        if (at("*")) refuse("a verb '(*'");  // PCRE2's verbs are not Oniguruma's callouts
        if (!at("?")) return;
        // Flags: Ruby's m is PCRE2's s (dot takes newlines); lines are always on.
        size_t end = pos_ + 1;
        while (end < in_.size() && (in_[end] == 'i' || in_[end] == 'm' || in_[end] == 'x' || in_[end] == '-')) ++end;
        if (end > pos_ + 1 && end < in_.size() && (in_[end] == ':' || in_[end] == ')')) {
            for (size_t i = pos_; i < end; ++i) out_ += in_[i] == 'm' ? 's' : in_[i];
            if (in_.substr(pos_, end - pos_).find('x') != std::string_view::npos) refuse("the flag x");
            pos_ = end;
            if (at(":")) out_ += in_[pos_++];
            return;
        }
        static constexpr std::string_view known[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
        for (const std::string_view kind : known)
            if (at(kind)) {
                out_ += kind;
                pos_ += kind.size();
                return;
            }
        refuse("a group of a kind that pre-tokenizers do not use");
    }

    // {n} {n,} {,m} {n,m}, else a literal brace.
    void interval() {
        size_t p = pos_ + 1;
        const auto digits = [&] {
            const size_t from = p;
            while (p < in_.size() && in_[p] >= '0' && in_[p] <= '9') ++p;
            return in_.substr(from, p - from);
        };
        const std::string_view low = digits();
        const bool comma = p < in_.size() && in_[p] == ',';
        if (comma) ++p;
        const std::string_view high = comma ? digits() : std::string_view();
        const bool closed = p < in_.size() && in_[p] == '}';
        if (!closed || (low.empty() && high.empty())) {
            atom_ = out_.size();
            out_ += "\\{";
            ++pos_;
            return;
        }
        out_ += '{';
        out_ += low.empty() ? "0" : low;
        if (comma) (out_ += ',') += high;
        out_ += '}';
        pos_ = p + 1;
        const bool repeated = at("+") || (at("?") && !comma);
        if (repeated && atom_) {
            out_.insert(*atom_, "(?:");
            out_ += ')';
        }
    }

    // `in_class`: the result stands inside [...]. Reads one escape.
    std::string escape(bool in_class) {
        ++pos_;
        if (pos_ >= in_.size()) refuse("a lone backslash at the end");
        const char c = in_[pos_];
        const auto take = [&](std::string_view inside, bool negated = false) {
            ++pos_;
            if (in_class && !negated) return std::string(inside);
            return fmt::format("[{}{}]", negated ? "^" : "", inside);
        };
        switch (c) {
            case 's':
                ++pos_;
                return std::string(white_space);
            case 'S':
                ++pos_;
                return std::string(not_white_space);
            case 'w':
                return take(word);
            case 'h':
                return take(hex_digit);
            case 'W':
                return take(word, true);  // inside a class they stand beside it (class_item)
            case 'H':
                return take(hex_digit, true);
            case 'd':
                ++pos_;
                return "\\p{Nd}";
            case 'D':
                ++pos_;
                return "\\P{Nd}";
            case 'v':
                ++pos_;
                return "\\x0b";
            case 'b':
                if (in_class) return ++pos_, "\\x08";
                ++pos_;
                return fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", word);
            case 'p':
            case 'P':
                return property();
            case 'u':
                return hex(4);
            case 'x':
                return in_.substr(pos_ + 1, 1) == "{" ? braced_hex() : hex(2);
            case 'n':
            case 'r':
            case 't':
            case 'f':
            case 'a':
            case 'e':
                ++pos_;
                return std::string("\\") + c;
            case 'A':
            case 'z':
            case 'Z':
            case 'G':
                if (in_class) break;
                ++pos_;
                return std::string("\\") + c;
            default:
                break;
        }
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            refuse(fmt::format("the escape \\{}", c));
        std::string literal = static_cast<unsigned char>(c) < 0x80 ? "\\" : "";
        copy_code_point(literal);
        return literal;
    }

    std::string hex(size_t limit) {
        ++pos_;
        std::string digits;
        while (digits.size() < limit && pos_ < in_.size() && is_hex(in_[pos_])) digits += in_[pos_++];
        if (digits.empty()) refuse("\\x or \\u without digits");
        return fmt::format("\\x{{{}}}", digits);
    }

    std::string braced_hex() {
        pos_ += 2;
        std::string digits;
        while (pos_ < in_.size() && is_hex(in_[pos_])) digits += in_[pos_++];
        if (!at("}") || digits.empty() || digits.size() > 6) refuse("a malformed \\x{...}");
        ++pos_;
        return fmt::format("\\x{{{}}}", digits);
    }

    static bool is_hex(char c) { return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f'); }

    std::string property() {
        bool negated = in_[pos_] == 'P';
        ++pos_;
        if (!at("{")) refuse("\\p without braces");
        const size_t close = in_.find('}', pos_);
        if (close == std::string_view::npos) refuse("\\p without a closing brace");
        std::string_view name = in_.substr(pos_ + 1, close - pos_ - 1);
        pos_ = close + 1;
        if (name.starts_with('^')) {
            negated = !negated;
            name.remove_prefix(1);
        }
        std::string plain;
        for (const char c : name) {
            const bool letter = (c | 32) >= 'a' && (c | 32) <= 'z', digit = c >= '0' && c <= '9';
            if (letter || digit || c == '&')
                plain += static_cast<char>(letter ? c | 32 : c);
            else if (c != '_' && c != '-' && c != ' ')
                refuse(fmt::format("the property {}", quote(name)));
        }
        if (plain == "space") plain = "White_Space";
        for (const auto& [known, pcre] : property_names)
            if (plain == known) plain = pcre;
        return fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', plain);
    }

    // [...] with Oniguruma's nesting and &&. A class without them stays one class; others become lookaheads and
    // alternatives, each of which still takes exactly one code point.
    std::string class_item(int depth) {
        if (depth > deepest) refuse("classes nested too deeply");
        ++pos_;
        const bool negated = at("^");
        if (negated) ++pos_;
        std::vector<std::string> parts;  // operands of &&
        std::string simple;
        std::vector<std::string> nested;
        const auto finish_operand = [&] {
            if (simple.empty() && nested.empty()) refuse("an empty class");
            std::string operand = simple.empty() ? "" : "[" + simple + "]";
            for (const std::string& n : nested) operand += (operand.empty() ? "" : "|") + n;
            parts.push_back(nested.empty() || (nested.size() == 1 && simple.empty()) ? operand : "(?:" + operand + ")");
            simple.clear();
            nested.clear();
        };
        bool first = true;
        while (true) {
            if (pos_ >= in_.size()) refuse("an unfinished class");
            if (at("]") && !first) break;
            first = false;
            if (at("&&")) {
                pos_ += 2;
                finish_operand();
            } else if (at("[:")) {
                simple += posix();
            } else if (at("[")) {
                nested.push_back(class_item(depth + 1));
            } else if (at("\\W")) {
                pos_ += 2;
                nested.push_back(fmt::format("[^{}]", word));
            } else if (at("\\H")) {
                pos_ += 2;
                nested.push_back(fmt::format("[^{}]", hex_digit));
            } else if (at("\\")) {
                simple += escape(true);
            } else if (at("]")) {
                simple += "\\]";
                ++pos_;
            } else {
                copy_code_point(simple);
            }
        }
        ++pos_;
        if (parts.empty() && nested.empty()) return fmt::format("[{}{}]", negated ? "^" : "", simple);
        finish_operand();
        std::string set;
        for (size_t i = 0; i + 1 < parts.size(); ++i) set += "(?=" + parts[i] + ")";
        set += parts.back();
        return negated ? "(?:(?!" + set + ")(?s:.))" : "(?:" + set + ")";
    }

    std::string posix() {
        const size_t close = in_.find(":]", pos_);
        if (close == std::string_view::npos) refuse("an unfinished [:...:]");
        const std::string_view name = in_.substr(pos_ + 2, close - pos_ - 2);
        pos_ = close + 2;
        if (name == "space") return std::string(white_space);
        if (name == "^space") return std::string(not_white_space);
        if (name == "word") return std::string(word);
        if (name == "alpha") return "\\p{Alphabetic}";
        if (name == "alnum") return "\\p{Alphabetic}\\p{Nd}";
        if (name == "digit") return "\\p{Nd}";
        if (name == "upper") return "\\p{Uppercase}";
        if (name == "lower") return "\\p{Lowercase}";
        if (name == "punct") return "\\p{P}$+<=>\\^`|~";
        if (name == "cntrl") return "\\p{Cc}";
        if (name == "xdigit") return std::string(hex_digit);
        refuse(fmt::format("[:{}:]", quote(name)));
    }

    std::string_view in_;
    const std::string& address_;
    std::string out_;
    size_t pos_ = 0;
    std::optional<size_t> atom_;
    std::vector<size_t> groups_;
};

}  // namespace

std::string pcre_from_oniguruma(std::string_view pattern, const std::string& address) {
    return Translator(pattern, address).run();
}

}  // namespace busbar
