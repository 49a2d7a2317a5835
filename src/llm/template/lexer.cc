#include "llm/template/lexer.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/utf8.h"
#include "llm/template/unicode.h"

namespace busbar::jinja {

namespace {

constexpr size_t npos = std::string_view::npos;

bool is_word(uint32_t c) {
    return c == '_' || is_alpha(c) || is_numeric(c);
}

// Every line ending becomes "\n"; one at the very end is dropped.
std::string normalised(std::string_view source) {
    std::string out;
    out.reserve(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
        if (source[i] == '\r') {
            out += '\n';
            if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
        } else {
            out += source[i];
        }
    }
    if (!out.empty() && out.back() == '\n') out.pop_back();
    return out;
}

class Lexer {
  public:
    Lexer(std::string_view source, const std::string& address) : source_(normalised(source)), address_(address) {
        if (const size_t bad = utf8_first_invalid(source); bad != npos) {
            throw bad_input(address_, "[template] expected UTF-8, got an invalid byte at offset {}", bad);
        }
    }

    std::vector<Lexeme> run() {
        while (pos_ < source_.size()) root();
        push(Token::end);
        return std::move(out_);
    }

  private:
    template <typename... Args>
    [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
        throw bad_input(fmt::format("{}, line {}", address_, line_), "[template] {}",
                        fmt::format(format, std::forward<Args>(args)...));
    }

    std::string_view rest() const { return std::string_view(source_).substr(pos_); }
    bool at(std::string_view text) const { return rest().substr(0, text.size()) == text; }

    Lexeme& push(Token kind, std::string text = {}) {
        out_.push_back({kind, line_, std::move(text), 0, 0});
        return out_.back();
    }

    void advance(size_t bytes) {
        line_ += static_cast<int>(std::count(source_.begin() + pos_, source_.begin() + pos_ + bytes, '\n'));
        pos_ += bytes;
    }

    void skip_spaces() {
        while (pos_ < source_.size()) {
            size_t next = pos_;
            if (!is_space(utf8_next(source_, next))) break;
            advance(next - pos_);
        }
    }

    // The text before a tag, less what the tag's sign or lstrip_blocks takes from its end.
    void push_data(std::string_view text, char sign, bool is_block) {
        size_t keep = text.size();
        if (sign == '-') {
            while (keep > 0) {
                const size_t before = previous_character(text, keep);
                size_t p = before;
                if (!is_space(utf8_next(text, p))) break;
                keep = before;
            }
        } else if (sign != '+' && is_block) {
            const size_t newline = text.rfind('\n');
            const size_t start = newline == npos ? 0 : newline + 1;
            if (start > 0 || line_starting_) {
                size_t p = start;
                bool blank = true;
                while (p < text.size() && blank) blank = is_space(utf8_next(text, p));
                if (blank) keep = start;
            }
        }
        if (keep > 0) push(Token::data, std::string(text.substr(0, keep)));
    }

    void root() {
        size_t tag = pos_;
        for (;; ++tag) {
            tag = source_.find('{', tag);
            if (tag == npos || tag + 1 >= source_.size()) {
                push(Token::data, std::string(rest()));
                advance(source_.size() - pos_);
                return;
            }
            if (const char c = source_[tag + 1]; c == '{' || c == '%' || c == '#') break;
        }
        const char kind = source_[tag + 1];
        const char sign =
            tag + 2 < source_.size() && (source_[tag + 2] == '-' || source_[tag + 2] == '+') ? source_[tag + 2] : 0;
        const std::string_view text = rest().substr(0, tag - pos_);
        push_data(text, sign, kind != '{');
        advance(text.size());
        const size_t length = sign ? 3 : 2;
        if (kind == '#') {
            advance(length);
            comment();
        } else if (kind == '%' && is_raw(length)) {
            raw();
        } else {
            push(kind == '{' ? Token::variable_begin : Token::block_begin);
            advance(length);
            tag_body(kind == '{');
        }
        line_starting_ = pos_ > 0 && source_[pos_ - 1] == '\n';
    }

    // After "%}" or "#}": trim_blocks takes one newline.
    void trim_newline() {
        if (pos_ < source_.size() && source_[pos_] == '\n') advance(1);
    }

    void comment() {
        const size_t end = rest().find("#}");
        if (end == npos) fail("expected '#}}' to end the comment, got the end of the template");
        const char sign = end > 0 ? rest()[end - 1] : 0;
        advance(end + 2);
        if (sign == '-') {
            skip_spaces();
        } else if (sign != '+') {
            trim_newline();
        }
    }

    // "{% raw %}" and "{%- raw -%}": the whole opening tag, or nothing.
    bool is_raw(size_t length) {
        const size_t begin = pos_;
        const int line = line_;
        advance(length);
        skip_spaces();
        if (at("raw")) {
            advance(3);
            skip_spaces();
            if (at("-%}")) {
                advance(3);
                skip_spaces();
                return true;
            }
            if (at("%}")) {
                advance(2);
                return true;
            }
        }
        pos_ = begin;
        line_ = line;
        return false;
    }

    void raw() {
        line_starting_ = pos_ > 0 && source_[pos_ - 1] == '\n';
        for (size_t tag = source_.find("{%", pos_); tag != npos; tag = source_.find("{%", tag + 1)) {
            size_t p = tag + 2;
            const char sign = p < source_.size() && (source_[p] == '-' || source_[p] == '+') ? source_[p++] : 0;
            p = past_spaces(p);
            if (source_.compare(p, 6, "endraw") != 0) continue;
            p = past_spaces(p + 6);
            const char end_sign = p < source_.size() && (source_[p] == '-' || source_[p] == '+') ? source_[p++] : 0;
            if (source_.compare(p, 2, "%}") != 0) continue;
            push_data(rest().substr(0, tag - pos_), sign, true);
            advance(p + 2 - pos_);
            if (end_sign == '-') {
                skip_spaces();
            } else if (end_sign == 0) {
                trim_newline();
            }
            return;
        }
        fail("expected {{% endraw %}}, got the end of the template");
    }

    size_t past_spaces(size_t p) const {
        while (p < source_.size()) {
            size_t next = p;
            if (!is_space(utf8_next(source_, next))) break;
            p = next;
        }
        return p;
    }

    // True if the tag ends here; its whitespace rules are applied.
    bool tag_end(bool is_variable) {
        const std::string_view close = is_variable ? "}}" : "%}";
        const bool minus = at("-") && rest().substr(1, 2) == close;
        const bool plus = !is_variable && at("+") && rest().substr(1, 2) == close;
        if (!minus && !plus && !at(close)) return false;
        push(is_variable ? Token::variable_end : Token::block_end);
        advance(minus || plus ? 3 : 2);
        if (minus) {
            skip_spaces();
        } else if (!plus && !is_variable) {
            trim_newline();
        }
        return true;
    }

    void tag_body(bool is_variable) {
        std::string open;  // brackets waiting for their partner: a "}}" inside them is two operators
        for (;;) {
            if (open.empty() && tag_end(is_variable)) return;
            if (pos_ >= source_.size()) {
                fail("expected '{}', got the end of the template", is_variable ? "}}" : "%}");
            }
            size_t next = pos_;
            const uint32_t c = utf8_next(source_, next);
            if (is_space(c)) {
                advance(next - pos_);
            } else if (c >= '0' && c <= '9') {
                number();
            } else if (is_word(c)) {
                while (next < source_.size()) {
                    size_t after = next;
                    if (!is_word(utf8_next(source_, after))) break;
                    next = after;
                }
                push(Token::name, source_.substr(pos_, next - pos_));
                advance(next - pos_);
            } else if (c == '\'' || c == '"') {
                string(static_cast<char>(c));
            } else {
                operation(open);
            }
        }
    }

    void operation(std::string& open) {
        static constexpr std::string_view operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                         "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                         ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
        for (const std::string_view op : operators) {
            if (!at(op)) continue;
            const char c = op[0];
            if (c == '(' || c == '[' || c == '{') {
                open += c == '(' ? ')' : c == '[' ? ']' : '}';
            } else if (c == ')' || c == ']' || c == '}') {
                if (open.empty()) fail("unexpected '{}'", c);
                if (open.back() != c) fail("unexpected '{}', expected '{}'", c, open.back());
                open.pop_back();
            }
            push(Token::op, std::string(op));
            advance(op.size());
            return;
        }
        fail("unexpected character {}", quote(rest().substr(0, std::max<size_t>(1, utf8_length(rest())))));
    }

    // Digits with single underscores between them, from `p`; the end of what fits.
    template <typename Accept>
    size_t digits(size_t p, Accept accept) const {
        size_t end = p;
        while (p < source_.size()) {
            if (accept(source_[p])) {
                end = ++p;
            } else if (source_[p] == '_' && end == p && end > 0 && p + 1 < source_.size() && accept(source_[p + 1])) {
                ++p;
            } else {
                break;
            }
        }
        return end;
    }

    static bool decimal(char c) { return c >= '0' && c <= '9'; }

    bool real_number() {
        if (pos_ > 0 && source_[pos_ - 1] == '.') return false;
        const size_t whole = digits(pos_, decimal);
        size_t end = whole;
        bool is_real = false;
        if (end + 1 < source_.size() && source_[end] == '.' && decimal(source_[end + 1])) {
            end = digits(end + 1, decimal);
            is_real = true;
        }
        if (end < source_.size() && (source_[end] | 32) == 'e') {
            size_t p = end + 1;
            if (p < source_.size() && (source_[p] == '+' || source_[p] == '-')) ++p;
            if (p < source_.size() && decimal(source_[p])) {
                end = digits(p, decimal);
                is_real = true;
            }
        }
        if (!is_real) return false;
        std::string text = source_.substr(pos_, end - pos_);
        text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
        push(Token::real).real = std::strtod(text.c_str(), nullptr);
        advance(end - pos_);
        return true;
    }

    void number() {
        if (real_number()) return;
        const char second = pos_ + 1 < source_.size() ? static_cast<char>(source_[pos_ + 1] | 32) : 0;
        int base = 10;
        size_t begin = pos_, end = 0;
        if (source_[pos_] == '0' && (second == 'x' || second == 'o' || second == 'b')) {
            base = second == 'x' ? 16 : second == 'o' ? 8 : 2;
            begin = pos_ + 2 + (pos_ + 2 < source_.size() && source_[pos_ + 2] == '_');
            end = digits(begin, [&](char c) {
                return base == 16 ? std::isxdigit(static_cast<unsigned char>(c)) != 0 : c >= '0' && c < '0' + base;
            });
            if (end == begin) base = 10;
        }
        if (base == 10) {
            begin = pos_;
            end = digits(pos_, [&](char c) { return source_[pos_] == '0' ? c == '0' : decimal(c); });
        }
        Integer value = 0;
        for (size_t p = begin; p < end; ++p) {
            const char c = source_[p];
            if (c == '_') continue;
            const int digit = c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
            if (__builtin_mul_overflow(value, Integer{base}, &value) ||
                __builtin_add_overflow(value, Integer{digit}, &value)) {
                fail("expected an integer of at most 127 bits, got {}", quote(source_.substr(pos_, end - pos_)));
            }
        }
        push(Token::integer).integer = value;
        advance(end - pos_);
    }

    void string(char quote) {
        size_t p = pos_ + 1;
        while (p < source_.size() && source_[p] != quote) p += source_[p] == '\\' ? 2 : 1;
        if (p >= source_.size()) fail("expected {} to end the string, got the end of the template", quote);
        Lexeme& lexeme = push(Token::string);
        lexeme.text = unescaped(std::string_view(source_).substr(pos_ + 1, p - pos_ - 1));
        advance(p + 1 - pos_);
    }

    std::string unescaped(std::string_view text) const {
        std::string out;
        for (size_t i = 0; i < text.size(); ++i) {
            if (text[i] != '\\' || i + 1 >= text.size()) {
                out += text[i];
                continue;
            }
            const char c = text[++i];
            static constexpr std::string_view from = "\\'\"abfnrtv", to = "\\'\"\a\b\f\n\r\t\v";
            if (const size_t known = from.find(c); known != npos) {
                out += to[known];
            } else if (c == '\n') {
                continue;
            } else if (c >= '0' && c <= '7') {
                uint32_t value = 0;
                const size_t stop = std::min(i + 3, text.size());
                for (; i < stop && text[i] >= '0' && text[i] <= '7'; ++i) value = value * 8 + (text[i] - '0');
                --i;
                append_code_point(out, value);
            } else if (c == 'x' || c == 'u' || c == 'U') {
                const size_t length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
                uint32_t value = 0;
                for (size_t n = 0; n < length; ++n) {
                    if (++i >= text.size() || !std::isxdigit(static_cast<unsigned char>(text[i]))) {
                        fail("expected {} hexadecimal digits after \\{}", length, c);
                    }
                    value = value * 16 + (text[i] <= '9' ? text[i] - '0' : (text[i] | 32) - 'a' + 10);
                }
                append_code_point(out, value);
            } else if (c == 'N') {
                fail("\\N escapes are outside the subset of this interpreter");
            } else {
                out += '\\';
                out += c;
            }
        }
        return out;
    }

    void append_code_point(std::string& out, uint32_t value) const {
        if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) fail("U+{:04X} is not a character", value);
        utf8_append(out, value);
    }

    std::string source_;
    const std::string& address_;
    size_t pos_ = 0;
    int line_ = 1;
    bool line_starting_ = true;
    std::vector<Lexeme> out_;
};

}  // namespace

std::vector<Lexeme> tokenize(std::string_view source, const std::string& address) {
    return Lexer(source, address).run();
}

}  // namespace busbar::jinja
