#include "maths.h"

#include <math.h>
#include <string.h>

#define FLAT 4.97f

float hw_tanh(float x)
{
    x = x > FLAT ? FLAT : x; /* in this form a NaN stays */
    x = x < -FLAT ? -FLAT : x;
    const float s = x * x;
    const float p = x * (135135.0f + s * (17325.0f + s * (378.0f + s)));
    const float q = 135135.0f + s * (62370.0f + s * (3150.0f + s * 28.0f));
    return p / q;
}

float hw_tanh_slope(float x)
{
    if (x > FLAT || x < -FLAT) {
        return 0.0f;
    }
    const float s = x * x;
    const float p = x * (135135.0f + s * (17325.0f + s * (378.0f + s)));
    const float q = 135135.0f + s * (62370.0f + s * (3150.0f + s * 28.0f));
    const float dp = 135135.0f + s * (51975.0f + s * (1890.0f + s * 7.0f));
    const float dq = x * (124740.0f + s * (12600.0f + s * 168.0f));
    return (dp - (p / q) * dq) / q;
}

void hw_philox(uint32_t words[4], uint32_t k0, uint32_t k1)
{
    uint32_t c0 = words[0], c1 = words[1], c2 = words[2], c3 = words[3];
    for (uint32_t turn = 0; turn < 10u; turn++) {
        const uint64_t product0 = (uint64_t)0xD2511F53u * c0, product1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

static float float_of(int32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static int32_t bits_of(float value)
{
    int32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* exponent ln 2 + ln(1 + excess), by the series of atanh */
static float log_scaled(float exponent, float excess)
{
    const float s = excess / (2.0f + excess), square = s * s;
    float series = (float)(2.0 / 9.0);
    series = series * square + (float)(2.0 / 7.0);
    series = series * square + (float)(2.0 / 5.0);
    series = series * square + (float)(2.0 / 3.0);
    return exponent * 0.693359375f + (exponent * -2.1219444005469058e-4f + (series * square * s + (s + s)));
}

/* sine and cosine of x turns, |x| <= 1/2 */
static void sincos_turns(float x, float *sine, float *cosine)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: the sum's low bits are the nearest whole number */
    const float shifted = 4.0f * x + shift;
    const int32_t quarter = bits_of(shifted);
    const float rest = x - (shifted - shift) * 0.25f, square = rest * rest;
    float s = (float)42.058693944897655;
    s = s * square + (float)-76.70585975306136;
    s = s * square + (float)81.60524927607504;
    s = s * square + (float)-41.341702240399755;
    s = s * square + (float)6.283185307179586;
    s = s * rest;
    float c = (float)-26.42625678337438;
    c = c * square + (float)60.24464137187666;
    c = c * square + (float)-85.45681720669373;
    c = c * square + (float)64.93939402266829;
    c = c * square + (float)-19.739208802178716;
    c = c * square + 1.0f;
    const bool odd = (quarter & 1) != 0;
    const float first = odd ? c : s, second = odd ? s : c;
    *sine = (quarter & 2) != 0 ? -first : first;
    *cosine = ((quarter + 1) & 2) != 0 ? -second : second;
}

static void box_muller(uint32_t even, uint32_t odd, float *first, float *second)
{
    const float unit = (float)2.3283064365386963e-10; /* 2^-32 */
    const int32_t bits = bits_of(((float)even + 0.5f) * unit), root_half = 0x3F3504F3;
    const int32_t exponent = (bits - root_half) >> 23;
    float excess = float_of(bits - exponent * (1 << 23)) - 1.0f, scale = (float)exponent;
    if (even >= 0xC0000000u) { /* near 1 the logarithm is that of 1 - v, v from the complement */
        excess = -((float)~even + 0.5f) * unit;
        scale = 0.0f;
    }
    const float radius = sqrtf(-2.0f * log_scaled(scale, excess));
    int32_t turn;
    memcpy(&turn, &odd, 4);
    float sine, cosine;
    sincos_turns((float)turn * unit, &sine, &cosine);
    *first = radius * cosine;
    *second = radius * sine;
}

void hw_normals(float *out, uint32_t units, const hw_address_t *address, uint32_t time)
{
    for (uint32_t fine = 0; fine < address->coarse; fine++) {
        for (uint32_t block = 0; 32u * (block / 8u) + block % 8u < units; block++) {
            uint32_t words[4] = {time * address->coarse + fine, block, address->sample, address->word};
            hw_philox(words, address->seed, address->step);
            float deviates[4];
            box_muller(words[0], words[1], &deviates[0], &deviates[1]);
            box_muller(words[2], words[3], &deviates[2], &deviates[3]);
            for (uint32_t w = 0; w < 4u; w++) {
                const uint32_t unit = 32u * (block / 8u) + block % 8u + 8u * w;
                if (unit < units) {
                    out[unit] = fine == 0u ? deviates[w] : deviates[w] + out[unit];
                }
            }
        }
    }
    if (address->coarse > 1u) {
        const float root = sqrtf((float)address->coarse);
        for (uint32_t i = 0; i < units; i++) {
            out[i] /= root;
        }
    }
}

bool hw_finite(float x)
{
    return (bits_of(x) & 0x7F800000) != 0x7F800000;
}

bool hw_within(float x, float lo, float hi)
{
    return x >= lo && x <= hi;
}
