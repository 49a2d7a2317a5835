#include "skeleton.h"

static int is_f32(const busbar_tensor* t) {
    return t->required == 0 && t->kind == BUSBAR_REAL && t->where == BUSBAR_IN_BUFFER && t->element == BUSBAR_F32 &&
           t->scale == BUSBAR_SCALE_NONE && t->layout == BUSBAR_LAYOUT_PLAIN;
}

/* Step 4: weights stored as 32 signed bytes and a half become our own form. */
static int is_packed(const busbar_tensor* t) {
    return t->required == 0 && t->kind == BUSBAR_REAL && t->where == BUSBAR_IN_WEIGHT && t->element == BUSBAR_I8 &&
           t->scale == BUSBAR_SCALE_F16 && t->layout == BUSBAR_LAYOUT_GGUF_BLOCKS && t->block == 32;
}

static int is_state(const busbar_tensor* t) {
    return t->required == 0 && t->kind == BUSBAR_STATE && t->element == BUSBAR_F32 && t->extents[1] <= 256;
}

static int same_extents(const busbar_tensor* a, const busbar_tensor* b) {
    if (a->rank != b->rank || a->leading != b->leading) return 0;
    for (uint32_t i = 0; i < a->rank; ++i)
        if (a->extents[i] != b->extents[i]) return 0;
    return 1;
}

static const busbar_attribute* attribute(const busbar_op* op, const char* name) {
    for (uint32_t i = 0; i < op->attribute_count; ++i)
        if (strcmp(op->attributes[i]->name, name) == 0) return op->attributes[i];
    return 0;
}

/* An attribute that must be understood and is none of these is a refusal. */
static int only_knows(const busbar_op* op, const char* first, const char* second) {
    for (uint32_t i = 0; i < op->attribute_count; ++i)
        if ((op->attributes[i]->flags & BUSBAR_MUST_UNDERSTAND) && strcmp(op->attributes[i]->name, first) != 0 &&
            strcmp(op->attributes[i]->name, second) != 0)
            return 0;
    return 1;
}

int32_t skeleton_claim(busbar_device device, const busbar_op* op, busbar_claim* claim, busbar_error* error) {
    const busbar_tensor* const* in = op->inputs;
    (void)error;
    if (op->required || op->schema != 1) return busbar_refuse(claim, "it is newer than this chip");
    if (!only_knows(op,
                    op->op == BUSBAR_OP_RMS_NORM    ? "epsilon"
                    : op->op == BUSBAR_OP_ATTENTION ? "scale"
                                                    : "",
                    op->op == BUSBAR_OP_ATTENTION ? "window" : ""))
        return busbar_refuse(claim, "an attribute that this chip does not know");
    switch (op->op) {
        case BUSBAR_OP_ADD:
            if (device->step < 1 || !is_f32(in[0]) || !is_f32(in[1])) return busbar_refuse(claim, "f32 only");
            if (!same_extents(in[0], in[1])) return busbar_refuse(claim, "this chip stretches no axes");
            break;
        case BUSBAR_OP_MATMUL:
            if (device->step < 2 || !is_f32(in[0]) || !is_f32(op->outputs[0]))
                return busbar_refuse(claim, "f32 activations only");
            if (!is_f32(in[1]) && !(device->step >= 4 && is_packed(in[1])))
                return busbar_refuse(claim, "weights in f32 or packed from q8_0 only");
            claim->weight_bits = 9; /* 8 bits and a share of the scale's 32 */
            break;
        case BUSBAR_OP_RMS_NORM:
        case BUSBAR_OP_GATED_SILU:
            if (device->step < 3 || !is_f32(in[0]) || !is_f32(in[1])) return busbar_refuse(claim, "f32 only");
            claim->transcendental_ulp = 1; /* computed in double and rounded once */
            break;
        case BUSBAR_OP_CACHE_APPEND:
            if (device->step < 5 || !is_state(in[0]) || !is_f32(in[1]))
                return busbar_refuse(claim, "states in f32, heads of at most 256");
            break;
        case BUSBAR_OP_CACHE_GATHER:
            if (device->step < 5 || !is_state(in[0]))
                return busbar_refuse(claim, "states in f32, heads of at most 256");
            break;
        case BUSBAR_OP_ATTENTION:
            if (device->step < 5 || !is_state(in[1]) || !is_state(in[2]) || !is_f32(in[0]))
                return busbar_refuse(claim, "states in f32, heads of at most 256");
            if (in[1]->extents[1] != in[2]->extents[1]) return busbar_refuse(claim, "keys as wide as values only");
            claim->transcendental_ulp = 1;
            break;
        default:
            return busbar_refuse(claim, "this chip has no kernel for it");
    }
    claim->verdict = BUSBAR_YES;
    claim->flags = BUSBAR_INVARIANT;
    claim->activation = BUSBAR_F32;
    claim->accumulate = BUSBAR_F32;
    claim->share_of_peak = 0.5;
    return BUSBAR_OK;
}

static void* address(const busbar_tensor* t, const busbar_step* step) {
    if (t->where == BUSBAR_IN_STEP) return (int32_t*)(step->buffer->bytes + step->offset) + t->offset;
    return t->buffer ? t->buffer->bytes + t->offset : 0;
}

/* Addresses and sizes, taken once. The numbers of rows are not among them: only where they will stand. */
int make_launch(const busbar_op* op, const busbar_step* step, struct launch* l) {
    const int32_t* words = (const int32_t*)(step->buffer->bytes + step->offset);
    const busbar_tensor *x = op->inputs[op->op == BUSBAR_OP_CACHE_APPEND ? 1 : 0], *w = op->inputs[1];
    const uint32_t indices = op->op == BUSBAR_OP_CACHE_APPEND ? 2 : 3;
    memset(l, 0, sizeof *l);
    if (x->leading == BUSBAR_LEADING_ROWS) l->rows = words + step->rows;
    if (x->leading == BUSBAR_LEADING_LOGIT_ROWS) l->rows = words + step->logit_rows;
    l->capacity = x->rank > 0 ? x->extents[0] : 1;
    l->each = 1;
    for (uint32_t axis = 1; axis < x->rank; ++axis) l->each *= x->extents[axis];
    l->width = x->rank > 0 ? x->extents[x->rank - 1] : 1;
    l->in[0] = address(x, step);
    l->in[1] = address(w, step);
    l->out[0] = address(op->outputs[0], step);
    if (op->op == BUSBAR_OP_MATMUL || op->op == BUSBAR_OP_RMS_NORM) {
        /* Rows of a matrix, not numbers. A matrix of one axis is one row. */
        if (x->rank < 2) l->capacity = 1, l->rows = 0;
        l->each = x->rank < 2 || l->width == 0 ? 1 : l->each / l->width;
    }
    if (op->op == BUSBAR_OP_CACHE_GATHER) {
        l->pages[0] = address(op->inputs[0], step);
        l->kv_heads = op->inputs[0]->extents[0];
        l->width = op->inputs[0]->extents[1];
        l->block_table = address(w, step);
        l->capacity = w->extents[0];
        l->table_pages = w->extents[1];
        l->kernel = cache_gather_kernel;
        return 1;
    }
    if (op->op == BUSBAR_OP_CACHE_APPEND || op->op == BUSBAR_OP_ATTENTION) {
        const busbar_tensor* state = op->inputs[op->op == BUSBAR_OP_ATTENTION ? 1 : 0];
        l->pages[0] = address(state, step);
        if (op->op == BUSBAR_OP_ATTENTION) l->pages[1] = address(op->inputs[2], step);
        l->kv_heads = state->extents[0];
        l->heads = x->extents[1];
        l->positions = address(op->inputs[indices], step);
        l->sequences = address(op->inputs[indices + 1], step);
        l->block_table = address(op->inputs[indices + 2], step);
        l->table_pages = op->inputs[indices + 2]->extents[1];
    }
    switch (op->op) {
        case BUSBAR_OP_ADD:
            l->kernel = add_kernel;
            break;
        case BUSBAR_OP_MATMUL:
            l->outputs = w->extents[0];
            l->kernel = w->where == BUSBAR_IN_WEIGHT ? packed_matmul_kernel : matmul_kernel;
            l->weight = w->weight;
            break;
        case BUSBAR_OP_RMS_NORM:
            l->number = attribute(op, "epsilon")->number;
            l->kernel = rms_norm_kernel;
            break;
        case BUSBAR_OP_GATED_SILU:
            l->kernel = gated_silu_kernel;
            break;
        case BUSBAR_OP_CACHE_APPEND:
            l->kernel = cache_append_kernel;
            break;
        case BUSBAR_OP_ATTENTION:
            l->number = attribute(op, "scale")->number;
            l->window = attribute(op, "window")->integer;
            l->kernel = attention_kernel;
            break;
        default:
            return 0;
    }
    return 1;
}
