// What this chip can do, said once: the profile's kernel rows and the steps both follow from it.
#include "chips/cpu/step.h"

namespace busbar::cpu {

namespace {

constexpr Element none = Element::f64;

// Shares of peak are of the flops or of the bandwidth, whichever binds, from `busbar bench` on Zen 3.
const Offer table[] = {
    {&op_add, true, true, none, 0, 0.8, make_add},
    {&op_subtract, true, true, none, 0, 0.8, make_subtract},
    {&op_multiply, true, true, none, 0, 0.8, make_multiply},
    {&op_divide, true, true, none, 0, 0.8, make_divide},
    {&op_exp, true, false, none, 2, 0.5, make_exp},
    {&op_rsqrt, true, false, none, 2, 0.5, make_rsqrt},
    {&op_cos, true, false, none, 1, 0.02, make_cos},
    {&op_sin, true, false, none, 1, 0.02, make_sin},
    {&op_mean, true, false, none, 0, 0.5, make_mean},
    {&op_sum, true, false, none, 0, 0.5, make_sum},
    {&op_max, true, false, none, 0, 0.8, make_max},
    {&op_matmul, true, true, Element::i16, 0, 0.7, make_matmul},
    {&op_multi_matmul, true, true, Element::i16, 0, 0.7, make_matmul},
    {&op_matmul, false, false, Element::i8, 0, 0.8, make_matmul},
    {&op_multi_matmul, false, false, Element::i8, 0, 0.8, make_matmul},
    {&op_matmul, false, false, Element::bf16, 0, 0.8, make_matmul},
    {&op_multi_matmul, false, false, Element::bf16, 0, 0.8, make_matmul},
    {&op_batch_matmul, true, false, none, 0, 0.2, make_batch_matmul},
    {&op_gather_rows, true, true, Element::f32, 0, 0.5, make_gather_rows},
    {&op_transpose, true, false, none, 0, 0.2, make_transpose},
    {&op_slice, true, false, none, 0, 0.5, make_slice},
    {&op_concat, true, false, none, 0, 0.5, make_concat},
    {&op_select, true, false, none, 0, 0.2, make_select},
    {&op_cache_append, true, false, none, 0, 0.3, make_cache_append},
    {&op_cache_gather, true, false, none, 0, 0.1, make_cache_gather},
    {&op_cache_mask, true, false, none, 0, 0.1, make_cache_mask},
    {&op_rms_norm, true, true, none, 1, 0.5, make_rms_norm},
    {&op_add_rms_norm, true, true, none, 1, 0.5, make_add_rms_norm},
    {&op_softmax, true, false, none, 2, 0.3, make_softmax},
    {&op_silu, true, false, none, 4, 0.3, make_silu},
    {&op_gated_silu, true, false, none, 4, 0.3, make_gated_silu},
    {&op_rotary_table, true, false, none, 1, 0.02, make_rotary_table},
    {&op_rotate, true, false, none, 0, 0.5, make_rotate},
    {&op_attention, true, false, none, 2, 0.5, make_attention},
};

}  // namespace

std::span<const Offer> offers() {
    return table;
}

}  // namespace busbar::cpu
