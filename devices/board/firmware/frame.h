/* Frames: 00 | COBS(header, payload, CRC-32) | 00. */
#ifndef HWSIM_FRAME_H
#define HWSIM_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

#define HW_MAX_BODY (12u + HW_MAX_PAYLOAD + 4u)
#define HW_MAX_STUFFED (HW_MAX_BODY + HW_MAX_BODY / 254u + 1u)

uint32_t hw_crc32(uint32_t crc, const uint8_t *data, uint32_t count);

/* `out` takes count + count / 254 + 1 bytes. Returns how many were written. */
uint32_t hw_cobs_encode(const uint8_t *data, uint32_t count, uint8_t *out);

/* In place. False: no COBS. */
bool hw_cobs_decode(uint8_t *data, uint32_t *count);

typedef struct {
    uint8_t bytes[HW_MAX_STUFFED];
    uint32_t count;
    bool overlong;
} hw_parser_t;

typedef enum { HW_PARSER_MORE, HW_PARSER_FRAME, HW_PARSER_BAD } hw_parsed_t;

/* One byte from the line. FRAME: bytes[0 .. *count - 1] are header and payload, the CRC was right. */
hw_parsed_t hw_parse(hw_parser_t *parser, uint8_t byte, uint32_t *count);

#endif
