/* Lease, latched safe state, error queue. */
#include <string.h>

#include "board.h"
#include "hardware.h"

#define QUEUE 16u

static uint64_t lease_end;
static uint32_t lease_ms, refused;
static bool latched, resting;
static uint8_t cause;
static hw_error_record_t queue[QUEUE];
static uint32_t queue_first, queue_count;

#define PROBLEM(code, class, retryable, text) {(uint16_t)(code), (uint8_t)(class), (retryable), text},
static const struct {
    uint16_t code;
    uint8_t kind, retryable;
    const char *text;
} problems[] = {HW_PROBLEMS(PROBLEM)};

static uint32_t problem(uint16_t code)
{
    for (uint32_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        if (problems[i].code == code) {
            return i;
        }
    }
    return 0;
}

uint8_t hw_problem_kind(uint16_t code)
{
    return problems[problem(code)].kind;
}

bool hw_problem_retryable(uint16_t code)
{
    return problems[problem(code)].retryable != 0u;
}

const char *hw_problem_text(uint16_t code)
{
    return problems[problem(code)].text;
}

void hw_safety_boot(uint8_t reset_cause)
{
    lease_ms = refused = 0;
    queue_first = queue_count = 0;
    resting = true;
    latched = false;
    cause = HW_CAUSE_BOOT;
    hw_substrate->safe();
    if (reset_cause == HW_RESET_CAUSE_WATCHDOG || reset_cause == HW_RESET_CAUSE_FAULT) {
        latched = true; /* somebody should look at why */
        cause = HW_CAUSE_WATCHDOG;
        hw_error_push(HW_ERROR_CODE_WATCHDOG_RESET, reset_cause);
    }
}

void hw_safety_poll(void)
{
    if (lease_ms != 0u && !latched && hw_now() >= lease_end) {
        hw_safety_enter(HW_CAUSE_LEASE, HW_ERROR_CODE_LEASE_EXPIRED, lease_ms);
    }
}

void hw_safety_enter(uint8_t why, uint16_t code, uint32_t arg)
{
    hw_substrate->safe(); /* first of all */
    if (latched) {
        return; /* the first cause is the one to be seen */
    }
    latched = true;
    resting = true;
    cause = why;
    hw_error_push(code, arg);
    hw_job_end(HW_JOB_STATE_FAILED, code);
    hw_link_event(HW_EVENT_KIND_SAFE);
}

uint16_t hw_safety_clear(uint32_t seen)
{
    if (!latched) {
        return 0;
    }
    if (seen != cause) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    latched = false;
    hw_lease_renew();
    return 0;
}

bool hw_latched(void)
{
    return latched;
}

uint8_t hw_state(void)
{
    if (hw_job_running()) {
        return HW_STATE_RUNNING;
    }
    return latched || resting ? HW_STATE_SAFE : HW_STATE_IDLE;
}

uint8_t hw_cause(void)
{
    return cause;
}

void hw_safety_wake(void)
{
    resting = false;
}

void hw_lease_renew(void)
{
    lease_end = hw_now() + (uint64_t)lease_ms * 1000u;
}

void hw_lease_set(uint32_t ms)
{
    lease_ms = ms;
    hw_lease_renew();
}

uint32_t hw_lease_ms(void)
{
    return lease_ms;
}

uint32_t hw_lease_left_ms(void)
{
    const uint64_t now = hw_now();
    return lease_ms == 0u || now >= lease_end ? 0u : (uint32_t)((lease_end - now) / 1000u);
}

void hw_error_push(uint16_t code, uint32_t arg)
{
    if (queue_count == QUEUE) { /* the oldest is the least wanted */
        queue_first = (queue_first + 1u) % QUEUE;
        queue_count--;
    }
    hw_error_record_t *entry = &queue[(queue_first + queue_count++) % QUEUE];
    memset(entry, 0, sizeof *entry);
    entry->detail = code;
    entry->kind = hw_problem_kind(code);
    entry->retryable = hw_problem_retryable(code) ? 1u : 0u;
    entry->arg = arg;
    entry->board_ms = (uint32_t)(hw_now() / 1000u);
    memcpy(entry->text, hw_problem_text(code), strlen(hw_problem_text(code)));
}

bool hw_error_pop(hw_error_record_t *record)
{
    if (queue_count == 0u) {
        return false;
    }
    *record = queue[queue_first];
    queue_first = (queue_first + 1u) % QUEUE;
    record->remaining = (uint16_t)--queue_count;
    return true;
}

uint16_t hw_error_count(void)
{
    return (uint16_t)queue_count;
}

void hw_output_refused(void)
{
    refused++;
}

uint32_t hw_outputs_refused(void)
{
    return refused;
}
