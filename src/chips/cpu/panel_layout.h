#pragma once
#include <stdint.h>

#include "dtype/code_values.h"

// How quantised weights lie in the form "panels". Included by kernels, so no library and no code beyond constants.

namespace busbar::cpu {

/// Goes up with every change of what follows: files of packed weights are of one version.
constexpr int panel_layout_version = 2;

/// Outputs that lie side by side.
constexpr int panel_outputs = 16;

enum class PanelScale : int { half, e8m0, two_level, two_level_nibbles };

/// A panel is 16 outputs and all K inputs, as a run of blocks of 32 inputs (eight of them to a super-block where scales
/// have two levels). Outputs past the weight's last one are zeros. One block:
///   scales     one per output and group: a half, an exponent's byte, or a small integer's byte
///   minimums   likewise; of q2_k: the upper nibble of the small scale
///   low plane  the low bits of all codes, high plane the rest
/// A super-block begins with the halves that its small integers multiply, of minimums after those of scales.
///
/// A plane of b bits is rows of 64 bytes, four to each output in turn, each with 8 / b codes from the low bits up:
/// those at b s bits of an output's four are inputs 4 s .. 4 s + 3 of the row, in the order of byte_place(). So one
/// load, a shift and a mask give bytes (output, four inputs), or words (output, pair of inputs: one from the lower
/// byte, the next pair from the upper), in the order that dot products of bytes or of words take.
struct PanelLayout {
    int low_bits, high_bits;
    int offset;  ///< taken off every code
    int group;   ///< inputs per scale: 32 or 16
    PanelScale scale;
    bool minimum;
    const int8_t* values;  ///< of 16 codes, or nullptr

    constexpr int groups() const { return 32 / group; }
    constexpr bool two_level() const {
        return scale == PanelScale::two_level || scale == PanelScale::two_level_nibbles;
    }
    constexpr int blocks() const { return two_level() ? 8 : 1; }  ///< of 32 inputs, per super-block
    constexpr int header_bytes() const { return two_level() ? 32 * (minimum ? 2 : 1) : 0; }
    constexpr int scale_bytes() const { return scale == PanelScale::half ? 32 : 16 * groups(); }
    constexpr int minimum_bytes() const {
        return !minimum || scale == PanelScale::two_level_nibbles ? 0 : scale_bytes();
    }
    constexpr int low_at() const { return scale_bytes() + minimum_bytes(); }  ///< in a block
    constexpr int high_at() const { return low_at() + 64 * low_bits; }
    constexpr int block_bytes() const { return high_at() + 64 * high_bits; }
    constexpr int bytes() const { return header_bytes() + blocks() * block_bytes(); }  ///< of a super-block
};

// One per encoding.
constexpr PanelLayout panel_q4_0 = {4, 0, 8, 32, PanelScale::half, false, nullptr};
constexpr PanelLayout panel_q4_1 = {4, 0, 0, 32, PanelScale::half, true, nullptr};
constexpr PanelLayout panel_q5_0 = {4, 1, 16, 32, PanelScale::half, false, nullptr};
constexpr PanelLayout panel_q5_1 = {4, 1, 0, 32, PanelScale::half, true, nullptr};
constexpr PanelLayout panel_q8_0 = {8, 0, 0, 32, PanelScale::half, false, nullptr};
constexpr PanelLayout panel_q2_k = {2, 0, 0, 16, PanelScale::two_level_nibbles, true, nullptr};
constexpr PanelLayout panel_q3_k = {2, 1, 4, 16, PanelScale::two_level, false, nullptr};
constexpr PanelLayout panel_q4_k = {4, 0, 0, 32, PanelScale::two_level, true, nullptr};
constexpr PanelLayout panel_q5_k = {4, 1, 0, 32, PanelScale::two_level, true, nullptr};
constexpr PanelLayout panel_q6_k = {4, 2, 32, 16, PanelScale::two_level, false, nullptr};
constexpr PanelLayout panel_iq4_nl = {4, 0, 0, 32, PanelScale::half, false, iq4_values};
constexpr PanelLayout panel_iq4_xs = {4, 0, 0, 32, PanelScale::two_level, false, iq4_values};
constexpr PanelLayout panel_mxfp4 = {4, 0, 0, 32, PanelScale::e8m0, false, e2m1_doubled};

/// Where input i of a block stands among its bytes: fours of inputs as 0, 2, 1, 3, so that as words of 16 bits pairs of
/// neighbours lie in the same half. Its own inverse.
constexpr int byte_place(int i) {
    return i % 4 == 1 ? i + 1 : i % 4 == 2 ? i - 1 : i;
}

/// A row of activations as integers, 32 at a time: x[k] is nearly code * step, step = amax / the largest code.
struct ActivationSums {
    float step;
    int32_t sum[2];       ///< of the codes, by halves of the block
    float scaled_sum[3];  ///< step * sum, by halves; then of the whole block
};
/// 32767 is the largest code.
struct alignas(32) WordBlock {
    int16_t codes[32];
    ActivationSums sums;
};
/// 127 is the largest; input i at byte_place(i).
struct alignas(32) ByteBlock {
    int8_t codes[32];
    ActivationSums sums;
};
/// A WordBlock's codes as 256 high + low; input i at byte_place(i).
struct alignas(32) PlaneBlock {
    int8_t high[32];
    uint8_t low[32];
    ActivationSums sums;
};
static_assert(sizeof(WordBlock) == 96 && sizeof(ByteBlock) == 64 && sizeof(PlaneBlock) == 96);

}  // namespace busbar::cpu
