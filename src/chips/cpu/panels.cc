#include "chips/cpu/panels.h"

#include <cstring>

#include "base/check.h"
#include "dtype/block_codes.h"

namespace busbar::cpu {

namespace {

struct Row {
    std::string_view encoding;
    const PanelLayout* layout;
};
constexpr Row rows[] = {
    {"q4_0", &panel_q4_0},   {"q4_1", &panel_q4_1}, {"q5_0", &panel_q5_0},     {"q5_1", &panel_q5_1},
    {"q8_0", &panel_q8_0},   {"q2_k", &panel_q2_k}, {"q3_k", &panel_q3_k},     {"q4_k", &panel_q4_k},
    {"q5_k", &panel_q5_k},   {"q6_k", &panel_q6_k}, {"iq4_nl", &panel_iq4_nl}, {"iq4_xs", &panel_iq4_xs},
    {"mxfp4", &panel_mxfp4},
};

// Where in a plane of `bits` bits the code of input k (0 .. 31) of an output lies: the byte, and how far up in it.
struct Position {
    int byte, shift;
};
constexpr Position position(int bits, int output, int k) {
    const int in_row = 32 / bits, four = k % in_row / 4;
    return {k / in_row * 64 + 4 * output + byte_place(k % 4), four * bits};
}

// One plane of one output's 32 codes: a few bytes at known places, since their places are the same for all.
template <int bits>
void put_codes(const int8_t* codes, int first_bit, int output, std::byte* plane) {
    constexpr int in_row = 32 / bits, mask = (1 << bits) - 1;
    for (int row = 0; row < bits; ++row)
        for (int i = 0; i < 4; ++i) {
            unsigned byte = 0;
            for (int four = 0; four < in_row / 4; ++four)
                byte |= static_cast<unsigned>(codes[row * in_row + 4 * four + i] >> first_bit & mask) << four * bits;
            plane[row * 64 + 4 * output + byte_place(i)] = static_cast<std::byte>(byte);
        }
}

void put_plane(int bits, const int8_t* codes, int first_bit, int output, std::byte* plane) {
    switch (bits) {
        case 1:
            return put_codes<1>(codes, first_bit, output, plane);
        case 2:
            return put_codes<2>(codes, first_bit, output, plane);
        case 4:
            return put_codes<4>(codes, first_bit, output, plane);
        case 8:
            return put_codes<8>(codes, first_bit, output, plane);
    }
}

int code_at(const PanelLayout& layout, const std::byte* block, int output, int k) {
    const auto field = [&](int bits, int at) {
        const Position p = position(bits, output, k);
        return static_cast<int>(block[at + p.byte]) >> p.shift & ((1 << bits) - 1);
    };
    int code = field(layout.low_bits, layout.low_at());
    if (layout.low_bits == 8) return static_cast<int8_t>(code);
    if (layout.high_bits > 0) code |= field(layout.high_bits, layout.high_at()) << layout.low_bits;
    return layout.values ? layout.values[code] : code - layout.offset;
}

void put16(std::byte* at, uint16_t bits) {
    std::memcpy(at, &bits, 2);
}

// One block of the encoding into the blocks of 32 that it becomes; `super` is where they start.
void put_block(const PanelLayout& layout, const BlockCodes& b, int output, std::byte* super) {
    if (layout.two_level()) {
        put16(super + 2 * output, b.scale);
        if (layout.minimum) put16(super + 32 + 2 * output, b.minimum);
    }
    for (int block = 0; block < layout.blocks(); ++block) {
        std::byte* const at = super + layout.header_bytes() + block * layout.block_bytes();
        for (int g = 0; g < layout.groups(); ++g) {
            const int j = block * layout.groups() + g;
            std::byte* const scale = at + 16 * g + output;
            switch (layout.scale) {
                case PanelScale::half:
                    put16(at + 2 * output, b.scale);
                    if (layout.minimum) put16(at + layout.scale_bytes() + 2 * output, b.minimum);
                    break;
                case PanelScale::two_level_nibbles:
                    *scale = static_cast<std::byte>(b.small_scales[j] | b.small_minimums[j] << 4);
                    break;
                default:
                    *scale = static_cast<std::byte>(b.small_scales[j]);
                    if (layout.minimum) scale[layout.scale_bytes()] = static_cast<std::byte>(b.small_minimums[j]);
            }
        }
        const int8_t* const codes = b.codes + 32 * block;
        put_plane(layout.low_bits, codes, 0, output, at + layout.low_at());
        if (layout.high_bits > 0) put_plane(layout.high_bits, codes, layout.low_bits, output, at + layout.high_at());
    }
}

}  // namespace

const PanelLayout* panel_layout(const Encoding& encoding) {
    for (const Row& row : rows)
        if (row.encoding == encoding.name) return row.layout;
    return nullptr;
}

uint64_t panel_bytes(const PanelLayout& layout, int64_t outputs, int64_t width) {
    return static_cast<uint64_t>(ceil_div(outputs, panel_outputs) * (width / (32 * layout.blocks()))) *
           static_cast<uint64_t>(layout.bytes());
}

void pack_panels(const StoredTensor& t, int64_t first, int64_t last, std::byte* out) {
    const PanelLayout* const layout = panel_layout(*t.encoding);
    const CodeKind* const kind = code_kind(*t.encoding);
    BUSBAR_CHECK(layout != nullptr && kind != nullptr, "panels of plain elements");
    const int64_t width = t.width(), supers = width / (32 * layout->blocks()),
                  outputs = width > 0 ? t.count() / width : 0;
    const auto row_bytes = static_cast<int64_t>(t.encoding->row_bytes(width));
    BlockCodes b;
    for (int64_t panel = first; panel < last; ++panel)
        for (int output = 0; output < panel_outputs && panel * panel_outputs + output < outputs; ++output) {
            const std::byte* from = t.bytes.data() + (panel * panel_outputs + output) * row_bytes;
            std::byte* to = out + panel * supers * layout->bytes();
            for (int64_t s = 0; s < supers; ++s, from += t.encoding->block_bytes, to += layout->bytes()) {
                kind->read(from, b);
                put_block(*layout, b, output, to);
            }
        }
}

void decode_panel_row(const PanelLayout& layout, const std::byte* panels, int64_t row, int64_t width, float* out) {
    const int64_t supers = width / (32 * layout.blocks());
    const auto output = static_cast<int>(row % panel_outputs);
    const std::byte* super = panels + row / panel_outputs * supers * layout.bytes();
    const auto half = [&](const std::byte* halves) { return f16_to_f32(load<uint16_t>(halves + 2 * output)); };
    for (int64_t s = 0; s < supers; ++s, super += layout.bytes())
        for (int block = 0; block < layout.blocks(); ++block, out += 32) {
            const std::byte* const at = super + layout.header_bytes() + block * layout.block_bytes();
            for (int g = 0; g < layout.groups(); ++g) {
                const auto small = static_cast<uint8_t>(at[16 * g + output]);
                float scale = 0, minimum = 0;
                switch (layout.scale) {
                    case PanelScale::half:
                        scale = half(at);
                        if (layout.minimum) minimum = half(at + layout.scale_bytes());
                        break;
                    case PanelScale::e8m0:  // half of 2^(small - 127): the table holds twice the values
                        scale = half_of_e8m0(small);
                        break;
                    case PanelScale::two_level:
                        scale = half(super) * static_cast<float>(static_cast<int8_t>(small));
                        if (layout.minimum)
                            minimum =
                                -half(super + 32) *
                                static_cast<float>(static_cast<uint8_t>(at[layout.scale_bytes() + 16 * g + output]));
                        break;
                    case PanelScale::two_level_nibbles:
                        scale = half(super) * static_cast<float>(small & 15);
                        minimum = -half(super + 32) * static_cast<float>(small >> 4);
                        break;
                }
                for (int k = g * layout.group; k < (g + 1) * layout.group; ++k) {
                    const float product = scale * static_cast<float>(code_at(layout, at, output, k));
                    out[k] = layout.minimum ? product + minimum : product;
                }
            }
        }
}

}  // namespace busbar::cpu
