/* libFuzzer target: the frame parser, every handler and the job engine, on all three back ends.
 *
 * The first byte chooses the back end and how the rest is read: raw bytes for the line, or messages
 * (type, lanes and flags of the wrapper, length, payload) that are wrapped into sound frames of the open session, so
 * that what lies behind CRC and sequence numbers is reached. The front end aborts on a code or an index that its
 * converters do not have; `settled` aborts where a promise about states is broken, or where the analog back end's last
 * check had to refuse a value that the checks before it let pass. */
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "frame.h"
#include "front_end.h"
#include "hardware.h"
#include "sha256.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void board_boot(const hw_config_t *config, uint32_t boot_id, uint8_t reset_cause);
uint32_t board_feed(const uint8_t *bytes, uint32_t count);
uint32_t board_take(uint8_t *bytes, uint32_t most);
uint32_t board_poll(uint32_t most);
void board_advance(uint32_t micros);

#define SESSION 0x0BADF00Du
static uint16_t seq;

static void insist(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* What holds whenever the firmware has come to rest. */
static void settled(void)
{
    static uint8_t said[65536];
    (void)board_take(said, sizeof said);
    insist(hw_cause() != HW_CAUSE_RANGE);
    if (hw_latched()) {
        insist(!hw_job_running() && hw_state() == HW_STATE_SAFE);
        if (hw_config.backend == HW_BACKEND_ANALOG) {
            insist(!front_driven() && front_switch() == HW_SWITCH_OFF);
        }
    }
    if (hw_programmed()) {
        const uint32_t n = hw_config.units, m = hw_config.inputs;
        for (uint32_t i = 0; i < HW_NETWORK_WORDS(n, m); i++) {
            const double limit = hw_config.limits[i < n * n ? HW_RANGE_W : i < n * (n + m) ? HW_RANGE_U : HW_RANGE_B];
            insist(hw_within(hw_held()[i], (float)-limit * 1.0001f, (float)limit * 1.0001f));
        }
    }
}

static void say(uint8_t type, uint32_t session, const uint8_t *payload, uint32_t count)
{
    static uint8_t body[HW_MAX_BODY], stuffed[HW_MAX_STUFFED + 2u];
    hw_header_t header = {.version = HW_MAJOR, .type = type, .session = session, .schema = (uint16_t)HW_SCHEMA};
    header.seq = type == HW_TYPE_OPEN_SESSION ? 0 : seq++;
    memcpy(body, &header, sizeof header);
    if (count > 0u) {
        memcpy(body + sizeof header, payload, count);
    }
    uint32_t length = (uint32_t)sizeof header + count;
    const uint32_t crc = hw_crc32(0, body, length);
    memcpy(body + length, &crc, 4);
    length = hw_cobs_encode(body, length + 4u, stuffed + 1);
    stuffed[0] = stuffed[length + 1u] = 0;
    (void)board_feed(stuffed, length + 2u);
    (void)board_poll(400);
    settled();
}

static void begin(void)
{
    const hw_open_session_t open = {.lease_ms = 1000, .flags = HW_SESSION_FLAG_TAKE_OVER};
    seq = 1;
    say(HW_TYPE_OPEN_SESSION, SESSION, (const uint8_t *)&open, sizeof open);
    seq = 1;
}

/* A network with every value sound, or not: the payload chooses. */
static void program(const uint8_t *payload, uint32_t count)
{
    static float network[HW_MAX_NETWORK_WORDS];
    const uint32_t words = HW_NETWORK_WORDS(hw_config.units, hw_config.inputs);
    for (uint32_t i = 0; i < words; i++) {
        network[i] = 0.25f * (float)((int)(i % 7u) - 3);
        if (count >= 4u && i == payload[0] % words) {
            memcpy(&network[i], payload, 4);
        }
    }
    hw_blob_begin_t asked = {.slot = HW_SLOT_NETWORK, .length = words * 4u};
    hw_sha256((const uint8_t *)network, words * 4u, asked.sha);
    say(HW_TYPE_BLOB_BEGIN, SESSION, (const uint8_t *)&asked, sizeof asked);
    static uint8_t chunk[sizeof(hw_blob_data_t) + sizeof network];
    const hw_blob_data_t head = {.slot = HW_SLOT_NETWORK, .offset = 0};
    memcpy(chunk, &head, sizeof head);
    memcpy(chunk + sizeof head, network, words * 4u);
    say(HW_TYPE_BLOB_DATA, SESSION, chunk, (uint32_t)sizeof head + words * 4u);
    const hw_blob_ask_t end = {.slot = HW_SLOT_NETWORK};
    say(HW_TYPE_BLOB_COMMIT, SESSION, (const uint8_t *)&end, sizeof end);
}

static void messages(const uint8_t *data, size_t size)
{
    static uint8_t payload[HW_MAX_PAYLOAD];
    begin();
    program(NULL, 0);
    while (size >= 4u) {
        const uint8_t type = data[0], how = data[1];
        uint32_t count = (uint32_t)data[2] | (uint32_t)(data[3] & 3u) << 8;
        data += 4;
        size -= 4u;
        count = count > size ? (uint32_t)size : count;
        memcpy(payload, data, count);
        data += count;
        size -= count;
        if (type == HW_TYPE_RUN && (how & 1u) != 0u && count >= sizeof(hw_run_t)) {
            hw_run_t run;
            memcpy(&run, payload, sizeof run);
            if (run.data_length <= HW_DATA_BYTES) { /* a guess of the CRC never hits */
                run.data_crc = hw_crc32(0, hw_data(), run.data_length);
            }
            memcpy(payload, &run, sizeof run);
        }
        if (type == 0xF0u) {
            board_advance((uint32_t)how * 10000u);
            settled();
        } else if (type == 0xF1u) {
            program(payload, count);
        } else if (type == 0xF2u) {
            begin();
        } else {
            say(type, (how & 2u) != 0u ? 0u : SESSION, payload, count);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0u) {
        return 0;
    }
    hw_config_t config;
    hw_config_default(&config);
    config.units = 3;
    config.inputs = 2;
    config.lanes = 2;
    config.horizon = 8;
    config.backend = data[0] % 3u;
    config.weight_bits = config.dac_bits = config.adc_bits = config.backend == HW_BACKEND_ANALOG ? 8u : 0u;
    config.noise = (data[0] & 0x10u) != 0u ? 0.1 : 0.0;
    board_boot(&config, 1, HW_RESET_CAUSE_POWER_ON);
    if ((data[0] & 0x20u) != 0u) {
        (void)board_feed(data + 1, (uint32_t)size - 1u);
        (void)board_poll(2000);
        settled();
    } else {
        messages(data + 1, size - 1u);
    }
    return 0;
}
