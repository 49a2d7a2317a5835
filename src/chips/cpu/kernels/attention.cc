// Attention over a paged cache: page by page with a running maximum (online softmax [Milakov & Gimelshein 2018]),
// several queries to a load of keys or values.
#include "chips/cpu/kernels/parts.h"
#include "chips/cpu/kernels/vector_math.h"

namespace busbar::cpu::BUSBAR_ISA {

namespace {

constexpr int64_t page = 64;
constexpr float infinity = __builtin_inff();
static_assert(page % (2 * lanes) == 0);

// One vector of page elements as f32. `at` counts elements.
template <PageElement E>
BUSBAR_INLINE Floats load_page(const std::byte* p, int64_t at) {
    if constexpr (E == PageElement::f32) return load((const float*)p + at);
    if constexpr (E == PageElement::f16) return load_f16((const uint8_t*)p + 2 * at);
    return load_bf16((const uint8_t*)p + 2 * at);
}
template <PageElement E>
BUSBAR_INLINE Floats load_page_some(const std::byte* p, int64_t at, int64_t n) {
    if constexpr (E == PageElement::f32) return load_some((const float*)p + at, n, 0);
    const Halves v = load_some_halves((const uint16_t*)p + at, n);
    if constexpr (E == PageElement::f16) return load_f16((const uint8_t*)&v);
    return load_bf16((const uint8_t*)&v);
}

// A query that sees slots begin .. end of the page.
struct Seen {
    int32_t query, begin, end;
};

// What is read after the half page at work, asked for line by line while that is multiplied: a step of few queries is
// as fast as memory only if memory never waits, and processors do not guess the way through pages of a cache. Each
// inner step reads `stride` bytes, so that all has been asked for when it is due. Further queries ask for nothing new.
struct Ahead {
    const std::byte* at;
    int64_t stride;

    BUSBAR_INLINE void ask() {
        for (int64_t line = 0; line < max_stride; line += 64)
            if (line == 0 || line < stride)
                __builtin_prefetch(at + line, 0, 2);  // second level: a page fills the first
        at += stride;
    }
    static constexpr int64_t max_stride = 2 * lanes * sizeof(float);
};

// scores[q][j] = sum over d of q[d] * key[d][j], each in the order of d. N queries share the loads of the keys.
template <PageElement E, int N>
void score(const AttentionBlock& b, const std::byte* keys, const Seen* seen, float* scores, Ahead& ahead) {
    const float* q[N];
    int64_t first = page, last = 0;
    for (int i = 0; i < N; ++i) {
        q[i] = b.q + seen[i].query / b.group * b.q_stride + seen[i].query % b.group * b.width;
        first = seen[i].begin < first ? seen[i].begin : first;
        last = seen[i].end > last ? seen[i].end : last;
    }
    const Floats factor = splat(b.scale);
    for (int64_t j = first / (2 * lanes) * (2 * lanes); j < last; j += 2 * lanes) {
        Floats s[N][2] = {};
        for (int64_t d = 0; d < b.width; ++d) {
            ahead.ask();
            const Floats k0 = load_page<E>(keys, d * page + j), k1 = load_page<E>(keys, d * page + j + lanes);
            for (int i = 0; i < N; ++i) {
                const Floats x = splat(q[i][d]);
                s[i][0] = multiply_add(x, k0, s[i][0]);
                s[i][1] = multiply_add(x, k1, s[i][1]);
            }
        }
        for (int i = 0; i < N; ++i) {
            store(scores + seen[i].query * page + j, s[i][0] * factor);
            store(scores + seen[i].query * page + j + lanes, s[i][1] * factor);
        }
    }
}

// The largest of the lanes, and their sum by the tree of `total`. (Lane by lane they would take as long as the
// exponentials themselves.)
BUSBAR_INLINE Floats4 larger_of(Floats4 a, Floats4 b) {
    return a > b ? a : b;
}
BUSBAR_INLINE float largest_of(Floats v) {
    Floats4 m;
    if constexpr (lanes == 16) {
        const Floats4* q = (const Floats4*)&v;
        m = larger_of(larger_of(q[0], q[1]), larger_of(q[2], q[3]));
    } else if constexpr (lanes == 8) {
        const Floats4* q = (const Floats4*)&v;
        m = larger_of(q[0], q[1]);
    } else {
        m = read<Floats4>(&v);
    }
    m = larger_of(m, __builtin_shuffle(m, Ints4{2, 3, 0, 1}));
    return m[0] > m[1] ? m[0] : m[1];
}
BUSBAR_INLINE float total_of(Floats v) {
    const Floats4 s = fold(v), t = s + __builtin_shuffle(s, Ints4{2, 3, 0, 1});
    return t[0] + t[1];
}

// Turns a query's scores into exponentials, 0 where it does not see, and moves its running maximum and sums to the new
// base.
void exponentials(const AttentionBlock& b, const Seen& seen, float* scores) {
    constexpr int vectors = page / lanes;
    float* s = scores + seen.query * page;
    Floats m = splat(-infinity);
    const int32_t first = seen.begin / lanes * lanes;
    if (seen.begin == 0 && seen.end == page) {
        unrolled<vectors>([&](auto i) BUSBAR_INLINE_LAMBDA { m = larger(load(s + i * lanes), m); });
    } else {
        Ints slot;
        for (int i = 0; i < lanes; ++i) slot[i] = i;
        for (int32_t j = first; j < seen.end; j += lanes) {
            const Ints visible = (slot + j >= seen.begin) & (slot + j < seen.end);
            const Floats v = visible ? load(s + j) : splat(-infinity);
            store(s + j, v);
            m = larger(v, m);
        }
    }
    const float before = b.maximum[seen.query], page_maximum = largest_of(m);
    const float maximum = page_maximum > before ? page_maximum : before;
    // While all scores are -infinity there is no base to subtract; 0 gives them their weight of 0.
    const float base = maximum == -infinity ? 0 : maximum;
    Floats sums = {};
    for (int32_t j = first; j < seen.end; j += lanes) {
        const Floats e = exponential(load(s + j) - base);
        store(s + j, e);
        sums += e;
    }
    b.maximum[seen.query] = maximum;
    if (maximum != before) {
        const float shrink = exponential(splat(before - base))[0];
        b.sum[seen.query] *= shrink;
        float* w = b.weighted + seen.query * b.value_width;
        for (int64_t i = 0; i < b.value_width; ++i) w[i] *= shrink;
    }
    b.sum[seen.query] += total_of(sums);
}

// weighted[q] += sum over slots begin .. end of p[q][slot] * value[slot], in the order of the slots.
template <PageElement E, int N>
void weigh(const AttentionBlock& b, const std::byte* values, const Seen* seen, const float* scores, int64_t begin,
           int64_t end, Ahead& ahead) {
    float* w[N];
    const float* p[N];
    for (int i = 0; i < N; ++i) {
        w[i] = b.weighted + seen[i].query * b.value_width;
        p[i] = scores + seen[i].query * page;
    }
    int64_t at = 0;
    for (; at + 2 * lanes <= b.value_width; at += 2 * lanes) {
        Floats s[N][2];
        for (int i = 0; i < N; ++i) {
            s[i][0] = load(w[i] + at);
            s[i][1] = load(w[i] + at + lanes);
        }
        for (int64_t j = begin; j < end; ++j) {
            ahead.ask();
            const Floats v0 = load_page<E>(values, j * b.value_width + at),
                         v1 = load_page<E>(values, j * b.value_width + at + lanes);
            for (int i = 0; i < N; ++i) {
                const Floats x = splat(p[i][j]);
                s[i][0] = multiply_add(x, v0, s[i][0]);
                s[i][1] = multiply_add(x, v1, s[i][1]);
            }
        }
        for (int i = 0; i < N; ++i) {
            store(w[i] + at, s[i][0]);
            store(w[i] + at + lanes, s[i][1]);
        }
    }
    for (; at < b.value_width; at += lanes) {
        const int64_t some = b.value_width - at < lanes ? b.value_width - at : lanes;
        for (int i = 0; i < N; ++i) {
            Floats s = load_some(w[i] + at, some, 0);
            for (int64_t j = begin; j < end; ++j)
                s = multiply_add(splat(p[i][j]), load_page_some<E>(values, j * b.value_width + at, some), s);
            store_some(w[i] + at, s, some);
        }
    }
}

// N queries over the values of a page. What all of them see is weighed together, the rest one by one: an unseen slot
// may hold anything, so it is not even multiplied by 0.
template <PageElement V, int N>
void weigh_seen(const AttentionBlock& b, const std::byte* values, const Seen* seen, const float* scores, Ahead& ahead) {
    int64_t begin = 0, end = page;
    for (int i = 0; i < N; ++i) {
        begin = seen[i].begin > begin ? seen[i].begin : begin;
        end = seen[i].end < end ? seen[i].end : end;
    }
    if (begin >= end) {
        for (int i = 0; i < N; ++i) weigh<V, 1>(b, values, seen + i, scores, seen[i].begin, seen[i].end, ahead);
        return;
    }
    for (int i = 0; i < N; ++i)
        if (seen[i].begin < begin) weigh<V, 1>(b, values, seen + i, scores, seen[i].begin, begin, ahead);
    weigh<V, N>(b, values, seen, scores, begin, end, ahead);
    for (int i = 0; i < N; ++i)
        if (end < seen[i].end) weigh<V, 1>(b, values, seen + i, scores, end, seen[i].end, ahead);
}

template <PageElement E>
constexpr int64_t stride_of = 2 * lanes*(E == PageElement::f32 ? 4 : 2);

template <PageElement K, PageElement V>
void attention_of(const AttentionBlock& b) {
    const int64_t queries = b.rows * b.group;
    for (int64_t i = 0; i < queries; ++i) b.maximum[i] = -infinity, b.sum[i] = 0;
    for (int64_t i = 0; i < queries * b.value_width; ++i) b.weighted[i] = 0;
    float* scores = b.scratch;
    Seen* seen = reinterpret_cast<Seen*>(b.scratch + queries * page);
    for (int64_t start = b.begin; start < b.end; start += page) {
        int64_t n = 0;
        for (int64_t row = 0; row < b.rows; ++row) {
            const int64_t position = b.positions[row];
            int64_t first = b.window > 0 ? position - b.window + 1 - start : -start, last = position + 1 - start;
            first = first < 0 ? 0 : first;
            last = last > page ? page : last;
            if (first >= last) continue;
            for (int64_t head = 0; head < b.group; ++head)
                seen[n++] = {(int32_t)(row * b.group + head), (int32_t)first, (int32_t)last};
        }
        if (n == 0) continue;
        const int64_t number = b.pages[start / page];
        const std::byte *keys = b.keys + number * b.key_page_bytes, *values = b.values + number * b.value_page_bytes;
        // All queries over the keys, then all over the values: half a page stays in the first level cache, a whole one
        // does not.
        int64_t i = 0;
        Ahead ahead = {values, stride_of<V>};
        for (; i + 4 <= n; i += 4) {
            score<K, 4>(b, keys, seen + i, scores, ahead);
            ahead = {keys, 0};
        }
        if (n - i == 3) score<K, 3>(b, keys, seen + i, scores, ahead);
        if (n - i == 2) score<K, 2>(b, keys, seen + i, scores, ahead);
        if (n - i == 1) score<K, 1>(b, keys, seen + i, scores, ahead);
        for (i = 0; i < n; ++i) exponentials(b, seen[i], scores);
        const std::byte* const next = start + page < b.end ? b.keys + b.pages[start / page + 1] * b.key_page_bytes
                                      : b.after != nullptr ? b.after
                                                           : values;
        ahead = {next, next == values ? 0 : stride_of<K>};
        for (i = 0; i + 4 <= n; i += 4) {
            weigh_seen<V, 4>(b, values, seen + i, scores, ahead);
            ahead = {values, 0};
        }
        if (n - i == 3) weigh_seen<V, 3>(b, values, seen + i, scores, ahead);
        if (n - i == 2) weigh_seen<V, 2>(b, values, seen + i, scores, ahead);
        if (n - i == 1) weigh_seen<V, 1>(b, values, seen + i, scores, ahead);
    }
}

}  // namespace

void attention(PageElement keys, PageElement values, const AttentionBlock& block) {
    using enum PageElement;
    static constexpr void (*kernels[3][3])(const AttentionBlock&) = {
        {attention_of<f32, f32>, attention_of<f32, f16>, attention_of<f32, bf16>},
        {attention_of<f16, f32>, attention_of<f16, f16>, attention_of<f16, bf16>},
        {attention_of<bf16, f32>, attention_of<bf16, f16>, attention_of<bf16, bf16>},
    };
    kernels[(int)keys][(int)values](block);
}

void attention_merge(float* maximum, float* sum, float* weighted, const float* later_maximum, const float* later_sum,
                     const float* later_weighted, int64_t queries, int64_t value_width) {
    for (int64_t q = 0; q < queries; ++q, weighted += value_width, later_weighted += value_width) {
        // A sum of 0 has nothing to add: a range that the query does not see leaves no trace.
        if (later_sum[q] == 0) continue;
        if (sum[q] == 0) {
            maximum[q] = later_maximum[q];
            sum[q] = later_sum[q];
            for (int64_t i = 0; i < value_width; ++i) weighted[i] = later_weighted[i];
            continue;
        }
        const float m = later_maximum[q] > maximum[q] ? later_maximum[q] : maximum[q];
        const Floats shrink = exponential(splat(maximum[q] - m)), grow = exponential(splat(later_maximum[q] - m));
        maximum[q] = m;
        sum[q] = sum[q] * shrink[0] + later_sum[q] * grow[0];
        for (int64_t i = 0; i < value_width; ++i) weighted[i] = weighted[i] * shrink[0] + later_weighted[i] * grow[0];
    }
}

void narrow(PageElement to, const float* x, void* y, int64_t n) {
    if (to == PageElement::f32) {
        __builtin_memcpy(y, x, n * sizeof(float));
        return;
    }
    uint16_t* halves = static_cast<uint16_t*>(y);
    int64_t i = 0;
    if (to == PageElement::bf16) {
        for (; i < n; ++i) halves[i] = to_bf16(x[i]);
        return;
    }
#if defined(__F16C__)
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
    for (; i < n; ++i) halves[i] = to_f16(x[i]);
}

}  // namespace busbar::cpu::BUSBAR_ISA
