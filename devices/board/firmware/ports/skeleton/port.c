/* A port to copy: the registers are those of an STM32F405 (reference manual RM0090), clocked by its own 16 MHz.
 *
 * Worked out: start-up, the line (USART2 on PA2 and PA3, interrupt and ring), clock, watchdog, reset and its cause,
 * entropy. Left to a lab: `part_write`, `part_read` and `part_switch`, which say "does not answer" until they are
 * written, so that the firmware stays in its safe state instead of driving what it does not know.
 * It compiles and links; nobody has run it on silicon. */
#include <stddef.h>

#include "board.h"
#include "hardware.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define RCC 0x40023800u
#define RCC_AHB1ENR REGISTER(RCC + 0x30u)
#define RCC_AHB2ENR REGISTER(RCC + 0x34u)
#define RCC_APB1ENR REGISTER(RCC + 0x40u)
#define RCC_CSR REGISTER(RCC + 0x74u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_AFRL REGISTER(0x40020020u)
#define USART 0x40004400u
#define USART_SR REGISTER(USART + 0x00u)
#define USART_DR REGISTER(USART + 0x04u)
#define USART_BRR REGISTER(USART + 0x08u)
#define USART_CR1 REGISTER(USART + 0x0Cu)
#define IWDG_KR REGISTER(0x40003000u)
#define IWDG_PR REGISTER(0x40003004u)
#define IWDG_RLR REGISTER(0x40003008u)
#define RNG_CR REGISTER(0x50060800u)
#define RNG_SR REGISTER(0x50060804u)
#define RNG_DR REGISTER(0x50060808u)
#define DEMCR REGISTER(0xE000EDFCu)
#define DWT_CTRL REGISTER(0xE0001000u)
#define DWT_CYCCNT REGISTER(0xE0001004u)
#define NVIC_ISER1 REGISTER(0xE000E104u)
#define AIRCR REGISTER(0xE000ED0Cu)
#define CPACR REGISTER(0xE000ED88u)
#define CLOCK_HZ 16000000u
#define BAUD 115200u
#define USART2_IRQ 38u
#define RING 8192u /* at least `rx_buffer` of HELLO: a host sends so much without waiting */

static volatile uint8_t ring[RING];
static volatile uint32_t ring_in;
static uint32_t ring_out;
static uint8_t cause;

/* ---- the line ---- */

static void usart2(void)
{
    if ((USART_SR & 0x20u) != 0u) {
        ring[ring_in % RING] = (uint8_t)USART_DR;
        ring_in++; /* an overrun loses whole frames, which the CRC notices and the host repeats */
    }
}

uint32_t hw_read(uint8_t *into, uint32_t most)
{
    uint32_t count = 0;
    while (count < most && ring_out != ring_in) {
        into[count++] = ring[ring_out++ % RING];
    }
    return count;
}

uint32_t hw_write(const uint8_t *from, uint32_t count)
{
    uint32_t gone = 0;
    while (gone < count && (USART_SR & 0x80u) != 0u) {
        USART_DR = from[gone++];
    }
    return gone;
}

/* ---- clock, watchdog, reset, entropy ---- */

uint32_t hw_micros(void)
{
    static uint64_t cycles;
    static uint32_t last;
    const uint32_t now = DWT_CYCCNT;
    cycles += (uint32_t)(now - last);
    last = now;
    return (uint32_t)(cycles / (CLOCK_HZ / 1000000u));
}

void hw_feed_watchdog(void)
{
    IWDG_KR = 0xAAAAu;
}

void hw_reset(void)
{
    __asm volatile("dsb");
    AIRCR = 0x05FA0004u;
    for (;;) {
    }
}

uint32_t hw_entropy(void)
{
    while ((RNG_SR & 1u) == 0u) {
    }
    return RNG_DR;
}

uint8_t hw_reset_cause(void)
{
    return cause;
}

/* ---- converters: write these three ---- */

/* Send `code` to output `index` of a bank. Look up which chip, which channel; talk SPI; return whether it acknowledged.
 * Cells of a crossbar that forget belong here too: a program-and-verify loop per cell is one call. */
static bool part_write(uint8_t bank, uint32_t index, uint32_t code)
{
    (void)bank, (void)index, (void)code;
    return false;
}

/* Convert the voltage of a unit. Units that are sampled one after another have a skew: say so with HW_SKEW_US. */
static bool part_read(uint32_t unit, uint32_t *code)
{
    (void)unit, (void)code;
    return false;
}

/* Throw the analog switches for `micros` and hold afterwards: a timer in one-pulse mode does it without jitter.
 * HW_SWITCH_OFF must work whatever state the rest is in: it is what the safe state rests on. */
static bool part_switch(uint8_t position, uint32_t micros)
{
    (void)position, (void)micros;
    return false;
}

bool hw_dac(uint8_t bank, uint32_t index, uint32_t code)
{
    return part_write(bank, index, code);
}

bool hw_adc(uint32_t unit, uint32_t *code)
{
    return part_read(unit, code);
}

bool hw_switch(uint8_t position, uint32_t micros)
{
    return part_switch(position, micros);
}

/* ---- start ---- */

static void trap(void)
{
    hw_reset();
}

extern uint32_t data_image[], data_begin[], data_end[], bss_begin[], bss_end[], stack_top[];
void reset(void);
int main(void);

typedef void (*vector_t)(void);
__attribute__((section(".vectors"), used)) static const vector_t vectors[16u + USART2_IRQ + 1u] = {
    [0] = (vector_t)(uintptr_t)stack_top,
    [1] = reset,
    [2] = trap,
    [3] = trap,
    [4] = trap,
    [5] = trap,
    [6] = trap,
    [16u + USART2_IRQ] = usart2,
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
    CPACR |= 0xFu << 20;
    __asm volatile("dsb\n isb");
    (void)main();
}

int main(void)
{
    const uint32_t why = RCC_CSR;
    cause = (why & 1u << 29) != 0u   ? HW_RESET_CAUSE_WATCHDOG
            : (why & 1u << 28) != 0u ? HW_RESET_CAUSE_REQUESTED
                                     : HW_RESET_CAUSE_POWER_ON;
    RCC_CSR |= 1u << 24;
    RCC_AHB1ENR |= 1u;
    RCC_AHB2ENR |= 1u << 6;
    RCC_APB1ENR |= 1u << 17;
    RNG_CR = 4u;
    GPIOA_MODER = (GPIOA_MODER & ~0xF0u) | 0xA0u;
    GPIOA_AFRL = (GPIOA_AFRL & ~0xFF00u) | 0x7700u;
    USART_BRR = (CLOCK_HZ + BAUD / 2u) / BAUD;
    USART_CR1 = 1u << 13 | 1u << 5 | 1u << 3 | 1u << 2;
    NVIC_ISER1 = 1u << (USART2_IRQ - 32u);
    DEMCR |= 1u << 24;
    DWT_CTRL |= 1u;
    IWDG_KR = 0x5555u;
    IWDG_PR = 3u; /* 32 kHz / 32: a count is a millisecond */
    IWDG_RLR = HW_WATCHDOG_MS;
    IWDG_KR = 0xCCCCu;

    static hw_config_t config; /* what this board is: see config.h */
    hw_config_default(&config);
    config.backend = HW_BACKEND_F32; /* HW_BACKEND_ANALOG once the three functions above are written */
    config.units = 32;
    config.inputs = 32;
    hw_board_boot(&config);
    for (;;) {
        (void)hw_board_poll();
    }
}
