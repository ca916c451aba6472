/* The table of messages, and the short ones. */
#include <math.h>
#include <string.h>

#include "board.h"
#include "frame.h"
#include "hardware.h"
#include "sha256.h"

static uint16_t say(hw_reply_t *out, const void *record, uint32_t count)
{
    memcpy(out->bytes, record, count);
    out->count = count;
    return 0;
}

static uint16_t descriptor(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_stretch_t asked;
    memcpy(&asked, in, sizeof asked);
    if (asked.offset > hw_descriptor_length) {
        out->arg = hw_descriptor_length;
        return HW_ERROR_CODE_OFFSET;
    }
    const hw_chunk_t chunk = {.offset = asked.offset, .total = hw_descriptor_length};
    uint32_t length = hw_descriptor_length - asked.offset;
    length = length > asked.length ? asked.length : length;
    length = length > HW_MAX_PAYLOAD - sizeof chunk ? HW_MAX_PAYLOAD - (uint32_t)sizeof chunk : length;
    memcpy(out->bytes + sizeof chunk, hw_descriptor + asked.offset, length);
    (void)say(out, &chunk, sizeof chunk);
    out->count += length;
    return 0;
}

static uint16_t close_session(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)in, (void)count, (void)out;
    hw_job_end(HW_JOB_STATE_CANCELLED, 0);
    if (!hw_latched()) {
        hw_substrate->rest();
    }
    hw_lease_set(0);
    return 0;
}

static uint16_t ping(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_ping_t asked;
    memcpy(&asked, in, sizeof asked);
    asked.board_ms = (uint32_t)(hw_now() / 1000u);
    return say(out, &asked, sizeof asked);
}

static uint16_t status(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)in, (void)count;
    hw_job_status_t job;
    hw_job_status(&job);
    hw_status_t told = {
        .board_ms = (uint32_t)(hw_now() / 1000u),
        .state = hw_state(),
        .cause = hw_cause(),
        .latched = hw_latched() ? 1u : 0u,
        .job_state = job.state,
        .session = hw_link_session(),
        .lease_left_ms = hw_lease_left_ms(),
        .job = job.job,
        .network_crc = hw_network_crc(),
        .programmed = hw_programmed() ? 1u : 0u,
        .errors = hw_error_count(),
        .clipped_reads = hw_clipped_reads(),
        .refused_outputs = hw_outputs_refused(),
        .temperature = NAN,
    };
    hw_link_count(&told);
    return say(out, &told, sizeof told);
}

static uint16_t abort_job(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    hw_safety_enter(HW_CAUSE_ABORT, HW_ERROR_CODE_ABORTED, 0);
    return status(in, count, out);
}

static uint16_t make_safe(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    hw_safety_enter(HW_CAUSE_COMMANDED, HW_ERROR_CODE_COMMANDED_SAFE, 0);
    return status(in, count, out);
}

static uint16_t clear_fault(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    hw_clear_fault_t asked;
    memcpy(&asked, in, sizeof asked);
    const uint16_t code = hw_safety_clear(asked.cause);
    out->arg = hw_cause();
    return code != 0u ? code : status(in, count, out);
}

static uint16_t next_error(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)in, (void)count;
    hw_error_record_t record;
    if (!hw_error_pop(&record)) {
        memset(&record, 0, sizeof record);
    }
    return say(out, &record, sizeof record);
}

static uint16_t selftest(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)in, (void)count;
    if (hw_latched()) {
        return HW_ERROR_CODE_LATCHED;
    }
    if (hw_job_running()) {
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    hw_selftest_t told = {0};
    told.failed = hw_selftest(&told.ran);
    if (told.failed != 0u) {
        hw_error_push(HW_ERROR_CODE_SELFTEST, told.failed);
    }
    return say(out, &told, sizeof told);
}

static uint16_t reset(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count, (void)out;
    hw_reset_t asked;
    memcpy(&asked, in, sizeof asked);
    if (asked.key != HW_RESET_KEY) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    hw_job_end(HW_JOB_STATE_CANCELLED, 0);
    hw_substrate->safe();
    hw_link_reset_when_sent();
    return 0;
}

#ifdef HW_TEST_HANG
static uint16_t hang(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count, (void)out;
    hw_hang_t asked;
    memcpy(&asked, in, sizeof asked);
    if (asked.key != HW_RESET_KEY) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    const volatile bool always = true;
    while (always) {
    }
    return 0;
}
#else
#define hang NULL
#endif

static const hw_command_t commands[] = {
    {HW_TYPE_GET_DESCRIPTOR, true, false, sizeof(hw_stretch_t), descriptor},
    {HW_TYPE_CLOSE_SESSION, false, false, 0, close_session},
    {HW_TYPE_PING, true, false, sizeof(hw_ping_t), ping},
    {HW_TYPE_STATUS, true, false, 0, status},
    {HW_TYPE_BLOB_BEGIN, false, false, sizeof(hw_blob_begin_t), hw_blob_begin},
    {HW_TYPE_BLOB_DATA, false, true, sizeof(hw_blob_data_t), hw_blob_data},
    {HW_TYPE_BLOB_COMMIT, false, false, sizeof(hw_blob_ask_t), hw_blob_commit},
    {HW_TYPE_BLOB_STATE, false, false, sizeof(hw_blob_ask_t), hw_blob_state},
    {HW_TYPE_READ, false, false, sizeof(hw_read_t), hw_blob_read},
    {HW_TYPE_PUT, false, true, sizeof(hw_blob_data_t), hw_blob_put},
    {HW_TYPE_RUN, false, true, sizeof(hw_run_t), hw_job_run},
    {HW_TYPE_JOB_STATUS, false, false, sizeof(hw_ask_job_t), hw_job_ask},
    {HW_TYPE_CREDIT, false, false, sizeof(hw_credit_t), hw_job_credit},
    {HW_TYPE_CANCEL, false, false, 0, hw_job_cancel},
    {HW_TYPE_ABORT, true, false, 0, abort_job},
    {HW_TYPE_SAFE, true, false, 0, make_safe},
    {HW_TYPE_CLEAR_FAULT, false, false, sizeof(hw_clear_fault_t), clear_fault},
    {HW_TYPE_NEXT_ERROR, false, false, 0, next_error},
    {HW_TYPE_SELFTEST, false, false, 0, selftest},
    {HW_TYPE_RESET, false, false, sizeof(hw_reset_t), reset},
    {HW_TYPE_HANG, false, false, sizeof(hw_hang_t), hang},
};

const hw_command_t *hw_command(uint8_t type)
{
    for (uint32_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].type == type) {
            return &commands[i];
        }
    }
    return NULL;
}
