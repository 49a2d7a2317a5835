/* A chip to copy. It grows in six steps (docs/add-a-chip.md); ?step=N claims what step N has, so that each can be
 * proven before the next is begun. Its "hardware" is the processor and one thread: put yours in its place. device.c the
 * device, its memory, running ops           steps 1 and 6 claim.c    what it takes, and how an op becomes a launch
 *   kernels.c  the kernels                                  steps 1 to 5
 *   weights.c  its own form of weights                      step 4
 *   queue.c    streams and events                           step 6 */
#pragma once
#include "busbar_chip.h"

struct busbar_device_of_chip {
    long step; /* how far up the ladder */
};
struct busbar_buffer_of_chip {
    unsigned char* bytes;
    uint64_t size;
};
/* Step 4: rows of 8-bit codes, and beside them one f32 scale for each 32. */
struct busbar_weight_of_chip {
    int8_t* codes;
    float* scales;
};

/* An op, ready to be started: addresses and sizes that never change. What varies from step to step is read from the
 * step record when it runs. This is what a chip with command lists records, and what another one keeps in its program.
 */
struct launch {
    void (*kernel)(const struct launch*);
    const float* in[3];
    float* out[2];
    const struct busbar_weight_of_chip* weight;
    unsigned char* pages[2]; /* of states */
    const int32_t* rows;     /* the word with the leading extent in use, or a null pointer */
    const int32_t *positions, *sequences, *block_table;
    int64_t capacity, each; /* leading extent; numbers (or rows of a matrix) for each of it */
    int64_t width, outputs, heads, kv_heads, table_pages, window;
    double number; /* epsilon, scale */
};

/* Fills `launch`; 0 if the op is not one of ours. Only claimed ops come here. */
int make_launch(const busbar_op* op, const busbar_step* step, struct launch* launch);
int32_t skeleton_claim(busbar_device device, const busbar_op* op, busbar_claim* claim, busbar_error* error);

void add_kernel(const struct launch* l);
void matmul_kernel(const struct launch* l);
void packed_matmul_kernel(const struct launch* l);
void rms_norm_kernel(const struct launch* l);
void gated_silu_kernel(const struct launch* l);
void cache_append_kernel(const struct launch* l);
void cache_gather_kernel(const struct launch* l);
void attention_kernel(const struct launch* l);

int32_t skeleton_pack_weight(busbar_device device, const busbar_tensor* stored, const void* bytes,
                             busbar_weight* weight, uint64_t* kept_bytes, busbar_error* error);
int32_t skeleton_weight_free(busbar_device device, busbar_weight weight, busbar_error* error);

/* queue.c, step 6 */
int32_t stream_create(busbar_device device, busbar_stream* stream, busbar_error* error);
int32_t stream_destroy(busbar_device device, busbar_stream stream, busbar_error* error);
int32_t event_record(busbar_device device, busbar_stream stream, busbar_event* event, busbar_error* error);
int32_t stream_wait(busbar_device device, busbar_stream stream, busbar_event event, busbar_error* error);
int32_t event_wait(busbar_device device, busbar_event event, uint64_t nanoseconds, busbar_error* error);
int32_t event_destroy(busbar_device device, busbar_event event, busbar_error* error);
/* Queues a copy of these launches; 0 if there is no memory for it. */
int queue_launches(busbar_stream stream, const struct launch* launches, uint32_t count);
