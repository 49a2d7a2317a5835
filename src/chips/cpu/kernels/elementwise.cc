#include "chips/cpu/kernels/parts.h"
#include "chips/cpu/kernels/vector_math.h"

namespace busbar::cpu::BUSBAR_ISA {

namespace {

// A step of 0 stretches one value over the run.
template <typename F>
void two(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n, F f) {
    const Floats first_a = n > 0 ? splat(a[0]) : splat(0), first_b = n > 0 ? splat(b[0]) : splat(0);
    int64_t i = 0;
    if (step_a && step_b) {
        for (; i + lanes <= n; i += lanes) store(y + i, f(load(a + i), load(b + i)));
    } else if (step_a) {
        for (; i + lanes <= n; i += lanes) store(y + i, f(load(a + i), first_b));
    } else {
        for (; i + lanes <= n; i += lanes) store(y + i, f(first_a, step_b ? load(b + i) : first_b));
    }
    if (i < n) {
        const Floats va = step_a ? load_some(a + i, n - i, 1) : first_a,
                     vb = step_b ? load_some(b + i, n - i, 1) : first_b;
        store_some(y + i, f(va, vb), n - i);
    }
}

template <typename F>
void one(const float* x, float* y, int64_t n, F f) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) store(y + i, f(load(x + i)));
    if (i < n) store_some(y + i, f(load_some(x + i, n - i, 1)), n - i);
}

// x / (1 + e^-x). For x < 0 both sides are multiplied by e^x, and its power of two comes last: the result is then good
// down to the smallest numbers, where e^-x alone would be infinite.
Floats silu_of(Floats x) {
    const Ints negative = x < 0.0f;
    const ExpParts e = exp_parts(negative ? x : -x);
    const Floats one = splat(1), below = 1.0f + e.p * e.s * e.t;
    // The parts end at e^-170, which times a huge x is not 0 yet. -infinity / infinity is NaN, as the definition has
    // it.
    const Floats limited = x < -200.0f ? splat(-200.0f) : x;
    const Floats s = x == -__builtin_inff() ? splat(__builtin_nanf("")) : e.s;
    return (negative ? limited * e.p : x) / below * (negative ? s : one) * (negative ? e.t : one);
}

}  // namespace

void add(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n) {
    two(a, step_a, b, step_b, y, n, [](Floats p, Floats q) { return p + q; });
}
void subtract(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n) {
    two(a, step_a, b, step_b, y, n, [](Floats p, Floats q) { return p - q; });
}
void multiply(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n) {
    two(a, step_a, b, step_b, y, n, [](Floats p, Floats q) { return p * q; });
}
void divide(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n) {
    two(a, step_a, b, step_b, y, n, [](Floats p, Floats q) { return p / q; });
}
void exp(const float* x, float* y, int64_t n) {
    one(x, y, n, [](Floats v) { return exponential(v); });
}
void rsqrt(const float* x, float* y, int64_t n) {
    one(x, y, n, [](Floats v) { return 1.0f / square_root(v); });
}
void silu(const float* x, float* y, int64_t n) {
    one(x, y, n, [](Floats v) { return silu_of(v); });
}
void gated_silu(const float* gate, const float* up, float* y, int64_t n) {
    two(gate, 1, up, 1, y, n, [](Floats g, Floats u) { return silu_of(g) * u; });
}

}  // namespace busbar::cpu::BUSBAR_ISA
