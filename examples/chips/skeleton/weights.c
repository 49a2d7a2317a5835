#include <stdlib.h>

#include "skeleton.h"

/* Half precision, as the scales of q8_0 are stored. */
static float half(const unsigned char* p) {
    const uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8, sign = bits >> 15 << 31, exponent = bits >> 10 & 31;
    uint32_t fraction = bits & 1023, word;
    float x;
    if (exponent == 0) {
        x = (float)fraction * 0x1p-24f;
        return sign ? -x : x;
    }
    word = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
    memcpy(&x, &word, sizeof x);
    return x;
}

/* Step 4: from blocks of a half and 32 codes to two arrays that a kernel reads straight on. Nothing is rounded. */
int32_t skeleton_pack_weight(busbar_device device, const busbar_tensor* stored, const void* bytes,
                             busbar_weight* weight, uint64_t* kept_bytes, busbar_error* error) {
    const int64_t blocks = stored->extents[0] * (stored->extents[1] / 32);
    busbar_weight made = calloc(1, sizeof *made);
    (void)device;
    if (made) {
        made->codes = malloc((size_t)(blocks > 0 ? blocks : 1) * 32);
        made->scales = malloc((size_t)(blocks > 0 ? blocks : 1) * sizeof(float));
    }
    if (!made || !made->codes || !made->scales) {
        if (made) skeleton_weight_free(device, made, error);
        return busbar_fail(error, BUSBAR_NO_MEMORY, "no memory left for a packed weight");
    }
    for (int64_t b = 0; b < blocks; ++b) {
        const unsigned char* block = (const unsigned char*)bytes + b * 34;
        made->scales[b] = half(block);
        memcpy(made->codes + 32 * b, block + 2, 32);
    }
    *weight = made;
    *kept_bytes = (uint64_t)blocks * 36;
    return BUSBAR_OK;
}

int32_t skeleton_weight_free(busbar_device device, busbar_weight weight, busbar_error* error) {
    (void)device;
    (void)error;
    free(weight->codes);
    free(weight->scales);
    free(weight);
    return BUSBAR_OK;
}
