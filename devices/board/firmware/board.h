/* The firmware's own rooms, and what they tell each other. One board per program: all state is static. */
#ifndef HWSIM_BOARD_H
#define HWSIM_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "limits.h"
#include "protocol.h"
#include "substrate.h"

/* Boot, once; then poll for ever. Poll returns whether there is more to do at once. */
void hw_board_boot(const hw_config_t *config);
bool hw_board_poll(void);

/* A reply in the making: `bytes` goes out behind the header. A handler returns 0, or an error code and `arg` with it. */
typedef struct {
    uint8_t *bytes;
    uint32_t count;
    uint32_t arg;
} hw_reply_t;
typedef uint16_t (*hw_handler_t)(const uint8_t *in, uint32_t count, hw_reply_t *out);

/* board.c */
uint64_t hw_now(void); /* microseconds since boot */
uint32_t hw_crc32_long(const uint8_t *data, uint32_t count); /* feeds the watchdog meanwhile */

/* link.c */
void hw_link_boot(void);
bool hw_link_poll(void);
void hw_link_hello(void);              /* unasked */
void hw_link_event(uint8_t kind);
void hw_link_reset_when_sent(void);
uint32_t hw_link_session(void);
uint32_t hw_link_boot_id(void);
void hw_link_count(hw_status_t *status);

/* commands.c: NULL for an unknown type. */
typedef struct {
    uint8_t type;
    bool free;             /* taken without a session */
    bool more;             /* bytes may follow the record */
    uint16_t size;         /* of the record */
    hw_handler_t handle;
} hw_command_t;
const hw_command_t *hw_command(uint8_t type);

/* descriptor.c */
void hw_descriptor_boot(void);
extern uint8_t hw_descriptor[];
extern uint32_t hw_descriptor_length;
extern uint8_t hw_descriptor_sha[32];

/* safety.c */
void hw_safety_boot(uint8_t reset_cause);
void hw_safety_poll(void);
void hw_safety_enter(uint8_t cause, uint16_t code, uint32_t arg); /* the safe state, latched */
uint16_t hw_safety_clear(uint32_t cause);
bool hw_latched(void);
uint8_t hw_state(void);
uint8_t hw_cause(void);
void hw_safety_wake(void);             /* outputs are about to be driven */
void hw_lease_renew(void);
void hw_lease_set(uint32_t ms);        /* 0: none runs */
uint32_t hw_lease_ms(void);
uint32_t hw_lease_left_ms(void);
void hw_error_push(uint16_t code, uint32_t arg);
bool hw_error_pop(hw_error_record_t *record);
uint16_t hw_error_count(void);
void hw_output_refused(void);
uint32_t hw_outputs_refused(void);
uint8_t hw_problem_kind(uint16_t code);
bool hw_problem_retryable(uint16_t code);
const char *hw_problem_text(uint16_t code);

/* blobs.c */
void hw_blobs_boot(void);
bool hw_programmed(void);
uint32_t hw_network_crc(void);
const uint8_t *hw_data(void);
const float *hw_held(void);
float *hw_sums(void);                  /* the CREDIT slot */
uint16_t hw_blob_begin(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_blob_data(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_blob_commit(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_blob_state(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_blob_read(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_blob_put(const uint8_t *in, uint32_t count, hw_reply_t *out);

/* job.c: takes a RUN or CREDIT up, and steps it. */
void hw_job_boot(void);
bool hw_job_poll(void);
bool hw_job_running(void);
void hw_job_end(uint8_t state, uint16_t code); /* whatever runs; nothing if nothing does */
const uint8_t *hw_result(uint32_t *length);    /* NULL: none is kept */
void hw_job_status(hw_job_status_t *status);
uint32_t hw_clipped_reads(void);               /* since boot */
uint16_t hw_job_run(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_job_credit(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_job_ask(const uint8_t *in, uint32_t count, hw_reply_t *out);
uint16_t hw_job_cancel(const uint8_t *in, uint32_t count, hw_reply_t *out);

/* plan.c: what a RUN asks for, checked before anything happens. */
typedef struct {
    hw_run_t run;
    hw_run_phase_t phases[HW_MAX_PHASES];
    uint32_t length;                                /* of the result, bytes */
    uint32_t residual[HW_MAX_PHASES], outcome[HW_MAX_PHASES], final[HW_MAX_PHASES], states[HW_MAX_PHASES];
} hw_plan_t;                                        /* the last four: places in the result, words */
uint16_t hw_plan_read(hw_plan_t *plan, const uint8_t *in, uint32_t count, uint32_t *arg);
uint32_t hw_plan_kept(const hw_run_phase_t *phase); /* states that a phase records */

/* tapes.c */
typedef struct {
    uint32_t count, lanes; /* states [count, lanes, N]; count 0: nothing */
} hw_tape_t;
extern hw_tape_t hw_pre, hw_post;
void hw_tapes_boot(void);
uint16_t hw_tape_prepare(const hw_plan_t *plan); /* before a RUN that captures */
void hw_tape_keep(const hw_plan_t *plan, uint32_t lane, uint32_t k, const float *state);
void hw_tape_inputs(uint32_t lane, const float *x);
const float *hw_tape_pre(uint32_t k, uint32_t lane);
uint16_t hw_credit_begin(const hw_credit_t *credit);
bool hw_credit_poll(void);                       /* one row of one pair; false when all is done */

/* selftest.c */
uint32_t hw_selftest(uint32_t *ran);

#endif
