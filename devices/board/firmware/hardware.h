/* All that the firmware knows of the machine it runs on. A port writes these functions; see docs/porting-a-board.md. */
#ifndef HWSIM_HARDWARE_H
#define HWSIM_HARDWARE_H

#include <stdbool.h>
#include <stdint.h>

/* The line. Neither waits: they take or give what is possible now and say how many bytes that was. */
uint32_t hw_read(uint8_t *into, uint32_t most);
uint32_t hw_write(const uint8_t *from, uint32_t count);

/* A clock in microseconds that wraps around at 2^32. */
uint32_t hw_micros(void);

/* The watchdog, armed by the port for HW_WATCHDOG_MS before the firmware begins. */
void hw_feed_watchdog(void);

/* Restart; does not return on real hardware. */
void hw_reset(void);

/* A number that differs from boot to boot, and why this boot happened (HW_RESET_CAUSE_...). */
uint32_t hw_entropy(void);
uint8_t hw_reset_cause(void);

/* The rest is for the analog back end alone; an emulated board needs none of it.
 *
 * Converters are addressed by bank and index, values are codes 0 .. 2^bits - 1. False: the part does not answer. */
enum {
    HW_BANK_W = 0,    /* [N * N] cells, row by row: current into unit i from r(z_j) */
    HW_BANK_U = 1,    /* [N * M] cells */
    HW_BANK_B = 2,    /* [N] bias currents */
    HW_BANK_X = 3,    /* [M] inputs */
    HW_BANK_FORCE = 4, /* [N] force currents */
    HW_BANK_KICK = 5, /* [N] a charge given at once to every unit, when index N - 1 is written */
    HW_BANK_GAIN = 6, /* [N] gains r'(at) of the units when driven backwards */
    HW_BANKS = 7
};
bool hw_dac(uint8_t bank, uint32_t index, uint32_t code);
bool hw_adc(uint32_t unit, uint32_t *code);

/* How the units are switched. SETTLE and BACKWARDS run for `micros` (a one-pulse timer is best) and then hold. */
enum {
    HW_SWITCH_OFF = 0,       /* drivers high-Z: the safe state */
    HW_SWITCH_RESET = 1,     /* states to 0 */
    HW_SWITCH_SETTLE = 2,    /* the network's own dynamics */
    HW_SWITCH_BACKWARDS = 3  /* linear units, couplings driven backwards */
};
bool hw_switch(uint8_t position, uint32_t micros);

#endif
