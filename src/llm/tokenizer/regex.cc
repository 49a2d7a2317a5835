#include "llm/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "base/utf8.h"

namespace busbar {

namespace {

// What one match may use. A published pattern takes a few steps per byte; a pattern that explodes stops here with an
// error.
constexpr uint32_t steps_at_least = 10'000'000, steps_per_byte = 16;
constexpr uint32_t heap_kib = 256 * 1024;
constexpr size_t jit_stack_bytes = 16 << 20;

template <typename T, void (*release)(T*)>
struct Releaser {
    void operator()(T* p) const { release(p); }
};
template <typename T, void (*release)(T*)>
using Owned = std::unique_ptr<T, Releaser<T, release>>;

// PCRE2's scratch memory, one per thread and made on first use: patterns are shared, scratch must not be.
struct Scratch {
    Owned<pcre2_match_data, pcre2_match_data_free> data{pcre2_match_data_create(1, nullptr)};
    Owned<pcre2_match_context, pcre2_match_context_free> context{pcre2_match_context_create(nullptr)};
    Owned<pcre2_jit_stack, pcre2_jit_stack_free> stack{pcre2_jit_stack_create(32 << 10, jit_stack_bytes, nullptr)};

    Scratch() {
        if (!data || !context || !stack) throw std::bad_alloc();
        pcre2_set_heap_limit(context.get(), heap_kib);
        pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
    }
    static Scratch& of_thread() {
        thread_local Scratch scratch;
        return scratch;
    }
};

std::string message_of(int code) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(code, text, sizeof text);
    return reinterpret_cast<const char*>(text);
}

pcre2_code* code_of(void* p) {
    return static_cast<pcre2_code*>(p);
}

}  // namespace

Regex Regex::from_oniguruma(std::string_view pattern, const std::string& address) {
    const std::string translated = pcre_from_oniguruma(pattern, address);
    int error;
    PCRE2_SIZE offset;
    // MULTILINE: in the Ruby syntax ^ and $ always mean lines.
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(), options,
                                     &error, &offset, nullptr);
    if (!code)
        throw bad_input(address, "[tokenizer] expected a pattern that PCRE2 can run, got {} ({})", quote(pattern, 200),
                        message_of(error));
    Regex regex(code, std::string(pattern));
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it fails, the interpreter gives the same matches
    return regex;
}

Regex::~Regex() {
    pcre2_code_free(code_of(code_));
}

Regex::Regex(Regex&& other) noexcept : code_(other.code_), pattern_(std::move(other.pattern_)) {
    other.code_ = nullptr;
}

Regex::Scan::Scan(const Regex& regex, std::string_view subject) : regex_(regex), subject_(subject) {}

bool Regex::Scan::next(Range& match) {
    Scratch& scratch = Scratch::of_thread();
    pcre2_set_match_limit(
        scratch.context.get(),
        steps_at_least + steps_per_byte * static_cast<uint32_t>(std::min<size_t>(subject_.size(), 1 << 27)));
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(subject_.data());
    while (at_ <= subject_.size()) {
        int rc = pcre2_match(code_of(regex_.code_), subject, subject_.size(), at_, PCRE2_NO_UTF_CHECK,
                             scratch.data.get(), scratch.context.get());
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)  // the interpreter keeps its stack on the heap
            rc = pcre2_match(code_of(regex_.code_), subject, subject_.size(), at_, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             scratch.data.get(), scratch.context.get());
        if (rc == PCRE2_ERROR_NOMATCH) return false;
        if (rc < 0)
            throw bad_input(fmt::format("text: offset {}", with_commas(at_)), "[tokenizer] the pattern {} failed: {}",
                            quote(regex_.pattern_, 200), message_of(rc));
        const PCRE2_SIZE* found = pcre2_get_ovector_pointer(scratch.data.get());
        const size_t begin = found[0], end = found[1];
        if (begin > end)
            throw bad_input("", "[tokenizer] the pattern {} matches backwards", quote(regex_.pattern_, 200));
        if (begin == end && end == last_end_) {
            at_ += at_ < subject_.size() ? std::max<size_t>(1, utf8_length(subject_.substr(at_))) : 1;
            continue;
        }
        // \K and lookbehind could start a match before the end of the last one: what is taken stays taken.
        if (last_end_ != std::string_view::npos && begin < last_end_)
            throw bad_input("", "[tokenizer] the pattern {} has overlapping matches", quote(regex_.pattern_, 200));
        at_ = last_end_ = end;
        match = {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
        return true;
    }
    return false;
}

}  // namespace busbar
