#pragma once
#include "chips/cpu/kernels/bf16.h"

// The eight tile registers of AMX, each of up to 16 rows of 64 bytes. Where the compiler's target has none, or a test
// asks for it (BUSBAR_TILE_MODEL), a model in plain C++ stands in: what Intel's manual (Instruction Set Extensions
// Programming Reference, chapter 3) says the instructions do, for the configurations used here.

namespace busbar::cpu::BUSBAR_ISA {

/// What LDTILECFG reads, for palette 1.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

#if defined(__AMX_INT8__) && !defined(BUSBAR_TILE_MODEL)
#define BUSBAR_TILES 1

// Written out, since the compiler's own take numbers of tiles as text only; and GCC 12 believes that its
// _tile_loadconfig reads eight bytes.
BUSBAR_INLINE void tiles_begin(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" ::"m"(shapes));
}
BUSBAR_INLINE void tiles_end() {
    asm volatile("tilerelease");
}
template <int T>
BUSBAR_INLINE void tile_zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
/// Rows are `stride` bytes apart.
template <int T>
BUSBAR_INLINE void tile_load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
BUSBAR_INLINE void tile_store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
/// c[m][n] += sum of a[m][k] b[k / 4][4 n + k % 4] over the bytes k of a row of a, in 32 bits; b without sign, a with
/// or without.
template <bool a_signed, int C, int A, int B>
BUSBAR_INLINE void tile_dot() {
    if constexpr (a_signed)
        asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
    else
        asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}
/// c[m][n] += sum of a[m][k] b[k / 2][2 n + k % 2] over the bf16 numbers k of a row of a, those of even and those of
/// odd k on their own, then both together; each addition rounded to f32 once, subnormal numbers as zero.
template <int C, int A, int B>
BUSBAR_INLINE void tile_dot_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

#elif defined(BUSBAR_TILE_MODEL)
#define BUSBAR_TILES 1

struct TileModel {
    TileShapes shapes;
    uint8_t tiles[8][16][64];
};
inline TileModel& tile_model() {
    static thread_local TileModel model;
    return model;
}
inline void tiles_begin(const TileShapes& shapes) {
    tile_model().shapes = shapes;
    memset(tile_model().tiles, 0, sizeof tile_model().tiles);
}
inline void tiles_end() {
    tiles_begin({});
}
// Using a tile that has no shape is an invalid instruction; here nothing would be computed, which tests see.
template <int T>
void tile_zero() {
    memset(tile_model().tiles[T], 0, sizeof tile_model().tiles[T]);
}
template <int T>
void tile_load(const void* from, int64_t stride) {
    tile_zero<T>();
    for (int r = 0; r < tile_model().shapes.rows[T]; ++r)
        memcpy(tile_model().tiles[T][r], (const uint8_t*)from + r * stride, tile_model().shapes.row_bytes[T]);
}
template <int T>
void tile_store(void* to, int64_t stride) {
    for (int r = 0; r < tile_model().shapes.rows[T]; ++r)
        memcpy((uint8_t*)to + r * stride, tile_model().tiles[T][r], tile_model().shapes.row_bytes[T]);
}
template <bool a_signed, int C, int A, int B>
void tile_dot() {
    TileModel& t = tile_model();
    for (int m = 0; m < t.shapes.rows[C]; ++m)
        for (int n = 0; n < t.shapes.row_bytes[C] / 4; ++n) {
            auto sum = read<uint32_t>(&t.tiles[C][m][4 * n]);
            for (int k = 0; k < t.shapes.row_bytes[A]; ++k) {
                const uint8_t a = t.tiles[A][m][k], b = t.tiles[B][k / 4][4 * n + k % 4];
                sum += (uint32_t)((a_signed ? (int8_t)a : a) * b);
            }
            memcpy(&t.tiles[C][m][4 * n], &sum, 4);
        }
}
template <int C, int A, int B>
void tile_dot_bf16() {
    TileModel& t = tile_model();
    const auto number = [&](int tile, int row, int i) { return read<uint16_t>(&t.tiles[tile][row][2 * i]); };
    for (int m = 0; m < t.shapes.rows[C]; ++m)
        for (int n = 0; n < t.shapes.row_bytes[C] / 4; ++n) {
            float part[2] = {};
            for (int k = 0; k < t.shapes.row_bytes[A] / 2; ++k)
                part[k % 2] = multiply_add_bf16(part[k % 2], number(A, m, k), number(B, k / 2, 2 * n + k % 2));
            const float both = without_subnormals(part[0] + part[1]);
            const float sum = without_subnormals(without_subnormals(read<float>(&t.tiles[C][m][4 * n])) + both);
            memcpy(&t.tiles[C][m][4 * n], &sum, 4);
        }
}
#endif

}  // namespace busbar::cpu::BUSBAR_ISA
