/* What a board is, told once at boot. */
#ifndef HWSIM_CONFIG_H
#define HWSIM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define HW_CONFIG_MAGIC 0x48574346u

enum { HW_BACKEND_F32 = 0, HW_BACKEND_Q15 = 1, HW_BACKEND_ANALOG = 2 };
enum { HW_RANGE_W, HW_RANGE_U, HW_RANGE_B, HW_RANGE_X, HW_RANGE_FORCE, HW_RANGE_DISPLACE, HW_RANGE_STATE, HW_RANGES };

typedef struct {
    uint32_t magic;
    uint32_t backend;
    uint32_t units, inputs, lanes, horizon;
    uint32_t weight_bits, dac_bits, adc_bits; /* 0: continuous (emulated boards alone) */
    uint32_t seed;                            /* of the board's own noise */
    double dt, time_constant;                 /* seconds */
    double noise, read_noise;                 /* state units; of an emulated board */
    double tolerance;
    double limits[HW_RANGES];                 /* every range is [-limit, limit], state or coupling units */
    double adc_limit;
} hw_config_t;

/* The defaults of a build with so many units and inputs. */
void hw_config_default(hw_config_t *config);

/* Whether this build can be such a board. */
bool hw_config_valid(const hw_config_t *config);

/* The one that this board booted with, and eps = dt / time_constant. */
extern hw_config_t hw_config;
extern float hw_eps;

#endif
