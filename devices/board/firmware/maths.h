/* Functions whose bits are the same on every machine: float32 in a stated order, no libm but sqrtf, no fused
 * multiply-add (-ffp-contract=off). The twin of this file is hwsim/kernels/firmware.py. */
#ifndef HWSIM_MATHS_H
#define HWSIM_MATHS_H

#include <stdbool.h>
#include <stdint.h>

/* x (135135 + 17325 x^2 + 378 x^4 + x^6) / (135135 + 62370 x^2 + 3150 x^4 + 28 x^6), x held to +-4.97: within 9.7e-5 of
 * tanh x. NaN stays NaN. */
float hw_tanh(float x);

/* Its slope; 0 where x is held. */
float hw_tanh_slope(float x);

/* Where noise comes from: see hwsim.contracts.noise, whose layout this is. */
typedef struct {
    uint32_t seed, step;  /* the key */
    uint32_t sample;      /* counter word 2 */
    uint32_t word;        /* counter word 3: stream << 24 | phase << 16 | repeat */
    uint32_t coarse;      /* fine time steps summed */
} hw_address_t;

enum { HW_STREAM_THERMAL = 0, HW_STREAM_READ = 1, HW_STREAM_START = 2 };

/* Philox4x32-10: counter in, random words out. */
void hw_philox(uint32_t words[4], uint32_t k0, uint32_t k1);

/* Standard normal deviates of one time step, `units` of them. */
void hw_normals(float *out, uint32_t units, const hw_address_t *address, uint32_t time);

bool hw_finite(float x);

/* x in [lo, hi]; NaN is in no range. */
bool hw_within(float x, float lo, float hi);

#endif
