// Products of panels with activations as integers, of one instruction set. With vectors of four lanes they would be
// slower than the products of stored blocks in f32: there is none.
#include "chips/cpu/kernels/integer_product.h"
#include "chips/cpu/kernels/product_parts.h"

#if BUSBAR_LANES >= 8

namespace busbar::cpu::BUSBAR_ISA {

static const IntegerFormat* integer_format_of(const Encoding& encoding) {
    switch (encoding.gguf_type) {
        case 2:
            return &integer_format<panel_q4_0>;
        case 13:
            return &integer_format<panel_q5_k>;
        case 14:
            return &integer_format<panel_q6_k>;
        case 39:
            return &integer_format<panel_mxfp4>;
#ifndef BUSBAR_SANITIZED  // minutes to compile with checks; those above are one of each kind
        case 3:
            return &integer_format<panel_q4_1>;
        case 6:
            return &integer_format<panel_q5_0>;
        case 7:
            return &integer_format<panel_q5_1>;
        case 8:
            return &integer_format<panel_q8_0>;
        case 10:
            return &integer_format<panel_q2_k>;
        case 11:
            return &integer_format<panel_q3_k>;
        case 12:
            return &integer_format<panel_q4_k>;
        case 20:
            return &integer_format<panel_iq4_nl>;
        case 23:
            return &integer_format<panel_iq4_xs>;
#endif
    }
    return nullptr;
}

void integer_product(const IntegerProduct& p) {
    const IntegerFormat* const known = integer_format_of(*p.encoding);
    if (known == nullptr) product_lacks(*p.encoding);
    const IntegerFormat& format = *known;
    if (p.rows > few_integer_rows)
        format.many(p);
    else if (p.rows > 0)
        (p.rows == 1 ? format.one : p.rows == 2 ? format.two : format.four)(p);
}

bool has_panels(const Encoding& encoding) {
    return integer_format_of(encoding) != nullptr;
}

size_t integer_scratch_floats() {
    return (sizeof(Unpacked) + 63) / 64 * 16;
}

double multiply_pairs(int64_t rounds, int32_t* sink) {
    constexpr int chains = 8;  // as many as a tile has
    Ints sum[chains] = {};
    Pairs a = (Pairs)splat_int(sink[0]);
    const Pairs b = (Pairs)splat_int(sink[1]);
    for (int64_t r = 0; r < rounds; ++r)
        unrolled<chains>([&](auto i) BUSBAR_INLINE_LAMBDA {
            seems_new(a);
            sum[i] = dot_pairs(sum[i], a, b);
        });
    for (int i = 1; i < chains; ++i) sum[0] += sum[i];
    sink[0] = sum[0][0];
    return 4.0 * chains * lanes * (double)rounds;
}

bool round_row(const float* x, int64_t width, ActivationBlock* out) {
    for (int64_t k = 0; k < width; k += 32, ++out) {
        Ints largest = {};  // of the bits without sign, which order as the numbers do, NaN above all
        unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
            const Ints bits = (Ints)load(x + k + i * lanes) & 0x7FFFFFFF;
            largest = bits > largest ? bits : largest;
        });
        int32_t top = 0;
        for (int i = 0; i < lanes; ++i) top = largest[i] > top ? largest[i] : top;
        const float amax = read<float>(&top);
        // Steps would be subnormal, or nothing finite would come of it.
        if (top != 0 && !(amax >= 1e-30f && amax <= 1e38f)) return false;
        const float inverse = top == 0 ? 0 : 32767 / amax;
        int32_t sum[2] = {};
        for (int half = 0; half < 2; ++half) {
            Ints total = {};
            unrolled<16 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
                const Ints code = round_to_int(load(x + k + 16 * half + i * lanes) * splat(inverse));
                typedef int16_t Part __attribute__((vector_size(2 * lanes)));
                const Part part = __builtin_convertvector(code, Part);
                memcpy(out->codes + 16 * half + i * lanes, &part, sizeof part);
                total += code;
            });
            for (int i = 0; i < lanes; ++i) sum[half] += total[i];
        }
        out->step = amax / 32767;
        for (int half = 0; half < 2; ++half) {
            out->sum[half] = sum[half];
            out->scaled_sum[half] = out->step * (float)sum[half];
        }
        out->scaled_sum[2] = out->step * (float)(sum[0] + sum[1]);
        out->unused[0] = out->unused[1] = 0;
    }
    return true;
}

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
