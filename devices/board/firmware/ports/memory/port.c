/* A board inside another program: bytes in, bytes out, and a clock that stands still unless it is told to go on. */
#include <string.h>

#include "board.h"
#include "front_end.h"
#include "hardware.h"

#define LINE 65536u

static uint8_t in[LINE], out[LINE];
static uint32_t in_count, in_at, out_count, clock_us, entropy, feeds;
static uint8_t cause;
static bool reset;

uint32_t hw_read(uint8_t *into, uint32_t most)
{
    const uint32_t there = in_count - in_at, count = there < most ? there : most;
    if (count > 0u) {
        memcpy(into, in + in_at, count);
    }
    in_at += count;
    return count;
}

uint32_t hw_write(const uint8_t *from, uint32_t count)
{
    const uint32_t most = LINE - out_count, gone = count < most ? count : most;
    memcpy(out + out_count, from, gone);
    out_count += gone;
    return gone;
}

uint32_t hw_micros(void)
{
    return clock_us++; /* a look at the clock takes a microsecond, so that work takes time */
}

void hw_feed_watchdog(void)
{
    feeds++;
}

void hw_reset(void)
{
    reset = true;
}

uint32_t hw_entropy(void)
{
    return entropy;
}

uint8_t hw_reset_cause(void)
{
    return cause;
}

/* What the program around it calls. */
void board_default(hw_config_t *config);
int board_valid(const hw_config_t *config);
void board_boot(const hw_config_t *config, uint32_t boot_id, uint8_t reset_cause);
uint32_t board_feed(const uint8_t *bytes, uint32_t count);
uint32_t board_take(uint8_t *bytes, uint32_t most);
uint32_t board_poll(uint32_t most);
void board_advance(uint32_t micros);
uint64_t board_clock(void);
int board_reset_wanted(void);
int board_driven(void);
int board_switch(void);
void board_break_after(uint32_t writes);
uint32_t board_feeds(void);

void board_default(hw_config_t *config)
{
    hw_config_default(config);
}

int board_valid(const hw_config_t *config)
{
    return hw_config_valid(config) ? 1 : 0;
}

void board_boot(const hw_config_t *config, uint32_t boot_id, uint8_t reset_cause)
{
    in_count = in_at = out_count = 0;
    entropy = boot_id;
    cause = reset_cause;
    reset = false;
    front_boot();
    hw_board_boot(config);
}

uint32_t board_feed(const uint8_t *bytes, uint32_t count)
{
    memmove(in, in + in_at, in_count - in_at);
    in_count -= in_at;
    in_at = 0;
    const uint32_t most = LINE - in_count, taken = count < most ? count : most;
    memcpy(in + in_count, bytes, taken);
    in_count += taken;
    return taken;
}

uint32_t board_take(uint8_t *bytes, uint32_t most)
{
    const uint32_t count = out_count < most ? out_count : most;
    memcpy(bytes, out, count);
    memmove(out, out + count, out_count - count);
    out_count -= count;
    return count;
}

/* Poll until there is nothing to do, at most so often; how often it was. */
uint32_t board_poll(uint32_t most)
{
    uint32_t count = 0;
    while (count < most) {
        count++;
        if (!hw_board_poll()) {
            break;
        }
    }
    return count;
}

/* Let time pass, in steps of a millisecond between which the firmware runs. */
void board_advance(uint32_t micros)
{
    const uint32_t until = clock_us + micros;
    while ((int32_t)(until - clock_us) > 0) {
        const uint32_t left = until - clock_us;
        clock_us += left < 1000u ? left : 1000u;
        (void)hw_board_poll();
    }
}

uint64_t board_clock(void)
{
    return hw_now();
}

int board_reset_wanted(void)
{
    return reset ? 1 : 0;
}

int board_driven(void)
{
    return front_driven() ? 1 : 0;
}

int board_switch(void)
{
    return front_switch();
}

void board_break_after(uint32_t writes)
{
    front_break_after(writes);
}

uint32_t board_feeds(void)
{
    return feeds;
}
