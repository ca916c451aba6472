/* What fits this build: every buffer is static and sized here. A port overrides with -D. */
#ifndef HWSIM_LIMITS_H
#define HWSIM_LIMITS_H

#ifndef HW_MAX_UNITS
#define HW_MAX_UNITS 128u
#endif
#ifndef HW_MAX_INPUTS
#define HW_MAX_INPUTS 256u
#endif
#ifndef HW_MAX_LANES
#define HW_MAX_LANES 64u
#endif
#ifndef HW_DATA_BYTES /* what a RUN reads */
#define HW_DATA_BYTES 524288u
#endif
#ifndef HW_RESULT_BYTES /* what a RUN makes */
#define HW_RESULT_BYTES 1048576u
#endif
#ifndef HW_TAPE_BYTES /* each of the two tapes */
#define HW_TAPE_BYTES 524288u
#endif
#ifndef HW_MAX_STEPS /* of one phase */
#define HW_MAX_STEPS 1000000u
#endif
#ifndef HW_MAX_READS
#define HW_MAX_READS 256u
#endif
#ifndef HW_WATCHDOG_MS
#define HW_WATCHDOG_MS 1000u
#endif
#ifndef HW_SLICE_US /* longest stretch of a job between two looks at the line */
#define HW_SLICE_US 2000u
#endif

#define HW_NETWORK_WORDS(units, inputs) ((units) * ((units) + (inputs) + 1u))
#define HW_MAX_NETWORK_WORDS HW_NETWORK_WORDS(HW_MAX_UNITS, HW_MAX_INPUTS)

#endif
