#include "sha256.h"

#include <string.h>

#include "hardware.h"

static const uint32_t K[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

static uint32_t turn(uint32_t x, uint32_t by)
{
    return (x >> by) | (x << (32u - by));
}

static void block(uint32_t state[8], const uint8_t bytes[64])
{
    uint32_t w[64];
    for (uint32_t i = 0; i < 16u; i++) {
        w[i] = ((uint32_t)bytes[4u * i] << 24) | ((uint32_t)bytes[4u * i + 1u] << 16) |
               ((uint32_t)bytes[4u * i + 2u] << 8) | (uint32_t)bytes[4u * i + 3u];
    }
    for (uint32_t i = 16; i < 64u; i++) {
        const uint32_t a = w[i - 15u], b = w[i - 2u];
        w[i] = w[i - 16u] + (turn(a, 7) ^ turn(a, 18) ^ (a >> 3)) + w[i - 7u] +
               (turn(b, 17) ^ turn(b, 19) ^ (b >> 10));
    }
    uint32_t s[8];
    memcpy(s, state, sizeof s);
    for (uint32_t i = 0; i < 64u; i++) {
        const uint32_t e = s[4], a = s[0];
        const uint32_t first =
            s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + K[i] + w[i];
        const uint32_t second =
            (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        for (uint32_t k = 7; k > 0u; k--) {
            s[k] = s[k - 1u];
        }
        s[4] += first;
        s[0] = first + second;
    }
    for (uint32_t i = 0; i < 8u; i++) {
        state[i] += s[i];
    }
}

void hw_sha256(const uint8_t *data, uint32_t count, uint8_t digest[32])
{
    uint32_t state[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                         0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
    uint32_t at = 0;
    for (; at + 64u <= count; at += 64u) {
        block(state, data + at);
        if (at % 4096u == 0u) {
            hw_feed_watchdog(); /* a megabyte takes seconds on a small processor */
        }
    }
    uint8_t last[128] = {0};
    const uint32_t rest = count - at, length = rest < 56u ? 64u : 128u;
    if (rest > 0u) {
        memcpy(last, data + at, rest);
    }
    last[rest] = 0x80u;
    const uint64_t bits = (uint64_t)count * 8u;
    for (uint32_t i = 0; i < 8u; i++) {
        last[length - 1u - i] = (uint8_t)(bits >> (8u * i));
    }
    for (uint32_t i = 0; i < length; i += 64u) {
        block(state, last + i);
    }
    for (uint32_t i = 0; i < 32u; i++) {
        digest[i] = (uint8_t)(state[i / 4u] >> (24u - 8u * (i % 4u)));
    }
}
