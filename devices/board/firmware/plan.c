/* A RUN, checked: all that it could do wrong is found here, before the first step. */
#include <string.h>

#include "board.h"
#include "frame.h"

typedef struct {
    const float *words; /* DATA */
    uint64_t count;     /* words that the host says it filled */
    uint32_t *arg;
} data_t;

/* Whether `count` words at `offset` lie in DATA. */
static bool lies(const data_t *data, uint32_t offset, uint64_t count)
{
    *data->arg = offset;
    return offset <= data->count && count <= data->count - offset;
}

/* Whether they do, and are values of a range. */
static uint16_t values(const data_t *data, uint32_t offset, uint64_t count, uint32_t range)
{
    if (!lies(data, offset, count)) {
        return HW_ERROR_CODE_OFFSET;
    }
    const float limit = (float)hw_config.limits[range];
    for (uint64_t i = 0; i < count; i++) {
        const float value = data->words[offset + i];
        if (!hw_within(value, -limit, limit)) {
            *data->arg = offset + (uint32_t)i;
            hw_output_refused();
            return hw_finite(value) ? HW_ERROR_CODE_OUT_OF_RANGE : HW_ERROR_CODE_NOT_FINITE;
        }
    }
    return 0;
}

static bool offered(uint32_t bit)
{
    return (hw_substrate->capabilities & bit) == bit;
}

uint32_t hw_plan_kept(const hw_run_phase_t *phase)
{
    return phase->record == 0u ? 0u : 1u + phase->steps / phase->record;
}

static uint16_t check_head(const hw_run_t *run, uint32_t count, uint32_t *arg)
{
    *arg = 0;
    if (run->lanes == 0u || run->lanes > hw_config.lanes || run->phases == 0u || run->phases > HW_MAX_PHASES ||
        run->reads == 0u || run->reads > HW_MAX_READS || run->coarse == 0u || run->kind > HW_JOB_KIND_TRANSPOSE ||
        run->start > HW_START_KIND_STATE || run->noise > HW_NOISE_KIND_PHYSICAL || run->at_kind > HW_AT_KIND_TAPE ||
        run->capture > HW_CAPTURE_POST || run->capture_phase >= run->phases || run->data_length > HW_DATA_BYTES ||
        run->data_length % 4u != 0u) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    if (count != sizeof *run + run->phases * sizeof(hw_run_phase_t)) {
        *arg = (uint32_t)(sizeof *run + run->phases * sizeof(hw_run_phase_t));
        return HW_ERROR_CODE_LENGTH;
    }
    const bool backwards = run->kind == HW_JOB_KIND_TRANSPOSE;
    uint32_t needed = 0;
    needed |= backwards ? HW_BIT_TRANSPOSE : 0u;
    needed |= backwards && run->at_kind != HW_AT_KIND_VECTOR ? HW_BIT_PLAYBACK : 0u;
    needed |= run->start == HW_START_KIND_STATE ? HW_BIT_LOAD_STATE : 0u;
    needed |= run->start == HW_START_KIND_RANDOM ? HW_BIT_RANDOM_START : 0u;
    needed |= run->start == HW_START_KIND_CARRY ? HW_BIT_CARRY : 0u;
    needed |= run->capture != HW_CAPTURE_NONE ? HW_BIT_CAPTURE_CREDIT : 0u;
    needed |= run->reads > 1u ? HW_BIT_AVERAGE : 0u;
    if (!offered(needed)) {
        *arg = needed & ~hw_substrate->capabilities;
        return HW_ERROR_CODE_NOT_OFFERED;
    }
    if (backwards && (run->start == HW_START_KIND_RANDOM || run->start == HW_START_KIND_CARRY)) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    if (backwards && run->at_kind == HW_AT_KIND_TAPE && run->capture == HW_CAPTURE_PRE) {
        return HW_ERROR_CODE_TAPES; /* a tape is played or recorded */
    }
    if (run->start == HW_START_KIND_RANDOM &&
        !(run->sigma > 0.0f && hw_within(8.0f * run->sigma, 0.0f, (float)hw_config.limits[HW_RANGE_STATE]))) {
        return HW_ERROR_CODE_OUT_OF_RANGE; /* deviates reach 6.8 */
    }
    return 0;
}

static uint16_t check_phase(const data_t *data, const hw_run_t *run, const hw_run_phase_t *phase)
{
    const uint64_t states = (uint64_t)run->lanes * hw_config.units;
    const bool backwards = run->kind == HW_JOB_KIND_TRANSPOSE, correct = (phase->flags & HW_PHASE_FLAG_CORRECT) != 0u;
    uint16_t code = 0;
    *data->arg = 0;
    if (phase->steps > HW_MAX_STEPS || phase->force_kind > HW_FORCE_KIND_WAVEFORM || (correct && backwards)) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    uint32_t needed = 0;
    needed |= correct ? HW_BIT_CORRECT : 0u;
    needed |= phase->record != 0u ? HW_BIT_RECORD : 0u;
    needed |= (phase->flags & HW_PHASE_FLAG_DISPLACE) != 0u ? HW_BIT_DISPLACE : 0u;
    needed |= phase->force_kind == HW_FORCE_KIND_WAVEFORM ? HW_BIT_WAVEFORM : 0u;
    if (!offered(needed)) {
        *data->arg = needed & ~hw_substrate->capabilities;
        return HW_ERROR_CODE_NOT_OFFERED;
    }
    if (phase->force_kind != HW_FORCE_KIND_NONE) {
        const uint64_t rows = phase->force_kind == HW_FORCE_KIND_WAVEFORM ? phase->steps : 1u;
        code = values(data, phase->force, rows * states, HW_RANGE_FORCE);
    }
    if (code == 0u && (phase->flags & HW_PHASE_FLAG_DISPLACE) != 0u) {
        code = values(data, phase->displace, states, HW_RANGE_DISPLACE);
    }
    if (code == 0u && correct) {
        code = values(data, phase->correct, states, HW_RANGE_STATE);
    }
    if (code == 0u && backwards && run->at_kind == HW_AT_KIND_RECORDING) {
        code = values(data, run->at, (phase->steps + 1u) * states, HW_RANGE_STATE);
    }
    if (code == 0u && backwards && run->at_kind == HW_AT_KIND_TAPE &&
        (hw_pre.count != phase->steps + 1u || hw_pre.lanes != run->lanes)) {
        return HW_ERROR_CODE_TAPES;
    }
    return code;
}

/* Where everything goes in the result. */
static uint64_t lay_out(hw_plan_t *plan)
{
    const uint64_t lanes = plan->run.lanes, states = lanes * hw_config.units;
    uint64_t at = 0;
    for (uint32_t p = 0; p < plan->run.phases; p++) {
        const bool taped = plan->run.capture != HW_CAPTURE_NONE && plan->run.capture_phase == p &&
                           (plan->run.flags & HW_RUN_FLAG_TAPE_ONLY) != 0u;
        plan->residual[p] = (uint32_t)at;
        plan->outcome[p] = (uint32_t)(at + lanes);
        plan->final[p] = (uint32_t)(at + 2u * lanes);
        plan->states[p] = (uint32_t)(at + 2u * lanes + states);
        at += 2u * lanes + states + (taped ? 0u : hw_plan_kept(&plan->phases[p]) * states);
    }
    return at * 4u;
}

uint16_t hw_plan_read(hw_plan_t *plan, const uint8_t *in, uint32_t count, uint32_t *arg)
{
    memcpy(&plan->run, in, sizeof plan->run);
    const hw_run_t *run = &plan->run;
    uint16_t code = check_head(run, count, arg);
    if (code != 0u) {
        return code;
    }
    memcpy(plan->phases, in + sizeof *run, run->phases * sizeof plan->phases[0]);
    if (hw_crc32_long(hw_data(), run->data_length) != run->data_crc) {
        return HW_ERROR_CODE_DATA_CRC;
    }
    const data_t data = {.words = (const float *)(const void *)hw_data(), .count = run->data_length / 4u, .arg = arg};
    const uint64_t states = (uint64_t)run->lanes * hw_config.units;
    code = values(&data, run->inputs, (uint64_t)run->lanes * hw_config.inputs, HW_RANGE_X);
    if (code == 0u && !lies(&data, run->addresses, 2u * (uint64_t)run->lanes)) {
        code = HW_ERROR_CODE_OFFSET;
    }
    if (code == 0u && run->start == HW_START_KIND_STATE) {
        code = values(&data, run->state, states, HW_RANGE_STATE);
    }
    if (code == 0u && run->kind == HW_JOB_KIND_TRANSPOSE && run->at_kind == HW_AT_KIND_VECTOR) {
        code = values(&data, run->at, states, HW_RANGE_STATE);
    }
    if (code == 0u && run->capture == HW_CAPTURE_POST && !lies(&data, run->weights, states)) {
        code = HW_ERROR_CODE_OFFSET;
    }
    for (uint32_t p = 0; code == 0u && p < run->phases; p++) {
        code = check_phase(&data, run, &plan->phases[p]);
    }
    if (code != 0u) {
        return code;
    }
    /* at most 8 phases of a million states of 64 x 128 words: far below 2^64 */
    const uint64_t length = lay_out(plan);
    if (length > HW_RESULT_BYTES) {
        *arg = HW_RESULT_BYTES;
        return HW_ERROR_CODE_TOO_LARGE;
    }
    plan->length = (uint32_t)length;
    return 0;
}
