/* What a board can check of itself, against answers known beforehand. */
#include <string.h>

#include "board.h"
#include "frame.h"
#include "hardware.h"
#include "maths.h"
#include "sha256.h"

static bool crc(void)
{
    return hw_crc32(0, (const uint8_t *)"123456789", 9) == 0xCBF43926u;
}

static bool sha(void)
{
    static const uint8_t wanted[4] = {0xba, 0x78, 0x16, 0xbf}; /* of "abc", FIPS 180-4 */
    uint8_t digest[32];
    hw_sha256((const uint8_t *)"abc", 3, digest);
    return memcmp(digest, wanted, sizeof wanted) == 0;
}

static bool philox(void)
{
    uint32_t words[4] = {0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}; /* Random123's known answer */
    hw_philox(words, 0xa4093822u, 0x299f31d0u);
    return words[0] == 0xd16cfe09u && words[1] == 0x94fdccebu && words[2] == 0x5001e420u && words[3] == 0x24126ea1u;
}

static bool tangent(void)
{
    uint32_t bits;
    const float value = hw_tanh(1.0f);
    memcpy(&bits, &value, 4);
    return bits == 0x3f42f7d6u; /* any fused or reordered operation shows here or in the states */
}

static bool stuffing(void)
{
    uint8_t data[8] = {0, 1, 0, 0, 2, 3, 0, 4}, coded[10];
    uint32_t count = hw_cobs_encode(data, sizeof data, coded);
    return hw_cobs_decode(coded, &count) && count == sizeof data && memcmp(coded, data, sizeof data) == 0;
}

uint32_t hw_selftest(uint32_t *ran)
{
    static bool (*const tests[])(void) = {crc, sha, philox, tangent, stuffing};
    uint32_t failed = 0;
    *ran = 0;
    for (uint32_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        *ran |= 1u << i;
        failed |= tests[i]() ? 0u : 1u << i;
    }
    if (hw_config.backend == HW_BACKEND_ANALOG) {
        uint32_t code = 0;
        *ran |= 1u << 5;
        failed |= hw_adc(0, &code) ? 0u : 1u << 5;
    }
    return failed;
}
