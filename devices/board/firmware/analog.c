/* The analog back end: the substrate relaxes by itself; this file writes and reads converters.
 *
 * Every value is turned into a code within its converter's range; what lies outside was refused before (plan.c,
 * blobs.c), and is refused here again. */
#include <string.h>

#include "board.h"
#include "converters.h"
#include "hardware.h"

static hw_lane_t lane;
static bool forced;

static bool output(uint8_t bank, uint32_t index, float value, uint32_t range, uint32_t bits)
{
    const float limit = (float)hw_config.limits[range];
    bool clipped = false;
    const uint32_t code = hw_code(value, limit, bits, &clipped);
    if (clipped || !hw_within(value, -limit, limit)) {
        hw_output_refused();
        hw_safety_enter(HW_CAUSE_RANGE, HW_ERROR_CODE_OUT_OF_RANGE, ((uint32_t)bank << 24) | index);
        return false;
    }
    return hw_dac(bank, index, code);
}

static bool fill(uint8_t bank, const float *values, uint32_t count, uint32_t range)
{
    bool good = true;
    for (uint32_t i = 0; good && i < count; i++) {
        good = output(bank, i, values == NULL ? 0.0f : values[i], range, hw_config.dac_bits);
    }
    return good;
}

static void rest(void)
{
    (void)(fill(HW_BANK_X, NULL, hw_config.inputs, HW_RANGE_X) &&
           fill(HW_BANK_FORCE, NULL, hw_config.units, HW_RANGE_FORCE));
    forced = false;
}

static void safe(void)
{
    (void)hw_switch(HW_SWITCH_OFF, 0);
    rest();
}

static void boot(void)
{
    safe();
}

static bool program(const float *wanted, float *held)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    const uint32_t sizes[3] = {n * n, n * m, n};
    uint32_t at = 0;
    for (uint8_t part = 0; part < 3u; part++) {
        const float limit = (float)hw_config.limits[HW_RANGE_W + part];
        for (uint32_t i = 0; i < sizes[part]; i++, at++) {
            if (!output((uint8_t)(HW_BANK_W + part), i, wanted[at], HW_RANGE_W + part, hw_config.weight_bits)) {
                return false;
            }
            bool clipped = false;
            held[at] = hw_rounded(wanted[at], limit, hw_config.weight_bits, &clipped);
            hw_feed_watchdog(); /* cells are slow to write */
        }
    }
    return true;
}

static bool begin(const hw_lane_t *told, const float *state)
{
    (void)state; /* load_state is not offered */
    lane = *told;
    forced = true; /* what the last lane left must go */
    return hw_switch(HW_SWITCH_RESET, (uint32_t)(5e6 * hw_config.time_constant)) &&
           fill(HW_BANK_X, lane.backwards ? NULL : lane.x, hw_config.inputs, HW_RANGE_X);
}

static bool displace(const float *by)
{
    return fill(HW_BANK_KICK, by, hw_config.units, HW_RANGE_DISPLACE);
}

static bool step(const hw_step_t *asked)
{
    bool good = true;
    if (asked->fresh && (asked->force != NULL || forced)) {
        good = fill(HW_BANK_FORCE, asked->force, hw_config.units, HW_RANGE_FORCE);
        forced = asked->force != NULL;
    }
    if (asked->fresh && asked->at != NULL) {
        for (uint32_t i = 0; good && i < hw_config.units; i++) {
            bool clipped = false;
            /* a gain of 0 .. 1 over the whole converter */
            const float slope = hw_tanh_slope(asked->at[i]);
            good = hw_dac(HW_BANK_GAIN, i, hw_code(2.0f * slope - 1.0f, 1.0f, hw_config.dac_bits, &clipped));
        }
    }
    const double micros = 1e6 * hw_config.dt;
    return good && hw_switch(lane.backwards ? HW_SWITCH_BACKWARDS : HW_SWITCH_SETTLE, (uint32_t)(micros + 0.5));
}

static bool sample(float *z, uint32_t reads, uint32_t *clipped)
{
    const uint32_t n = hw_config.units, top = (1u << hw_config.adc_bits) - 1u;
    for (uint32_t i = 0; i < n; i++) {
        z[i] = 0.0f;
        for (uint32_t k = 0; k < reads; k++) {
            uint32_t code = 0;
            if (!hw_adc(i, &code)) {
                return false;
            }
            *clipped += code == 0u || code >= top ? 1u : 0u;
            z[i] += hw_value(code > top ? top : code, (float)hw_config.adc_limit, hw_config.adc_bits);
        }
        z[i] /= (float)reads;
    }
    return true;
}

static bool state(float *z)
{
    uint32_t clipped = 0;
    return sample(z, 1, &clipped);
}

static bool read(float *z, uint32_t time, uint32_t index, uint32_t *clipped)
{
    (void)time, (void)index; /* the noise is the hardware's own */
    return sample(z, lane.reads, clipped);
}

const hw_substrate_t hw_analog = {
    .name = "analog",
    .capabilities = HW_BIT_DISPLACE | HW_BIT_RECORD | HW_BIT_WAVEFORM | HW_BIT_TRANSPOSE | HW_BIT_CAPTURE_CREDIT |
                    HW_BIT_AVERAGE,
    .boot = boot,
    .program = program,
    .begin = begin,
    .displace = displace,
    .step = step,
    .state = state,
    .read = read,
    .rest = rest,
    .safe = safe,
};
