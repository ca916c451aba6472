/* SHA-256 (FIPS 180-4). */
#ifndef HWSIM_SHA256_H
#define HWSIM_SHA256_H

#include <stdint.h>

void hw_sha256(const uint8_t *data, uint32_t count, uint8_t digest[32]);

#endif
