/* Slots: transfers into NETWORK and DATA, reads of RESULT, CREDIT and HELD. */
#include <string.h>

#include "board.h"
#include "frame.h"
#include "sha256.h"

typedef struct {
    uint32_t phase, length, received;
    uint8_t sha[32];
} transfer_t;

/* NETWORK has two buffers: one in use, one that a transfer fills. They change places at COMMIT. */
static float networks[2][HW_MAX_NETWORK_WORDS];
static uint32_t in_use;
static float held[HW_MAX_NETWORK_WORDS], sums[HW_MAX_NETWORK_WORDS];
static uint32_t data_words[HW_DATA_BYTES / 4u];
static transfer_t network_transfer, data_transfer;
static uint8_t programmed_sha[32];
static uint32_t programmed_crc;
static bool programmed;

void hw_blobs_boot(void)
{
    memset(&network_transfer, 0, sizeof network_transfer);
    memset(&data_transfer, 0, sizeof data_transfer);
    memset(networks, 0, sizeof networks);
    memset(held, 0, sizeof held);
    memset(sums, 0, sizeof sums);
    memset(data_words, 0, sizeof data_words);
    in_use = 0;
    programmed = false;
    programmed_crc = 0;
}

static uint32_t network_bytes(void)
{
    return HW_NETWORK_WORDS(hw_config.units, hw_config.inputs) * 4u;
}

bool hw_programmed(void)
{
    return programmed;
}

uint32_t hw_network_crc(void)
{
    return programmed_crc;
}

const uint8_t *hw_data(void)
{
    return (const uint8_t *)data_words;
}

const float *hw_held(void)
{
    return held;
}

float *hw_sums(void)
{
    return sums;
}

static transfer_t *transfer_of(uint32_t slot, uint8_t **bytes, uint32_t *most)
{
    if (slot == HW_SLOT_NETWORK) {
        *bytes = (uint8_t *)networks[1u - in_use];
        *most = network_bytes();
        return &network_transfer;
    }
    if (slot == HW_SLOT_DATA) {
        *bytes = (uint8_t *)data_words;
        *most = HW_DATA_BYTES;
        return &data_transfer;
    }
    return NULL;
}

/* What READ gives of a slot; NULL: nothing. */
static const uint8_t *readable(uint32_t slot, uint32_t *length, uint16_t *code)
{
    *length = network_bytes();
    switch (slot) {
    case HW_SLOT_RESULT: {
        const uint8_t *bytes = hw_result(length);
        *code = bytes == NULL ? HW_ERROR_CODE_NO_RESULT : 0u;
        return bytes;
    }
    case HW_SLOT_CREDIT:
        *code = 0;
        return (const uint8_t *)sums;
    case HW_SLOT_HELD:
        *code = programmed ? 0u : HW_ERROR_CODE_NOT_PROGRAMMED;
        return programmed ? (const uint8_t *)held : NULL;
    default:
        *code = HW_ERROR_CODE_SLOT;
        return NULL;
    }
}

static uint16_t tell(uint32_t slot, const transfer_t *transfer, hw_reply_t *out)
{
    hw_blob_state_t state = {
        .slot = slot, .phase = transfer->phase, .length = transfer->length, .received = transfer->received};
    memcpy(state.sha, transfer->sha, 32);
    memcpy(out->bytes, &state, sizeof state);
    out->count = sizeof state;
    return 0;
}

uint16_t hw_blob_begin(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_blob_begin_t asked;
    memcpy(&asked, in, sizeof asked);
    uint8_t *bytes = NULL;
    uint32_t most = 0;
    transfer_t *transfer = transfer_of(asked.slot, &bytes, &most);
    if (transfer == NULL) {
        return HW_ERROR_CODE_SLOT;
    }
    out->arg = most;
    if (asked.length > most || (asked.slot == HW_SLOT_NETWORK && asked.length != most)) {
        return asked.length > most ? HW_ERROR_CODE_TOO_LARGE : HW_ERROR_CODE_ARGUMENT;
    }
    if (asked.slot == HW_SLOT_DATA && hw_job_running()) {
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    const bool same = asked.length == transfer->length && memcmp(asked.sha, transfer->sha, 32) == 0;
    if (asked.slot == HW_SLOT_NETWORK && programmed && memcmp(asked.sha, programmed_sha, 32) == 0) {
        /* held already, whatever another transfer was about */
        transfer->phase = HW_BLOB_PHASE_COMMITTED;
        transfer->length = transfer->received = asked.length;
        memcpy(transfer->sha, asked.sha, 32);
    } else if (!same || transfer->phase == HW_BLOB_PHASE_EMPTY ||
               (asked.slot == HW_SLOT_NETWORK && transfer->phase == HW_BLOB_PHASE_COMMITTED)) {
        transfer->phase = HW_BLOB_PHASE_RECEIVING;
        transfer->length = asked.length;
        transfer->received = 0;
        memcpy(transfer->sha, asked.sha, 32);
    }
    return tell(asked.slot, transfer, out);
}

static uint16_t told(uint32_t received, hw_reply_t *out)
{
    const hw_blob_end_t end = {.received = received};
    memcpy(out->bytes, &end, sizeof end);
    out->count = sizeof end;
    return 0;
}

uint16_t hw_blob_data(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    hw_blob_data_t asked;
    memcpy(&asked, in, sizeof asked);
    uint8_t *bytes = NULL;
    uint32_t most = 0;
    transfer_t *transfer = transfer_of(asked.slot, &bytes, &most);
    if (transfer == NULL) {
        return HW_ERROR_CODE_SLOT;
    }
    if (asked.slot == HW_SLOT_DATA && hw_job_running()) {
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    if (transfer->phase != HW_BLOB_PHASE_RECEIVING) {
        return HW_ERROR_CODE_NO_TRANSFER;
    }
    const uint32_t length = count - (uint32_t)sizeof asked;
    out->arg = transfer->received;
    if (asked.offset > transfer->received) {
        return HW_ERROR_CODE_BLOB_GAP;
    }
    if (length > transfer->length - asked.offset) { /* offset <= received <= length */
        return HW_ERROR_CODE_OFFSET;
    }
    memcpy(bytes + asked.offset, in + sizeof asked, length);
    if (asked.offset + length > transfer->received) {
        transfer->received = asked.offset + length;
    }
    return told(transfer->received, out);
}

/* Whether all values of a network are in range; if not, which one is not. */
static uint16_t check(const float *network, uint32_t *which)
{
    const uint32_t n = hw_config.units, m = hw_config.inputs;
    for (uint32_t i = 0; i < HW_NETWORK_WORDS(n, m); i++) {
        const uint32_t part = i < n * n ? HW_RANGE_W : i < n * n + n * m ? HW_RANGE_U : HW_RANGE_B;
        const float limit = (float)hw_config.limits[part];
        *which = i;
        if (!hw_finite(network[i])) {
            return HW_ERROR_CODE_NOT_FINITE;
        }
        if (!hw_within(network[i], -limit, limit)) {
            return HW_ERROR_CODE_OUT_OF_RANGE;
        }
    }
    return 0;
}

uint16_t hw_blob_commit(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_blob_ask_t asked;
    memcpy(&asked, in, sizeof asked);
    uint8_t *bytes = NULL;
    uint32_t most = 0;
    transfer_t *transfer = transfer_of(asked.slot, &bytes, &most);
    if (transfer == NULL) {
        return HW_ERROR_CODE_SLOT;
    }
    if (hw_latched()) {
        out->arg = hw_cause();
        return HW_ERROR_CODE_LATCHED;
    }
    if (hw_job_running()) {
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    if (transfer->phase == HW_BLOB_PHASE_COMMITTED) {
        return tell(asked.slot, transfer, out);
    }
    if (transfer->phase != HW_BLOB_PHASE_RECEIVING) {
        return HW_ERROR_CODE_NO_TRANSFER;
    }
    out->arg = transfer->received;
    if (transfer->received < transfer->length) {
        return HW_ERROR_CODE_BLOB_SHORT;
    }
    uint8_t sha[32];
    hw_sha256(bytes, transfer->length, sha);
    if (memcmp(sha, transfer->sha, 32) != 0) {
        transfer->phase = HW_BLOB_PHASE_EMPTY;
        return HW_ERROR_CODE_BLOB_SHA;
    }
    if (asked.slot == HW_SLOT_NETWORK) {
        const float *wanted = networks[1u - in_use];
        const uint16_t code = check(wanted, &out->arg);
        if (code != 0u) {
            transfer->phase = HW_BLOB_PHASE_EMPTY;
            hw_output_refused();
            return code;
        }
        programmed = false; /* until the last cell is written */
        hw_safety_wake();
        const bool written = hw_substrate->program(wanted, held);
        hw_lease_renew(); /* the host could not speak meanwhile */
        if (!written) {
            transfer->phase = HW_BLOB_PHASE_EMPTY;
            hw_safety_enter(HW_CAUSE_HARDWARE, HW_ERROR_CODE_CONVERTER, 0);
            return HW_ERROR_CODE_CONVERTER;
        }
        in_use = 1u - in_use;
        memcpy(programmed_sha, sha, 32);
        programmed_crc = hw_crc32_long((const uint8_t *)held, network_bytes());
        programmed = true;
    }
    transfer->phase = HW_BLOB_PHASE_COMMITTED;
    return tell(asked.slot, transfer, out);
}

uint16_t hw_blob_state(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_blob_ask_t asked;
    memcpy(&asked, in, sizeof asked);
    uint8_t *bytes = NULL;
    uint32_t most = 0;
    const transfer_t *transfer = transfer_of(asked.slot, &bytes, &most);
    if (transfer != NULL) {
        return tell(asked.slot, transfer, out);
    }
    if (hw_job_running()) { /* a long digest would hold up whatever should stop the job */
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    uint16_t code = 0;
    transfer_t ready = {.phase = HW_BLOB_PHASE_COMMITTED};
    const uint8_t *from = readable(asked.slot, &ready.length, &code);
    if (from == NULL) {
        return code;
    }
    ready.received = ready.length;
    hw_sha256(from, ready.length, ready.sha);
    return tell(asked.slot, &ready, out);
}

uint16_t hw_blob_read(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    (void)count;
    hw_read_t asked;
    memcpy(&asked, in, sizeof asked);
    hw_chunk_t chunk = {.offset = asked.offset, .total = 0};
    uint16_t code = 0;
    const uint8_t *from = readable(asked.slot, &chunk.total, &code);
    if (from == NULL) {
        return code;
    }
    out->arg = chunk.total;
    if (asked.offset > chunk.total) {
        return HW_ERROR_CODE_OFFSET;
    }
    uint32_t length = chunk.total - asked.offset;
    length = length > asked.length ? asked.length : length;
    length = length > HW_MAX_PAYLOAD - sizeof chunk ? HW_MAX_PAYLOAD - (uint32_t)sizeof chunk : length;
    memcpy(out->bytes, &chunk, sizeof chunk);
    memcpy(out->bytes + sizeof chunk, from + asked.offset, length);
    out->count = (uint32_t)sizeof chunk + length;
    return 0;
}

uint16_t hw_blob_put(const uint8_t *in, uint32_t count, hw_reply_t *out)
{
    hw_blob_data_t asked;
    memcpy(&asked, in, sizeof asked);
    const uint32_t length = count - (uint32_t)sizeof asked;
    out->arg = HW_DATA_BYTES;
    if (asked.slot != HW_SLOT_DATA) {
        return HW_ERROR_CODE_SLOT;
    }
    if (hw_job_running()) {
        return HW_ERROR_CODE_JOB_RUNNING;
    }
    if (asked.offset > HW_DATA_BYTES || length > HW_DATA_BYTES - asked.offset) {
        return HW_ERROR_CODE_OFFSET;
    }
    data_transfer.phase = HW_BLOB_PHASE_EMPTY;
    memcpy((uint8_t *)data_words + asked.offset, in + sizeof asked, length);
    return told(asked.offset + length, out);
}
