/* Frames in, replies out: sessions, sequence numbers, kept replies. */
#include <string.h>

#include "board.h"
#include "frame.h"
#include "hardware.h"

#define OUT_BYTES ((HW_WINDOW + 2u) * (HW_MAX_STUFFED + 2u))

typedef struct {
    uint32_t request_crc;
    uint32_t count; /* header and payload; 0: empty */
    uint16_t seq;
    uint8_t body[HW_MAX_BODY];
} kept_t;

static hw_parser_t parser;
static kept_t kept[HW_WINDOW], loose, event_body; /* `loose` holds replies that are not kept */
static uint8_t out[OUT_BYTES];
static uint32_t out_first, out_count;
static uint32_t session, boot_id, frames, bad_frames, replays, overruns;
static uint16_t next_seq;
static bool reset_wanted;
static uint8_t in[64];
static uint32_t in_at, in_count;

void hw_link_boot(void)
{
    memset(&parser, 0, sizeof parser);
    memset(kept, 0, sizeof kept);
    out_first = out_count = in_at = in_count = 0;
    session = frames = bad_frames = replays = overruns = 0;
    next_seq = 1;
    reset_wanted = false;
    boot_id = hw_entropy();
}

uint32_t hw_link_session(void)
{
    return session;
}

uint32_t hw_link_boot_id(void)
{
    return boot_id;
}

void hw_link_count(hw_status_t *status)
{
    status->frames = frames;
    status->bad_frames = bad_frames;
    status->replays = replays;
    status->overruns = overruns;
}

void hw_link_reset_when_sent(void)
{
    reset_wanted = true;
}

static void put(uint8_t byte)
{
    out[(out_first + out_count++) % OUT_BYTES] = byte;
}

static bool room(void)
{
    return OUT_BYTES - out_count >= HW_MAX_STUFFED + 2u;
}

/* Seal a body of `count` bytes with its CRC and queue it. */
static void send(uint8_t *body, uint32_t count)
{
    static uint8_t stuffed[HW_MAX_STUFFED];
    if (!room()) { /* only events come here then: requests wait for room */
        overruns++;
        return;
    }
    const uint32_t crc = hw_crc32(0, body, count);
    memcpy(body + count, &crc, 4);
    const uint32_t length = hw_cobs_encode(body, count + 4u, stuffed);
    put(0);
    for (uint32_t i = 0; i < length; i++) {
        put(stuffed[i]);
    }
    put(0);
}

static void begin_body(kept_t *reply, uint8_t flags, uint8_t type, uint32_t of, uint16_t seq)
{
    const hw_header_t header = {
        .version = HW_MAJOR,
        .flags = flags,
        .type = type,
        .status = HW_ERROR_CLASS_OK,
        .session = of,
        .seq = seq,
        .schema = (uint16_t)(HW_SCHEMA & 0xFFFFu),
    };
    memcpy(reply->body, &header, sizeof header);
    reply->count = sizeof header;
}

static void fail(kept_t *reply, uint16_t code, uint32_t arg)
{
    hw_failure_t failure = {
        .kind = hw_problem_kind(code),
        .retryable = hw_problem_retryable(code) ? 1u : 0u,
        .detail = code,
        .arg = arg,
    };
    memcpy(failure.text, hw_problem_text(code), strlen(hw_problem_text(code)));
    reply->body[3] = failure.kind; /* status */
    memcpy(reply->body + sizeof(hw_header_t), &failure, sizeof failure);
    reply->count = sizeof(hw_header_t) + sizeof failure;
}

static void hello_body(kept_t *reply, uint8_t flags, uint32_t of, uint16_t seq)
{
    hw_hello_t hello = {
        .magic = HW_MAGIC,
        .major = HW_MAJOR,
        .minor = HW_MINOR,
        .reset_cause = hw_reset_cause(),
        .state = hw_state(),
        .schema = HW_SCHEMA,
        .boot_id = boot_id,
        .descriptor_length = hw_descriptor_length,
        .rx_buffer = HW_WINDOW * (HW_MAX_STUFFED + 2u),
        .max_payload = HW_MAX_PAYLOAD,
        .window = HW_WINDOW,
        .session = session,
        .lease_ms = hw_lease_ms(),
    };
    memcpy(hello.descriptor_sha, hw_descriptor_sha, 32);
    begin_body(reply, flags, HW_TYPE_HELLO, of, seq);
    memcpy(reply->body + reply->count, &hello, sizeof hello);
    reply->count += (uint32_t)sizeof hello;
}

void hw_link_hello(void)
{
    hello_body(&loose, HW_FLAG_EVENT, 0, 0);
    send(loose.body, loose.count);
}

void hw_link_event(uint8_t kind)
{
    if (session == 0u) {
        return;
    }
    kept_t *reply = &event_body; /* a reply may be in the making */
    hw_job_status_t job;
    hw_job_status(&job);
    const hw_event_t event = {
        .kind = kind, .cause = hw_cause(), .state = hw_state(), .job_state = job.state, .job = job.job};
    begin_body(reply, HW_FLAG_EVENT, HW_TYPE_EVENT, session, 0);
    memcpy(reply->body + reply->count, &event, sizeof event);
    reply->count += (uint32_t)sizeof event;
    send(reply->body, reply->count);
}

/* Do what is asked, and make the reply. */
static void execute(kept_t *reply, const hw_header_t *header, const uint8_t *payload, uint32_t count)
{
    const hw_command_t *command = hw_command(header->type);
    begin_body(reply, HW_FLAG_REPLY, header->type, header->session, header->seq);
    if (command == NULL || command->handle == NULL) {
        fail(reply, HW_ERROR_CODE_UNKNOWN_TYPE, header->type);
        return;
    }
    if (count < command->size || (count > command->size && !command->more)) {
        fail(reply, HW_ERROR_CODE_LENGTH, command->size);
        return;
    }
    hw_reply_t made = {.bytes = reply->body + sizeof(hw_header_t), .count = 0, .arg = 0};
    const uint16_t code = command->handle(payload, count, &made);
    if (code != 0u) {
        fail(reply, code, made.arg);
    } else {
        reply->count = (uint32_t)sizeof(hw_header_t) + made.count;
    }
}

static void refuse(const hw_header_t *header, uint16_t code, uint32_t arg)
{
    begin_body(&loose, HW_FLAG_REPLY, header->type, header->session, header->seq);
    fail(&loose, code, arg);
    send(loose.body, loose.count);
}

static void open_session(const hw_header_t *header, const uint8_t *payload, uint32_t count)
{
    hw_open_session_t asked;
    if (count != sizeof asked) {
        refuse(header, HW_ERROR_CODE_LENGTH, sizeof asked);
        return;
    }
    memcpy(&asked, payload, sizeof asked);
    const uint32_t lease = asked.lease_ms == 0u ? HW_DEFAULT_LEASE_MS : asked.lease_ms;
    if (header->session == 0u || lease < HW_LEASE_MS_MIN || lease > HW_LEASE_MS_MAX) {
        refuse(header, HW_ERROR_CODE_ARGUMENT, lease);
        return;
    }
    if (header->session != session) {
        const bool held = session != 0u && hw_lease_left_ms() > 0u;
        if (held && (asked.flags & HW_SESSION_FLAG_TAKE_OVER) == 0u) {
            refuse(header, HW_ERROR_CODE_SESSION_TAKEN, session);
            return;
        }
        hw_job_end(HW_JOB_STATE_CANCELLED, 0);
        memset(kept, 0, sizeof kept);
        session = header->session;
        next_seq = 1;
    }
    hw_lease_set(lease);
    const hw_session_opened_t opened = {
        .boot_id = boot_id, .lease_ms = lease, .next_seq = next_seq, .state = hw_state(), .cause = hw_cause()};
    begin_body(&loose, HW_FLAG_REPLY, header->type, header->session, header->seq);
    memcpy(loose.body + loose.count, &opened, sizeof opened);
    send(loose.body, loose.count + (uint32_t)sizeof opened);
}

static void in_session(const hw_header_t *header, const uint8_t *payload, uint32_t count, uint32_t crc)
{
    const uint16_t ahead = (uint16_t)(header->seq - next_seq);
    kept_t *reply = &kept[header->seq % HW_WINDOW];
    if (ahead == 0u) {
        execute(reply, header, payload, count);
        reply->seq = header->seq;
        reply->request_crc = crc;
        next_seq++;
        send(reply->body, reply->count);
        if (header->type == HW_TYPE_CLOSE_SESSION && reply->body[3] == 0u) {
            session = 0;
            memset(kept, 0, sizeof kept);
        }
    } else if (ahead < HW_WINDOW) {
        refuse(header, HW_ERROR_CODE_GAP, next_seq);
    } else if (ahead >= 0x10000u - HW_WINDOW && reply->count > 0u && reply->seq == header->seq) {
        if (reply->request_crc != crc) {
            refuse(header, HW_ERROR_CODE_REUSED, next_seq);
            return;
        }
        replays++;
        reply->body[1] |= HW_FLAG_REPLAY;
        send(reply->body, reply->count);
    } else {
        refuse(header, HW_ERROR_CODE_STALE, next_seq);
    }
}

static void take(const uint8_t *body, uint32_t count)
{
    hw_header_t header;
    memcpy(&header, body, sizeof header);
    const uint8_t *payload = body + sizeof header;
    const uint32_t rest = count - (uint32_t)sizeof header;
    if ((header.flags & (HW_FLAG_REPLY | HW_FLAG_EVENT)) != 0u) {
        return; /* an echo: never answer a reply */
    }
    if (header.type == HW_TYPE_HELLO) {
        hello_body(&loose, HW_FLAG_REPLY, header.session, header.seq);
        send(loose.body, loose.count);
        return;
    }
    if (header.version != HW_MAJOR || header.schema != (uint16_t)(HW_SCHEMA & 0xFFFFu)) {
        refuse(&header, HW_ERROR_CODE_SCHEMA, (uint32_t)(HW_SCHEMA & 0xFFFFFFFFu));
        return;
    }
    if (header.type == HW_TYPE_OPEN_SESSION) {
        open_session(&header, payload, rest);
        return;
    }
    if (header.session != 0u && header.session == session) {
        hw_lease_renew();
        in_session(&header, payload, rest, hw_crc32(0, body, count));
        return;
    }
    const hw_command_t *command = hw_command(header.type);
    const bool stop = header.type == HW_TYPE_ABORT || header.type == HW_TYPE_SAFE; /* anybody may stop a board */
    if ((header.session != 0u && !stop) || (command != NULL && !command->free)) {
        refuse(&header, HW_ERROR_CODE_NO_SESSION, session);
        return;
    }
    execute(&loose, &header, payload, rest);
    send(loose.body, loose.count);
}

static void flush(void)
{
    while (out_count > 0u) {
        const uint32_t straight = out_first + out_count > OUT_BYTES ? OUT_BYTES - out_first : out_count;
        const uint32_t gone = hw_write(out + out_first, straight);
        out_first = (out_first + gone) % OUT_BYTES;
        out_count -= gone;
        if (gone < straight) {
            return;
        }
    }
    if (reset_wanted) {
        reset_wanted = false;
        hw_reset();
    }
}

/* The next byte, if there is one and room for what it may bring about: the host must take replies before more is read. */
static bool next_byte(uint8_t *byte)
{
    if (in_at == in_count) {
        in_at = 0;
        in_count = hw_read(in, sizeof in);
    }
    if (in_at == in_count || !room()) {
        return false;
    }
    *byte = in[in_at++];
    return true;
}

bool hw_link_poll(void)
{
    uint8_t byte = 0;
    uint32_t taken = 0, count = 0;
    flush();
    /* at most one frame, or the bytes of one: lease and jobs have their turn however much a host says */
    while (taken < HW_MAX_STUFFED && next_byte(&byte)) {
        taken++;
        const hw_parsed_t parsed = hw_parse(&parser, byte, &count);
        if (parsed == HW_PARSER_BAD) {
            bad_frames++;
        } else if (parsed == HW_PARSER_FRAME) {
            frames++;
            take(parser.bytes, count);
            break;
        }
    }
    flush();
    return taken > 0u || out_count > 0u;
}
