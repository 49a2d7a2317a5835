#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>

#include "skeleton.h"

/* Step 1 ---------------------------------------------------------------------------------------------------------- */

static int32_t device_info(const busbar_setup* setup, busbar_device_info* info, busbar_error* error) {
    busbar_device_info mine;
    const uint32_t size = info->struct_size;
    if (setup->index > 0) return busbar_fail(error, BUSBAR_NOT_FOUND, "there is one device");
    memset(&mine, 0, sizeof mine);
    strcpy(mine.name, "skeleton");
    strcpy(mine.maker, "Busbar's examples");
    strcpy(mine.detail, "a chip to copy");
    mine.flags = BUSBAR_UNIFIED_MEMORY | BUSBAR_DETERMINISTIC;
    mine.threads = 1;
    mine.cache_element_count = 1; /* step 5 */
    mine.cache_elements[0] = BUSBAR_F32;
    memcpy(info, &mine, size < sizeof mine ? size : sizeof mine);
    info->struct_size = size;
    return BUSBAR_OK;
}

static int32_t device_open(const busbar_setup* setup, busbar_device* device, busbar_error* error) {
    busbar_device made = calloc(1, sizeof *made);
    if (!made) return busbar_fail(error, BUSBAR_NO_MEMORY, "no memory for a device");
    made->step = 6;
    for (uint32_t i = 0; i < setup->option_count; ++i) {
        if (strcmp(setup->keys[i], "step") == 0) made->step = strtol(setup->values[i], 0, 10);
        if (strcmp(setup->keys[i], "step") != 0 || made->step < 1 || made->step > 6) {
            free(made);
            return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "expected the option step, 1 to 6");
        }
    }
    *device = made;
    return BUSBAR_OK;
}

static int32_t device_close(busbar_device device, busbar_error* error) {
    (void)error;
    free(device);
    return BUSBAR_OK;
}

static int32_t buffer_alloc(busbar_device device, uint32_t kind, uint64_t bytes, busbar_buffer* out,
                            busbar_error* error) {
    busbar_buffer buffer = calloc(1, sizeof *buffer);
    void* memory = 0;
    (void)device;
    if (kind != 0 || !buffer || bytes > (uint64_t)1 << 46 || posix_memalign(&memory, 64, bytes > 0 ? bytes : 64) != 0) {
        char text[128];
        free(buffer);
        snprintf(text, sizeof text, "expected %llu bytes, the system has not so many", (unsigned long long)bytes);
        return busbar_fail(error, kind != 0 ? BUSBAR_BAD_ARGUMENT : BUSBAR_NO_MEMORY, text);
    }
    memset(memory, 0, bytes);
    buffer->bytes = memory;
    buffer->size = bytes;
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
    if (c->required) return busbar_fail(error, BUSBAR_REFUSED, "a copy of a new kind");
    if (stream) { /* what was queued comes first */
        busbar_event event;
        if (event_record(device, stream, &event, error) != BUSBAR_OK) return error->code;
        while (event_wait(device, event, 1000000000u, error) == BUSBAR_NOT_READY) {
        }
        event_destroy(device, event, error);
    }
    memcpy(to + c->to_offset, from + c->from_offset, c->bytes);
    return BUSBAR_OK;
}

static int32_t run_ops(busbar_device device, const busbar_op* const* ops, uint32_t count, const busbar_step* step,
                       busbar_stream stream, busbar_error* error) {
    (void)device;
    for (uint32_t i = 0; i < count; ++i) {
        struct launch l;
        if (!make_launch(ops[i], step, &l)) return busbar_fail_op(error, BUSBAR_REFUSED, ops[i], "it was not claimed");
        if (!stream)
            l.kernel(&l);
        else if (!queue_launches(stream, &l, 1))
            return busbar_fail_op(error, BUSBAR_NO_MEMORY, ops[i], "no memory left for the queue");
    }
    return BUSBAR_OK;
}

/* Step 6 ---------------------------------------------------------------------------------------------------------- */

struct busbar_program_of_chip {
    uint32_t count;
    struct launch launches[];
};

static int32_t prepare(busbar_device device, const busbar_op* const* ops, uint32_t count, const busbar_step* layout,
                       busbar_program* program, busbar_error* error) {
    busbar_program made = malloc(sizeof *made + count * sizeof(struct launch));
    (void)device;
    if (!made) return busbar_fail(error, BUSBAR_NO_MEMORY, "no memory for a program");
    made->count = count;
    for (uint32_t i = 0; i < count; ++i)
        if (!make_launch(ops[i], layout, &made->launches[i])) {
            free(made);
            return busbar_fail_op(error, BUSBAR_REFUSED, ops[i], "it was not claimed");
        }
    *program = made;
    return BUSBAR_OK;
}

static int32_t run_program(busbar_device device, busbar_program program, const busbar_step* step, uint32_t first,
                           uint32_t last, busbar_stream stream, busbar_error* error) {
    (void)device;
    (void)step; /* it lies where the layout said */
    if (first > last || last > program->count) return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "no such ops");
    if (stream) {
        if (!queue_launches(stream, program->launches + first, last - first))
            return busbar_fail(error, BUSBAR_NO_MEMORY, "no memory left for the queue");
        return BUSBAR_OK;
    }
    for (uint32_t i = first; i < last; ++i) program->launches[i].kernel(&program->launches[i]);
    return BUSBAR_OK;
}

static int32_t program_free(busbar_device device, busbar_program program, busbar_error* error) {
    (void)device;
    (void)error;
    free(program);
    return BUSBAR_OK;
}

int32_t busbar_chip_0(const busbar_host* host, busbar_chip* chip, busbar_error* error) {
    static const busbar_chip mine = {
        .struct_size = sizeof(busbar_chip),
        .version = BUSBAR_CHIP_VERSION,
        .device_info = device_info, /* step 1 */
        .device_open = device_open,
        .device_close = device_close,
        .buffer_alloc = buffer_alloc,
        .buffer_free = buffer_free,
        .copy = copy,
        .claim = skeleton_claim,
        .run_ops = run_ops,
        .pack_weight = skeleton_pack_weight, /* step 4 */
        .weight_free = skeleton_weight_free,
        .stream_create = stream_create, /* step 6 */
        .stream_destroy = stream_destroy,
        .event_record = event_record,
        .stream_wait = stream_wait,
        .event_wait = event_wait,
        .event_destroy = event_destroy,
        .prepare = prepare,
        .run_program = run_program,
        .program_free = program_free,
    };
    (void)host;
    (void)error;
    return busbar_give_chip(chip, &mine);
}
