// States: pages of 64 positions. Keys lie as [head][width][64], so that work-items side by side read positions side by
// side; values as [head][64][width rounded up to 8], so that they read numbers side by side.
// CACHE: 32 as f32, 16 as f16, 17 as bf16.
#define PAGE 64
#if CACHE == 16
typedef half Cached;
#define GET(p, i) vload_half((i), (p))
#define GET_V(p, i) load_half_v(0, (p) + (i))
#define PUT(x, p, i) vstore_half_rte((x), (i), (p))
#elif CACHE == 17
typedef ushort Cached;
#define GET(p, i) as_float((uint)(p)[i] << 16)
#define GET_V(p, i) as_float_v(to_uint_v(load_v(0, (p) + (i))) << 16)
#define PUT(x, p, i) (p)[i] = to_bf16(x)
// Round to nearest even; a NaN keeps its top bits and becomes quiet.
ushort to_bf16(float x) {
    const uint bits = as_uint(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (ushort)(bits >> 16 | 0x40);
    return (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
#else
typedef float Cached;
#define GET(p, i) (p)[i]
#define GET_V(p, i) load_v(0, (p) + (i))
#define PUT(x, p, i) (p)[i] = (x)
#endif

int padded(int width) {
    return (width + 7) / 8 * 8;
}
ulong page_size(int heads, int width, int is_key) {
    return (ulong)heads * PAGE * (is_key ? width : padded(width));
}
ulong slot_at(int head, int slot, int d, int width, int is_key) {
    return is_key ? ((ulong)head * width + d) * PAGE + slot : ((ulong)head * PAGE + slot) * padded(width) + d;
}
// The page of a position, -1 where there is none.
int page_of(global const int* table, int sequences, int columns, int pages, int sequence, int position) {
    if (sequence < 0 || sequence >= sequences || position < 0 || position / PAGE >= columns) return -1;
    const int page = table[(ulong)sequence * columns + position / PAGE];
    return page < pages ? page : -1;
}

kernel void append(global const int* step, int symbol, int capacity, int inner, global Cached* state, ulong state_at,
                   global const float* x, ulong x_at, global const int* positions, ulong positions_at,
                   global const int* sequences, ulong sequences_at, global const int* table, ulong table_at,
                   int sequence_count, int columns, int pages, int heads, int width, int is_key, global int* status,
                   int number) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    const uint row = i / inner;
    const int d = i % width, head = i % inner / width, position = positions[positions_at + row];
    const int page = page_of(table + table_at, sequence_count, columns, pages, sequences[sequences_at + row], position);
    if (page < 0) {
        fail(status, number, 2);
        return;
    }
    PUT(x[x_at + i], state + state_at,
        page * page_size(heads, width, is_key) + slot_at(head, position % PAGE, d, width, is_key));
}

// For definitions: all pages of the table as one dense array, zeros where there is none.
kernel void gather_cache(global const int* step, int symbol, int capacity, int inner, global const Cached* state,
                         ulong state_at, global const int* table, ulong table_at, global float* y, ulong y_at, int pages,
                         int heads, int width, int is_key) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)inner) return;
    const uint at = i / inner;  // sequence and position in one
    const int d = i % width, head = i % inner / width, page = table[table_at + at / PAGE];
    y[y_at + i] = page < 0 || page >= pages ? 0.0f
                                            : GET(state + state_at, page * page_size(heads, width, is_key) +
                                                                        slot_at(head, at % PAGE, d, width, is_key));
}

kernel void mask_(global const int* step, int symbol, int capacity, int slots, global const int* positions,
                  ulong positions_at, global const int* sequences, ulong sequences_at, global int* y, ulong y_at,
                  int context, int window) {
    const uint i = get_global_id(0);
    if (i >= (uint)leading(step, symbol, capacity) * (uint)slots) return;
    const int row = i / slots, slot = i % slots, distance = positions[positions_at + row] - slot % context;
    y[y_at + i] = slot / context == sequences[sequences_at + row] && distance >= 0 &&
                  (window == 0 || distance < window);
}

// Attention: a group per row and key head, 64 / V work-items per query head. A row's pages are folded in order into
// ranges of RANGE pages at fixed positions, ranges in order into the result: the arithmetic depends on the row's own
// positions alone. For few rows a group takes one range (the kernel `attention` with ranges > 0), and another kernel
// folds them: the same arithmetic on more of the device.
// HEADS: query heads that share a group. SPANS: value numbers of a work-item, in vectors, 64 apart.
#define RANGE 2
// Its loops are functions, so that compilers that run a group's items as a loop keep that loop outside of them.
#ifdef HEADS
#define SIDE (PAGE / V)

// V positions side by side against one query.
FloatV dot_keys(local const float* query, global const Cached* key, int width) {
    FloatV s = 0.0f;
    for (int d = 0; d < width; ++d) s = MULTIPLY_ADD((FloatV)(query[d]), GET_V(key, (ulong)d * PAGE), s);
    return s;
}

float most_of(local const float* scores, int begin, int end, float most) {
    for (int j = begin; j < end; ++j) most = fmax(most, scores[j]);
    return most;
}

void weigh(local float* weights, local const float* scores, int side, int begin, int end, float most) {
    for (int j = side * V; j < side * V + V; ++j) {
        // Nothing but -infinity so far: nothing counts yet, yet a NaN must be seen.
        const float score = scores[j];
        const float w = most == -INFINITY ? (isnan(score) ? score : 0.0f) : exponential(score - most);
        weights[j] = j >= begin && j < end ? w : 0.0f;
    }
}

float sum_of(local const float* weights, int begin, int end) {
    float sum = 0.0f;
    for (int j = begin; j < end; ++j) sum += weights[j];
    return sum;
}

// V numbers of the values side by side.
FloatV mix_values(local const float* weights, global const Cached* value, int stride, int begin, int end) {
    FloatV total = 0.0f;
    for (int j = begin; j < end; ++j)
        total = MULTIPLY_ADD((FloatV)(weights[j]), GET_V(value, (ulong)j * stride), total);
    return total;
}

// What a work-item holds of a fold: the largest score, the sum of weights, the weighted sum of its numbers.
typedef struct {
    float most, whole;
    FloatV sum[SPANS];
} Fold;

void clear_fold(Fold* f) {
    f->most = -INFINITY;
    f->whole = 0.0f;
    for (int i = 0; i < SPANS; ++i) f->sum[i] = 0.0f;
}

void join_folds(Fold* f, const Fold* later) {
    const float most = fmax(f->most, later->most);
    const float by = f->most == most ? 1.0f : exponential(f->most - most);
    const float later_by = later->most == most ? 1.0f : exponential(later->most - most);
    f->most = most;
    f->whole = f->whole * by + later->whole * later_by;
    for (int i = 0; i < SPANS; ++i) f->sum[i] = f->sum[i] * by + later->sum[i] * later_by;
}

void store_result(global float* y, const Fold* f, int side, int value_width) {
    for (int i = 0; i < SPANS; ++i) {
        float numbers[V];
        store_v(f->sum[i] / f->whole, 0, numbers);
        for (int j = 0; j < V; ++j)
            if (i * PAGE + side * V + j < value_width) y[i * PAGE + side * V + j] = numbers[j];
    }
}

// A range's fold between the two kernels: the sums, then the two numbers.
int part_size(int value_width) {
    return padded(value_width) + 8;
}

kernel void attention(global const int* step, int symbol, int capacity, int inner, global const float* q, ulong q_at,
                      global const Cached* keys, ulong keys_at, global const Cached* values, ulong values_at,
                      global const int* positions, ulong positions_at, global const int* sequences, ulong sequences_at,
                      global const int* table, ulong table_at, global float* y, ulong y_at, int sequence_count,
                      int columns, int key_pages, int value_pages, int kv_heads, int per_kv, int width, int value_width,
                      float scale, int window, global int* status, int number, local float* query, global float* parts,
                      int ranges) {
    local float scores[HEADS * PAGE];
    local float weights[HEADS * PAGE];
    const int side = get_local_id(0), mine = get_local_id(1), row = get_group_id(0);
    const int groups = (per_kv + HEADS - 1) / HEADS, kv = get_group_id(1) / groups;
    const int in_kv = get_group_id(1) % groups * HEADS + mine;
    if (row >= leading(step, symbol, capacity)) return;
    const int exists = in_kv < per_kv, head = kv * per_kv + min(in_kv, per_kv - 1), heads = kv_heads * per_kv;
    const int position = positions[positions_at + row], sequence = sequences[sequences_at + row];
    const int first = window > 0 ? max(0, position - window + 1) : 0;
    const int first_range = first / PAGE / RANGE, last_range = position / PAGE / RANGE;
    const int begin_range = ranges > 0 ? (int)get_group_id(2) : first_range;
    if (ranges > 0 && (begin_range < first_range || begin_range > last_range)) return;
    const int begin_page = max(first / PAGE, begin_range * RANGE);
    const int end_page = min(position / PAGE + 1, ranges > 0 ? (begin_range + 1) * RANGE : INT_MAX);
    for (int d = side; d < width; d += SIDE) query[mine * width + d] = q[q_at + ((ulong)row * heads + head) * width + d];
    Fold all, f;
    clear_fold(&all);
    clear_fold(&f);
    const ulong key_page = page_size(kv_heads, width, 1), value_page = page_size(kv_heads, value_width, 0);
    const int padded_width = padded(value_width);
    for (int at = begin_page; at < end_page; ++at) {
        const int page = page_of(table + table_at, sequence_count, columns, min(key_pages, value_pages), sequence,
                                 at * PAGE);
        if (page < 0) {  // the same for the whole group
            if (side == 0) fail(status, number, 2);
            break;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        global const Cached* key = keys + keys_at + page * key_page + (ulong)kv * width * PAGE + side * V;
        store_v(dot_keys(query + mine * width, key, width) * scale, 0, scores + mine * PAGE + side * V);
        barrier(CLK_LOCAL_MEM_FENCE);
        const int begin = max(first - at * PAGE, 0), end = min(position - at * PAGE + 1, PAGE);
        const float most = most_of(scores + mine * PAGE, begin, end, f.most);
        const float before = f.most == most ? 1.0f : exponential(f.most - most);
        f.most = most;
        weigh(weights + mine * PAGE, scores + mine * PAGE, side, begin, end, most);
        barrier(CLK_LOCAL_MEM_FENCE);
        f.whole = f.whole * before + sum_of(weights + mine * PAGE, begin, end);
        global const Cached* value = values + values_at + page * value_page + (ulong)kv * PAGE * padded_width;
        for (int i = 0; i < SPANS; ++i) {
            const int d = i * PAGE + side * V;
            if (d < value_width)
                f.sum[i] = MULTIPLY_ADD(f.sum[i], (FloatV)(before),
                                        mix_values(weights + mine * PAGE, value + d, padded_width, begin, end));
        }
        if ((at + 1) % RANGE == 0 || at + 1 == end_page) {
            join_folds(&all, &f);
            clear_fold(&f);
        }
    }
    if (!exists) return;
    if (ranges == 0) {
        store_result(y + y_at + ((ulong)row * heads + head) * value_width, &all, side, value_width);
        return;
    }
    global float* part = parts + (((ulong)row * heads + head) * ranges + begin_range) * part_size(value_width);
    for (int i = 0; i < SPANS; ++i)
        if (i * PAGE + side * V < value_width) store_v(all.sum[i], 0, part + i * PAGE + side * V);
    if (side == 0) {
        part[padded_width] = all.most;
        part[padded_width + 1] = all.whole;
    }
}

kernel void attention_join(global const int* step, int symbol, int capacity, int inner, global const int* positions,
                           ulong positions_at, global float* y, ulong y_at, int heads, int value_width, int window,
                           global const float* parts, int ranges) {
    const int side = get_local_id(0), head = get_group_id(1), row = get_group_id(0);
    if (row >= leading(step, symbol, capacity)) return;
    const int position = positions[positions_at + row];
    const int first = window > 0 ? max(0, position - window + 1) : 0, padded_width = padded(value_width);
    Fold all;
    clear_fold(&all);
    for (int range = first / PAGE / RANGE; range <= position / PAGE / RANGE && range < ranges; ++range) {
        global const float* part = parts + (((ulong)row * heads + head) * ranges + range) * part_size(value_width);
        Fold f;
        for (int i = 0; i < SPANS; ++i)
            f.sum[i] = i * PAGE + side * V < value_width ? load_v(0, part + i * PAGE + side * V) : (FloatV)(0.0f);
        f.most = part[padded_width];
        f.whole = part[padded_width + 1];
        join_folds(&all, &f);
    }
    store_result(y + y_at + ((ulong)row * heads + head) * value_width, &all, side, value_width);
}
#endif
