#include "converters.h"

uint32_t hw_code(float value, float limit, uint32_t bits, bool *clipped)
{
    const uint32_t top = (1u << bits) - 1u;
    const float place = (value + limit) / (2.0f * limit) * (float)top + 0.5f;
    if (!(place >= 0.0f)) {
        *clipped = true;
        return 0;
    }
    if (place >= (float)top + 1.0f) {
        *clipped = true;
        return top;
    }
    return (uint32_t)place;
}

float hw_value(uint32_t code, float limit, uint32_t bits)
{
    const uint32_t top = (1u << bits) - 1u;
    return (float)code / (float)top * (2.0f * limit) - limit;
}

float hw_rounded(float value, float limit, uint32_t bits, bool *clipped)
{
    return bits == 0u ? value : hw_value(hw_code(value, limit, bits, clipped), limit, bits);
}
