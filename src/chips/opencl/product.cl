// Products with packed weights. A weight is cut into panels of R outputs; for each 32 numbers of K a panel holds its
// codes, then the next 32: [panel][word][R], so that work-items side by side read words side by side. Scales lie in
// planes of their own: [panel][group][R].
// CODE   32 f32, 16 f16, 17 bf16, 8 signed bytes, 4 nibbles (eight in a word)
// GROUP  numbers that share a scale: 16 or 32; 0 for plain numbers
// SCALE  1 an f16, 2 an f16 per 256 times a byte, 3 a power of two
// MINIMUM 1: w = scale q + m with an f16 m; 2: w = scale q - (f16 per 256) (byte)
// BIAS   subtracted from a nibble; TABLE 1, 2: what a nibble stands for
#define R 32
#define SLICES 8

#if CODE == 4
#define PER_WORD 8
typedef uint Word;
#define load_words(p, i) load_v(0, (p) + (i))
#elif CODE == 8
#define PER_WORD 4
typedef uint Word;
#define load_words(p, i) load_v(0, (p) + (i))
#elif CODE == 32
#define PER_WORD 1
typedef float Word;
#define load_words(p, i) load_v(0, (p) + (i))
#elif CODE == 17
#define PER_WORD 1
typedef ushort Word;
#define load_words(p, i) as_float_v(to_uint_v(load_v(0, (p) + (i))) << 16)
#else
#define PER_WORD 1
typedef half Word;
#define load_words(p, i) load_half_v(0, (p) + (i))
#endif
#define WORDS (32 / PER_WORD)

#ifdef TABLE
#if TABLE == 1
constant float table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
#else
constant float table[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
#endif
#endif

// Where the planes of a weight lie, in bytes.
typedef struct {
    global const Word* codes;
    global const half* scales;    // f16: per group, or per 256 where SCALE is 2
    global const half* minimums;
    global const uchar* small_scales;
    global const uchar* small_minimums;
} Weight;

Weight weight_at(global const uchar* w, ulong d, ulong m, ulong s, ulong sm) {
    Weight weight;
    weight.codes = (global const Word*)w;
    weight.scales = (global const half*)(w + d);
    weight.minimums = (global const half*)(w + m);
    weight.small_scales = w + s;
    weight.small_minimums = w + sm;
    return weight;
}

float power_of_two(uint e) {  // half of an E8M0 scale, since the table is doubled
    return e == 255 ? NAN : as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

#if GROUP > 0
typedef struct {
    FloatV scale, minimum;
} Scales;

// `group` counts from the panel's start; there are `groups` in a panel's row.
Scales scales_of(Weight w, ulong panel, int groups, int group, int r) {
    Scales s;
    s.minimum = 0.0f;
    const ulong at = (panel * groups + group) * R + r;
#if SCALE == 1
    s.scale = load_half_v(0, w.scales + at);
#if MINIMUM == 1
    s.minimum = load_half_v(0, w.minimums + at);
#endif
#elif SCALE == 2
    const ulong outer = (panel * (groups / (256 / GROUP)) + group / (256 / GROUP)) * R + r;
    s.scale = load_half_v(0, w.scales + outer);
#if MINIMUM == 2
    s.scale *= to_float_v(load_v(0, w.small_scales + at));
    s.minimum = load_half_v(0, w.minimums + outer) * to_float_v(load_v(0, w.small_minimums + at));
#else
    s.scale *= to_float_v(load_v(0, (global const char*)w.small_scales + at));
#endif
#else
    for (int i = 0; i < V; ++i) ((float*)&s.scale)[i] = power_of_two(w.small_scales[at + i]);
#endif
    return s;
}

FloatV weights_of(UintV code, Scales s) {
#if CODE == 8
    FloatV c = to_float_v(JOIN(as_int, V)(code << 24) >> 24);
#elif defined(TABLE)
    FloatV c;
    for (int i = 0; i < V; ++i) ((float*)&c)[i] = table[((uint*)&code)[i] & 15];
#else
    FloatV c = to_float_v(code & 15u);
#if BIAS > 0
    c -= (float)BIAS;
#endif
#endif
    // The products below have at most 22 bits: one rounding or two, the definition's number comes out.
#if MINIMUM == 1
    return MULTIPLY_ADD(s.scale, c, s.minimum);
#elif MINIMUM == 2
    return MULTIPLY_ADD(s.scale, c, -s.minimum);
#else
    return s.scale * c;
#endif
}
#define SHIFT (32 / PER_WORD)
#endif

// Few rows: a group per panel and row. Each of SLICES takes a run of K whose length depends on K alone; their sums are
// added in order.
kernel void product_vector(global const int* step, int symbol, int capacity, int inner, global const float* x,
                           ulong x_at, global const uchar* w, ulong d_at, ulong m_at, ulong s_at, ulong sm_at,
                           global float* y, ulong y_at, int k, int n, int per_slice) {
    local float parts[SLICES * R];
    const int r = get_local_id(0) * V, slice = get_local_id(1);
    const ulong panel = get_group_id(0), row = get_group_id(2);
    if (row >= (ulong)leading(step, symbol, capacity) * (ulong)inner) return;
    const Weight weight = weight_at(w, d_at, m_at, s_at, sm_at);
    const int blocks = (k + 31) / 32, end = min((slice + 1) * per_slice, blocks);
    x += x_at + row * k;
    FloatV sum = 0.0f;
    for (int block = slice * per_slice; block < end; ++block) {
        global const Word* codes = weight.codes + (panel * blocks + block) * WORDS * R + r;
        global const float* xs = x + block * 32;
#if GROUP == 0
        const int count = min(32, k - block * 32);
        for (int i = 0; i < count; ++i) sum = MULTIPLY_ADD((FloatV)(xs[i]), load_words(codes, i * R), sum);
#else
        Scales s = scales_of(weight, panel, k / GROUP, block * (32 / GROUP), r);
        for (int i = 0; i < WORDS; ++i) {
#if GROUP == 16
            if (i == WORDS / 2) s = scales_of(weight, panel, k / GROUP, block * 2 + 1, r);
#endif
            UintV code = load_words(codes, i * R);
#pragma unroll
            for (int j = 0; j < PER_WORD; ++j) {
                sum = MULTIPLY_ADD((FloatV)(xs[i * PER_WORD + j]), weights_of(code, s), sum);
                code >>= SHIFT;
            }
        }
#endif
    }
    store_v(sum, 0, parts + slice * R + r);
    barrier(CLK_LOCAL_MEM_FENCE);
    if (slice > 0) return;
    FloatV total = 0.0f;
    for (int i = 0; i < SLICES && i * per_slice < blocks; ++i) total += load_v(0, parts + i * R + r);
    float numbers[V];
    store_v(total, 0, numbers);
    const ulong first = panel * R + r;
    y += y_at + row * n;
    for (int i = 0; i < V; ++i)
        if (first + i < (ulong)n) y[first + i] = numbers[i];
}

// Many rows: a tile of R outputs by TILE rows. A panel's 32 numbers of K are unpacked once for all of them, and the sums
// run over K in the same slices as above: the same bits. Its loops are functions, so that compilers that run a group's
// items as a loop keep that loop outside of them.
#define SIDE_ROWS 4
#define SIDES 8
#define TILE (SIDE_ROWS * SIDES)
#define X_STRIDE 33  // of a row of x: sides then read from different banks of local memory

void unpack_block(local float* to, Weight w, ulong panel, int k, int block, int r, int side) {
    global const Word* codes = w.codes + (panel * ((k + 31) / 32) + block) * WORDS * R + r;
#if GROUP == 0
    for (int i = side; i < 32; i += SIDES)
        store_v(block * 32 + i < k ? load_words(codes, i * R) : (FloatV)(0.0f), 0, to + i * R + r);
#else
    for (int i = side; i < WORDS; i += SIDES) {
        const Scales s = scales_of(w, panel, k / GROUP, block * (32 / GROUP) + i * PER_WORD / GROUP, r);
        UintV code = load_words(codes, i * R);
        for (int j = 0; j < PER_WORD; ++j) {
            store_v(weights_of(code, s), 0, to + (i * PER_WORD + j) * R + r);
            code >>= SHIFT;
        }
    }
#endif
}

// `x` is the tile's first row, of which there are `rows`.
void load_rows(local float* to, global const float* x, ulong rows, int k, int block, int item) {
    for (int i = item; i < 32 * TILE / V; i += SIDES * (R / V)) {
        const int t = i / (32 / V), at = block * 32 + i % (32 / V) * V;
        FloatV numbers = 0.0f;
        if ((ulong)t < rows) {
            if (at + V <= k)
                numbers = load_v(0, x + (ulong)t * k + at);
            else
                for (int j = 0; j < V; ++j)
                    if (at + j < k) ((float*)&numbers)[j] = x[(ulong)t * k + at + j];
        }
        store_v(numbers, 0, to + t * X_STRIDE + at - block * 32);
    }
}

void add_block(FloatV* sum, local const float* x, local const float* w) {
    FloatV s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];
#pragma unroll 4
    for (int i = 0; i < 32; ++i) {
        const FloatV u = load_v(0, w + i * R);
        s0 = MULTIPLY_ADD((FloatV)(x[i]), u, s0);
        s1 = MULTIPLY_ADD((FloatV)(x[X_STRIDE + i]), u, s1);
        s2 = MULTIPLY_ADD((FloatV)(x[2 * X_STRIDE + i]), u, s2);
        s3 = MULTIPLY_ADD((FloatV)(x[3 * X_STRIDE + i]), u, s3);
    }
    sum[0] = s0, sum[1] = s1, sum[2] = s2, sum[3] = s3;
}

void end_slice(FloatV* total, FloatV* sum) {
    for (int t = 0; t < SIDE_ROWS; ++t) {
        total[t] += sum[t];
        sum[t] = 0.0f;
    }
}

void store_rows(global float* y, const FloatV* total, ulong row, ulong rows, ulong first, int n) {
    for (int t = 0; t < SIDE_ROWS && row + t < rows; ++t) {
        float numbers[V];
        store_v(total[t], 0, numbers);
        for (int i = 0; i < V; ++i)
            if (first + i < (ulong)n) y[(row + t) * n + first + i] = numbers[i];
    }
}

kernel void product_panel(global const int* step, int symbol, int capacity, int inner, global const float* x,
                          ulong x_at, global const uchar* w, ulong d_at, ulong m_at, ulong s_at, ulong sm_at,
                          global float* y, ulong y_at, int k, int n, int per_slice) {
    local float unpacked[32 * R];
    local float rows_of_x[TILE * X_STRIDE];
    const int r = get_local_id(0) * V, side = get_local_id(1);
    const ulong panel = get_group_id(0), first_row = get_group_id(1) * (ulong)TILE;
    const ulong rows = (ulong)leading(step, symbol, capacity) * (ulong)inner;
    if (first_row >= rows) return;
    const Weight weight = weight_at(w, d_at, m_at, s_at, sm_at);
    const int blocks = (k + 31) / 32;
    x += x_at + first_row * k;
    FloatV sum[SIDE_ROWS], total[SIDE_ROWS];
    for (int t = 0; t < SIDE_ROWS; ++t) sum[t] = total[t] = 0.0f;
    for (int block = 0; block < blocks; ++block) {
        barrier(CLK_LOCAL_MEM_FENCE);
        unpack_block(unpacked, weight, panel, k, block, r, side);
        load_rows(rows_of_x, x, rows - first_row, k, block, side * (R / V) + get_local_id(0));
        barrier(CLK_LOCAL_MEM_FENCE);
        add_block(sum, rows_of_x + side * SIDE_ROWS * X_STRIDE, unpacked + r);
        if ((block + 1) % per_slice == 0 || block + 1 == blocks) end_slice(total, sum);
    }
    store_rows(y + y_at, total, first_row + side * SIDE_ROWS, rows, panel * R + r, n);
}

// Rows of a packed table: a work-item per word.
kernel void gather_packed(global const int* step, int symbol, int capacity, int words, global const uchar* w, ulong d_at,
                          ulong m_at, ulong s_at, ulong sm_at, int entries, global const int* ids, ulong ids_at,
                          global float* y, ulong y_at, int k, global int* status, int number) {
    const uint item = get_global_id(0);
    if (item >= (uint)leading(step, symbol, capacity) * (uint)words) return;
    const int id = ids[ids_at + item / words], word = item % words;
    const int known = id >= 0 && id < entries;
    if (!known) fail(status, number, 1);
    const Weight weight = weight_at(w, d_at, m_at, s_at, sm_at);
    // The vector that holds the row, and the row's place in it.
    const int r = known ? id % R / V * V : 0, lane = known ? id % V : 0;
    const ulong panel = known ? id / R : 0;
    const int blocks = (k + 31) / 32;
    global const Word* codes = weight.codes + (panel * blocks * WORDS + word) * R + r;
    y += y_at + (ulong)(item / words) * k + word * PER_WORD;
    float numbers[V];
#if GROUP == 0
    store_v(load_words(codes, 0), 0, numbers);
    y[0] = known ? numbers[lane] : 0.0f;
#else
    const Scales s = scales_of(weight, panel, k / GROUP, word * PER_WORD / GROUP, r);
    UintV code = load_words(codes, 0);
    for (int j = 0; j < PER_WORD; ++j) {
        store_v(weights_of(code, s), 0, numbers);
        y[j] = known ? numbers[lane] : 0.0f;
        code >>= SHIFT;
    }
#endif
}
