// Ops on each element. `inner`: elements of one leading entry. Broadcasting walks up to eight axes, outermost first in
// s0; strides are 0 where an input stretches.
int walk(uint i, int8 extents, int8 strides) {
    int at = 0;
#define AXIS(k)                             \
    if (extents.s##k != 1) {                \
        const uint e = (uint)extents.s##k;  \
        at += (int)(i % e) * strides.s##k;  \
        i /= e;                             \
    }
    AXIS(7) AXIS(6) AXIS(5) AXIS(4) AXIS(3) AXIS(2) AXIS(1)
#undef AXIS
    return at + (int)i * strides.s0;
}

#define BINARY(name, expression)                                                                                      \
    kernel void name(global const int* step, int symbol, int capacity, int inner, global const float* a, ulong a_at,   \
                     global const float* b, ulong b_at, global float* y, ulong y_at, int8 extents, int8 a_strides,     \
                     int8 b_strides) {                                                                                 \
        const uint i = get_global_id(0);                                                                               \
        if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;                                          \
        const float p = a[a_at + walk(i, extents, a_strides)], q = b[b_at + walk(i, extents, b_strides)];              \
        y[y_at + i] = expression;                                                                                      \
    }
BINARY(add, p + q)
BINARY(subtract, p - q)
BINARY(multiply, p* q)
BINARY(divide, p / q)

// x / (1 + e^-x). For x < 0 both sides are multiplied by e^x, whose powers of two come last: good down to the smallest
// numbers, where e^-x alone would be infinite. -infinity gives NaN, as the definition has it.
float silu_of(float x) {
    const int negative = x < 0.0f;
    const Parts e = exp_parts(negative ? x : -x);
    const float below = 1.0f + e.p * e.s * e.t;
    const float above = negative ? (x < -200.0f ? -200.0f : x) * e.p : x;
    float q = above / below;
#ifndef EXACT_DIVISION
    const float rest = fma(-q, below, above) / below;
    if (isfinite(rest)) q += rest;
#endif
    if (x == -INFINITY) return NAN;
    return negative ? q * e.s * e.t : q;
}

#define UNARY(name, expression)                                                                                    \
    kernel void name(global const int* step, int symbol, int capacity, int inner, global const float* a,           \
                     ulong a_at, global float* y, ulong y_at) {                                                     \
        const uint i = get_global_id(0);                                                                            \
        if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;                                       \
        const float x = a[a_at + i];                                                                                \
        y[y_at + i] = expression;                                                                                   \
    }
UNARY(exp_, exponential(x))
UNARY(rsqrt_, 1.0f / sqrt(x))
#ifdef HAS_FP64
UNARY(cos_, (float)cos((double)x))
UNARY(sin_, (float)sin((double)x))
#else
UNARY(cos_, cos(x))
UNARY(sin_, sin(x))
#endif
UNARY(silu, silu_of(x))

kernel void gated_silu(global const int* step, int symbol, int capacity, int inner, global const float* gate,
                       ulong gate_at, global const float* up, ulong up_at, global float* y, ulong y_at) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    y[y_at + i] = silu_of(gate[gate_at + i]) * up[up_at + i];
}

// An index that is selected becomes a number: how a definition turns positions into reals.
kernel void select_(global const int* step, int symbol, int capacity, int inner, global const int* mask, ulong mask_at,
                    global const int* a, ulong a_at, global const int* b, ulong b_at, global float* y, ulong y_at,
                    int8 extents, int8 m_strides, int8 a_strides, int8 b_strides, int a_is_index, int b_is_index) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    if (mask[mask_at + walk(i, extents, m_strides)] != 0) {
        const int word = a[a_at + walk(i, extents, a_strides)];
        y[y_at + i] = a_is_index ? (float)word : as_float(word);
    } else {
        const int word = b[b_at + walk(i, extents, b_strides)];
        y[y_at + i] = b_is_index ? (float)word : as_float(word);
    }
}

// transpose, slice, concat: words from one walk to another.
kernel void move(global const int* step, int symbol, int capacity, int inner, global const int* x, ulong x_at,
                 global int* y, ulong y_at, int8 extents, int8 x_strides, int8 y_strides) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    y[y_at + walk(i, extents, y_strides)] = x[x_at + walk(i, extents, x_strides)];
}

kernel void gather(global const int* step, int symbol, int capacity, int width, global const int* table, ulong table_at,
                   int entries, global const int* ids, ulong ids_at, global int* y, ulong y_at, global int* status,
                   int number) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)width) return;
    const int id = ids[ids_at + i / width];
    if (id < 0 || id >= entries) {
        fail(status, number, 1);
        y[y_at + i] = 0;
    } else {
        y[y_at + i] = table[table_at + (ulong)id * width + i % width];
    }
}

// y[m, n] = sum over k of a[m, k] b[k, n], matrices by matrices of leading axes.
kernel void batch_matmul(global const int* step, int symbol, int capacity, int inner, global const float* a, ulong a_at,
                         global const float* b, ulong b_at, global float* y, ulong y_at, int m, int k, int n,
                         int8 extents, int8 a_strides, int8 b_strides) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    const uint column = i % n, row = i / n % m, matrix = i / n / m;
    a += a_at + ((ulong)walk(matrix, extents, a_strides) * m + row) * k;
    b += b_at + (ulong)walk(matrix, extents, b_strides) * k * n + column;
    float sum = 0;
    for (int j = 0; j < k; ++j) sum = MULTIPLY_ADD(a[j], b[(ulong)j * n], sum);
    y[y_at + i] = sum;
}

// y[r, n] = sum over k of x[r, k] w[n, k], where w is values too.
kernel void matmul_values(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                          global const float* w, ulong w_at, global float* y, ulong y_at, int k, int n) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    x += x_at + (ulong)(i / n) * k;
    w += w_at + (ulong)(i % n) * k;
    float sum = 0;
    for (int j = 0; j < k; ++j) sum = MULTIPLY_ADD(x[j], w[j], sum);
    y[y_at + i] = sum;
}

kernel void rotary_table(global const int* step, int symbol, int capacity, int angles, global const int* positions,
                         ulong positions_at, global const float* frequencies, ulong frequencies_at, global float* c,
                         ulong c_at, global float* s, ulong s_at, float scale) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)angles) return;
    const int position = positions[positions_at + i / angles];
    const float frequency = frequencies[frequencies_at + i % angles];
#ifdef HAS_FP64
    const double angle = (double)position * (double)frequency;
    c[c_at + i] = (float)(cos(angle) * (double)scale);
    s[s_at + i] = (float)(sin(angle) * (double)scale);
#else
    // What the product's rounding lost turns the result a little further: no error that grows with the context.
    const float angle = (float)position * frequency, lost = fma((float)position, frequency, -angle);
    const float x = cos(angle), y = sin(angle), turn = 1.0f - 0.5f * lost * lost;
    c[c_at + i] = (x * turn - y * lost) * scale;
    s[s_at + i] = (y * turn + x * lost) * scale;
#endif
}

// HALF pairs element i with i + angles, else 2i with 2i + 1; what is past the angles is passed on.
kernel void rotate_(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                    global const float* c, ulong c_at, global const float* s, ulong s_at, global float* y, ulong y_at,
                    int width, int angles, int half_pairs) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    const uint at = i % width;
    const ulong table = (ulong)(i / inner) * angles;
    const float mine = x[x_at + i];
    if (at >= 2 * (uint)angles) {
        y[y_at + i] = mine;
        return;
    }
    const uint pair = half_pairs ? at % angles : at / 2;
    const int first = half_pairs ? at < (uint)angles : at % 2 == 0;
    const int distance = half_pairs ? angles : 1;
    const float other = x[x_at + (first ? i + distance : i - distance)];
    const float co = c[c_at + table + pair], si = s[s_at + table + pair];
    y[y_at + i] = first ? mine * co - other * si : mine * co + other * si;
}
