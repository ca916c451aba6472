/* A simulated analog front end behind the converters: what the analog back end of a host build drives. */
#ifndef HWSIM_FRONT_END_H
#define HWSIM_FRONT_END_H

#include <stdbool.h>
#include <stdint.h>

void front_boot(void);

/* Whether any input, force or kick is other than nothing, and how the units are switched. */
bool front_driven(void);
uint8_t front_switch(void);

/* Let the next `writes` writes through, and no more: a converter that stops answering. */
void front_break_after(uint32_t writes);

#endif
