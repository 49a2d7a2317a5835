// Weights into panels: codes in one plane, scales in others, so that neighbours in a panel lie side by side. Every
// encoding's numbers are those of its definition to the bit: the arithmetic of product.cl is the definition's.
#include "chips/opencl/pack.h"

#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace busbar::opencl {

namespace {

uint8_t u8(const std::byte* p, int64_t i) {
    return static_cast<uint8_t>(p[i]);
}

// A block of an encoding in plain terms.
struct Block {
    int8_t codes[256];  // nibbles as they are; bytes with their offset taken off
    uint16_t scale = 0, minimum = 0;
    uint8_t small_scales[16], small_minimums[16];
};

// The codes of 32-wide blocks: low nibbles hold elements 0 .. 15, high ones 16 .. 31.
void nibbles(const std::byte* qs, int8_t* codes) {
    for (int i = 0; i < 16; ++i) {
        codes[i] = static_cast<int8_t>(u8(qs, i) & 15);
        codes[i + 16] = static_cast<int8_t>(u8(qs, i) >> 4);
    }
}
void add_fifth_bits(const std::byte* qh, int8_t* codes) {
    const auto bits = load<uint32_t>(qh);
    for (int i = 0; i < 32; ++i) codes[i] = static_cast<int8_t>(codes[i] | (bits >> i & 1) << 4);
}
// The codes of 256-wide blocks, four planes of two bits or two of four.
void two_bits(const std::byte* qs, int8_t* codes) {
    for (int i = 0; i < 256; ++i)
        codes[i] = static_cast<int8_t>(u8(qs, 32 * (i / 128) + i % 32) >> 2 * (i % 128 / 32) & 3);
}
void four_bits(const std::byte* qs, int8_t* codes) {
    for (int j = 0; j < 4; ++j)
        for (int i = 0; i < 32; ++i) {
            const uint8_t byte = u8(qs, 32 * j + i);
            codes[64 * j + i] = static_cast<int8_t>(byte & 15);
            codes[64 * j + 32 + i] = static_cast<int8_t>(byte >> 4);
        }
}
// Eight pairs of 6-bit numbers in 12 bytes.
void six_bit_scales(const std::byte* sc, Block& b) {
    for (int j = 0; j < 8; ++j) {
        b.small_scales[j] = j < 4 ? u8(sc, j) & 63 : (u8(sc, j + 4) & 15) | (u8(sc, j - 4) >> 6) << 4;
        b.small_minimums[j] = j < 4 ? u8(sc, j + 4) & 63 : u8(sc, j + 4) >> 4 | (u8(sc, j) >> 6) << 4;
    }
}

using Read = void (*)(const std::byte* block, Block& out);

struct Row {
    std::string_view encoding;
    Shape32 shape;
    Read read;
};

const Row table[] = {
    {"f32", {32, 0, 0, 0, 0, 0}, nullptr},
    {"f16", {16, 0, 0, 0, 0, 0}, nullptr},
    {"bf16", {17, 0, 0, 0, 0, 0}, nullptr},
    {"q4_0",
     {4, 32, 1, 0, 8, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         nibbles(p + 2, b.codes);
     }},
    {"q4_1",
     {4, 32, 1, 1, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         b.minimum = load<uint16_t>(p + 2);
         nibbles(p + 4, b.codes);
     }},
    {"q5_0",
     {8, 32, 1, 0, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         nibbles(p + 6, b.codes);
         add_fifth_bits(p + 2, b.codes);
         for (int i = 0; i < 32; ++i) b.codes[i] = static_cast<int8_t>(b.codes[i] - 16);
     }},
    {"q5_1",
     {8, 32, 1, 1, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         b.minimum = load<uint16_t>(p + 2);
         nibbles(p + 8, b.codes);
         add_fifth_bits(p + 4, b.codes);
     }},
    {"q8_0",
     {8, 32, 1, 0, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         std::memcpy(b.codes, p + 2, 32);
     }},
    {"q2_k",
     {4, 16, 2, 2, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p + 80);
         b.minimum = load<uint16_t>(p + 82);
         for (int j = 0; j < 16; ++j) {
             b.small_scales[j] = u8(p, j) & 15;
             b.small_minimums[j] = u8(p, j) >> 4;
         }
         two_bits(p + 16, b.codes);
     }},
    {"q3_k",
     {4, 16, 2, 0, 4, 0},
     [](const std::byte* p, Block& b) {
         const std::byte* sc = p + 96;
         b.scale = load<uint16_t>(p + 108);
         for (int j = 0; j < 16; ++j) {
             const int low = u8(sc, j % 8) >> 4 * (j / 8) & 15, high = u8(sc, 8 + j % 4) >> 2 * (j / 4) & 3;
             b.small_scales[j] = static_cast<uint8_t>((low | high << 4) - 32);
         }
         two_bits(p + 32, b.codes);
         // A set mask bit means "no offset": with 4 added where it is set, all codes have the same offset of 4.
         for (int i = 0; i < 256; ++i)
             b.codes[i] = static_cast<int8_t>(b.codes[i] | (u8(p, i % 32) >> (i / 32) & 1) << 2);
     }},
    {"q4_k",
     {4, 32, 2, 2, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         b.minimum = load<uint16_t>(p + 2);
         six_bit_scales(p + 4, b);
         four_bits(p + 16, b.codes);
     }},
    {"q5_k",
     {8, 32, 2, 2, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         b.minimum = load<uint16_t>(p + 2);
         six_bit_scales(p + 4, b);
         four_bits(p + 48, b.codes);
         for (int i = 0; i < 256; ++i)
             b.codes[i] = static_cast<int8_t>(b.codes[i] | (u8(p + 16, i % 32) >> (i / 32) & 1) << 4);
     }},
    {"q6_k",
     {8, 16, 2, 0, 0, 0},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p + 208);
         for (int j = 0; j < 16; ++j) b.small_scales[j] = u8(p, 192 + j);
         for (int i = 0; i < 256; ++i) {
             const int h = i / 128, r = i % 128, byte = u8(p, 64 * h + r % 64);
             const int low = r < 64 ? byte & 15 : byte >> 4, high = u8(p + 128, 32 * h + r % 32) >> 2 * (r / 32) & 3;
             b.codes[i] = static_cast<int8_t>((low | high << 4) - 32);
         }
     }},
    {"iq4_nl",
     {4, 32, 1, 0, 0, 1},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         nibbles(p + 2, b.codes);
     }},
    {"iq4_xs",
     {4, 32, 2, 0, 0, 1},
     [](const std::byte* p, Block& b) {
         b.scale = load<uint16_t>(p);
         const int sh = load<uint16_t>(p + 2);
         for (int j = 0; j < 8; ++j) {
             const int low = u8(p + 4, j / 2) >> 4 * (j % 2) & 15, high = sh >> 2 * j & 3;
             b.small_scales[j] = static_cast<uint8_t>((low | high << 4) - 32);
             nibbles(p + 8 + 16 * j, b.codes + 32 * j);
         }
     }},
    {"mxfp4",
     {4, 32, 3, 0, 0, 2},
     [](const std::byte* p, Block& b) {
         b.small_scales[0] = u8(p, 0);
         nibbles(p + 1, b.codes);
     }},
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
void pack_row(const StoredTensor& t, const Row& how, const Planes& planes, int64_t row, std::byte* to) {
    const Shape32& shape = how.shape;
    const Encoding& e = *t.encoding;
    const int64_t width = t.width(), blocks32 = ceil_div(width, 32), panel = row / panel_rows, r = row % panel_rows;
    const std::byte* from = t.bytes.data() + row * static_cast<int64_t>(e.row_bytes(width));
    const int64_t words = 32 / shape.per_word();  // of a panel's row in 32 numbers
    if (how.read == nullptr) {
        const int64_t bytes = shape.word_bytes();
        for (int64_t k = 0; k < width; ++k)
            std::memcpy(to + ((panel * blocks32 * words + k) * panel_rows + r) * bytes, from + k * bytes, bytes);
        return;
    }
    const int64_t groups = width / shape.group, per_block = e.block / shape.group;
    Block b;
    for (int64_t block = 0; block < width / e.block; ++block) {
        how.read(from + block * e.block_bytes, b);
        const int64_t first_word = block * e.block / shape.per_word();
        for (int64_t word = 0; word < e.block / shape.per_word(); ++word) {
            uint32_t bits = 0;
            for (int j = 0; j < shape.per_word(); ++j)
                bits |= (static_cast<uint32_t>(static_cast<uint8_t>(b.codes[word * shape.per_word() + j]))
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
    const Row& how = row_of(*t.encoding);
    const int64_t width = t.width(), rows = width == 0 ? 0 : t.count() / width;
    if (width % t.encoding->block != 0)
        throw bad_input(t.name, "[opencl] expected rows of whole blocks of {} in {}, got a width of {}",
                        t.encoding->block, t.encoding->name, width);
    const uint64_t expected = static_cast<uint64_t>(rows) * t.encoding->row_bytes(width);
    if (t.bytes.size() < expected)
        throw bad_input(t.name, "[opencl] expected {} bytes of weights, got {}", with_commas(expected),
                        with_commas(t.bytes.size()));
    const Planes planes = planes_of(how.shape, rows, width);
    std::vector<std::byte> packed(planes.bytes);
    pool.parallel_for(rows, panel_rows, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) pack_row(t, how, planes, row, packed.data());
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
