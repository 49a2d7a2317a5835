// In front of every program. V: values that a work-item holds side by side; LANES: work-items that fold a row.
#pragma OPENCL FP_CONTRACT OFF
#ifdef HAS_FP64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
typedef JOIN(float, V) FloatV;
typedef JOIN(uint, V) UintV;
#define load_v JOIN(vload, V)
#define store_v JOIN(vstore, V)
#define load_half_v JOIN(vload_half, V)
#define to_float_v JOIN(convert_float, V)
#define to_uint_v JOIN(convert_uint, V)
#define as_float_v JOIN(as_float, V)

// One rounding where the device has it in hardware, two elsewhere; the same everywhere on a device.
#ifdef HAS_FMA
#define MULTIPLY_ADD(a, b, c) fma(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

// Entries of a leading axis in use this step: 1 rows, 2 rows with logits, 0 a fixed count.
int leading(global const int* step, int symbol, int capacity) {
    const int n = symbol == 1 ? step[0] : symbol == 2 ? step[1] : capacity;
    return min(n, capacity);
}

// The first misfit that the step's data showed, with the step that met it.
void fail(global int* status, int step, int what) {
    if (atomic_cmpxchg(status, 0, step + 1) == 0) status[1] = what;
}

// e^x = p * s * t with p in [0.7, 1.42] and powers of two s, t: multiplying by s is exact, by t rounds once.
typedef struct {
    float p, s, t;
} Parts;
Parts exp_parts(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -170.0f ? -170.0f : x;
    const float n = rint(x * 1.44269504088896341f);
    // ln 2 in two parts; the first has few enough bits that n times it is exact even without fma.
    float r = MULTIPLY_ADD(n, -0x1.63p-1f, x);
    r = MULTIPLY_ADD(n, 0x1.bd0106p-13f, r);
    float q = 1.0f / 5040;
    q = MULTIPLY_ADD(q, r, 1.0f / 720);
    q = MULTIPLY_ADD(q, r, 1.0f / 120);
    q = MULTIPLY_ADD(q, r, 1.0f / 24);
    q = MULTIPLY_ADD(q, r, 1.0f / 6);
    q = MULTIPLY_ADD(q, r, 0.5f);
    Parts e;
    e.p = MULTIPLY_ADD(q, r * r, r) + 1.0f;
    const int whole = isnan(x) ? 0 : (int)n;
    const int half_ = whole >> 1;
    e.s = as_float((half_ + 127) << 23);
    e.t = as_float((whole - half_ + 127) << 23);
    return e;
}
float exponential(float x) {
    const Parts e = exp_parts(x);
    return e.p * e.s * e.t;
}
