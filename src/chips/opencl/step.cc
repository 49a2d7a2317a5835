#include "chips/opencl/step.h"

#include "base/check.h"

namespace busbar::opencl {

int64_t Place::inner() const {
    int64_t n = 1;
    for (size_t i = 1; i < extents.size(); ++i) n *= extents[i];
    return n;
}

int64_t Place::rows_per_entry() const {
    int64_t n = 1;
    for (size_t i = 1; i + 1 < extents.size(); ++i) n *= extents[i];
    return n;
}

Place Maker::place(const Operand& o) const {
    Place p;
    p.kind = o.type.kind;
    p.element = o.element;
    p.role = o.type.role;
    p.extents = o.extents;
    if (!p.extents.empty() && o.type.kind != Kind::state) p.symbol = o.type.shape[0].symbol;
    switch (o.where) {
        case Operand::Where::buffer: {
            const auto* buffer = dynamic_cast<const DeviceBuffer*>(o.buffer);
            BUSBAR_CHECK(buffer != nullptr && o.offset <= buffer->bytes(), "an operand without its buffer");
            p.memory = buffer->memory();
            p.at = o.offset / (o.type.kind == Kind::state ? bytes_of(o.element) : 4);
            p.bytes = buffer->bytes() - o.offset;
            break;
        }
        case Operand::Where::step:
            p.memory = words_;
            p.at = o.offset;
            break;
        case Operand::Where::weight:
            BUSBAR_CHECK(false, "a packed weight where values are expected: " + step.name);
    }
    return p;
}

const Weight* Maker::weight(size_t input) const {
    const Operand& o = step.inputs[input];
    if (o.where != Operand::Where::weight) return nullptr;
    const auto* w = dynamic_cast<const Weight*>(o.weight);
    BUSBAR_CHECK(w != nullptr, "a weight that another chip packed");
    return w;
}

Maker::Call Maker::call(const char* file, const std::string& options, const char* kernel, const Place& over,
                        int64_t inner) {
    Call c(*this, context.kernel({file, options}, kernel));
    c.launch_.symbol = over.symbol;
    c.launch_.capacity = over.first();
    c.inner_ = inner;
    c.buffer(words_).number(over.symbol_word()).number(over.first()).number(inner);
    return c;
}

Maker::Call& Maker::Call::set(size_t size, const void* value) {
    check(maker_.context.cl().SetKernelArg(launch_.kernel, next_++, size, value), "setting an argument",
          maker_.step.name);
    return *this;
}
Maker::Call& Maker::Call::buffer(cl_mem memory) {
    return set(sizeof memory, &memory);
}
Maker::Call& Maker::Call::number(int64_t n) {
    const auto word = static_cast<cl_int>(n);
    BUSBAR_CHECK(word == n, "an extent beyond 32 bits: " + maker_.step.name);
    return set(sizeof word, &word);
}
Maker::Call& Maker::Call::number64(uint64_t n) {
    const cl_ulong word = n;
    return set(sizeof word, &word);
}
Maker::Call& Maker::Call::real(double x) {
    const auto word = static_cast<cl_float>(x);
    return set(sizeof word, &word);
}
Maker::Call& Maker::Call::eight(const std::vector<int64_t>& list, int64_t fill) {
    BUSBAR_CHECK(list.size() <= 8, "more than eight axes: " + maker_.step.name);
    cl_int8 words;
    for (int& w : words.s) w = static_cast<cl_int>(fill);
    // The leading axis is s0; the others follow, and what is left over at the end stretches nothing.
    for (size_t i = 0; i < list.size(); ++i) words.s[i] = static_cast<cl_int>(list[i]);
    return set(sizeof words, &words);
}
Maker::Call& Maker::Call::local(size_t bytes) {
    return set(bytes, nullptr);
}
Maker::Call& Maker::Call::failure() {
    return buffer(maker_.status_).number(maker_.number_);
}

void Maker::Call::flat() {
    if (inner_ == 0 || launch_.capacity == 0) {
        done();
        return;
    }
    BUSBAR_CHECK(launch_.capacity * inner_ < INT32_MAX, "more than 2^31 numbers in one value: " + maker_.step.name);
    const size_t most = std::min<size_t>(maker_.context.group_limit(launch_.kernel), 64);
    launch_.local[0] = most;
    launch_.per_entry = inner_;
    launch_.per_group = static_cast<int64_t>(most);
    done();
}

void Maker::Call::rows(int64_t rows_per_entry, int lanes) {
    launch_.local[0] = lanes;
    launch_.per_entry = rows_per_entry;
    done();
}

void Maker::Call::done() {
    maker_.out_.push_back(launch_);
}

}  // namespace busbar::opencl
