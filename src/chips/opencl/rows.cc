// What this chip can do, said once: the profile's kernel rows and the launches both follow from it.
#include "chips/opencl/step.h"

namespace busbar::opencl {

namespace {

const Offer table[] = {
    {&op_add, true, false, 0, 0.8, make_elementwise},
    {&op_subtract, true, false, 0, 0.8, make_elementwise},
    {&op_multiply, true, false, 0, 0.8, make_elementwise},
    {&op_divide, true, false, 0, 0.8, make_elementwise},
    {&op_exp, true, false, 2, 0.5, make_elementwise},
    {&op_rsqrt, true, false, 3, 0.5, make_elementwise},
    {&op_cos, true, false, 4, 0.2, make_elementwise},
    {&op_sin, true, false, 4, 0.2, make_elementwise},
    {&op_mean, true, false, 0, 0.5, make_reduce},
    {&op_sum, true, false, 0, 0.5, make_reduce},
    {&op_max, true, false, 0, 0.5, make_reduce},
    {&op_matmul, true, true, 0, 0.5, make_matmul},
    {&op_multi_matmul, true, true, 0, 0.5, make_matmul},
    {&op_batch_matmul, true, false, 0, 0.05, make_batch_matmul},
    {&op_gather_rows, true, true, 0, 0.5, make_gather_rows},
    {&op_transpose, true, false, 0, 0.3, make_transpose},
    {&op_slice, true, false, 0, 0.5, make_slice},
    {&op_concat, true, false, 0, 0.5, make_concat},
    {&op_select, true, false, 0, 0.5, make_select},
    {&op_cache_append, true, false, 0, 0.3, make_cache_append},
    {&op_cache_gather, true, false, 0, 0.3, make_cache_gather},
    {&op_cache_mask, true, false, 0, 0.5, make_cache_mask},
    {&op_rms_norm, true, false, 3, 0.3, make_norm},
    {&op_add_rms_norm, true, false, 3, 0.3, make_add_norm},
    {&op_softmax, true, false, 2, 0.3, make_softmax},
    {&op_silu, true, false, 4, 0.5, make_elementwise},
    {&op_gated_silu, true, false, 4, 0.5, make_gated_silu},
    {&op_rotary_table, true, false, 4, 0.2, make_rotary_table},
    {&op_rotate, true, false, 0, 0.5, make_rotate},
    {&op_attention, true, false, 2, 0.3, make_attention},
};

}  // namespace

std::span<const Offer> offers() {
    return table;
}

}  // namespace busbar::opencl
