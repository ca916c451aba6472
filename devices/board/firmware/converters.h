/* Values to codes of a converter and back. */
#ifndef HWSIM_CONVERTERS_H
#define HWSIM_CONVERTERS_H

#include <stdbool.h>
#include <stdint.h>

/* The nearest code of a converter with this many bits over [-limit, limit]; the last one at either side for what lies
 * beyond (NaN is 0). */
uint32_t hw_code(float value, float limit, uint32_t bits, bool *clipped);

/* The value of a code. */
float hw_value(uint32_t code, float limit, uint32_t bits);

/* Both, or the value itself where bits is 0. */
float hw_rounded(float value, float limit, uint32_t bits, bool *clipped);

#endif
