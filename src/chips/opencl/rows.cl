// Ops that fold a row: a group of LANES work-items per row, each with every LANES-th element, then a fixed tree. The
// order of a sum so depends on the row's length alone.
float fold_sum(local float* parts, int lane, float mine) {
    barrier(CLK_LOCAL_MEM_FENCE);
    parts[lane] = mine;
    for (int n = LANES / 2; n > 0; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < n) parts[lane] += parts[lane + n];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return parts[0];
}
// All lanes go round equally often: compilers that run a group's items as a loop then keep them in step.
#define EACH                                          \
    for (int from = 0; from < width; from += LANES)   \
        for (int i = from + lane, once = 1; once && i < width; once = 0)

// A NaN anywhere wins.
float larger(float a, float b) {
    return isnan(a) || a > b ? a : b;
}
float fold_max(local float* parts, int lane, float mine) {
    barrier(CLK_LOCAL_MEM_FENCE);
    parts[lane] = mine;
    for (int n = LANES / 2; n > 0; n /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < n) parts[lane] = larger(parts[lane], parts[lane + n]);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return parts[0];
}

#define ROW_OF(rows)                                                                \
    local float parts[LANES];                                                       \
    const int lane = get_local_id(0);                                               \
    const ulong row = get_group_id(0);                                              \
    if (row >= (ulong)leading(step, symbol, capacity) * (ulong)rows) return;        \
    x += x_at + row * width;

kernel void sum_(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                 global float* y, ulong y_at, int width, int is_mean) {
    ROW_OF(inner)
    float mine = 0;
    EACH mine += x[i];
    const float sum = fold_sum(parts, lane, mine);
    if (lane == 0) y[y_at + row] = is_mean ? sum / (float)width : sum;
}

kernel void max_(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                 global float* y, ulong y_at, int width) {
    ROW_OF(inner)
    float mine = -INFINITY;
    EACH mine = larger(x[i], mine);
    mine = fold_max(parts, lane, mine);
    if (lane == 0) y[y_at + row] = mine;
}

kernel void softmax(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                    global float* y, ulong y_at, int width) {
    ROW_OF(inner)
    y += y_at + row * width;
    float mine = -INFINITY;
    EACH mine = x[i] > mine ? x[i] : mine;
    const float most = fold_max(parts, lane, mine);
    mine = 0;
    EACH {
        const float e = exponential(x[i] - most);
        y[i] = e;
        mine += e;
    }
    const float sum = fold_sum(parts, lane, mine);
    EACH y[i] = y[i] / sum;
}

// The squares of large numbers do not fit f32: they are summed as multiples of the largest square's power of four.
float norm_factor(local float* parts, int lane, global const float* x, int width, float epsilon) {
    float mine = 0;
    EACH mine = larger(fabs(x[i]), mine);
    const float most = fold_max(parts, lane, mine);
    // Within 2^-40 .. 2^40 squares and their sums are in range as they are.
    const float by = most > 0x1p40f ? 0x1p-80f : most < 0x1p-40f ? 0x1p60f : 1.0f;
    mine = 0;
    EACH {
        const float v = x[i] * by;
        mine += v * v;
    }
    const float mean = fold_sum(parts, lane, mine) / (float)width;
    // sqrt(mean / by^2 + epsilon) = sqrt(mean + epsilon by^2) / by
    const float whole = mean + epsilon * by * by;
    return by == 1.0f ? 1.0f / sqrt(whole) : by / sqrt(whole);
}

kernel void rms_norm(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                     global const float* w, ulong w_at, global float* y, ulong y_at, int width, float epsilon) {
    ROW_OF(inner)
    y += y_at + row * width;
    const float factor = norm_factor(parts, lane, x, width, epsilon);
    EACH y[i] = x[i] * factor * w[w_at + i];
}

kernel void add_rms_norm(global const int* step, int symbol, int capacity, int inner, global const float* x, ulong x_at,
                         global const float* delta, ulong delta_at, global const float* w, ulong w_at,
                         global float* total, ulong total_at, global float* y, ulong y_at, int width, float epsilon) {
    ROW_OF(inner)
    delta += delta_at + row * width;
    total += total_at + row * width;
    y += y_at + row * width;
    EACH total[i] = x[i] + delta[i];
    // Each lane reads back only what it wrote.
    const float factor = norm_factor(parts, lane, total, width, epsilon);
    EACH y[i] = total[i] * factor * w[w_at + i];
}
