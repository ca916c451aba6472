/* Jobs: taken up at once, done in slices between two looks at the line. */
#include <math.h>
#include <string.h>

#include "board.h"
#include "hardware.h"

enum { LANE, PHASE, STEP }; /* what comes next */

static hw_plan_t plan;
static uint32_t result[HW_RESULT_BYTES / 4u];
static uint32_t result_length;
static bool result_kept, crediting;
static float carry[HW_MAX_LANES * HW_MAX_UNITS];
static uint32_t carried_lanes;
static hw_job_status_t status;
static uint64_t began;
static uint32_t own_runs, clipped_reads;
static uint32_t stage, lane, phase, step, clipped;
static float now[HW_MAX_UNITS], before[HW_MAX_UNITS];

void hw_job_boot(void)
{
    memset(&status, 0, sizeof status);
    memset(carry, 0, sizeof carry);
    result_kept = crediting = false;
    carried_lanes = own_runs = clipped_reads = 0;
}

bool hw_job_running(void)
{
    return status.state == HW_JOB_STATE_RUNNING;
}

void hw_job_status(hw_job_status_t *told)
{
    *told = status;
    if (hw_job_running()) {
        told->phase = (uint8_t)phase;
        told->lane = (uint16_t)lane;
        told->step = step;
        told->elapsed_us = (uint32_t)(hw_now() - began);
    }
}

uint32_t hw_clipped_reads(void)
{
    return clipped_reads;
}

const uint8_t *hw_result(uint32_t *length)
{
    *length = result_length;
    return result_kept ? (const uint8_t *)result : NULL;
}

void hw_job_end(uint8_t state, uint16_t code)
{
    if (!hw_job_running()) {
        return;
    }
    hw_job_status(&status);
    status.state = state;
    if (state == HW_JOB_STATE_FAILED) {
        hw_substrate->safe();
    } else {
        hw_substrate->rest();
    }
    if (code != 0u) {
        status.detail = code;
        status.kind = hw_problem_kind(code);
    }
    if (state == HW_JOB_STATE_DONE) {
        if (!crediting) {
            result_kept = true;
            status.result_crc = hw_crc32_long((const uint8_t *)result, result_length);
        }
    } else if (!crediting && plan.run.capture == HW_CAPTURE_PRE) {
        hw_pre.count = 0;
    } else if (!crediting && plan.run.capture == HW_CAPTURE_POST) {
        hw_post.count = 0;
    }
    hw_link_event(HW_EVENT_KIND_JOB_ENDED);
}

static uint16_t may_begin(hw_reply_t *out)
{
    if (hw_latched()) {
        out->arg = hw_cause();
        return HW_ERROR_CODE_LATCHED;
    }
    if (hw_job_running()) {
        out->arg = status.job;
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    return 0;
}

static void accept(hw_reply_t *out, uint32_t length)
{
    const uint32_t job = status.job + 1u;
    memset(&status, 0, sizeof status);
    status.job = job;
    status.state = HW_JOB_STATE_RUNNING;
    status.result_length = length;
    status.network_crc = hw_network_crc();
    began = hw_now();
    lane = phase = step = clipped = 0;
    stage = LANE;
    const hw_accepted_t accepted = {.job = job, .result_length = length};
    memcpy(out->bytes, &accepted, sizeof accepted);
    out->count = sizeof accepted;
}

uint16_t hw_job_run(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    static hw_plan_t asked;
    uint16_t code = may_begin(out);
    if (code == 0u && !hw_programmed()) {
        code = HW_ERROR_CODE_NOT_PROGRAMMED;
    }
    if (code == 0u) {
        code = hw_plan_read(&asked, in, count, &out->arg);
    }
    if (code == 0u && asked.run.start == HW_START_KIND_CARRY && carried_lanes != 0u &&
        carried_lanes != asked.run.lanes) {
        out->arg = carried_lanes;
        code = HW_ERROR_CODE_NO_CARRY;
    }
    if (code == 0u) {
        code = hw_tape_prepare(&asked);
    }
    if (code != 0u) {
        return code;
    }
    plan = asked;
    own_runs++;
    crediting = result_kept = false;
    result_length = plan.length;
    hw_safety_wake();
    accept(out, plan.length);
    return 0;
}

uint16_t hw_job_credit(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_credit_t asked;
    memcpy(&asked, in, sizeof asked);
    uint16_t code = may_begin(out);
    if (code == 0u && (hw_substrate->capabilities & HW_BIT_CAPTURE_CREDIT) == 0u) {
        code = HW_ERROR_CODE_NOT_OFFERED;
    }
    if (code == 0u) {
        code = hw_credit_begin(&asked);
    }
    if (code != 0u) {
        return code;
    }
    crediting = true;
    accept(out, 0);
    return 0;
}

uint16_t hw_job_ask(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_ask_job_t asked;
    memcpy(&asked, in, sizeof asked);
    out->arg = status.job;
    if (asked.job != 0u && asked.job != status.job) {
        return HW_ERROR_CODE_NO_JOB;
    }
    hw_job_status_t told;
    hw_job_status(&told);
    memcpy(out->bytes, &told, sizeof told);
    out->count = sizeof told;
    return 0;
}

uint16_t hw_job_cancel(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)in, (void)count;
    hw_job_end(HW_JOB_STATE_CANCELLED, 0);
    hw_job_status_t told;
    hw_job_status(&told);
    memcpy(out->bytes, &told, sizeof told);
    out->count = sizeof told;
    return 0;
}

static const float *words(uint32_t offset)
{
    return (const float *)(const void *)hw_data() + offset;
}

static void put(uint32_t place, float value)
{
    memcpy(&result[place], &value, 4);
}

/* The place of state k of this lane: the recording of this phase, and the tape. */
static bool keep(uint32_t k)
{
    const bool captured = plan.run.capture != HW_CAPTURE_NONE && plan.run.capture_phase == phase;
    if (!hw_substrate->read(now, step, plan.phases[phase].index, &clipped)) {
        return false;
    }
    if (captured) {
        hw_tape_keep(&plan, lane, k, now);
    }
    if (!captured || (plan.run.flags & HW_RUN_FLAG_TAPE_ONLY) == 0u) {
        const uint32_t place = plan.states[phase] + (k * plan.run.lanes + lane) * hw_config.units;
        memcpy(&result[place], now, hw_config.units * sizeof(float));
    }
    return true;
}

static bool begin_lane(void)
{
    const hw_run_t *run = &plan.run;
    const uint32_t n = hw_config.units;
    const bool physical = run->noise == HW_NOISE_KIND_PHYSICAL;
    uint32_t ids[2];
    memcpy(ids, words(run->addresses + 2u * lane), sizeof ids);
    hw_lane_t told = {
        .x = words(run->inputs + lane * hw_config.inputs),
        .backwards = run->kind == HW_JOB_KIND_TRANSPOSE,
        .reads = run->reads,
        .thermal = {.seed = run->seed, .step = run->step, .sample = ids[0], .coarse = run->coarse},
    };
    told.thermal.word = ids[1] & 0xFFFFu;
    if (physical) { /* a key of its own: nobody can ask for the same twice */
        told.thermal.seed = hw_config.seed ^ hw_link_boot_id();
        told.thermal.step = own_runs;
        told.thermal.sample = lane;
        told.thermal.word = 0;
        told.thermal.coarse = 1;
    }
    told.read = told.thermal;
    told.read.word |= (uint32_t)HW_STREAM_READ << 24;
    told.read.coarse = 1;
    const float *state = NULL;
    if (run->start == HW_START_KIND_STATE) {
        state = words(run->state + lane * n);
    } else if (run->start == HW_START_KIND_CARRY && carried_lanes != 0u) {
        state = carry + lane * n;
    } else if (run->start == HW_START_KIND_RANDOM) {
        hw_address_t address = told.thermal;
        address.word |= (uint32_t)HW_STREAM_START << 24;
        address.coarse = 1;
        hw_normals(now, n, &address, 0);
        for (uint32_t i = 0; i < n; i++) {
            now[i] *= run->sigma;
        }
        state = now;
    }
    if (run->capture == HW_CAPTURE_PRE) {
        hw_tape_inputs(lane, told.x);
    }
    phase = 0;
    stage = PHASE;
    return hw_substrate->begin(&told, state);
}

static bool begin_phase(void)
{
    const hw_run_phase_t *told = &plan.phases[phase];
    step = 0;
    stage = STEP;
    if ((told->flags & HW_PHASE_FLAG_DISPLACE) != 0u &&
        !hw_substrate->displace(words(told->displace + lane * hw_config.units))) {
        return false;
    }
    return told->record == 0u || keep(0);
}

static bool one_step(void)
{
    const hw_run_phase_t *told = &plan.phases[phase];
    const uint32_t n = hw_config.units, lanes = plan.run.lanes;
    hw_step_t asked = {.time = step, .index = told->index, .fresh = step == 0u};
    if (told->force_kind == HW_FORCE_KIND_CONSTANT) {
        asked.force = words(told->force + lane * n);
    } else if (told->force_kind == HW_FORCE_KIND_WAVEFORM) {
        asked.force = words(told->force + (step * lanes + lane) * n);
        asked.fresh = true;
    }
    if ((told->flags & HW_PHASE_FLAG_CORRECT) != 0u) {
        asked.correct = words(told->correct + lane * n);
    }
    if (plan.run.kind == HW_JOB_KIND_TRANSPOSE) {
        const uint32_t k = told->steps - 1u - step;
        if (plan.run.at_kind == HW_AT_KIND_VECTOR) {
            asked.at = words(plan.run.at + lane * n);
        } else {
            asked.at = plan.run.at_kind == HW_AT_KIND_TAPE ? hw_tape_pre(k, lane)
                                                           : words(plan.run.at + (k * lanes + lane) * n);
            asked.fresh = true;
        }
    }
    if (step + 1u == told->steps && !hw_substrate->state(before)) {
        return false;
    }
    if (!hw_substrate->step(&asked)) {
        return false;
    }
    step++;
    return told->record == 0u || step % told->record != 0u || keep(step / told->record);
}

/* rms over units of the last change per time constant */
static float residual(void)
{
    float total = 0.0f;
    for (uint32_t i = 0; i < hw_config.units; i++) {
        const float change = now[i] - before[i];
        total += change * change;
    }
    return sqrtf(total / (float)hw_config.units) / hw_eps;
}

static bool end_phase(void)
{
    const hw_run_phase_t *told = &plan.phases[phase];
    const uint32_t n = hw_config.units;
    if (!hw_substrate->state(now)) {
        return false;
    }
    bool finite = true;
    for (uint32_t i = 0; i < n; i++) {
        finite = finite && hw_finite(now[i]);
    }
    const float change = told->steps == 0u ? 0.0f : residual();
    if (phase + 1u == plan.run.phases && plan.run.kind == HW_JOB_KIND_RELAX &&
        plan.run.start != HW_START_KIND_STATE) {
        memcpy(carry + lane * n, now, n * sizeof(float));
    }
    if (!hw_substrate->read(now, told->steps, told->index, &clipped)) {
        return false;
    }
    if (told->record == 0u && plan.run.capture != HW_CAPTURE_NONE && plan.run.capture_phase == phase) {
        hw_tape_keep(&plan, lane, 0, now);
    }
    const uint32_t outcome = !finite        ? 3u
                             : clipped > 0u ? 2u
                             : change <= (float)hw_config.tolerance ? 0u
                                                                     : 1u;
    put(plan.residual[phase] + lane, change);
    result[plan.outcome[phase] + lane] = outcome | (clipped > 0xFFFFu ? 0xFFFFu : clipped) << 16;
    memcpy(&result[plan.final[phase] + lane * n], now, n * sizeof(float));
    status.outcome = outcome > status.outcome ? (uint8_t)outcome : status.outcome;
    status.clipped += clipped;
    clipped_reads += clipped;
    clipped = 0;
    stage = PHASE;
    if (++phase == plan.run.phases) {
        stage = LANE;
        lane++;
    }
    return true;
}

/* Whether hardware answered. */
static bool advance(void)
{
    switch (stage) {
    case LANE:
        if (lane < plan.run.lanes) {
            return begin_lane();
        }
        if (plan.run.kind == HW_JOB_KIND_RELAX && plan.run.start != HW_START_KIND_STATE) {
            carried_lanes = plan.run.lanes;
        }
        lane = phase = 0;
        hw_job_end(HW_JOB_STATE_DONE, 0);
        return true;
    case PHASE:
        return begin_phase();
    default:
        return step < plan.phases[phase].steps ? one_step() : end_phase();
    }
}

bool hw_job_poll(void)
{
    const uint32_t since = hw_micros();
    while (hw_job_running() && hw_micros() - since < HW_SLICE_US) {
        if (crediting) {
            if (!hw_credit_poll()) {
                hw_job_end(HW_JOB_STATE_DONE, 0);
            }
        } else if (!advance()) {
            hw_safety_enter(HW_CAUSE_HARDWARE, HW_ERROR_CODE_CONVERTER, 0);
        }
    }
    return hw_job_running();
}
