/* Two tapes of states, and the sums over their outer products. */
#include <string.h>

#include "board.h"

#define WORDS (HW_TAPE_BYTES / 4u)

hw_tape_t hw_pre, hw_post;
static float pre[WORDS], post[WORDS], inputs[HW_MAX_LANES * HW_MAX_INPUTS];
static float rate[HW_MAX_UNITS];
static hw_credit_t credit;
static uint32_t pair, pairs, lane, row;

void hw_tapes_boot(void)
{
    memset(&hw_pre, 0, sizeof hw_pre);
    memset(&hw_post, 0, sizeof hw_post);
    memset(pre, 0, sizeof pre);
    memset(post, 0, sizeof post);
}

uint16_t hw_tape_prepare(const hw_plan_t *plan)
{
    const hw_run_t *run = &plan->run;
    if (run->capture == HW_CAPTURE_NONE) {
        return 0;
    }
    const uint32_t kept = hw_plan_kept(&plan->phases[run->capture_phase]), count = kept == 0u ? 1u : kept;
    const uint64_t words = (uint64_t)count * run->lanes * hw_config.units;
    if (words > WORDS) {
        return HW_ERROR_CODE_TOO_LARGE;
    }
    hw_tape_t *tape = run->capture == HW_CAPTURE_PRE ? &hw_pre : &hw_post;
    if (run->capture == HW_CAPTURE_POST) {
        if ((run->flags & HW_RUN_FLAG_CLEAR_POST) != 0u) {
            memset(post, 0, (size_t)words * sizeof(float));
        } else if (tape->count != count || tape->lanes != run->lanes) {
            return HW_ERROR_CODE_TAPES;
        }
    }
    tape->count = count;
    tape->lanes = run->lanes;
    return 0;
}

static uint32_t place(const hw_tape_t *tape, uint32_t k, uint32_t of)
{
    return (k * tape->lanes + of) * hw_config.units;
}

void hw_tape_keep(const hw_plan_t *plan, uint32_t of, uint32_t k, const float *state)
{
    const uint32_t n = hw_config.units;
    if (plan->run.capture == HW_CAPTURE_PRE) {
        memcpy(pre + place(&hw_pre, k, of), state, n * sizeof(float));
        return;
    }
    float weights[HW_MAX_UNITS];
    memcpy(weights, hw_data() + 4u * (plan->run.weights + of * n), n * sizeof(float));
    float *sum = post + place(&hw_post, k, of);
    for (uint32_t i = 0; i < n; i++) {
        sum[i] += weights[i] * state[i];
    }
}

void hw_tape_inputs(uint32_t of, const float *x)
{
    memcpy(inputs + of * hw_config.inputs, x, hw_config.inputs * sizeof(float));
}

const float *hw_tape_pre(uint32_t k, uint32_t of)
{
    return pre + place(&hw_pre, k, of);
}

uint16_t hw_credit_begin(const hw_credit_t *asked)
{
    credit = *asked;
    if (credit.mode > HW_CREDIT_MODE_ALIGNED) {
        return HW_ERROR_CODE_ARGUMENT;
    }
    if (!hw_finite(credit.scale)) {
        return HW_ERROR_CODE_NOT_FINITE;
    }
    if (hw_post.count == 0u || hw_pre.count == 0u || hw_post.lanes != hw_pre.lanes ||
        (credit.mode != HW_CREDIT_MODE_FINAL && hw_post.count > hw_pre.count)) {
        return HW_ERROR_CODE_TAPES;
    }
    pairs = credit.mode == HW_CREDIT_MODE_FINAL ? 1u : hw_post.count;
    pair = lane = row = 0;
    if ((credit.flags & HW_CREDIT_FLAG_CLEAR) != 0u) {
        memset(hw_sums(), 0, HW_NETWORK_WORDS(hw_config.units, hw_config.inputs) * sizeof(float));
    }
    return 0;
}

bool hw_credit_poll(void)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    const bool last = credit.mode == HW_CREDIT_MODE_FINAL;
    const uint32_t before = last ? hw_pre.count - 1u : pair;
    const uint32_t after = last || credit.mode == HW_CREDIT_MODE_REVERSED ? hw_post.count - 1u - pair : pair;
    if (row == 0u) {
        const float *state = pre + place(&hw_pre, before, lane);
        for (uint32_t j = 0; j < n; j++) {
            rate[j] = hw_tanh(state[j]);
        }
    }
    const float *x = inputs + lane * m;
    const float signal = credit.scale * post[place(&hw_post, after, lane) + row];
    float *w = hw_sums() + row * n, *u = hw_sums() + n * n + row * m, *b = hw_sums() + n * n + n * m + row;
    for (uint32_t j = 0; j < n; j++) {
        w[j] += signal * rate[j];
    }
    for (uint32_t j = 0; j < m; j++) {
        u[j] += signal * x[j];
    }
    *b += signal;
    if (++row < n) {
        return true;
    }
    row = 0;
    if (++lane < hw_pre.lanes) {
        return true;
    }
    lane = 0;
    return ++pair < pairs;
}
