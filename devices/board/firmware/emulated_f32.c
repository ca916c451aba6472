/* The relaxation itself, in float32, in a stated order of operations:
 *
 *     z <- z + eps (-z + W tanh z + U x + b + force) + noise xi
 *
 * so that every machine, and the Numba kernel that is its twin, comes to the same bits. */
#include <stddef.h>
#include <string.h>

#include "config.h"
#include "converters.h"
#include "limits.h"
#include "protocol.h"
#include "substrate.h"

static float held[HW_MAX_NETWORK_WORDS];
static float z[HW_MAX_UNITS], rate[HW_MAX_UNITS], drive[HW_MAX_UNITS], gain[HW_MAX_UNITS], xi[HW_MAX_UNITS];
static float sum[HW_MAX_UNITS], back[HW_MAX_UNITS], moved[HW_MAX_UNITS];
static hw_lane_t lane;

static void boot(void)
{
    memset(held, 0, sizeof held);
    memset(z, 0, sizeof z);
    memset(drive, 0, sizeof drive);
}

static bool program(const float *wanted, float *really)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    const uint32_t ends[3] = {n * n, n * n + n * m, n * n + n * m + n};
    uint32_t i = 0;
    for (uint32_t part = 0; part < 3u; part++) {
        const float limit = (float)hw_config.limits[HW_RANGE_W + part];
        bool clipped = false;
        for (; i < ends[part]; i++) {
            held[i] = hw_rounded(wanted[i], limit, hw_config.weight_bits, &clipped);
        }
    }
    memcpy(really, held, ends[2] * sizeof(float));
    return true;
}

/* out_i = sum_j W_ij v_j, j upwards */
static void forwards(const float *v, float *out)
{
    const uint32_t n = hw_config.units;
    for (uint32_t i = 0; i < n; i++) {
        const float *row = held + i * n;
        float total = 0.0f;
        for (uint32_t j = 0; j < n; j++) {
            total += row[j] * v[j];
        }
        out[i] = total;
    }
}

/* out_i = sum_j W_ji v_j, j upwards */
static void backwards(const float *v, float *out)
{
    const uint32_t n = hw_config.units;
    memset(out, 0, n * sizeof(float));
    for (uint32_t j = 0; j < n; j++) {
        const float *row = held + j * n, factor = v[j];
        for (uint32_t i = 0; i < n; i++) {
            out[i] += row[i] * factor;
        }
    }
}

static bool begin(const hw_lane_t *told, const float *state)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    const float *u = held + n * n, *b = u + n * m;
    lane = *told;
    float x[HW_MAX_INPUTS];
    bool clipped = false;
    for (uint32_t j = 0; j < m; j++) {
        x[j] = hw_rounded(lane.x[j], (float)hw_config.limits[HW_RANGE_X], hw_config.dac_bits, &clipped);
    }
    for (uint32_t i = 0; i < n; i++) {
        float total = 0.0f;
        for (uint32_t j = 0; j < m; j++) {
            total += u[i * m + j] * x[j];
        }
        drive[i] = total + b[i];
        z[i] = state == NULL ? 0.0f : state[i];
    }
    return true;
}

static bool displace(const float *by)
{
    for (uint32_t i = 0; i < hw_config.units; i++) {
        z[i] += by[i];
    }
    return true;
}

static void field(const hw_step_t *step)
{
    const uint32_t n = hw_config.units;
    for (uint32_t i = 0; i < n; i++) {
        rate[i] = hw_tanh(z[i]);
    }
    forwards(rate, sum);
    for (uint32_t i = 0; i < n; i++) {
        sum[i] = sum[i] - z[i] + drive[i];
    }
    if (step->correct == NULL) {
        return;
    }
    /* F - J v + J^T v with v = z - at: the leaks cancel */
    for (uint32_t i = 0; i < n; i++) {
        if (step->fresh) {
            gain[i] = hw_tanh_slope(step->correct[i]);
        }
        moved[i] = z[i] - step->correct[i];
        rate[i] = gain[i] * moved[i];
    }
    forwards(rate, back);
    for (uint32_t i = 0; i < n; i++) {
        sum[i] -= back[i];
    }
    backwards(moved, back);
    for (uint32_t i = 0; i < n; i++) {
        sum[i] += gain[i] * back[i];
    }
}

static void response(const hw_step_t *step)
{
    const uint32_t n = hw_config.units;
    backwards(z, back);
    for (uint32_t i = 0; i < n; i++) {
        if (step->fresh) {
            gain[i] = hw_tanh_slope(step->at[i]);
        }
        sum[i] = gain[i] * back[i] - z[i];
    }
}

static bool advance(const hw_step_t *step)
{
    const uint32_t n = hw_config.units;
    const float eps = hw_eps, noise = (float)hw_config.noise;
    if (lane.backwards) {
        response(step);
    } else {
        field(step);
    }
    if (step->force != NULL) {
        for (uint32_t i = 0; i < n; i++) {
            sum[i] += step->force[i];
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        z[i] += eps * sum[i];
    }
    if (noise > 0.0f) {
        hw_address_t address = lane.thermal;
        address.word |= step->index << 16;
        hw_normals(xi, n, &address, step->time);
        for (uint32_t i = 0; i < n; i++) {
            z[i] += noise * xi[i];
        }
    }
    return true;
}

static bool state(float *out)
{
    memcpy(out, z, hw_config.units * sizeof(float));
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
        if (noise > 0.0f) {
            hw_address_t address = lane.read;
            address.word |= index << 16;
            hw_normals(xi, n, &address, time * lane.reads + k);
        } else {
            memset(xi, 0, n * sizeof(float));
        }
        for (uint32_t i = 0; i < n; i++) {
            bool over = false;
            out[i] += hw_rounded(z[i] + noise * xi[i], limit, hw_config.adc_bits, &over);
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
}

static void safe(void)
{
    rest();
    memset(z, 0, sizeof z);
}

const hw_substrate_t hw_emulated_f32 = {
    .name = "emulated-f32",
    .capabilities = HW_BIT_LOAD_STATE | HW_BIT_DISPLACE | HW_BIT_RECORD | HW_BIT_WAVEFORM | HW_BIT_TRANSPOSE |
                    HW_BIT_CORRECT | HW_BIT_PLAYBACK | HW_BIT_TWINS | HW_BIT_REPLAYABLE_NOISE |
                    HW_BIT_CAPTURE_CREDIT | HW_BIT_AVERAGE | HW_BIT_RANDOM_START | HW_BIT_CARRY,
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
