/* The descriptor: CBOR (RFC 8949), made once at boot. */
#include <string.h>

#include "board.h"
#include "sha256.h"

#define MOST 1536u
#ifndef HW_VERSION
#define HW_VERSION "hwsim-board 1.0"
#endif
#ifndef HW_UID
#define HW_UID "emulated"
#endif
#ifndef HW_POWER_WATT
#define HW_POWER_WATT (-1.0)
#endif
#ifndef HW_WRITE_US
#define HW_WRITE_US 0.0
#endif
#ifndef HW_SKEW_US
#define HW_SKEW_US 0.0
#endif

uint8_t hw_descriptor[MOST];
uint32_t hw_descriptor_length;
uint8_t hw_descriptor_sha[32];

enum { UNSIGNED = 0, TEXT = 3, ARRAY = 4, MAP = 5 };

static void byte(uint32_t value)
{
    if (hw_descriptor_length < MOST) {
        hw_descriptor[hw_descriptor_length++] = (uint8_t)value;
    }
}

static void head(uint32_t major, uint32_t value)
{
    uint32_t bytes = value < 24u ? 0u : value < 0x100u ? 1u : value < 0x10000u ? 2u : 4u;
    byte(major << 5 | (bytes == 0u ? value : bytes == 1u ? 24u : bytes == 2u ? 25u : 26u));
    while (bytes > 0u) {
        byte(value >> (8u * --bytes));
    }
}

static void text(const char *value)
{
    head(TEXT, (uint32_t)strlen(value));
    while (*value != '\0') {
        byte((uint8_t)*value++);
    }
}

static void real(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, 8);
    byte(0xFBu);
    for (uint32_t i = 8; i > 0u; i--) {
        byte((uint32_t)(bits >> (8u * (i - 1u))) & 0xFFu);
    }
}

static void null(void)
{
    byte(0xF6u);
}

static void key_text(const char *key, const char *value)
{
    text(key);
    text(value);
}

static void key_number(const char *key, uint32_t value)
{
    text(key);
    head(UNSIGNED, value);
}

static void key_real(const char *key, double value)
{
    text(key);
    real(value);
}

static void key_pair(const char *key, double low, double high)
{
    text(key);
    head(ARRAY, 2);
    real(low);
    real(high);
}

static void key_map(const char *key, uint32_t entries)
{
    text(key);
    head(MAP, entries);
}

static void key_known(const char *key, bool known, double value)
{
    text(key);
    if (known) {
        real(value);
    } else {
        null();
    }
}

void hw_descriptor_boot(void)
{
    static const char *const names[HW_RANGES] = {"W", "U", "b", "x", "force", "displace", "state"};
    const hw_config_t *c = &hw_config;
    const bool analog = c->backend == HW_BACKEND_ANALOG;
    const uint32_t network = HW_NETWORK_WORDS(c->units, c->inputs) * 4u;
    hw_descriptor_length = 0;
    head(MAP, 26);
    key_text("firmware", HW_VERSION);
    key_text("uid", HW_UID);
    key_text("backend", hw_substrate->name);
    key_number("units", c->units);
    key_number("inputs", c->inputs);
    key_text("topology", "dense");
    key_text("nonlinearity", analog ? "tanh" : "rational-tanh");
    key_real("dt", c->dt);
    key_real("time_constant", c->time_constant);
    key_number("horizon", c->horizon);
    key_real("tolerance", c->tolerance);
    key_known("noise", !analog, c->noise);
    key_known("read_noise", !analog, c->read_noise);
    key_map("ranges", HW_RANGES);
    for (uint32_t i = 0; i < HW_RANGES; i++) {
        key_pair(names[i], -c->limits[i], c->limits[i]);
    }
    key_map("weights", 2);
    key_number("levels", c->weight_bits == 0u ? 0u : 1u << c->weight_bits);
    key_real("write_us", HW_WRITE_US);
    key_map("dac", 3);
    key_number("bits", c->dac_bits);
    key_real("lo", -c->limits[HW_RANGE_X]);
    key_real("hi", c->limits[HW_RANGE_X]);
    key_map("adc", 4);
    key_number("bits", c->adc_bits);
    key_real("lo", -c->adc_limit);
    key_real("hi", c->adc_limit);
    key_real("skew_us", HW_SKEW_US);
    key_number("capabilities", hw_substrate->capabilities);
    key_map("lanes", 2);
    key_number("most", c->lanes);
    key_number("parallel", 1);
    key_map("memory", 4);
    key_number("network", network);
    key_number("data", HW_DATA_BYTES);
    key_number("result", HW_RESULT_BYTES);
    key_number("tape", HW_TAPE_BYTES);
    key_map("limits", 3);
    key_number("phases", HW_MAX_PHASES);
    key_number("steps", HW_MAX_STEPS);
    key_number("reads", HW_MAX_READS);
    key_map("timing", 3);
    text("lease_ms");
    head(ARRAY, 2);
    head(UNSIGNED, HW_LEASE_MS_MIN);
    head(UNSIGNED, HW_LEASE_MS_MAX);
    key_number("safe_ms", HW_SAFE_MS);
    key_number("watchdog_ms", HW_WATCHDOG_MS);
    key_text("safe_state", "inputs, forces and kicks 0; drivers high-Z");
    key_text("calibration", "");
    key_known("power", HW_POWER_WATT >= 0.0, HW_POWER_WATT);
    key_number("seed", c->seed);
    hw_sha256(hw_descriptor, hw_descriptor_length, hw_descriptor_sha);
}
