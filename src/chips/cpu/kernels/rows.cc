// Kernels that fold a row: reductions, softmax, norms.
#include "chips/cpu/kernels/parts.h"
#include "chips/cpu/kernels/vector_math.h"

namespace busbar::cpu::BUSBAR_ISA {

namespace {

constexpr float infinity = __builtin_inff();

double sum_of(const float* x, int64_t n) {
    Sum s;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) s.add(load(x + i));
    if (i < n) s.add(load_some(x + i, n - i, 0));
    return s.value();
}

// The largest; NaNs are passed over.
float largest_of(const float* x, int64_t n) {
    Floats m = splat(-infinity);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) m = larger(load(x + i), m);
    if (i < n) m = larger(load_some(x + i, n - i, -infinity), m);
    return largest(m);
}

float reciprocal_root_mean(double sum_of_squares, int64_t n, float epsilon) {
    return (float)(1 / __builtin_sqrt(sum_of_squares / (double)n + (double)epsilon));
}

void scale(const float* x, float factor, const float* weight, float* y, int64_t n) {
    int64_t i = 0;
    const Floats f = splat(factor);
    for (; i + lanes <= n; i += lanes) store(y + i, load(x + i) * f * load(weight + i));
    if (i < n) store_some(y + i, load_some(x + i, n - i, 0) * f * load_some(weight + i, n - i, 0), n - i);
}

}  // namespace

float sum(const float* x, int64_t n) {
    return (float)sum_of(x, n);
}
float mean(const float* x, int64_t n) {
    return (float)(sum_of(x, n) / (double)n);
}

float max(const float* x, int64_t n) {
    // A NaN anywhere makes the sum of x - x NaN... so does an infinity; asking each lane whether it equals itself does
    // not.
    Ints odd = {};
    Floats m = splat(-infinity);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const Floats v = load(x + i);
        odd |= v != v;
        m = larger(v, m);
    }
    if (i < n) {
        const Floats v = load_some(x + i, n - i, -infinity);
        odd |= v != v;
        m = larger(v, m);
    }
    for (int lane = 0; lane < lanes; ++lane)
        if (odd[lane]) return __builtin_nanf("");
    return largest(m);
}

void softmax(const float* x, float* y, int64_t n) {
    const Floats m = splat(largest_of(x, n));
    Sum s;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const Floats e = exponential(load(x + i) - m);
        store(y + i, e);
        s.add(e);
    }
    if (i < n) {
        const Floats e = exponential(load_some(x + i, n - i, -infinity) - m);
        store_some(y + i, e, n - i);
        s.add(load_some(y + i, n - i, 0));
    }
    const Floats whole = splat((float)s.value());
    for (i = 0; i + lanes <= n; i += lanes) store(y + i, load(y + i) / whole);
    if (i < n) store_some(y + i, load_some(y + i, n - i, 0) / whole, n - i);
}

void rms_norm(const float* x, const float* weight, float* y, int64_t n, float epsilon) {
    Sum s;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) s.add_square(load(x + i));
    if (i < n) s.add_square(load_some(x + i, n - i, 0));
    scale(x, reciprocal_root_mean(s.value(), n, epsilon), weight, y, n);
}

void add_rms_norm(const float* x, const float* delta, const float* weight, float* sum, float* y, int64_t n,
                  float epsilon) {
    Sum s;
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) {
        const Floats v = load(x + i) + load(delta + i);
        store(sum + i, v);
        s.add_square(v);
    }
    if (i < n) {
        const Floats v = load_some(x + i, n - i, 0) + load_some(delta + i, n - i, 0);
        store_some(sum + i, v, n - i);
        s.add_square(v);
    }
    scale(sum, reciprocal_root_mean(s.value(), n, epsilon), weight, y, n);
}

void rotate_half(const float* x, const float* cos, const float* sin, float* y, int64_t angles, int64_t width) {
    const float *a = x, *b = x + angles;
    float *ya = y, *yb = y + angles;
    int64_t i = 0;
    for (; i + lanes <= angles; i += lanes) {
        const Floats va = load(a + i), vb = load(b + i), c = load(cos + i), s = load(sin + i);
        store(ya + i, va * c - vb * s);
        store(yb + i, vb * c + va * s);
    }
    for (; i < angles; ++i) {
        const float va = a[i], vb = b[i];
        ya[i] = va * cos[i] - vb * sin[i];
        yb[i] = vb * cos[i] + va * sin[i];
    }
    if (y != x)
        for (i = 2 * angles; i < width; ++i) y[i] = x[i];
}

void rotate_interleaved(const float* x, const float* cos, const float* sin, float* y, int64_t angles, int64_t width) {
    for (int64_t i = 0; i < angles; ++i) {
        const float a = x[2 * i], b = x[2 * i + 1];
        y[2 * i] = a * cos[i] - b * sin[i];
        y[2 * i + 1] = b * cos[i] + a * sin[i];
    }
    if (y != x)
        for (int64_t i = 2 * angles; i < width; ++i) y[i] = x[i];
}

void batch(const float* a, const float* b, float* y, int64_t m, int64_t k, int64_t n) {
    // Four vectors of outputs at a time, each a sum in the order of k.
    for (int64_t r = 0; r < m; ++r, a += k, y += n) {
        int64_t c = 0;
        for (; c + 4 * lanes <= n; c += 4 * lanes) {
            Floats s[4] = {};
            for (int64_t i = 0; i < k; ++i)
                for (int v = 0; v < 4; ++v) s[v] = multiply_add(splat(a[i]), load(b + i * n + c + v * lanes), s[v]);
            for (int v = 0; v < 4; ++v) store(y + c + v * lanes, s[v]);
        }
        for (; c < n; c += lanes) {
            const int64_t some = n - c < lanes ? n - c : lanes;
            Floats s = {};
            for (int64_t i = 0; i < k; ++i)
                s = multiply_add(splat(a[i]), some == lanes ? load(b + i * n + c) : load_some(b + i * n + c, some, 0),
                                 s);
            store_some(y + c, s, some);
        }
    }
}

}  // namespace busbar::cpu::BUSBAR_ISA
