/* What the job engine asks of whatever relaxes: one lane at a time. */
#ifndef HWSIM_SUBSTRATE_H
#define HWSIM_SUBSTRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "maths.h"

/* One lane of a RUN. */
typedef struct {
    const float *x;        /* [M] */
    bool backwards;        /* TRANSPOSE */
    uint32_t reads;        /* averaged for each state that is read */
    hw_address_t thermal;  /* phase 0; the phase's index is put in */
    hw_address_t read;
} hw_lane_t;

/* What holds during one step. All point to [N] or are NULL. */
typedef struct {
    const float *force;
    const float *correct;  /* point of the asymmetric-EP dynamics */
    const float *at;       /* where the gains are taken, backwards */
    uint32_t time;         /* of the noise address */
    uint32_t index;        /* phase of the noise address */
    bool fresh;            /* force, correct and at are not those of the step before */
} hw_step_t;

typedef struct {
    const char *name;
    uint32_t capabilities;

    void (*boot)(void);

    /* Take a network up (checked: finite and in range) and tell what is really held, both [W | U | b]. False: hardware
     * does not answer. */
    bool (*program)(const float *wanted, float *held);

    /* A lane begins at `state` ([N]; NULL: at rest). */
    bool (*begin)(const hw_lane_t *lane, const float *state);
    bool (*displace)(const float *by);
    bool (*step)(const hw_step_t *step);

    /* The state: as it is (emulated: exact; analog: one read), and as it is read, reads averaged. `clipped` is added to
     * by reads that met the end of the converter. */
    bool (*state)(float *z);
    bool (*read)(float *z, uint32_t time, uint32_t index, uint32_t *clipped);

    /* Outputs to rest between jobs; to the safe state. */
    void (*rest)(void);
    void (*safe)(void);
} hw_substrate_t;

extern const hw_substrate_t hw_emulated_f32, hw_emulated_q15, hw_analog;

/* The one that the configuration names. */
extern const hw_substrate_t *hw_substrate;

#endif
