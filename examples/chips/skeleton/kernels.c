#include <math.h>
#include <stdlib.h>

#include "skeleton.h"

/* Leading rows in use in this step. */
static int64_t rows_of(const struct launch* l) {
    return l->rows ? *l->rows : l->capacity;
}

/* Step 1: the first kernel. */
void add_kernel(const struct launch* l) {
    const int64_t n = rows_of(l) * l->each;
    for (int64_t i = 0; i < n; ++i) l->out[0][i] = l->in[0][i] + l->in[1][i];
}

static float dot(const float* a, const float* b, int64_t n) {
    float sum[8] = {0};
    int64_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (int i = 0; i < 8; ++i) sum[i] += a[k + i] * b[k + i];
    for (; k < n; ++k) sum[k % 8] += a[k] * b[k];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/* Step 2: what a model spends its time in. */
void matmul_kernel(const struct launch* l) {
    const int64_t rows = rows_of(l) * l->each;
    for (int64_t n = 0; n < l->outputs; ++n)
        for (int64_t r = 0; r < rows; ++r)
            l->out[0][r * l->outputs + n] = dot(l->in[0] + r * l->width, l->in[1] + n * l->width, l->width);
}

/* Step 4: the same on weights in a form of our own. */
void packed_matmul_kernel(const struct launch* l) {
    const int64_t rows = rows_of(l) * l->each, blocks = l->width / 32;
    for (int64_t n = 0; n < l->outputs; ++n)
        for (int64_t r = 0; r < rows; ++r) {
            float sum = 0;
            for (int64_t b = 0; b < blocks; ++b) {
                const float* x = l->in[0] + r * l->width + 32 * b;
                const int8_t* codes = l->weight->codes + (n * blocks + b) * 32;
                float part[8] = {0};
                for (int k = 0; k < 32; k += 8)
                    for (int i = 0; i < 8; ++i) part[i] += x[k + i] * (float)codes[k + i];
                for (int i = 1; i < 8; ++i) part[0] += part[i];
                sum += part[0] * l->weight->scales[n * blocks + b];
            }
            l->out[0][r * l->outputs + n] = sum;
        }
}

/* Step 3. */
void rms_norm_kernel(const struct launch* l) {
    const int64_t rows = rows_of(l) * l->each;
    for (int64_t r = 0; r < rows; ++r) {
        const float* x = l->in[0] + r * l->width;
        double squares = 0;
        for (int64_t i = 0; i < l->width; ++i) squares += (double)x[i] * x[i];
        const double factor = 1 / sqrt(squares / (double)l->width + l->number);
        for (int64_t i = 0; i < l->width; ++i) l->out[0][r * l->width + i] = (float)(x[i] * factor * l->in[1][i]);
    }
}

void gated_silu_kernel(const struct launch* l) {
    const int64_t n = rows_of(l) * l->each;
    for (int64_t i = 0; i < n; ++i) {
        const double gate = l->in[0][i];
        l->out[0][i] = (float)(gate / (1 + exp(-gate)) * l->in[1][i]);
    }
}

/* Step 5: a page is [head][position 0 .. 63][width], f32. The layout is ours: another chip may turn it round. */
static float* slot(const struct launch* l, int state, int64_t sequence, int64_t position, int64_t head) {
    const int32_t page = l->block_table[sequence * l->table_pages + position / 64];
    if (page < 0) return 0;
    return (float*)l->pages[state] + ((page * l->kv_heads + head) * 64 + position % 64) * l->width;
}

void cache_append_kernel(const struct launch* l) {
    const int64_t rows = rows_of(l);
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t h = 0; h < l->kv_heads; ++h) {
            float* to = slot(l, 0, l->sequences[r], l->positions[r], h);
            if (to) memcpy(to, l->in[0] + (r * l->kv_heads + h) * l->width, (size_t)l->width * sizeof(float));
        }
}

/* What the cache holds, in plain order: no model needs it, those who check the chip do. */
void cache_gather_kernel(const struct launch* l) {
    float* y = l->out[0];
    for (int64_t s = 0; s < l->capacity; ++s)
        for (int64_t p = 0; p < 64 * l->table_pages; ++p)
            for (int64_t h = 0; h < l->kv_heads; ++h, y += l->width) {
                const float* from = slot(l, 0, s, p, h);
                if (from)
                    memcpy(y, from, (size_t)l->width * sizeof(float));
                else
                    memset(y, 0, (size_t)l->width * sizeof(float));
            }
}

/* Keys and values of a head are as wide as each other here: claim() sees to it. One sweep over the positions, the sum
 * corrected whenever a larger score comes (Milakov and Gimelshein 2018). */
void attention_kernel(const struct launch* l) {
    const int64_t rows = rows_of(l), group = l->heads / l->kv_heads;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t h = 0; h < l->heads; ++h) {
            const int64_t position = l->positions[r], sequence = l->sequences[r];
            const float* q = l->in[0] + (r * l->heads + h) * l->width;
            float* y = l->out[0] + (r * l->heads + h) * l->width;
            double most = -INFINITY, sum = 0, total[256] = {0};
            for (int64_t j = l->window > 0 && position >= l->window ? position - l->window + 1 : 0; j <= position;
                 ++j) {
                const float *key = slot(l, 0, sequence, j, h / group), *value = slot(l, 1, sequence, j, h / group);
                double score = 0;
                for (int64_t i = 0; key && i < l->width; ++i) score += (double)q[i] * key[i];
                score *= l->number;
                const double larger = score > most || score != score ? score : most;
                const double keep = most == larger ? 1 : exp(most - larger), p = exp(score - larger);
                sum = sum * keep + p;
                for (int64_t i = 0; i < l->width; ++i) total[i] = total[i] * keep + (value ? p * value[i] : 0);
                most = larger;
            }
            for (int64_t i = 0; i < l->width; ++i) y[i] = (float)(total[i] / sum);
        }
}
