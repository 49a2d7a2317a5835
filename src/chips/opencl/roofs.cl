// What the device can read and multiply, for measure(). Work-item w reads vector w * first + j * next for j < count.
kernel void read_(global const float* x, global float* y, int first, int next, int count) {
    const int w = get_global_id(0);
    FloatV sum = 0.0f;
    for (int j = 0; j < count; ++j) sum += load_v((ulong)w * first + (ulong)j * next, x);
    float numbers[V], total = 0;
    store_v(sum, 0, numbers);
    for (int i = 0; i < V; ++i) total += numbers[i];
    if (total == 1.0f) y[0] = total;  // never: the buffer holds zeros
}

// Eight chains, so that none waits for itself.
kernel void multiply_(global float* y, int count, float by) {
    FloatV a = 0.0f, b = 1.0f, c = 2.0f, d = 3.0f, e = 4.0f, f = 5.0f, g = 6.0f, h = 7.0f;
    const FloatV m = by;
    for (int i = 0; i < count; ++i) {
        a = MULTIPLY_ADD(a, m, m);
        b = MULTIPLY_ADD(b, m, m);
        c = MULTIPLY_ADD(c, m, m);
        d = MULTIPLY_ADD(d, m, m);
        e = MULTIPLY_ADD(e, m, m);
        f = MULTIPLY_ADD(f, m, m);
        g = MULTIPLY_ADD(g, m, m);
        h = MULTIPLY_ADD(h, m, m);
    }
    a += b + c + d + e + f + g + h;
    float numbers[V];
    store_v(a, 0, numbers);
    if (numbers[0] == -1.0f) y[0] = numbers[0];
}
