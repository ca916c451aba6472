#include "front_end.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "converters.h"
#include "hardware.h"

/* One Euler step per dt, in double precision, of what the converters hold:
 *     dz/dt = (-z + W tanh z + U x + b + force) / time_constant,   backwards  (-a + gain W^T a + force) / time_constant */
static double w[HW_MAX_UNITS * HW_MAX_UNITS], u[HW_MAX_UNITS * HW_MAX_INPUTS], b[HW_MAX_UNITS];
static double x[HW_MAX_INPUTS], force[HW_MAX_UNITS], kick[HW_MAX_UNITS], gain[HW_MAX_UNITS], z[HW_MAX_UNITS];
static uint32_t codes_x[HW_MAX_INPUTS], codes_force[HW_MAX_UNITS];
static uint8_t position;
static uint32_t writes_left = UINT32_MAX, drawn;

void front_boot(void)
{
    memset(w, 0, sizeof w);
    memset(u, 0, sizeof u);
    memset(b, 0, sizeof b);
    memset(x, 0, sizeof x);
    memset(force, 0, sizeof force);
    memset(kick, 0, sizeof kick);
    memset(z, 0, sizeof z);
    position = HW_SWITCH_OFF;
    writes_left = UINT32_MAX;
    drawn = 0;
}

static bool driven(const uint32_t *codes, uint32_t count, uint32_t bits)
{
    bool clipped = false;
    const uint32_t nothing = hw_code(0.0f, 1.0f, bits, &clipped);
    for (uint32_t i = 0; i < count; i++) {
        if (codes[i] != nothing) {
            return true;
        }
    }
    return false;
}

bool front_driven(void)
{
    return driven(codes_x, hw_config.inputs, hw_config.dac_bits) ||
           driven(codes_force, hw_config.units, hw_config.dac_bits);
}

uint8_t front_switch(void)
{
    return position;
}

void front_break_after(uint32_t writes)
{
    writes_left = writes;
}

/* What no state of the firmware may do: a code or an index that the part does not have. */
static void insist(bool holds)
{
    if (!holds) {
        abort();
    }
}

bool hw_dac(uint8_t bank, uint32_t index, uint32_t code)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    const uint32_t sizes[HW_BANKS] = {n * n, n * m, n, m, n, n, n};
    static const uint8_t ranges[HW_BANKS] = {HW_RANGE_W,     HW_RANGE_U,        HW_RANGE_B, HW_RANGE_X,
                                             HW_RANGE_FORCE, HW_RANGE_DISPLACE, 0};
    double *const places[HW_BANKS] = {w, u, b, x, force, kick, gain};
    insist(bank < HW_BANKS);
    const uint32_t bits = bank <= HW_BANK_B ? hw_config.weight_bits : hw_config.dac_bits;
    insist(index < sizes[bank] && code < 1u << bits);
    if (writes_left == 0u) {
        return false;
    }
    writes_left -= writes_left == UINT32_MAX ? 0u : 1u;
    const float limit = bank == HW_BANK_GAIN ? 1.0f : (float)hw_config.limits[ranges[bank]];
    double value = (double)hw_value(code, limit, bits);
    bool clipped = false;
    if (code == hw_code(0.0f, limit, bits, &clipped)) {
        value = 0.0; /* the converter is trimmed so that this code is nothing */
    }
    places[bank][index] = bank == HW_BANK_GAIN ? ((double)hw_value(code, 1.0f, bits) + 1.0) / 2.0 : value;
    if (bank == HW_BANK_X) {
        codes_x[index] = code;
    } else if (bank == HW_BANK_FORCE) {
        codes_force[index] = code;
    } else if (bank == HW_BANK_KICK && index + 1u == n) {
        for (uint32_t i = 0; i < n; i++) {
            z[i] += kick[i];
        }
    }
    return true;
}

bool hw_adc(uint32_t unit, uint32_t *code)
{
    insist(unit < hw_config.units);
    bool clipped = false;
    double value = z[unit];
    if (hw_config.read_noise > 0.0) {
        float deviates[1];
        const hw_address_t address = {.seed = hw_config.seed, .step = 1, .sample = unit, .word = 0, .coarse = 1};
        hw_normals(deviates, 1, &address, drawn++);
        value += hw_config.read_noise * (double)deviates[0];
    }
    *code = hw_code((float)value, (float)hw_config.adc_limit, hw_config.adc_bits, &clipped);
    return true;
}

static void settle(void)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    const double eps = hw_config.dt / hw_config.time_constant;
    static double rate[HW_MAX_UNITS], change[HW_MAX_UNITS];
    const bool backwards = position == HW_SWITCH_BACKWARDS;
    for (uint32_t i = 0; i < n; i++) {
        rate[i] = tanh(z[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        double total = 0.0;
        for (uint32_t j = 0; j < n; j++) {
            total += backwards ? gain[i] * w[j * n + i] * z[j] : w[i * n + j] * rate[j];
        }
        for (uint32_t j = 0; !backwards && j < m; j++) {
            total += u[i * m + j] * x[j];
        }
        change[i] = total + force[i] - z[i] + (backwards ? 0.0 : b[i]);
    }
    static float xi[HW_MAX_UNITS];
    if (hw_config.noise > 0.0) {
        const hw_address_t address = {.seed = hw_config.seed, .step = 0, .sample = 0, .word = 0, .coarse = 1};
        hw_normals(xi, n, &address, drawn++);
    }
    for (uint32_t i = 0; i < n; i++) {
        z[i] += eps * change[i] + hw_config.noise * (double)xi[i];
    }
}

bool hw_switch(uint8_t to, uint32_t micros)
{
    insist(to <= HW_SWITCH_BACKWARDS);
    position = to;
    if (to == HW_SWITCH_RESET || to == HW_SWITCH_OFF) {
        memset(z, 0, sizeof z);
        return true;
    }
    const double steps = (double)micros * 1e-6 / hw_config.dt;
    for (uint32_t k = 0; k < (uint32_t)(steps + 0.5); k++) {
        settle();
    }
    return true;
}
