// Weights into panels: codes in one plane, scales in others, so that neighbours in a panel lie side by side. Every
// encoding's numbers are those of its definition to the bit: the arithmetic of product.cl is the definition's.
#include "chips/opencl/pack.h"

#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "dtype/block_codes.h"

namespace busbar::opencl {

namespace {

// The shape of each encoding. A code of 4 bits keeps its offset (BIAS, taken off by the kernels); a wider one loses it
// here, since it lies in a byte anyway.
struct Row {
    std::string_view encoding;
    Shape32 shape;
};

constexpr Row table[] = {
    {"f32", {32, 0, 0, 0, 0, 0}},   {"f16", {16, 0, 0, 0, 0, 0}},    {"bf16", {17, 0, 0, 0, 0, 0}},
    {"q4_0", {4, 32, 1, 0, 8, 0}},  {"q4_1", {4, 32, 1, 1, 0, 0}},   {"q5_0", {8, 32, 1, 0, 0, 0}},
    {"q5_1", {8, 32, 1, 1, 0, 0}},  {"q8_0", {8, 32, 1, 0, 0, 0}},   {"q2_k", {4, 16, 2, 2, 0, 0}},
    {"q3_k", {4, 16, 2, 0, 4, 0}},  {"q4_k", {4, 32, 2, 2, 0, 0}},   {"q5_k", {8, 32, 2, 2, 0, 0}},
    {"q6_k", {8, 16, 2, 0, 0, 0}},  {"iq4_nl", {4, 32, 1, 0, 0, 1}}, {"iq4_xs", {4, 32, 2, 0, 0, 1}},
    {"mxfp4", {4, 32, 3, 0, 0, 2}},
};

const Row& row_of(const Encoding& encoding) {
    for (const Row& row : table)
        if (row.encoding == encoding.name) return row;
    BUSBAR_CHECK(false, "an encoding without a packed shape: " + std::string(encoding.name));
    return table[0];
}

void put16(std::byte* at, uint16_t bits) {
    std::memcpy(at, &bits, 2);
}

// One row of a panel. `to` is the buffer's start.
void pack_row(const StoredTensor& t, const Shape32& shape, const Planes& planes, int64_t row, std::byte* to) {
    const CodeKind* const kind = code_kind(*t.encoding);
    const Encoding& e = *t.encoding;
    const int64_t width = t.width(), blocks32 = ceil_div(width, 32), panel = row / panel_rows, r = row % panel_rows;
    const std::byte* from = t.bytes.data() + row * static_cast<int64_t>(e.row_bytes(width));
    const int64_t words = 32 / shape.per_word();  // of a panel's row in 32 numbers
    if (kind == nullptr) {
        const int64_t bytes = shape.word_bytes();
        for (int64_t k = 0; k < width; ++k)
            std::memcpy(to + ((panel * blocks32 * words + k) * panel_rows + r) * bytes, from + k * bytes, bytes);
        return;
    }
    const int64_t groups = width / shape.group, per_block = e.block / shape.group;
    const int offset = shape.code == 8 ? kind->offset : 0;
    BlockCodes b;
    for (int64_t block = 0; block < width / e.block; ++block) {
        kind->read(from + block * e.block_bytes, b);
        const int64_t first_word = block * e.block / shape.per_word();
        for (int64_t word = 0; word < e.block / shape.per_word(); ++word) {
            uint32_t bits = 0;
            for (int j = 0; j < shape.per_word(); ++j)
                bits |= (static_cast<uint32_t>(static_cast<uint8_t>(b.codes[word * shape.per_word() + j] - offset))
                         << j * shape.code);
            std::memcpy(to + ((panel * blocks32 * words + first_word + word) * panel_rows + r) * 4, &bits, 4);
        }
        if (shape.scale == 1) {
            const int64_t at = (panel * groups + block) * panel_rows + r;
            put16(to + planes.scales + 2 * at, b.scale);
            if (shape.minimum == 1) put16(to + planes.minimums + 2 * at, b.minimum);
            continue;
        }
        for (int64_t j = 0; j < per_block; ++j) {
            const int64_t at = (panel * groups + block * per_block + j) * panel_rows + r;
            to[planes.small_scales + at] = static_cast<std::byte>(b.small_scales[j]);
            if (shape.minimum == 2) to[planes.small_minimums + at] = static_cast<std::byte>(b.small_minimums[j]);
        }
        if (shape.scale == 2) {
            const int64_t at = (panel * (width / e.block) + block) * panel_rows + r;
            put16(to + planes.scales + 2 * at, b.scale);
            if (shape.minimum == 2) put16(to + planes.minimums + 2 * at, b.minimum);
        }
    }
}

}  // namespace

std::string Shape32::options() const {
    std::string o =
        fmt::format("-DCODE={} -DGROUP={} -DSCALE={} -DMINIMUM={} -DBIAS={}", code, group, scale, minimum, bias);
    if (table > 0) o += fmt::format(" -DTABLE={}", table);
    return o;
}

Shape32 shape_of(const Encoding& encoding) {
    return row_of(encoding).shape;
}

Planes planes_of(const Shape32& shape, int64_t rows, int64_t width) {
    const int64_t padded = static_cast<int64_t>(round_up(rows, panel_rows)),
                  words = ceil_div(width, 32) * 32 / shape.per_word();
    Planes p;
    p.bytes = static_cast<uint64_t>(padded * words * shape.word_bytes());
    const auto plane = [&](uint64_t& at, int64_t bytes) {
        at = round_up(p.bytes, 64);
        p.bytes = at + static_cast<uint64_t>(bytes);
    };
    if (shape.group > 0) {
        const int64_t groups = padded * (width / shape.group),
                      outer = shape.scale == 2 ? padded * (width / 256) : groups;
        if (shape.scale == 1 || shape.scale == 2) plane(p.scales, 2 * outer);
        if (shape.minimum > 0) plane(p.minimums, 2 * outer);
        if (shape.scale >= 2) plane(p.small_scales, groups);
        if (shape.minimum == 2) plane(p.small_minimums, groups);
    }
    return p;
}

std::vector<std::byte> pack_panels(const StoredTensor& t, ThreadPool& pool) {
    const Shape32& shape = row_of(*t.encoding).shape;
    const int64_t width = t.width(), rows = width == 0 ? 0 : t.count() / width;
    if (width % t.encoding->block != 0)
        throw bad_input(t.name, "[opencl] expected rows of whole blocks of {} in {}, got a width of {}",
                        t.encoding->block, t.encoding->name, width);
    const uint64_t expected = static_cast<uint64_t>(rows) * t.encoding->row_bytes(width);
    if (t.bytes.size() < expected)
        throw bad_input(t.name, "[opencl] expected {} bytes of weights, got {}", with_commas(expected),
                        with_commas(t.bytes.size()));
    const Planes planes = planes_of(shape, rows, width);
    std::vector<std::byte> packed(planes.bytes);
    pool.parallel_for(rows, panel_rows, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) pack_row(t, shape, planes, row, packed.data());
    });
    return packed;
}

Weight::Weight(Context& context, const StoredTensor& tensor, ThreadPool& pool)
    : context_(context), shape_(shape_of(*tensor.encoding)) {
    const std::vector<std::byte> packed = pack_panels(tensor, pool);
    planes_ = planes_of(shape_, tensor.width() == 0 ? 0 : tensor.count() / tensor.width(), tensor.width());
    memory_ = context_.allocate(planes_.bytes);
    if (packed.empty()) return;
    const cl_int error = context_.cl().EnqueueWriteBuffer(context_.queue(), memory_, CL_TRUE, 0, packed.size(),
                                                          packed.data(), 0, nullptr, nullptr);
    if (error != CL_SUCCESS) {
        context_.release(memory_, planes_.bytes);
        check(error, "writing a weight", tensor.name);
    }
}

Weight::~Weight() {
    context_.release(memory_, planes_.bytes);
}

}  // namespace busbar::opencl
