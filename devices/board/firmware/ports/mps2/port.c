/* Arm MPS2 (QEMU: mps2-an385, mps2-an386): UART 0, the CMSDK watchdog, the 25 MHz counter. Emulated back ends alone. */
#include <stddef.h>
#include <string.h>

#include "board.h"
#include "hardware.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define UART 0x40004000u
#define UART_DATA REGISTER(UART + 0x00u)
#define UART_STATE REGISTER(UART + 0x04u)
#define UART_CTRL REGISTER(UART + 0x08u)
#define UART_INTCLEAR REGISTER(UART + 0x0Cu)
#define UART_BAUDDIV REGISTER(UART + 0x10u)
#define DOG 0x40008000u
#define DOG_LOAD REGISTER(DOG + 0x000u)
#define DOG_CTRL REGISTER(DOG + 0x008u)
#define DOG_INTCLR REGISTER(DOG + 0x00Cu)
#define DOG_LOCK REGISTER(DOG + 0xC00u)
#define COUNTER REGISTER(0x40028018u)
#define SYSTICK_CTRL REGISTER(0xE000E010u)
#define SYSTICK_LOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)
#define NVIC_ENABLE REGISTER(0xE000E100u)
#define AIRCR REGISTER(0xE000ED0Cu)
#define CPACR REGISTER(0xE000ED88u)
#define TICKS_PER_US 25u
#define CLOCK_HZ 25000000u
#define KEPT 0x4B455054u
#define DOZE_US 50000u /* falling asleep between the bytes of a frame would slow the line down */

/* Not cleared by a reset; configuration and seed are put there by whoever starts the machine. */
typedef struct {
    uint32_t kept, cause, boots, spare[61];
    hw_config_t config; /* at 0x100 */
    uint8_t space[0x200 - 0x100 - sizeof(hw_config_t)];
    uint32_t seed; /* at 0x200 */
} handover_t;
_Static_assert(offsetof(handover_t, config) == 0x100u && offsetof(handover_t, seed) == 0x200u, "as emulator.py has it");
#define handover (*(handover_t *)0x20000000u)

static uint8_t cause;

uint32_t hw_read(uint8_t *into, uint32_t most)
{
    uint32_t count = 0;
    while (count < most && (UART_STATE & 2u) != 0u) {
        into[count++] = (uint8_t)UART_DATA;
    }
    return count;
}

uint32_t hw_write(const uint8_t *from, uint32_t count)
{
    uint32_t gone = 0;
    while (gone < count && (UART_STATE & 1u) == 0u) {
        UART_DATA = from[gone++];
    }
    return gone;
}

uint32_t hw_micros(void)
{
    static uint64_t ticks;
    static uint32_t last;
    const uint32_t now = COUNTER;
    ticks += (uint32_t)(now - last);
    last = now;
    return (uint32_t)(ticks / TICKS_PER_US);
}

void hw_feed_watchdog(void)
{
    DOG_INTCLR = 1;
}

static void restart(uint32_t why)
{
    handover.kept = KEPT;
    handover.cause = why;
    __asm volatile("dsb");
    AIRCR = 0x05FA0004u; /* SYSRESETREQ */
    for (;;) {
    }
}

void hw_reset(void)
{
    restart(HW_RESET_CAUSE_REQUESTED);
}

uint32_t hw_entropy(void)
{
    return handover.seed + handover.boots * 0x9E3779B9u;
}

uint8_t hw_reset_cause(void)
{
    return cause;
}

static void watchdog(void) /* half of its time is over: the firmware hangs */
{
    restart(HW_RESET_CAUSE_WATCHDOG);
}

static void fault(void)
{
    restart(HW_RESET_CAUSE_FAULT);
}

static void tick(void)
{
}

static void received(void)
{
    UART_INTCLEAR = 2; /* it wakes the loop, which takes the byte */
}

static void spurious(void)
{
}

extern uint32_t data_image[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
void reset(void);
int main(void);

typedef void (*vector_t)(void);
__attribute__((section(".vectors"), used)) static const vector_t vectors[16 + 32] = {
    [0] = (vector_t)(uintptr_t)stack_top,
    [1] = reset,
    [2] = watchdog, /* NMI */
    [3] = fault,
    [4] = fault,
    [5] = fault,
    [6] = fault,
    [11] = spurious,
    [14] = spurious,
    [15] = tick,
    [16] = received, /* UART 0 receive */
    [17] = spurious,
};

void reset(void)
{
    uint32_t *to = data_begin;
    for (const uint32_t *from = data_image; to < data_end;) {
        *to++ = *from++;
    }
    for (to = bss_begin; to < bss_end;) {
        *to++ = 0;
    }
#ifdef __ARM_FP
    CPACR |= 0xFu << 20; /* the floating-point unit */
    __asm volatile("dsb\n isb");
#endif
    (void)main();
}

int main(void)
{
    static hw_config_t config;
    const bool kept = handover.kept == KEPT;
    cause = kept && handover.cause <= HW_RESET_CAUSE_FAULT ? (uint8_t)handover.cause : HW_RESET_CAUSE_POWER_ON;
    handover.boots = kept ? handover.boots + 1u : 0u;
    handover.kept = KEPT;
    handover.cause = HW_RESET_CAUSE_POWER_ON; /* unless somebody says otherwise before the next one */
    config = handover.config;
    if (!hw_config_valid(&config)) {
        hw_config_default(&config);
    }
    UART_BAUDDIV = CLOCK_HZ / 115200u;
    UART_CTRL = 1u | 2u | 8u; /* transmit, receive, interrupt on receive */
    NVIC_ENABLE = 1u;
    SYSTICK_LOAD = CLOCK_HZ / 1000u - 1u;
    SYSTICK_VALUE = 0;
    SYSTICK_CTRL = 7u;
    DOG_LOCK = 0x1ACCE551u;
    DOG_LOAD = CLOCK_HZ / 1000u * HW_WATCHDOG_MS;
    DOG_CTRL = 3u; /* an interrupt (NMI) when it ends, a reset when it ends again */
    hw_board_boot(&config);
    uint32_t busy = hw_micros();
    for (;;) {
        if (hw_board_poll()) {
            busy = hw_micros();
        } else if (hw_micros() - busy > DOZE_US) {
            __asm volatile("wfi"); /* a byte or the tick wakes it */
        }
    }
}
