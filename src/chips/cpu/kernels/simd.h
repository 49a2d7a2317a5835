#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
// GCC 12 takes the "undefined" operands inside its own AVX-512 functions for mistakes of ours (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

// The vector words that the products are written in. Everything is GCC vector arithmetic except the few words that an
// instruction set does better; those stand here and nowhere else, so the products are one source for all of them.
//
// Included once per instruction set with BUSBAR_ISA naming the namespace: nothing here may have a name that another
// instruction set's object file shares, or the linker could pick its instructions for all.

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && \
    defined(__AVX512VNNI__)
#define BUSBAR_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define BUSBAR_AVX2 1
#endif

// Tests set it to run the 16-lane logic on machines without AVX-512.
#ifndef BUSBAR_LANES
#if defined(BUSBAR_AVX512)
#define BUSBAR_LANES 16
#elif defined(BUSBAR_AVX2)
#define BUSBAR_LANES 8
#else
#define BUSBAR_LANES 4
#endif
#endif

#ifdef BUSBAR_SANITIZED
// Checks between every two accesses make inlining worth nothing, and compiling it twice as long.
#define BUSBAR_INLINE inline
#define BUSBAR_INLINE_LAMBDA
#else
#define BUSBAR_INLINE inline __attribute__((always_inline))
// Behind a lambda's parameter list.
#define BUSBAR_INLINE_LAMBDA __attribute__((always_inline))
#endif

// Vectors wider than the machine's never cross a call: all functions that take them are inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace busbar::cpu::BUSBAR_ISA {

constexpr int lanes = BUSBAR_LANES;

typedef float Floats __attribute__((vector_size(4 * lanes)));
typedef int32_t Ints __attribute__((vector_size(4 * lanes)));
typedef float Floats4 __attribute__((vector_size(16)));
typedef float Floats8 __attribute__((vector_size(32)));
typedef int32_t Ints4 __attribute__((vector_size(16)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint8_t Bytes32 __attribute__((vector_size(32)));
typedef uint16_t Words16 __attribute__((vector_size(32)));
typedef uint32_t Dwords8 __attribute__((vector_size(32)));

/// body(Index<0>), body(Index<1>) ... in order, each with its number known to the compiler: what it indexes stays in
/// registers.
template <int I>
struct Index {
    static constexpr int value = I;
    constexpr operator int() const { return I; }
};
template <int N, class Body>
BUSBAR_INLINE void unrolled(const Body& body) {
    if constexpr (N > 0) {
        unrolled<N - 1>(body);
        body(Index<N - 1>{});
    }
}

template <class T>
BUSBAR_INLINE T read(const void* p) {
    T value;
    memcpy(&value, p, sizeof value);
    return value;
}
BUSBAR_INLINE Floats load(const float* p) {
    return read<Floats>(p);
}
BUSBAR_INLINE void store(float* p, Floats v) {
    memcpy(p, &v, sizeof v);
}
/// The first `count` floats, zeros after them.
BUSBAR_INLINE Floats load_part(const float* p, int count) {
    Floats v = {};
    memcpy(&v, p, sizeof(float) * count);
    return v;
}
BUSBAR_INLINE Floats splat(float x) {
    return x - Floats{};
}

BUSBAR_INLINE Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(BUSBAR_AVX512)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(BUSBAR_AVX2)
    return _mm256_fmadd_ps(a, b, c);
#else
    return a * b + c;
#endif
}

BUSBAR_INLINE Floats to_float(Ints v) {
    return __builtin_convertvector(v, Floats);
}

/// To the nearest integer, ties to even.
BUSBAR_INLINE Ints round_to_int(Floats v) {
#if defined(BUSBAR_AVX512)
    return (Ints)_mm512_cvtps_epi32(v);
#elif defined(BUSBAR_AVX2)
    return (Ints)_mm256_cvtps_epi32(v);
#else
    // Adding 1.5 * 2^23 leaves the integer in the low bits, rounded as every sum is. For |v| below 2^22.
    const Floats base = splat(0x1.8p23f);
    return (Ints)(v + base) - (Ints)base;
#endif
}

/// One unsigned byte per lane.
BUSBAR_INLINE Ints load_u8(const uint8_t* p) {
#if defined(BUSBAR_AVX512)
    return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p));
#elif defined(BUSBAR_AVX2)
    return (Ints)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p));
#else
    typedef uint8_t Part __attribute__((vector_size(lanes)));
    return __builtin_convertvector(read<Part>(p), Ints);
#endif
}
BUSBAR_INLINE Ints load_i8(const uint8_t* p) {
#if defined(BUSBAR_AVX512)
    return (Ints)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p));
#elif defined(BUSBAR_AVX2)
    return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p));
#else
    typedef int8_t Part __attribute__((vector_size(lanes)));
    return __builtin_convertvector(read<Part>(p), Ints);
#endif
}
BUSBAR_INLINE Ints load_u16(const uint8_t* p) {
#if defined(BUSBAR_AVX512)
    return (Ints)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
#elif defined(BUSBAR_AVX2)
    return (Ints)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
#else
    typedef uint16_t Part __attribute__((vector_size(2 * lanes)));
    return __builtin_convertvector(read<Part>(p), Ints);
#endif
}

/// IEEE half to float in integer arithmetic: subnormal halves become normal floats, so nothing here is slow or flushed.
template <class I, class F>
BUSBAR_INLINE F half_to_float(I h) {
    const I magnitude = h & 0x7FFF, sign = (h & 0x8000) << 16;
    const I normal = (magnitude << 13) + (112 << 23);
    const I subnormal = (I)(__builtin_convertvector(magnitude, F) * 0x1p-24f);
    const I huge = (magnitude << 13) | 0x7F800000;
    const I is_subnormal = magnitude < 0x400, is_huge = magnitude >= 0x7C00;
    const I bits = (subnormal & is_subnormal) | (huge & is_huge) | (normal & ~is_subnormal & ~is_huge);
    return (F)(bits | sign);
}

BUSBAR_INLINE Floats load_f16(const uint8_t* p) {
#if defined(BUSBAR_AVX512)
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(BUSBAR_AVX2)
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
    return half_to_float<Ints, Floats>(load_u16(p));
#endif
}
BUSBAR_INLINE Floats load_bf16(const uint8_t* p) {
    return (Floats)(load_u16(p) << 16);
}

/// One half at p.
BUSBAR_INLINE float half_at(const uint8_t* p) {
#if defined(BUSBAR_AVX512) || defined(BUSBAR_AVX2)
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(read<uint16_t>(p))));
#else
    return half_to_float<Ints4, Floats4>(Ints4{read<uint16_t>(p), 0, 0, 0})[0];
#endif
}
/// The same in every lane.
BUSBAR_INLINE Floats splat_half(const uint8_t* p) {
#if defined(BUSBAR_AVX512)
    return _mm512_cvtph_ps(_mm256_set1_epi16(read<int16_t>(p)));
#elif defined(BUSBAR_AVX2)
    return _mm256_cvtph_ps(_mm_set1_epi16(read<int16_t>(p)));
#else
    return splat(half_at(p));
#endif
}

/// Eight bytes of a word as floats, lowest first: the scales of a super-block, whatever the lanes.
BUSBAR_INLINE Floats8 bytes_to_floats(uint64_t bytes) {
#if defined(BUSBAR_AVX512) || defined(BUSBAR_AVX2)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes)));
#else
    typedef int8_t Bytes8 __attribute__((vector_size(8)));
    return __builtin_convertvector((Bytes8)bytes, Floats8);
#endif
}

BUSBAR_INLINE Bytes32 join(Bytes16 low, Bytes16 high) {
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                                   21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
}
/// Bits of bytes move across byte borders: mask them off.
BUSBAR_INLINE Bytes32 shift_right(Bytes32 v, int n) {
    return (Bytes32)((Words16)v >> n);
}
BUSBAR_INLINE Bytes32 shift_left(Bytes32 v, int n) {
    return (Bytes32)((Words16)v << n);
}

// 32 codes become floats in the end. On AVX2 the instructions that widen bytes to dwords are slow (Zen 3: 1.5 cycles
// each, and one per vector), but interleaving within halves of a register is not. So there codes are worked on in an
// order that makes interleaving bring them out in sequence: dwords 0 2 4 6 | 1 3 5 7 of the 32 bytes. Elsewhere they
// stay as they lie.

/// 32 bytes as they lie in a block, in the order for `widen`.
BUSBAR_INLINE Bytes32 arranged(Bytes32 v) {
#if defined(BUSBAR_AVX2)
    return (Bytes32)__builtin_shuffle((Dwords8)v, Dwords8{0, 2, 4, 6, 1, 3, 5, 7});
#else
    return v;
#endif
}
/// The nibbles of 16 bytes, low ones first: the 32 codes of a 32-wide block, in the order for `widen`.
BUSBAR_INLINE Bytes32 arranged_nibbles(const uint8_t* p) {
#if defined(BUSBAR_AVX2)
    const __m256i twice = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p));
    const Bytes32 order = {0, 1, 2, 3, 8,  9,  10, 11, 0, 1, 2, 3, 8,  9,  10, 11,
                           4, 5, 6, 7, 12, 13, 14, 15, 4, 5, 6, 7, 12, 13, 14, 15};
    const Dwords8 v = (Dwords8)_mm256_shuffle_epi8(twice, (__m256i)order);
    return (Bytes32)(v >> Dwords8{0, 0, 4, 4, 0, 0, 4, 4}) & 15;
#else
    const Bytes16 packed = read<Bytes16>(p);
    return (Bytes32)((Dwords8)join(packed, packed) >> Dwords8{0, 0, 0, 0, 4, 4, 4, 4}) & 15;
#endif
}
/// Bit k of the word at p in byte k, as 0 or `value`; in the order for `widen`.
BUSBAR_INLINE Bytes32 arranged_bits(const uint8_t* p, uint8_t value) {
    const Bytes32 word = (Bytes32)(Dwords8{} + read<uint32_t>(p));
    // The byte of the word that holds each bit, then the bit alone.
#if defined(BUSBAR_AVX2)
    const Bytes32 byte = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
                          0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    const Bytes32 spread = (Bytes32)_mm256_shuffle_epi8((__m256i)word, (__m256i)byte);
    const Bytes32 bit = {1,  2,  4,  8,   1,  2,  4,  8,   1,  2,  4,  8,   1,  2,  4,  8,
                         16, 32, 64, 128, 16, 32, 64, 128, 16, 32, 64, 128, 16, 32, 64, 128};
#else
    const Bytes32 spread = __builtin_shufflevector(word, word, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 18, 18,
                                                   18, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 19);
    const Bytes32 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                         1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
#endif
    return (Bytes32)((spread & bit) == bit) & value;
}
/// table[code], byte by byte; codes are below 16.
BUSBAR_INLINE Bytes32 lookup_bytes(Bytes16 table, Bytes32 codes) {
#if defined(BUSBAR_AVX512) || defined(BUSBAR_AVX2)
    return (Bytes32)_mm256_shuffle_epi8((__m256i)join(table, table), (__m256i)codes);
#else
    for (int i = 0; i < 32; ++i) codes[i] = table[codes[i]];
    return codes;
#endif
}

/// use(Index<k>, floats) for k = 0, lanes .. 32 - lanes: unsigned arranged codes k onwards, less `offset`.
template <int offset, class Use>
BUSBAR_INLINE void widen(Bytes32 codes, const Use& use) {
#if defined(BUSBAR_AVX2)
    // A code under the upper half of 2^23 is the float 2^23 + code.
    const __m256i zero = {}, magic = _mm256_set1_epi16(0x4B00);
    const Floats base = splat(0x1p23f + offset);
    const __m256i low = _mm256_unpacklo_epi8((__m256i)codes, zero), high = _mm256_unpackhi_epi8((__m256i)codes, zero);
    use(Index<0>{}, (Floats)_mm256_unpacklo_epi16(low, magic) - base);
    use(Index<8>{}, (Floats)_mm256_unpackhi_epi16(low, magic) - base);
    use(Index<16>{}, (Floats)_mm256_unpacklo_epi16(high, magic) - base);
    use(Index<24>{}, (Floats)_mm256_unpackhi_epi16(high, magic) - base);
#else
    unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
        constexpr int k = i * lanes;
#if defined(BUSBAR_AVX512)
        const Ints code = (Ints)_mm512_cvtepu8_epi32(_mm256_extracti128_si256((__m256i)codes, k / 16));
#else
        typedef uint8_t Part __attribute__((vector_size(lanes)));
        const Ints code = __builtin_convertvector(read<Part>((const char*)&codes + k), Ints);
#endif
        use(Index<k>{}, to_float(code - offset));
    });
#endif
}

/// The fixed tree that ends every product: lane l with l + lanes/2, and so on down to one.
BUSBAR_INLINE Floats4 fold(Floats v) {
    if constexpr (lanes == 16) {
        const Floats8* h = (const Floats8*)&v;
        const Floats8 s = h[0] + h[1];
        const Floats4* q = (const Floats4*)&s;
        return q[0] + q[1];
    } else if constexpr (lanes == 8) {
        const Floats4* q = (const Floats4*)&v;
        return q[0] + q[1];
    } else {
        return read<Floats4>(&v);
    }
}
/// Four trees at once.
BUSBAR_INLINE Floats4 sum_lanes(Floats a, Floats b, Floats c, Floats d) {
    const Floats4 p = fold(a), q = fold(b), r = fold(c), s = fold(d);
    const Floats4 pq = __builtin_shuffle(p, q, Ints4{0, 4, 1, 5}) + __builtin_shuffle(p, q, Ints4{2, 6, 3, 7});
    const Floats4 rs = __builtin_shuffle(r, s, Ints4{0, 4, 1, 5}) + __builtin_shuffle(r, s, Ints4{2, 6, 3, 7});
    return __builtin_shuffle(pq, rs, Ints4{0, 1, 4, 5}) + __builtin_shuffle(pq, rs, Ints4{2, 3, 6, 7});
}

/// A hint only: the address may lie behind the mapping's end.
BUSBAR_INLINE void prefetch(uintptr_t address) {
    __builtin_prefetch((const void*)address, 0, 3);
}

}  // namespace busbar::cpu::BUSBAR_ISA
