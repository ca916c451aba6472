/* A board as a process: speaks on a pty (its path is the first line on stdout), on TCP, or on stdin and stdout. */
#define _XOPEN_SOURCE 700
#define _DEFAULT_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "board.h"
#include "front_end.h"
#include "hardware.h"

static int in_fd = -1, out_fd = -1, listen_fd = -1;
static double baud, time_scale = 1.0, read_credit, write_credit;
static uint64_t credited;
static uint8_t cause;
static bool reset, entropy_given;
static uint32_t entropy_value, boots;
static sigjmp_buf again;
static volatile sig_atomic_t fed;

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* How many bytes the line has time for. */
static uint32_t allowed(double *credit, uint32_t most)
{
    if (!(baud > 0.0)) {
        return most;
    }
    const uint64_t now = wall_ns();
    const double earned = (double)(now - credited) * 1e-9 * baud / 10.0;
    credited = now;
    read_credit = read_credit + earned > 64.0 ? 64.0 : read_credit + earned;
    write_credit = write_credit + earned > 64.0 ? 64.0 : write_credit + earned;
    return *credit < (double)most ? (uint32_t)*credit : most;
}

uint32_t hw_read(uint8_t *into, uint32_t most)
{
    const uint32_t count = allowed(&read_credit, most);
    if (count == 0u || in_fd < 0) {
        return 0;
    }
    const ssize_t got = read(in_fd, into, count);
    if (got == 0 && listen_fd < 0 && in_fd == STDIN_FILENO) {
        exit(0); /* the other side is gone for good */
    }
    if (got <= 0) {
        if (got == 0 && listen_fd >= 0) { /* this client is gone; another may come */
            close(in_fd);
            in_fd = out_fd = -1;
        }
        return 0;
    }
    read_credit -= (double)got;
    return (uint32_t)got;
}

uint32_t hw_write(const uint8_t *from, uint32_t count)
{
    if (out_fd < 0) {
        return count; /* nobody listens */
    }
    const uint32_t most = allowed(&write_credit, count);
    if (most == 0u) {
        return 0;
    }
    const ssize_t gone = write(out_fd, from, most);
    if (gone <= 0) {
        return 0;
    }
    write_credit -= (double)gone;
    return (uint32_t)gone;
}

uint32_t hw_micros(void)
{
    return (uint32_t)(uint64_t)((double)wall_ns() * 1e-3 * time_scale);
}

void hw_feed_watchdog(void)
{
    fed = 1;
}

void hw_reset(void)
{
    reset = true;
}

uint32_t hw_entropy(void)
{
    uint32_t value = entropy_value + boots;
    if (!entropy_given) {
        FILE *file = fopen("/dev/urandom", "rb");
        if (file == NULL || fread(&value, sizeof value, 1, file) != 1u) {
            value = (uint32_t)wall_ns();
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    boots++;
    return value;
}

uint8_t hw_reset_cause(void)
{
    return cause;
}

static void bark(int signal)
{
    (void)signal;
    if (fed == 0) {
        siglongjmp(again, HW_RESET_CAUSE_WATCHDOG);
    }
    fed = 0;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void nonblocking(int fd)
{
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        die("fcntl");
    }
}

static void open_pty(void)
{
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) {
        die("pty");
    }
    const char *name = ptsname(master);
    const int slave = open(name, O_RDWR | O_NOCTTY); /* kept open: hosts may come and go */
    struct termios raw;
    if (slave < 0 || tcgetattr(slave, &raw) < 0) {
        die(name);
    }
    cfmakeraw(&raw);
    if (tcsetattr(slave, TCSANOW, &raw) < 0) {
        die(name);
    }
    nonblocking(master);
    in_fd = out_fd = master;
    printf("%s\n", name);
    fflush(stdout);
}

static void open_tcp(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    const int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    if (listen_fd < 0 || setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listen_fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(listen_fd, 1) < 0 ||
        getsockname(listen_fd, (struct sockaddr *)&address, &size) < 0) {
        die("tcp");
    }
    nonblocking(listen_fd);
    printf("socket://127.0.0.1:%d\n", (int)ntohs(address.sin_port));
    fflush(stdout);
}

static void welcome(void)
{
    const int fd = accept(listen_fd, NULL, NULL);
    if (fd < 0) {
        return;
    }
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    nonblocking(fd);
    in_fd = out_fd = fd;
}

static double number(const char *option, const char *text)
{
    char *end = NULL;
    const double value = text == NULL ? 0.0 : strtod(text, &end);
    if (text == NULL || end == text || *end != '\0') {
        fprintf(stderr, "%s takes a number; found %s\n", option, text == NULL ? "nothing" : text);
        exit(2);
    }
    return value;
}

typedef struct {
    const char *name;
    uint32_t *whole;
    double *real;
} option_t;

int main(int count, char **given)
{
    static hw_config_t config;
    double port = -1.0, boot_id = 0.0, limit = 0.0;
    bool piped = false;
    hw_config_default(&config);
    const option_t options[] = {
        {"--units", &config.units, NULL},
        {"--inputs", &config.inputs, NULL},
        {"--lanes", &config.lanes, NULL},
        {"--horizon", &config.horizon, NULL},
        {"--weight-bits", &config.weight_bits, NULL},
        {"--dac-bits", &config.dac_bits, NULL},
        {"--adc-bits", &config.adc_bits, NULL},
        {"--seed", &config.seed, NULL},
        {"--dt", NULL, &config.dt},
        {"--time-constant", NULL, &config.time_constant},
        {"--noise", NULL, &config.noise},
        {"--read-noise", NULL, &config.read_noise},
        {"--tolerance", NULL, &config.tolerance},
        {"--adc-limit", NULL, &config.adc_limit},
        {"--weight-limit", NULL, &limit},
        {"--state-limit", NULL, &config.limits[HW_RANGE_STATE]},
        {"--displace-limit", NULL, &config.limits[HW_RANGE_DISPLACE]},
        {"--force-limit", NULL, &config.limits[HW_RANGE_FORCE]},
        {"--input-limit", NULL, &config.limits[HW_RANGE_X]},
        {"--baud", NULL, &baud},
        {"--time-scale", NULL, &time_scale},
        {"--boot-id", NULL, &boot_id},
        {"--tcp", NULL, &port},
    };
    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? given[i + 1] : NULL;
        if (strcmp(given[i], "--stdio") == 0) {
            piped = true;
            continue;
        }
        if (strcmp(given[i], "--backend") == 0 && value != NULL) {
            static const char *const names[] = {"emulated-f32", "emulated-q15", "analog"};
            uint32_t k = 0;
            while (k < 3u && strcmp(value, names[k]) != 0) {
                k++;
            }
            config.backend = k; /* 3 is refused below */
            i++;
            continue;
        }
        bool known = false;
        for (uint32_t k = 0; k < sizeof options / sizeof options[0]; k++) {
            if (strcmp(given[i], options[k].name) == 0) {
                const double told = number(given[i], value);
                if (options[k].whole != NULL && (told < 0.0 || told > 4294967295.0)) {
                    fprintf(stderr, "%s takes a whole number\n", given[i]);
                    return 2;
                }
                if (options[k].whole != NULL) {
                    *options[k].whole = (uint32_t)told;
                } else {
                    *options[k].real = told;
                }
                known = true;
            }
        }
        if (!known) {
            fprintf(stderr, "unknown option %s\n", given[i]);
            return 2;
        }
        i++;
    }
    if (config.backend == HW_BACKEND_ANALOG) { /* an analog board has converters */
        config.weight_bits = config.weight_bits == 0u ? 12u : config.weight_bits;
        config.dac_bits = config.dac_bits == 0u ? 12u : config.dac_bits;
        config.adc_bits = config.adc_bits == 0u ? 12u : config.adc_bits;
    }
    if (limit > 0.0) {
        config.limits[HW_RANGE_W] = config.limits[HW_RANGE_U] = config.limits[HW_RANGE_B] = limit;
    }
    if (!hw_config_valid(&config) || !(time_scale > 0.0)) {
        fprintf(stderr, "no such board: at most %u units, %u inputs, %u lanes, 16 bits\n", HW_MAX_UNITS,
                HW_MAX_INPUTS, HW_MAX_LANES);
        return 2;
    }
    entropy_given = boot_id > 0.0;
    entropy_value = (uint32_t)boot_id;
    signal(SIGPIPE, SIG_IGN);
    if (piped) {
        in_fd = STDIN_FILENO;
        out_fd = STDOUT_FILENO;
        nonblocking(in_fd);
        nonblocking(out_fd);
    } else if (port >= 0.0) {
        open_tcp((int)port);
    } else {
        open_pty();
    }
    credited = wall_ns();

    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = bark;
    sigaction(SIGALRM, &action, NULL);
    cause = (uint8_t)sigsetjmp(again, 1); /* 0, power on, at first; then what a reset gives */
    const struct itimerval every = {{HW_WATCHDOG_MS / 1000u, (HW_WATCHDOG_MS % 1000u) * 1000u},
                                    {HW_WATCHDOG_MS / 1000u, (HW_WATCHDOG_MS % 1000u) * 1000u}};
    setitimer(ITIMER_REAL, &every, NULL);
    reset = false;
    front_boot();
    hw_board_boot(&config);
    for (;;) {
        const bool busy = hw_board_poll();
        if (reset) {
            siglongjmp(again, HW_RESET_CAUSE_REQUESTED);
        }
        if (!busy) {
            struct pollfd wait = {.fd = in_fd >= 0 ? in_fd : listen_fd, .events = POLLIN};
            (void)poll(&wait, 1, baud > 0.0 ? 1 : 5);
        }
        if (listen_fd >= 0 && in_fd < 0) {
            welcome();
        }
    }
}
