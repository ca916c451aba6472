/* Boot, the one loop, the clock, the configuration. */
#include "board.h"

#include <math.h>
#include <string.h>

#include "frame.h"
#include "hardware.h"

hw_config_t hw_config;
float hw_eps;
const hw_substrate_t *hw_substrate;

static uint64_t micros;
static uint32_t last;

uint64_t hw_now(void)
{
    const uint32_t reading = hw_micros();
    micros += (uint32_t)(reading - last); /* the loop comes here often enough for the wrap at 2^32 */
    last = reading;
    return micros;
}

uint32_t hw_crc32_long(const uint8_t *data, uint32_t count)
{
    uint32_t crc = 0;
    while (count > 0u) {
        const uint32_t part = count < 16384u ? count : 16384u;
        crc = hw_crc32(crc, data, part);
        data += part;
        count -= part;
        hw_feed_watchdog();
    }
    return crc;
}

void hw_config_default(hw_config_t *config)
{
    static const double limits[HW_RANGES] = {8.0, 8.0, 8.0, 8.0, 1024.0, 1024.0, 1024.0};
    memset(config, 0, sizeof *config);
    config->magic = HW_CONFIG_MAGIC;
    config->backend = HW_BACKEND_F32;
    config->units = HW_MAX_UNITS < 64u ? HW_MAX_UNITS : 64u;
    config->inputs = HW_MAX_INPUTS < 64u ? HW_MAX_INPUTS : 64u;
    config->lanes = HW_MAX_LANES;
    config->horizon = 150;
    config->seed = 1;
    config->dt = 1e-4;
    config->time_constant = 1e-3;
    config->tolerance = 1e-3;
    config->adc_limit = 8.0;
    memcpy(config->limits, limits, sizeof limits);
}

static bool positive(double value, double most)
{
    return value > 0.0 && value <= most; /* a NaN is neither */
}

bool hw_config_valid(const hw_config_t *config)
{
    bool valid = config->magic == HW_CONFIG_MAGIC && config->backend <= HW_BACKEND_ANALOG && config->units > 0u &&
                 config->units <= HW_MAX_UNITS && config->inputs > 0u && config->inputs <= HW_MAX_INPUTS &&
                 config->lanes > 0u && config->lanes <= HW_MAX_LANES && config->horizon > 0u &&
                 config->horizon <= HW_MAX_STEPS && config->weight_bits <= 16u && config->dac_bits <= 16u &&
                 config->adc_bits <= 16u && positive(config->dt, 3600.0) && positive(config->time_constant, 3600.0) &&
                 config->noise >= 0.0 && config->noise <= 1e6 && config->read_noise >= 0.0 &&
                 config->read_noise <= 1e6 && config->tolerance >= 0.0 && config->tolerance <= 1e6 &&
                 positive(config->adc_limit, 1e6);
    for (uint32_t i = 0; i < HW_RANGES; i++) {
        valid = valid && positive(config->limits[i], 1e6);
    }
    if (config->backend == HW_BACKEND_ANALOG) {
        valid = valid && config->weight_bits > 0u && config->dac_bits > 0u && config->adc_bits > 0u;
    }
    return valid;
}

void hw_board_boot(const hw_config_t *config)
{
    static const hw_substrate_t *const substrates[3] = {&hw_emulated_f32, &hw_emulated_q15, &hw_analog};
    hw_config = *config;
    if (!hw_config_valid(&hw_config)) {
        hw_config_default(&hw_config);
    }
    hw_eps = (float)(hw_config.dt / hw_config.time_constant);
    hw_substrate = substrates[hw_config.backend];
    micros = 0;
    last = hw_micros();
    hw_job_boot();
    hw_blobs_boot();
    hw_tapes_boot();
    hw_link_boot();
    hw_substrate->boot();
    hw_safety_boot(hw_reset_cause());
    hw_descriptor_boot();
    hw_link_hello();
}

bool hw_board_poll(void)
{
    hw_feed_watchdog();
    (void)hw_now();
    hw_safety_poll();
    const bool talking = hw_link_poll();
    return hw_job_poll() || talking;
}
