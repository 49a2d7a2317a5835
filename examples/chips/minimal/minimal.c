/* The smallest chip that runs a model: it multiplies matrices, weights in f32, and leaves everything else to others.
 * One file, one thread, the processor's own memory. Read it from the bottom: the table, then what stands in it. */
#include <stdlib.h>

#include "busbar_chip.h"

/* Handles are ours: the host only carries them. */
struct busbar_device_of_chip {
    int unused;
};
struct busbar_buffer_of_chip {
    unsigned char* bytes;
    uint64_t size;
};

static int32_t device_info(const busbar_setup* setup, busbar_device_info* info, busbar_error* error) {
    busbar_device_info mine;
    uint32_t size = info->struct_size;
    if (setup->index > 0) return busbar_fail(error, BUSBAR_NOT_FOUND, "there is one device");
    memset(&mine, 0, sizeof mine);
    strcpy(mine.name, "minimal");
    strcpy(mine.detail, "matrix products only");
    strcpy(mine.maker, "Busbar's examples");
    mine.flags = BUSBAR_UNIFIED_MEMORY | BUSBAR_DETERMINISTIC;
    mine.threads = 1;
    mine.rate_count = 1;
    mine.rates[0].element = mine.rates[0].accumulate = BUSBAR_F32;
    mine.rates[0].flops_per_s = 4e9;
    mine.read_bytes_per_s = 5e9;
    /* Only what both sides know: the host's record may be smaller or larger than ours. */
    memcpy(info, &mine, size < sizeof mine ? size : sizeof mine);
    info->struct_size = size;
    return BUSBAR_OK;
}

static int32_t device_open(const busbar_setup* setup, busbar_device* device, busbar_error* error) {
    if (setup->option_count > 0) return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "this chip takes no options");
    *device = calloc(1, sizeof **device);
    return *device ? BUSBAR_OK : busbar_fail(error, BUSBAR_NO_MEMORY, "no memory for a device");
}

static int32_t device_close(busbar_device device, busbar_error* error) {
    (void)error;
    free(device);
    return BUSBAR_OK;
}

static int32_t buffer_alloc(busbar_device device, uint32_t kind, uint64_t bytes, busbar_buffer* out,
                            busbar_error* error) {
    busbar_buffer buffer = calloc(1, sizeof *buffer);
    (void)device;
    if (kind != 0) {
        free(buffer);
        return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "expected memory kind 0");
    }
    if (buffer) {
        buffer->size = (bytes + 63) / 64 * 64;
        buffer->bytes = aligned_alloc(64, buffer->size ? buffer->size : 64);
    }
    if (!buffer || !buffer->bytes) {
        free(buffer);
        return busbar_fail(error, BUSBAR_NO_MEMORY, "the system has no memory of that size left");
    }
    memset(buffer->bytes, 0, buffer->size);
    *out = buffer;
    return BUSBAR_OK;
}

static int32_t buffer_free(busbar_device device, busbar_buffer buffer, busbar_error* error) {
    (void)device;
    (void)error;
    free(buffer->bytes);
    free(buffer);
    return BUSBAR_OK;
}

static int32_t copy(busbar_device device, const busbar_copy* c, busbar_stream stream, busbar_error* error) {
    const unsigned char* from = c->from_buffer ? c->from_buffer->bytes : (const unsigned char*)c->from;
    unsigned char* to = c->to_buffer ? c->to_buffer->bytes : (unsigned char*)c->to;
    (void)device;
    (void)stream;
    if (c->required) return busbar_fail(error, BUSBAR_REFUSED, "a copy of a new kind");
    memcpy(to + c->to_offset, from + c->from_offset, c->bytes);
    return BUSBAR_OK;
}

static int is_plain_f32(const busbar_tensor* t) {
    return t->required == 0 && t->kind == BUSBAR_REAL && t->where == BUSBAR_IN_BUFFER && t->element == BUSBAR_F32 &&
           t->scale == BUSBAR_SCALE_NONE && t->layout == BUSBAR_LAYOUT_PLAIN;
}

/* What we take: y = x w^T in plain f32. Everything that is new to us is refused, with the reason. */
static int32_t claim(busbar_device device, const busbar_op* op, busbar_claim* claim, busbar_error* error) {
    (void)device;
    (void)error;
    if (op->required) return busbar_refuse(claim, "it asks for something that is newer than this chip");
    if (op->op != BUSBAR_OP_MATMUL || op->schema != 1)
        return busbar_refuse(claim, "this chip only multiplies matrices");
    for (uint32_t i = 0; i < op->attribute_count; ++i)
        if (op->attributes[i]->flags & BUSBAR_MUST_UNDERSTAND)
            return busbar_refuse(claim, "an attribute that this chip does not know");
    if (!is_plain_f32(op->inputs[0]) || !is_plain_f32(op->inputs[1]) || !is_plain_f32(op->outputs[0]))
        return busbar_refuse(claim, "this chip multiplies f32 only");
    claim->verdict = BUSBAR_YES;
    claim->flags = BUSBAR_INVARIANT; /* a row of y is summed in the same order whatever stands beside it */
    claim->activation = BUSBAR_F32;
    claim->accumulate = BUSBAR_F32;
    claim->share_of_peak = 0.5;
    return BUSBAR_OK;
}

/* How many leading rows are in use in this step: the extent is only the capacity. */
static int64_t leading(const busbar_tensor* t, const busbar_step* step) {
    const int32_t* words = (const int32_t*)(step->buffer->bytes + step->offset);
    if (t->leading == BUSBAR_LEADING_ROWS) return words[step->rows];
    if (t->leading == BUSBAR_LEADING_LOGIT_ROWS) return words[step->logit_rows];
    return t->rank > 0 ? t->extents[0] : 1;
}

/* Eight sums side by side, which a compiler turns into vectors, added up at the end. */
static float dot(const float* a, const float* b, int64_t n) {
    float sum[8] = {0};
    int64_t k = 0;
    for (; k + 8 <= n; k += 8)
        for (int i = 0; i < 8; ++i) sum[i] += a[k + i] * b[k + i];
    for (; k < n; ++k) sum[k % 8] += a[k] * b[k];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

static void matmul(const busbar_op* op, const busbar_step* step) {
    const busbar_tensor *x = op->inputs[0], *w = op->inputs[1], *y = op->outputs[0];
    const int64_t outputs = w->extents[0], width = w->extents[1];
    const float* xs = (const float*)(x->buffer->bytes + x->offset);
    const float* ws = (const float*)(w->buffer->bytes + w->offset);
    float* ys = (float*)(y->buffer->bytes + y->offset);
    int64_t rows = x->rank > 1 ? leading(x, step) : 1;
    for (uint32_t axis = 1; axis + 1 < x->rank; ++axis) rows *= x->extents[axis];
    for (int64_t n = 0; n < outputs; ++n) /* a weight's row is read once and meets every row of x */
        for (int64_t r = 0; r < rows; ++r) ys[r * outputs + n] = dot(xs + r * width, ws + n * width, width);
}

static int32_t run_ops(busbar_device device, const busbar_op* const* ops, uint32_t count, const busbar_step* step,
                       busbar_stream stream, busbar_error* error) {
    (void)device;
    (void)stream;
    for (uint32_t i = 0; i < count; ++i) {
        if (ops[i]->op != BUSBAR_OP_MATMUL) return busbar_fail_op(error, BUSBAR_REFUSED, ops[i], "it was not claimed");
        matmul(ops[i], step);
    }
    return BUSBAR_OK;
}

int32_t busbar_chip_0(const busbar_host* host, busbar_chip* chip, busbar_error* error) {
    static const busbar_chip mine = {
        .struct_size = sizeof(busbar_chip),
        .version = BUSBAR_CHIP_VERSION,
        .device_info = device_info,
        .device_open = device_open,
        .device_close = device_close,
        .buffer_alloc = buffer_alloc,
        .buffer_free = buffer_free,
        .copy = copy,
        .claim = claim,
        .run_ops = run_ops,
    };
    (void)host;
    (void)error;
    return busbar_give_chip(chip, &mine);
}
