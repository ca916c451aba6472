/* Of a board without an analog front end: nothing answers. */
#include "hardware.h"

bool hw_dac(uint8_t bank, uint32_t index, uint32_t code)
{
    (void)bank, (void)index, (void)code;
    return false;
}

bool hw_adc(uint32_t unit, uint32_t *code)
{
    (void)unit, (void)code;
    return false;
}

bool hw_switch(uint8_t position, uint32_t micros)
{
    (void)position, (void)micros;
    return false;
}
