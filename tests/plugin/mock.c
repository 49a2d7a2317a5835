/* A chip for the contract's tests: adds two vectors, and misbehaves on demand. What must be wrong before any option can
 * be read is chosen when it is compiled (MOCK_...), the rest by ?mode=. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "busbar_chip.h"

struct busbar_device_of_chip {
    char mode[32];
};
struct busbar_buffer_of_chip {
    unsigned char* bytes;
    uint64_t size;
};

static const char* mode_of(const busbar_setup* setup) {
    for (uint32_t i = 0; i < setup->option_count; ++i)
        if (strcmp(setup->keys[i], "mode") == 0) return setup->values[i];
    return "";
}
#define IS(mode, word) (strcmp(mode, word) == 0)

static void sleep_for_ever(void) {
    for (;;) sleep(1);
}

static int32_t device_info(const busbar_setup* setup, busbar_device_info* info, busbar_error* error) {
    const char* mode = mode_of(setup);
    busbar_device_info mine;
    const uint32_t size = info->struct_size;
    if (IS(mode, "hang_info")) sleep_for_ever();
    if (IS(mode, "abort_info")) abort();
    if (IS(mode, "exit_info")) exit(0);
    if (setup->index > 1) return busbar_fail(error, BUSBAR_NOT_FOUND, "there are two devices");
    memset(&mine, 0, sizeof mine);
    strcpy(mine.name, IS(mode, "no_name") ? "" : "mock");
    if (IS(mode, "wild_text")) memset(mine.name, 'x', sizeof mine.name), memset(mine.maker, 7, sizeof mine.maker);
    snprintf(mine.detail, sizeof mine.detail, "device %u", setup->index);
    if (IS(mode, "too_many_rates")) mine.rate_count = 1000;
    if (IS(mode, "bad_figure")) mine.read_bytes_per_s = -1;
    mine.largest_buffer = IS(mode, "small_buffers") ? 4096 : 0;
    mine.cache_element_count = 2;
    mine.cache_elements[0] = 7777; /* an element that no host knows yet */
    mine.cache_elements[1] = BUSBAR_F32;
    /* A plugin of another age knows less of the record. */
    memcpy(info, &mine, IS(mode, "short_info") ? 340 : size < sizeof mine ? size : sizeof mine);
    info->struct_size = IS(mode, "short_info") ? 340 : size;
    return BUSBAR_OK;
}

static int32_t device_open(const busbar_setup* setup, busbar_device* device, busbar_error* error) {
    for (uint32_t i = 0; i < setup->option_count; ++i)
        if (strcmp(setup->keys[i], "mode") != 0)
            return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "expected the option mode");
    if (IS(mode_of(setup), "null_device")) return BUSBAR_OK;
    *device = calloc(1, sizeof **device);
    strncpy((*device)->mode, mode_of(setup), sizeof(*device)->mode - 1);
    return BUSBAR_OK;
}

static int32_t device_close(busbar_device device, busbar_error* error) {
    (void)error;
    free(device);
    return BUSBAR_OK;
}

static int32_t buffer_alloc(busbar_device device, uint32_t kind, uint64_t bytes, busbar_buffer* out,
                            busbar_error* error) {
    (void)kind;
    if (IS(device->mode, "null_buffer")) return BUSBAR_OK;
    if (IS(device->mode, "no_memory") || bytes > (1u << 30))
        return busbar_fail(error, BUSBAR_NO_MEMORY, "expected some bytes, 0 are free");
    *out = malloc(sizeof **out);
    (*out)->bytes = calloc(1, bytes + 8);
    (*out)->size = bytes;
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
    (void)stream;
    if (IS(device->mode, "lost_copy") && c->from_buffer) return busbar_fail(error, BUSBAR_LOST, "the cable is out");
    memcpy((c->to_buffer ? c->to_buffer->bytes : (unsigned char*)c->to) + c->to_offset,
           (c->from_buffer ? c->from_buffer->bytes : (const unsigned char*)c->from) + c->from_offset, c->bytes);
    return BUSBAR_OK;
}

static int32_t claim(busbar_device device, const busbar_op* op, busbar_claim* claim, busbar_error* error) {
    (void)error;
    if (op->op != BUSBAR_OP_ADD) return busbar_refuse(claim, "this chip only adds");
    for (uint32_t i = 0; i < 2; ++i)
        if (op->inputs[i]->element != BUSBAR_F32) return busbar_refuse(claim, "this chip adds f32 only");
    claim->verdict = IS(device->mode, "bad_verdict") ? 42 : BUSBAR_YES;
    claim->activation = IS(device->mode, "bad_element") ? 999 : BUSBAR_F32;
    claim->accumulate = BUSBAR_F32;
    claim->transcendental_ulp = IS(device->mode, "bad_ulp") ? -3 : 0;
    claim->scratch_bytes = IS(device->mode, "much_scratch") ? ~0ull : IS(device->mode, "scratch") ? 1000 : 0;
    if (IS(device->mode, "fickle") && !(op->flags & BUSBAR_SAMPLE)) return busbar_refuse(claim, "not this one");
    return BUSBAR_OK;
}

static int32_t run_ops(busbar_device device, const busbar_op* const* ops, uint32_t count, const busbar_step* step,
                       busbar_stream stream, busbar_error* error) {
    (void)stream;
    for (uint32_t i = 0; i < count; ++i) {
        const busbar_tensor *a = ops[i]->inputs[0], *b = ops[i]->inputs[1], *y = ops[i]->outputs[0];
        const int32_t* words = (const int32_t*)(step->buffer->bytes + step->offset);
        const int64_t n = (int64_t)words[step->rows] * y->extents[1];
        const float *p = (const float*)(a->buffer->bytes + a->offset),
                    *q = (const float*)(b->buffer->bytes + b->offset);
        float* out = (float*)(y->buffer->bytes + y->offset);
        if (IS(device->mode, "hang_run")) sleep_for_ever();
        if (IS(device->mode, "crash_run")) raise(SIGSEGV);
        if (IS(device->mode, "lost_run")) return busbar_fail_op(error, BUSBAR_LOST, ops[i], "the cable is out");
        if (IS(device->mode, "fail_run")) return busbar_fail_op(error, BUSBAR_FAILED, ops[i], "a fan stopped");
        if (IS(device->mode, "refuse_run")) return busbar_fail_op(error, BUSBAR_REFUSED, ops[i], "changed my mind");
        if (IS(device->mode, "bad_status")) return 4711;
        if (IS(device->mode, "scratch") && (!ops[i]->scratch || ops[i]->scratch_bytes < 1000))
            return busbar_fail_op(error, BUSBAR_FAILED, ops[i], "no scratch");
        for (int64_t k = 0; k < n; ++k) out[k] = p[k] + q[k];
        if (IS(device->mode, "write_past")) y->buffer->bytes[y->buffer->size - 7] = 1;
        if (IS(device->mode, "write_before")) y->buffer->bytes[3] = 1;
    }
    return BUSBAR_OK;
}

#ifdef MOCK_HALF_GROUP /* and nothing that frees what it makes */
static int32_t pack_weight(busbar_device device, const busbar_tensor* stored, const void* bytes, busbar_weight* weight,
                           uint64_t* kept_bytes, busbar_error* error) {
    (void)device, (void)stored, (void)bytes, (void)weight, (void)kept_bytes;
    return busbar_fail(error, BUSBAR_FAILED, "this chip packs nothing");
}
#endif
#ifdef MOCK_ABORT_ON_OPEN
__attribute__((constructor)) static void at_load(void) {
    abort();
}
#endif
#ifdef MOCK_MISSING_LIBRARY
int mock_gone(void);
int mock_needs_it(void) {
    return mock_gone();
}
#endif

#ifndef MOCK_SYMBOL
#define MOCK_SYMBOL busbar_chip_0
#endif
BUSBAR_CHIP_EXPORT int32_t MOCK_SYMBOL(const busbar_host* host, busbar_chip* chip, busbar_error* error) {
    /* A table of a later version: longer than the host's. */
    struct {
        busbar_chip known;
        void* later[16];
    } mine;
    (void)host;
    (void)error;
    memset(&mine, 0, sizeof mine);
    mine.known.struct_size = sizeof mine;
    mine.known.version = BUSBAR_CHIP_VERSION + 1; /* a later minor */
    mine.known.device_info = device_info;
    mine.known.device_open = device_open;
    mine.known.device_close = device_close;
    mine.known.buffer_alloc = buffer_alloc;
    mine.known.buffer_free = buffer_free;
    mine.known.copy = copy;
    mine.known.claim = claim;
    mine.known.run_ops = run_ops;
#ifdef MOCK_ZERO_VERSION
    mine.known.version = 0;
#endif
#ifdef MOCK_NEW_MAJOR
    mine.known.version = 7u << 16;
#endif
#ifdef MOCK_SHORT_TABLE
    mine.known.struct_size = 48;
#endif
#ifdef MOCK_NO_CLAIM
    mine.known.claim = 0;
#endif
#ifdef MOCK_HALF_GROUP
    mine.known.pack_weight = pack_weight;
#endif
#ifdef MOCK_REFUSES_TO_START
    return busbar_fail(error, BUSBAR_FAILED, "the licence has run out");
#endif
    return busbar_give_chip(chip, &mine.known);
}
