#include "dtype/encoding.h"

#include "dtype/encoding_decode.h"

namespace busbar {

// The table. Columns: name, element, scale, elements per block, bytes per block, GGUF type id, definition.
constexpr Encoding encoding_f32{"f32", Element::f32, Scale::none, 1, 4, 0, decode_f32};
constexpr Encoding encoding_f16{"f16", Element::f16, Scale::none, 1, 2, 1, decode_f16};
constexpr Encoding encoding_bf16{"bf16", Element::bf16, Scale::none, 1, 2, 30, decode_bf16};
constexpr Encoding encoding_q4_0{"q4_0", Element::i4, Scale::f16, 32, 18, 2, decode_q4_0};
constexpr Encoding encoding_q4_1{"q4_1", Element::i4, Scale::f16_min, 32, 20, 3, decode_q4_1};
constexpr Encoding encoding_q8_0{"q8_0", Element::i8, Scale::f16, 32, 34, 8, decode_q8_0};

namespace {

constexpr Encoding q5_0{"q5_0", Element::i5, Scale::f16, 32, 22, 6, decode_q5_0};
constexpr Encoding q5_1{"q5_1", Element::i5, Scale::f16_min, 32, 24, 7, decode_q5_1};
constexpr Encoding q2_k{"q2_k", Element::i2, Scale::two_level_min, 256, 84, 10, decode_q2_k};
constexpr Encoding q3_k{"q3_k", Element::i3, Scale::two_level, 256, 110, 11, decode_q3_k};
constexpr Encoding q4_k{"q4_k", Element::i4, Scale::two_level_min, 256, 144, 12, decode_q4_k};
constexpr Encoding q5_k{"q5_k", Element::i5, Scale::two_level_min, 256, 176, 13, decode_q5_k};
constexpr Encoding q6_k{"q6_k", Element::i6, Scale::two_level, 256, 210, 14, decode_q6_k};
constexpr Encoding iq4_nl{"iq4_nl", Element::table4, Scale::f16, 32, 18, 20, decode_iq4_nl};
constexpr Encoding iq4_xs{"iq4_xs", Element::table4, Scale::two_level, 256, 136, 23, decode_iq4_xs};
constexpr Encoding mxfp4{"mxfp4", Element::e2m1, Scale::e8m0, 32, 17, 39, decode_mxfp4};

constexpr const Encoding* table[] = {
    &encoding_f32, &encoding_f16, &encoding_bf16, &encoding_q4_0, &encoding_q4_1, &q5_0,   &q5_1,   &encoding_q8_0,
    &q2_k,         &q3_k,         &q4_k,          &q5_k,          &q6_k,          &iq4_nl, &iq4_xs, &mxfp4,
};

}  // namespace

std::span<const Encoding* const> encodings() {
    return table;
}

const Encoding* find_encoding(std::string_view name) {
    for (const Encoding* e : table)
        if (e->name == name) return e;
    return nullptr;
}

const Encoding* find_gguf_encoding(int gguf_type) {
    for (const Encoding* e : table)
        if (e->gguf_type == gguf_type) return e;
    return nullptr;
}

}  // namespace busbar
