#include "frame.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are copied from and to the wire as they are");

uint32_t hw_crc32(uint32_t crc, const uint8_t *data, uint32_t count)
{
    /* a nibble at a time: 64 bytes of table in place of 1 kB */
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
    };
    crc = ~crc;
    for (uint32_t i = 0; i < count; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}

uint32_t hw_cobs_encode(const uint8_t *data, uint32_t count, uint8_t *out)
{
    uint32_t mark = 0, at = 1; /* where the code of this block goes, where its next byte goes */
    bool open = true;          /* whether a block has begun that must be closed */
    for (uint32_t i = 0; i < count; i++) {
        if (!open) {
            mark = at++;
            open = true;
        }
        if (data[i] != 0u) {
            out[at++] = data[i];
            if (at - mark == 255u) { /* full: what follows is a block of its own, without a zero between */
                out[mark] = 255u;
                open = false;
            }
        } else {
            out[mark] = (uint8_t)(at - mark);
            mark = at++;
        }
    }
    if (open) {
        out[mark] = (uint8_t)(at - mark);
    }
    return at;
}

bool hw_cobs_decode(uint8_t *data, uint32_t *count)
{
    uint32_t at = 0, out = 0;
    const uint32_t end = *count;
    if (end == 0u) {
        return false;
    }
    while (at < end) {
        const uint32_t code = data[at++];
        if (code == 0u || at + code - 1u > end) {
            return false;
        }
        for (uint32_t i = 1; i < code; i++) {
            data[out++] = data[at++];
        }
        if (code < 255u && at < end) {
            data[out++] = 0;
        }
    }
    *count = out;
    return true;
}

hw_parsed_t hw_parse(hw_parser_t *parser, uint8_t byte, uint32_t *count)
{
    if (byte != 0u) {
        if (parser->count < sizeof parser->bytes) {
            parser->bytes[parser->count++] = byte;
        } else {
            parser->overlong = true;
        }
        return HW_PARSER_MORE;
    }
    uint32_t length = parser->count;
    const bool overlong = parser->overlong;
    parser->count = 0;
    parser->overlong = false;
    if (length == 0u) {
        return HW_PARSER_MORE;
    }
    if (overlong || !hw_cobs_decode(parser->bytes, &length) || length < sizeof(hw_header_t) + 4u ||
        length > HW_MAX_BODY) {
        return HW_PARSER_BAD;
    }
    uint32_t told = 0;
    length -= 4u;
    memcpy(&told, parser->bytes + length, 4);
    if (told != hw_crc32(0, parser->bytes, length)) {
        return HW_PARSER_BAD;
    }
    *count = length;
    return HW_PARSER_FRAME;
}
