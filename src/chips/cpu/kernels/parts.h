// What the kernel files of one instruction set show to table.cc.
#pragma once
#include "chips/cpu/kernels.h"

namespace busbar::cpu::BUSBAR_ISA {

void add(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n);
void subtract(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n);
void multiply(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n);
void divide(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n);
void exp(const float* x, float* y, int64_t n);
void rsqrt(const float* x, float* y, int64_t n);
void silu(const float* x, float* y, int64_t n);
void gated_silu(const float* gate, const float* up, float* y, int64_t n);
float sum(const float* x, int64_t n);
float mean(const float* x, int64_t n);
float max(const float* x, int64_t n);
void softmax(const float* x, float* y, int64_t n);
void rms_norm(const float* x, const float* weight, float* y, int64_t n, float epsilon);
void add_rms_norm(const float* x, const float* delta, const float* weight, float* sum, float* y, int64_t n,
                  float epsilon);
void rotate_half(const float* x, const float* cos, const float* sin, float* y, int64_t angles, int64_t width);
void rotate_interleaved(const float* x, const float* cos, const float* sin, float* y, int64_t angles, int64_t width);
void batch(const float* a, const float* b, float* y, int64_t m, int64_t k, int64_t n);
void narrow(PageElement to, const float* x, void* y, int64_t n);
void attention(PageElement keys, PageElement values, const AttentionBlock& block);
void attention_merge(float* maximum, float* sum, float* weighted, const float* later_maximum, const float* later_sum,
                     const float* later_weighted, int64_t queries, int64_t value_width);
double read(const void* data, size_t bytes, bool prefetch);
double multiply_add(int64_t rounds, float* sink);

}  // namespace busbar::cpu::BUSBAR_ISA
