/* busbar_chip.h - how a chip of any maker plugs into Busbar. Version 0.1.
 *
 * A chip is a shared library that exports ONE symbol, `busbar_chip_0`, and links to nothing of Busbar's. It needs this
 * file and a C compiler. docs/add-a-chip.md walks the way; examples/chips/ holds a chip of one file and one to copy.
 *
 * WHAT TO WRITE
 *   tier 0   8 functions, all synchronous: the model runs. Whatever claim() refuses runs elsewhere, so a chip that
 *            only multiplies matrices is a chip.
 *   tier 1   6 functions: streams and events, so that work is queued instead of waited for.
 *   optional pack_weight (keep this weight in my form), prepare (make these ops a program once), run_program (replay
 *            it with this step's data), each with the function that frees what it made.
 *   A null pointer means "not offered"; it never means an error.
 *
 * VERSIONS
 *   - The major version stands in the symbol's name and nowhere else: a library of another major does not have the
 *     symbol, so it cannot be called by mistake, and one library may export two majors side by side.
 *   - Every record begins with struct_size: the size that whoever made it knows. Fields are only ever appended, never
 *     moved, retyped or given another meaning. Read a field only if it ends within struct_size; write an output record
 *     only up to its struct_size. Larger than you know is always right. Smaller than a record of version 0.1 is an
 *     error, and so is a version of zero.
 *   - Records have no hidden padding; their sizes grow with every field (pinned by a test). Lists are arrays of
 *     pointers to records, so that a record can grow inside a list.
 *   - An enumeration's number that you do not know (element, scale, op, attribute ...) means "refuse this op", with a
 *     reason; never "fail to load". The same for a bit in a `required` field: whoever set it says that ignoring it
 *     would change the result. Attributes say so one by one (BUSBAR_MUST_UNDERSTAND).
 *
 * OWNERSHIP Whoever makes a thing frees it: no heap object crosses the border. Records and strings handed to the
 *   chip are the host's and valid during the call (for prepare: until the call returns; copy what you keep). Strings
 *   are UTF-8, zero-terminated. Handles are the chip's own pointers, opaque to the host.
 *
 * THREADS The host calls one function of a device at a time, but not always from the same thread. Different
 *   devices may be used at the same time from different threads. The chip may have threads of its own between
 *   device_open and device_close; after the last device_close returns, the library may be unloaded.
 *
 * ERRORS Every function returns a busbar_status, 0 = done, and writes the same number with a message to the
 *   caller's busbar_error. Nothing may leave a function but its return: no exception, signal, exit or abort. After
 *   BUSBAR_LOST a device answers BUSBAR_LOST to everything but the functions that free and close; the host plans again
 *   without it. A call that does not return within the host's time limit is taken for hung and its device for lost.
 *
 * NUMBERS Values between ops are f32. What an op may round is declared in the claim and checked by the host
 *   (docs/agreement.md); nobody needs to trust it. Byte order is little-endian, pointers have 64 bits.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BUSBAR_CHIP_MAJOR 0u
#define BUSBAR_CHIP_MINOR 1u
#define BUSBAR_CHIP_VERSION ((BUSBAR_CHIP_MAJOR << 16) | BUSBAR_CHIP_MINOR)

#if defined(_WIN32)
#define BUSBAR_CHIP_EXPORT __declspec(dllexport)
#else
#define BUSBAR_CHIP_EXPORT __attribute__((visibility("default")))
#endif

/* ---- Numbers. All append-only; 0 is never a valid one unless it says so. ------------------------------------- */

/* What a function returns. */
enum busbar_status {
    BUSBAR_OK = 0,
    BUSBAR_NOT_FOUND = 1,     /* no such device (device_info past the last one) */
    BUSBAR_REFUSED = 2,       /* this op or this use is not offered: the host runs it elsewhere */
    BUSBAR_BAD_ARGUMENT = 3,  /* an option, size or handle that makes no sense */
    BUSBAR_NO_MEMORY = 4,     /* message: how much was asked for, how much there is */
    BUSBAR_FAILED = 5,        /* this call failed, the device lives */
    BUSBAR_LOST = 6,          /* the device is gone until it is opened again */
    BUSBAR_NOT_READY = 7      /* event_wait: the time given passed, the work goes on */
};

/* A number type. Of weights: of the codes inside a block, what they mean is below. */
enum busbar_element {
    BUSBAR_F64 = 1,
    BUSBAR_F32 = 2,
    BUSBAR_F16 = 3,
    BUSBAR_BF16 = 4,
    BUSBAR_I32 = 5,
    BUSBAR_I8 = 6,  /* signed */
    BUSBAR_I6 = 7,  /* a code of 6 bits, minus 32 */
    BUSBAR_I5 = 8,  /* a code of 5 bits; minus 16 where the scale has no minimum */
    BUSBAR_I4 = 9,  /* a code of 4 bits; minus 8 where the scale has no minimum */
    BUSBAR_I3 = 10, /* a code of 3 bits, minus 4 */
    BUSBAR_I2 = 11, /* a code of 2 bits */
    BUSBAR_E2M1 = 12,
    BUSBAR_TABLE4 = 13,    /* a code of 4 bits into the 16 values of IQ4_NL */
    BUSBAR_E4M3 = 14,      /* OCP: no infinities, largest 448 */
    BUSBAR_E4M3FNUZ = 15,  /* another type: no negative zero, largest 240 */
    BUSBAR_E5M2 = 16,      /* OCP: as IEEE 754 would have it */
    BUSBAR_E5M2FNUZ = 17,
    BUSBAR_E8M0 = 18, /* a power of two: 0 is 2^-127, 255 is NaN */
    BUSBAR_I64 = 19,
    BUSBAR_U8 = 20,
    BUSBAR_I16 = 21
};

/* How blocks of elements are scaled. A chip must refuse a scale that it does not execute exactly. */
enum busbar_scale {
    BUSBAR_SCALE_NONE = 0,
    BUSBAR_SCALE_F16 = 1,           /* w = d * q, d a half per block */
    BUSBAR_SCALE_F16_MIN = 2,       /* w = d * q + m, both halves */
    BUSBAR_SCALE_E8M0 = 3,          /* w = 2^(e - 127) * q (OCP MX) */
    BUSBAR_SCALE_TWO_LEVEL = 4,     /* w = d * s * q, s a small integer per group of the block */
    BUSBAR_SCALE_TWO_LEVEL_MIN = 5, /* w = d * s * q - dmin * m */
    BUSBAR_SCALE_F32 = 6,           /* w = d * q, d an f32 per block */
    BUSBAR_SCALE_F32_POWER = 7,     /* the same, every d a power of two */
    BUSBAR_SCALE_BF16 = 8,
    BUSBAR_SCALE_E4M3 = 9
};

/* Where the bits of a tensor lie. */
enum busbar_layout {
    BUSBAR_LAYOUT_PLAIN = 1,       /* row-major, the last extent contiguous, no gaps */
    BUSBAR_LAYOUT_GGUF_BLOCKS = 2, /* row-major blocks along the last extent, each laid out inside as GGUF stores the
                                      type that this element, scale and block stand for */
    BUSBAR_LAYOUT_OWN = 3          /* the chip's own business: packed weights, pages of states */
};

enum busbar_kind {
    BUSBAR_REAL = 1,  /* numbers: values (f32) or a weight in any encoding */
    BUSBAR_INDEX = 2, /* i32: ids, positions, row numbers, masks */
    BUSBAR_STATE = 3  /* outlives a step: a paged cache, extents {heads, width}, see busbar_claim.page_bytes */
};

enum busbar_where {
    BUSBAR_IN_BUFFER = 1, /* `buffer` at `offset` bytes */
    BUSBAR_IN_STEP = 2,   /* the step record at `offset` 32-bit words */
    BUSBAR_IN_WEIGHT = 3  /* `weight`, which pack_weight made */
};

/* What bounds the leading extent in a step; the extent itself is the capacity. */
enum busbar_leading {
    BUSBAR_LEADING_FIXED = 0,
    BUSBAR_LEADING_ROWS = 1,      /* word busbar_step.rows of the step record: tokens in this step */
    BUSBAR_LEADING_LOGIT_ROWS = 2 /* word busbar_step.logit_rows */
};

enum busbar_role { BUSBAR_ROLE_NONE = 0, BUSBAR_ROLE_KEY = 1, BUSBAR_ROLE_VALUE = 2 };

enum busbar_tensor_flags {
    BUSBAR_FROZEN = 1u /* a weight: its bytes never change while it lives */
};

/* The ops, each with its inputs -> outputs {attributes}. Their exact meaning is what `busbar conform` checks and
 * docs/ops.md prints; x, y are real, "rows" is any leading extents. Schema version of all of them: 1. */
enum busbar_op_id {
    BUSBAR_OP_ADD = 1,      /* a, b -> y; broadcasting as NumPy does */
    BUSBAR_OP_SUBTRACT = 2, /* a, b -> y */
    BUSBAR_OP_MULTIPLY = 3, /* a, b -> y */
    BUSBAR_OP_DIVIDE = 4,   /* a, b -> y */
    BUSBAR_OP_EXP = 5,
    BUSBAR_OP_RSQRT = 6,
    BUSBAR_OP_COS = 7,
    BUSBAR_OP_SIN = 8,
    BUSBAR_OP_MEAN = 9,           /* x -> y; over the last axis, which stays with extent 1 */
    BUSBAR_OP_SUM = 10,           /* likewise */
    BUSBAR_OP_MAX = 11,           /* likewise; NaN if any is */
    BUSBAR_OP_MATMUL = 12,        /* x [..., k], w [n, k] -> y [..., n] = x w^T */
    BUSBAR_OP_BATCH_MATMUL = 13,  /* a [..., m, k], b [..., k, n] -> y; leading axes broadcast */
    BUSBAR_OP_GATHER_ROWS = 14,   /* table [n, width] (a weight, reals or i32), ids [rows] i32 -> y [rows, width] */
    BUSBAR_OP_RESHAPE = 15,       /* a view: never sent */
    BUSBAR_OP_TRANSPOSE = 16,     /* x -> y {order: integers}: y's axis i is x's axis order[i] */
    BUSBAR_OP_SLICE = 17,         /* x -> y = x[..., begin:end:step] {begin, end, step: integer} */
    BUSBAR_OP_CONCAT = 18,        /* a, b -> y, along the last axis */
    BUSBAR_OP_SELECT = 19,        /* mask i32, a, b -> y = mask != 0 ? a : b; broadcasting */
    BUSBAR_OP_CACHE_APPEND = 20,  /* state, x [rows, heads, width], positions, sequences, block_table -> state */
    BUSBAR_OP_CACHE_GATHER = 21,  /* state, block_table -> y [sequences * context, heads, width]; 0 where no page is */
    BUSBAR_OP_CACHE_MASK = 22,    /* positions, sequences, block_table -> mask i32 [rows, 1, 1, slots] {window} */
    BUSBAR_OP_RMS_NORM = 101,     /* x [..., width], weight [width] -> y = x / sqrt(mean(x^2) + epsilon) * weight */
    BUSBAR_OP_SOFTMAX = 102,      /* x -> y, over the last axis */
    BUSBAR_OP_SILU = 103,         /* x -> y = x / (1 + e^-x) */
    BUSBAR_OP_ROTARY_TABLE = 104, /* positions [rows], frequencies [angles] -> cos, sin [rows, angles] {scale: real} */
    BUSBAR_OP_ROTATE = 105,       /* x [rows, heads, width], cos, sin -> y {pairing: word "half" or "interleaved"} */
    BUSBAR_OP_ATTENTION = 106,    /* q [rows, heads, width], keys, values (states), positions, sequences, block_table
                                     -> y [rows, heads, value_width] {scale: real, window: integer, 0 = all} */
    BUSBAR_OP_ADD_RMS_NORM = 201, /* x, delta, weight -> sum = x + delta, y = rms_norm(sum) {epsilon: real} */
    BUSBAR_OP_GATED_SILU = 202,   /* gate, up -> y = silu(gate) * up */
    BUSBAR_OP_MULTI_MATMUL = 203  /* x, w_1 ... w_n -> y_1 ... y_n: one activation, several weights */
};

enum busbar_attribute_type {
    BUSBAR_INTEGER = 1,
    BUSBAR_NUMBER = 2, /* real */
    BUSBAR_WORD = 3,
    BUSBAR_INTEGERS = 4
};
enum busbar_attribute_flags {
    BUSBAR_MUST_UNDERSTAND = 1u /* refuse the op if the name is new to you; without the bit it may be ignored */
};

/* ---- Handles: the chip's own, opaque to the host --------------------------------------------------------------- */

typedef struct busbar_device_of_chip *busbar_device;
typedef struct busbar_buffer_of_chip *busbar_buffer;
typedef struct busbar_weight_of_chip *busbar_weight;
typedef struct busbar_program_of_chip *busbar_program;
typedef struct busbar_stream_of_chip *busbar_stream; /* null: synchronous, done when the call returns */
typedef struct busbar_event_of_chip *busbar_event;

/* ---- Records --------------------------------------------------------------------------------------------------- */

/* The caller's memory; the callee fills what applies. Texts are cut to fit and always end with a zero. */
typedef struct busbar_error {
    uint32_t struct_size;
    int32_t code;      /* busbar_status */
    int64_t node;      /* busbar_op.node of the op that failed, -1 if none */
    int64_t chip_code; /* the chip's own number */
    char node_name[128];
    char message[512]; /* what was expected, what came, what would help */
} busbar_error;

/* Handed to device_info and device_open. */
typedef struct busbar_setup {
    uint32_t struct_size;
    uint32_t index;           /* of the device, from 0 */
    const char *library_path; /* absolute: find your files beside it, never by PATH or working directory */
    /* What the user wrote after the path, host's own options taken out: keys[i] = values[i]. An unknown key is
     * BUSBAR_BAD_ARGUMENT with a message that lists the known ones. */
    const char *const *keys;
    const char *const *values;
    uint32_t option_count;
    uint32_t reserved;
    /* May be called from any thread at any time between device_open and device_close. level: 0 error .. 4 trace. */
    void (*log)(void *log_context, int32_t level, const char *text);
    void *log_context;
} busbar_setup;

/* How sure a figure is. */
enum busbar_origin { BUSBAR_UNKNOWN = 0, BUSBAR_DATASHEET = 1, BUSBAR_DRIVER = 2, BUSBAR_MEASURED = 3 };

enum busbar_device_flags {
    BUSBAR_UNIFIED_MEMORY = 1u, /* its memory is the host's */
    BUSBAR_STATIC_SHAPES = 2u,  /* runs only the shapes that were prepared */
    BUSBAR_DETERMINISTIC = 4u   /* the same call gives the same bits */
};

/* A peak rate for products of `element` added up in `accumulate`. Fixed for ever: it lies inside another record. */
typedef struct busbar_rate {
    uint32_t element, accumulate; /* busbar_element */
    double flops_per_s;
    uint32_t origin, reserved;
} busbar_rate;

/* The device as data, for planning. A figure of 0 is not known. */
typedef struct busbar_device_info {
    uint32_t struct_size;
    uint32_t flags;
    char name[64];    /* one word that people type and read: "minimal" */
    char detail[128]; /* what matters of this one: "32 GB, 8 clusters, fault=none" */
    char maker[64];
    char driver[64];
    uint64_t memory_bytes; /* in all */
    uint64_t memory_free;
    uint64_t largest_buffer;
    double read_bytes_per_s; /* of its own memory */
    double link_bytes_per_s; /* between its memory and the host's */
    double op_overhead_s;    /* per op: launch, barrier */
    uint32_t read_origin, link_origin, overhead_origin;
    uint32_t threads;
    uint32_t cache_element_count;
    uint32_t cache_elements[7]; /* what it can keep states in, the most exact first: BUSBAR_F32 ... */
    uint32_t rate_count;
    uint32_t reserved;
    busbar_rate rates[8];
} busbar_device_info;

/* One input or output of an op. In claim() handles are null and only the description holds. */
typedef struct busbar_tensor {
    uint32_t struct_size;
    uint32_t required; /* must-understand bits; none so far */
    uint32_t kind, where, flags;
    uint32_t element, scale, layout; /* apart on purpose: a pair is never one number */
    uint32_t block, block_bytes;     /* elements along the last extent that share a scale, and their bytes; 1 and the
                                        element's size where there is no scale */
    uint32_t role, leading;
    uint32_t rank, reserved;
    int64_t extents[8]; /* outermost first, capacities; a scalar has rank 0 */
    uint64_t offset;    /* bytes in `buffer`, 32-bit words in the step record */
    uint64_t bytes;     /* from there on that belong to the tensor; a state: all its pages */
    busbar_buffer buffer;
    busbar_weight weight;
    const char *name; /* the model's word for it, or null */
} busbar_tensor;

typedef struct busbar_attribute {
    uint32_t struct_size;
    uint32_t type, flags;
    uint32_t count; /* of `integers` */
    const char *name;
    int64_t integer;
    double number;
    const char *word;
    const int64_t *integers;
} busbar_attribute;

enum busbar_op_flags {
    BUSBAR_SAMPLE = 1u /* claim only: extents and attributes are examples. Is there any op of this kind, with inputs of
                          these types, that the chip could take? The real ones are asked one by one later. */
};

typedef struct busbar_op {
    uint32_t struct_size;
    uint32_t required;   /* must-understand bits; none so far */
    uint32_t op, schema; /* busbar_op_id; refuse a schema that you do not know */
    int64_t node;        /* place in the program, from 0 */
    const char *op_name; /* "rotate" */
    const char *node_name; /* "layer.3.q_rotate" */
    const busbar_tensor *const *inputs;
    const busbar_tensor *const *outputs;
    const busbar_attribute *const *attributes;
    uint32_t input_count, output_count, attribute_count;
    uint32_t flags; /* BUSBAR_SAMPLE */
    /* As many bytes as the claim asked for, shared by all ops of a device; null if none did. */
    busbar_buffer scratch;
    uint64_t scratch_offset, scratch_bytes;
} busbar_op;

/* What varies from step to step, as one block of 32-bit words that lies on the chip. Numbers of rows are read from
 * there by the kernels, never from launch arguments: that is what lets a chip record its work once and replay it.
 * The words at rows and logit_rows bound the leading extents. An op must compute the leading rows in use; it may also
 * compute the rest up to the capacity, whose values nobody reads (their bytes may be any), but may never append them
 * to a state or take an index from them. */
typedef struct busbar_step {
    uint32_t struct_size;
    uint32_t reserved;
    busbar_buffer buffer;
    uint64_t offset;     /* bytes in `buffer` of word 0 */
    uint64_t word_count; /* of the whole record */
    /* Words from word 0. */
    uint32_t rows, logit_rows, sequence_count; /* one word each */
    uint32_t token_ids, positions, sequences;  /* max_rows words each */
    uint32_t logit_row_numbers;                /* max_logit_rows words */
    uint32_t block_table;                      /* max_sequences x pages words, -1 where there is no page */
    uint32_t max_rows, max_logit_rows, max_sequences, pages;
    uint64_t number; /* counts the step records of this program; for traces, not for results */
} busbar_step;

enum busbar_verdict { BUSBAR_NO = 0, BUSBAR_YES = 1, BUSBAR_SLOW = 2 /* can, but better elsewhere */ };
enum busbar_claim_flags {
    BUSBAR_FLUSHES_DENORMALS = 1u,
    BUSBAR_INVARIANT = 2u /* order of sums and every rounding depend on the reduction's length and the encoding only:
                             a row's bits are the same alone, in a batch and in any chunk */
};

/* The answer about one op on these types and extents. Asked with the same op it must answer the same; what it accepts
 * must run. */
typedef struct busbar_claim {
    uint32_t struct_size;
    uint32_t verdict; /* busbar_verdict */
    uint32_t flags;
    uint32_t activation; /* element of a product's inputs as used: BUSBAR_F32, BUSBAR_BF16, BUSBAR_I8 ... */
    uint32_t accumulate; /* element that sums are kept in */
    uint32_t reserved;
    double transcendental_ulp; /* error of its exp, rsqrt, sin ... in units of the last place; 0 if it uses none */
    double share_of_peak;      /* 0 .. 1, for predictions; 0: not known */
    double weight_bits;        /* kept per weight element after pack_weight; 0: as stored */
    uint64_t scratch_bytes;
    /* cache_append and cache_gather only: bytes of one page (64 positions) of the state. The layout inside is the
     * chip's own; page p begins at p times this, and whole pages are copied, read back and written by the host. The
     * same number for both; 0: 64 x heads x width elements. */
    uint64_t page_bytes;
    char reason[256]; /* why not, or why slow; shown to people */
} busbar_claim;

/* One copy. Null buffer: host memory, `from` / `to`. Ranges do not overlap. */
typedef struct busbar_copy {
    uint32_t struct_size;
    uint32_t required;
    busbar_buffer from_buffer;
    const void *from;
    uint64_t from_offset;
    busbar_buffer to_buffer;
    void *to;
    uint64_t to_offset;
    uint64_t bytes;
} busbar_copy;

/* ---- The chip: what the library fills in ------------------------------------------------------------------------ */

typedef struct busbar_chip {
    uint32_t struct_size;
    uint32_t version; /* BUSBAR_CHIP_VERSION of the header that the library was compiled with; never 0 */

    /* Tier 0. All required. Streams are null unless tier 1 is offered. */

    /* Fills `info`; BUSBAR_NOT_FOUND past the last device, so there is no call that counts. Opens nothing for long:
     * it is called in a child process with a deadline before anything else. */
    int32_t (*device_info)(const busbar_setup *setup, busbar_device_info *info, busbar_error *error);
    int32_t (*device_open)(const busbar_setup *setup, busbar_device *device, busbar_error *error);
    /* Stops every thread and frees everything, buffers left over too. */
    int32_t (*device_close)(busbar_device device, busbar_error *error);
    /* Memory of kind 0 (the device's own; others are appended later), zeroed, aligned to 64 bytes. */
    int32_t (*buffer_alloc)(busbar_device device, uint32_t memory_kind, uint64_t bytes, busbar_buffer *buffer,
                            busbar_error *error);
    int32_t (*buffer_free)(busbar_device device, busbar_buffer buffer, busbar_error *error);
    /* Host to device, back, or within the device. */
    int32_t (*copy)(busbar_device device, const busbar_copy *copy, busbar_stream stream, busbar_error *error);
    /* Returns BUSBAR_OK with a verdict; a refusal is an answer, not an error. Called often: it should be quick. */
    int32_t (*claim)(busbar_device device, const busbar_op *op, busbar_claim *claim, busbar_error *error);
    /* Runs claimed ops in order; each sees what those before it wrote. On an error, error->node says which op. */
    int32_t (*run_ops)(busbar_device device, const busbar_op *const *ops, uint32_t op_count, const busbar_step *step,
                       busbar_stream stream, busbar_error *error);

    /* Tier 1: all six or none. copy and run_ops may then be given a stream: they return when the work is queued and
     * take what they need from their records before that; work of one stream runs in order. Host memory named by a
     * queued copy stays valid until an event after it has passed. */

    int32_t (*stream_create)(busbar_device device, busbar_stream *stream, busbar_error *error);
    int32_t (*stream_destroy)(busbar_device device, busbar_stream stream, busbar_error *error);
    /* A one-shot mark behind all work queued so far. It carries the error of that work to event_wait. */
    int32_t (*event_record)(busbar_device device, busbar_stream stream, busbar_event *event, busbar_error *error);
    /* Work queued on `stream` from now on waits for the event. */
    int32_t (*stream_wait)(busbar_device device, busbar_stream stream, busbar_event event, busbar_error *error);
    /* Blocks at most this long (0: asks); BUSBAR_NOT_READY when the time passed. */
    int32_t (*event_wait)(busbar_device device, busbar_event event, uint64_t nanoseconds, busbar_error *error);
    int32_t (*event_destroy)(busbar_device device, busbar_event event, busbar_error *error);

    /* Optional. pack_weight with weight_free; prepare, run_program and program_free together. */

    /* Converts a frozen weight, as it is stored (`stored` describes `bytes`), to the chip's own form without loss. It
     * may keep no pointer to `bytes`. Ops then get it as BUSBAR_IN_WEIGHT, described as it was stored. Only weights
     * that the claim took in this way come here. `kept_bytes`: of the device's memory. */
    int32_t (*pack_weight)(busbar_device device, const busbar_tensor *stored, const void *bytes, busbar_weight *weight,
                           uint64_t *kept_bytes, busbar_error *error);
    int32_t (*weight_free)(busbar_device device, busbar_weight weight, busbar_error *error);
    /* Makes claimed ops a program: compile, record, place. `layout` describes the step records that will come; its
     * buffer is the one they will lie in. */
    int32_t (*prepare)(busbar_device device, const busbar_op *const *ops, uint32_t op_count, const busbar_step *layout,
                       busbar_program *program, busbar_error *error);
    /* Runs ops first .. last - 1 of the program on this step record. A chip that can only run all of it answers
     * BUSBAR_REFUSED to a part; the host then uses run_ops for parts. */
    int32_t (*run_program)(busbar_device device, busbar_program program, const busbar_step *step, uint32_t first,
                           uint32_t last, busbar_stream stream, busbar_error *error);
    int32_t (*program_free)(busbar_device device, busbar_program program, busbar_error *error);
} busbar_chip;

/* What the host tells before it is given a chip. */
typedef struct busbar_host {
    uint32_t struct_size;
    uint32_t version; /* of the header that the host was compiled with */
    const char *name; /* "busbar 0.1.0" */
} busbar_host;

/* The one symbol. `chip` comes with struct_size set to what the host can take and all else zero: fill it up to that
 * (busbar_give_chip below) and return BUSBAR_OK. Called once for each opening of the library; it may touch nothing
 * but its own memory, no device. */
BUSBAR_CHIP_EXPORT int32_t busbar_chip_0(const busbar_host *host, busbar_chip *chip, busbar_error *error);
#define BUSBAR_CHIP_SYMBOL "busbar_chip_0"

/* ---- Help for those who write one; nothing here is part of the border -------------------------------------------- */

/* True if the record holds the field: if (BUSBAR_HAS(op, busbar_op, scratch_bytes)) ... */
#define BUSBAR_HAS(record, type, field) \
    ((record)->struct_size >= offsetof(type, field) + sizeof(((const type *)0)->field))

/* Copies `mine` into the host's table: as much of it as both know. */
static inline int32_t busbar_give_chip(busbar_chip *chip, const busbar_chip *mine) {
    uint32_t size = chip->struct_size < mine->struct_size ? chip->struct_size : mine->struct_size;
    memcpy(chip, mine, size);
    chip->struct_size = size;
    return BUSBAR_OK;
}

/* return busbar_fail(error, BUSBAR_NO_MEMORY, "expected ..., got ..."); */
static inline int32_t busbar_fail(busbar_error *error, int32_t code, const char *message) {
    if (error) {
        error->code = code;
        strncpy(error->message, message, sizeof error->message - 1);
        error->message[sizeof error->message - 1] = 0;
    }
    return code;
}

/* The same with the op that failed. */
static inline int32_t busbar_fail_op(busbar_error *error, int32_t code, const busbar_op *op, const char *message) {
    if (error) {
        error->node = op->node;
        strncpy(error->node_name, op->node_name ? op->node_name : "", sizeof error->node_name - 1);
        error->node_name[sizeof error->node_name - 1] = 0;
    }
    return busbar_fail(error, code, message);
}

/* return busbar_refuse(claim, "expected weights in f32"); */
static inline int32_t busbar_refuse(busbar_claim *claim, const char *reason) {
    claim->verdict = BUSBAR_NO;
    strncpy(claim->reason, reason, sizeof claim->reason - 1);
    claim->reason[sizeof claim->reason - 1] = 0;
    return BUSBAR_OK;
}

#ifdef __cplusplus
}
#endif
