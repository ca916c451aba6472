/* The relaxation in whole numbers, for processors without floating point:
 *
 *     z       Q11.20 in 32 bits        W, U, x   steps of 2^-12 in 16 bits       r(z)   steps of 2^-15 in 16 bits
 *     b, force, drive  Q11.20          eps       steps of 2^-15
 *
 * Products are summed in 64 bits and rounded down once. The state is held at +-2047. Values outside a format were
 * refused at boot (limits) or are held to it. */
#include <stddef.h>
#include <string.h>

#include "config.h"
#include "converters.h"
#include "limits.h"
#include "protocol.h"
#include "substrate.h"

#define ONE 1048576.0f /* 2^20 */
#define MOST (2047 * 1048576)

static int16_t w[HW_MAX_UNITS * HW_MAX_UNITS], u[HW_MAX_UNITS * HW_MAX_INPUTS];
static int32_t b[HW_MAX_UNITS], z[HW_MAX_UNITS], drive[HW_MAX_UNITS], force[HW_MAX_UNITS];
static int16_t rate[HW_MAX_UNITS], gain[HW_MAX_UNITS];
static float xi[HW_MAX_UNITS];
static hw_lane_t lane;

static int32_t held_to(float value, float scale, int32_t most)
{
    const float scaled = value * scale, top = (float)most;
    if (!(scaled > -top)) {
        return -most;
    }
    if (scaled >= top) {
        return most;
    }
    return (int32_t)(scaled >= 0.0f ? scaled + 0.5f : scaled - 0.5f);
}

static int32_t saturated(int64_t value)
{
    return value > MOST ? MOST : value < -(int64_t)MOST ? -MOST : (int32_t)value;
}

static int64_t down(int64_t value, uint32_t bits)
{
    return value >= 0 ? value >> bits : -((-value) >> bits); /* towards zero, on every compiler */
}

/* r(z), steps of 2^-15 */
static int16_t activation(int32_t state)
{
    return (int16_t)held_to(hw_tanh((float)state / ONE), 32767.0f, 32767);
}

static void boot(void)
{
    memset(z, 0, sizeof z);
    memset(w, 0, sizeof w);
    memset(u, 0, sizeof u);
    memset(b, 0, sizeof b);
}

static bool program(const float *wanted, float *held)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    for (uint32_t i = 0; i < n * n; i++) {
        w[i] = (int16_t)held_to(wanted[i], 4096.0f, 32767);
        held[i] = (float)w[i] / 4096.0f;
    }
    for (uint32_t i = 0; i < n * m; i++) {
        u[i] = (int16_t)held_to(wanted[n * n + i], 4096.0f, 32767);
        held[n * n + i] = (float)u[i] / 4096.0f;
    }
    for (uint32_t i = 0; i < n; i++) {
        b[i] = held_to(wanted[n * n + n * m + i], ONE, MOST);
        held[n * n + n * m + i] = (float)b[i] / ONE;
    }
    return true;
}

static bool begin(const hw_lane_t *told, const float *state)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    lane = *told;
    for (uint32_t i = 0; i < n; i++) {
        int64_t total = 0;
        for (uint32_t j = 0; j < m; j++) {
            total += (int64_t)u[i * m + j] * held_to(lane.x[j], 4096.0f, 32767); /* 2^-24 */
        }
        drive[i] = saturated(down(total, 4) + b[i]);
        z[i] = state == NULL ? 0 : held_to(state[i], ONE, MOST);
        force[i] = 0;
    }
    return true;
}

static bool displace(const float *by)
{
    for (uint32_t i = 0; i < hw_config.units; i++) {
        z[i] = saturated((int64_t)z[i] + held_to(by[i], ONE, MOST));
    }
    return true;
}

static bool advance(const hw_step_t *step)
{
    const uint32_t n = hw_config.units;
    const int32_t eps = held_to(hw_eps, 32768.0f, 1 << 20);
    if (step->fresh) {
        for (uint32_t i = 0; i < n; i++) {
            force[i] = step->force == NULL ? 0 : held_to(step->force[i], ONE, MOST);
            gain[i] = step->at == NULL ? (int16_t)0 : (int16_t)held_to(hw_tanh_slope(step->at[i]), 32767.0f, 32767);
        }
    }
    for (uint32_t j = 0; j < n; j++) {
        rate[j] = activation(z[j]);
    }
    int32_t change[HW_MAX_UNITS];
    for (uint32_t i = 0; i < n; i++) {
        int64_t total = 0;
        if (lane.backwards) {
            for (uint32_t j = 0; j < n; j++) {
                total += (int64_t)w[j * n + i] * z[j]; /* 2^-32 */
            }
            total = down(down(total, 12) * gain[i], 15);
        } else {
            for (uint32_t j = 0; j < n; j++) {
                total += (int64_t)w[i * n + j] * rate[j]; /* 2^-27 */
            }
            total = down(total, 7) + drive[i];
        }
        change[i] = saturated(down((total - z[i] + force[i]) * eps, 15));
    }
    for (uint32_t i = 0; i < n; i++) {
        z[i] = saturated((int64_t)z[i] + change[i]);
    }
    if (hw_config.noise > 0.0) {
        hw_address_t address = lane.thermal;
        address.word |= step->index << 16;
        hw_normals(xi, n, &address, step->time);
        for (uint32_t i = 0; i < n; i++) {
            z[i] = saturated((int64_t)z[i] + held_to((float)hw_config.noise * xi[i], ONE, MOST));
        }
    }
    return true;
}

static bool state(float *out)
{
    for (uint32_t i = 0; i < hw_config.units; i++) {
        out[i] = (float)z[i] / ONE;
    }
    return true;
}

static bool read(float *out, uint32_t time, uint32_t index, uint32_t *clipped)
{
    const uint32_t n = hw_config.units;
    const float noise = (float)hw_config.read_noise, limit = (float)hw_config.adc_limit;
    if (!(noise > 0.0f) && hw_config.adc_bits == 0u) {
        return state(out);
    }
    memset(out, 0, n * sizeof(float));
    for (uint32_t k = 0; k < lane.reads; k++) {
        memset(xi, 0, n * sizeof(float));
        if (noise > 0.0f) {
            hw_address_t address = lane.read;
            address.word |= index << 16;
            hw_normals(xi, n, &address, time * lane.reads + k);
        }
        for (uint32_t i = 0; i < n; i++) {
            bool over = false;
            out[i] += hw_rounded((float)z[i] / ONE + noise * xi[i], limit, hw_config.adc_bits, &over);
            *clipped += over ? 1u : 0u;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        out[i] /= (float)lane.reads;
    }
    return true;
}

static void rest(void)
{
    memset(drive, 0, sizeof drive);
    memset(force, 0, sizeof force);
}

static void safe(void)
{
    rest();
    memset(z, 0, sizeof z);
}

const hw_substrate_t hw_emulated_q15 = {
    .name = "emulated-q15",
    .capabilities = HW_BIT_LOAD_STATE | HW_BIT_DISPLACE | HW_BIT_RECORD | HW_BIT_WAVEFORM | HW_BIT_TRANSPOSE |
                    HW_BIT_PLAYBACK | HW_BIT_TWINS | HW_BIT_REPLAYABLE_NOISE | HW_BIT_CAPTURE_CREDIT |
                    HW_BIT_AVERAGE | HW_BIT_RANDOM_START | HW_BIT_CARRY,
    .boot = boot,
    .program = program,
    .begin = begin,
    .displace = displace,
    .step = advance,
    .state = state,
    .read = read,
    .rest = rest,
    .safe = safe,
};
