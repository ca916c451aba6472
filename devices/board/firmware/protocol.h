/* Made by `python -m hwsim.devices.board.generate` from protocol.py: change the table, not this file. */
#ifndef HWSIM_PROTOCOL_H
#define HWSIM_PROTOCOL_H

#include <stdint.h>

#define HW_MAJOR 1u
#define HW_MINOR 0u
#define HW_MAGIC 1297307464u
#define HW_RESET_KEY 1380275013u
#define HW_WINDOW 4u
#define HW_MAX_PAYLOAD 1024u
#define HW_MAX_PHASES 8u
#define HW_DEFAULT_LEASE_MS 2000u
#define HW_SAFE_MS 20u
#define HW_LEASE_MS_MIN 100u
#define HW_LEASE_MS_MAX 60000u
#define HW_SCHEMA 0xf587290cf3833af7ull

enum { /* Bits of a frame's header. */
    HW_FLAG_REPLY = 1,
    HW_FLAG_REPLAY = 2,
    HW_FLAG_EVENT = 4,
};

enum { /* What a board is doing with its outputs. */
    HW_STATE_IDLE = 0,
    HW_STATE_RUNNING = 1,
    HW_STATE_SAFE = 2,
};

enum { /* Why a board is, or was last, in its safe state. */
    HW_CAUSE_BOOT = 0,
    HW_CAUSE_LEASE = 1,
    HW_CAUSE_WATCHDOG = 2,
    HW_CAUSE_ABORT = 3,
    HW_CAUSE_COMMANDED = 4,
    HW_CAUSE_RANGE = 5,
    HW_CAUSE_HARDWARE = 6,
};

enum { /* Why a board booted. */
    HW_RESET_CAUSE_POWER_ON = 0,
    HW_RESET_CAUSE_REQUESTED = 1,
    HW_RESET_CAUSE_WATCHDOG = 2,
    HW_RESET_CAUSE_FAULT = 3,
};

enum { /* Where a job is; from DONE on it has ended. */
    HW_JOB_STATE_NONE = 0,
    HW_JOB_STATE_RUNNING = 1,
    HW_JOB_STATE_DONE = 2,
    HW_JOB_STATE_CANCELLED = 3,
    HW_JOB_STATE_FAILED = 4,
};

enum { /* What a RUN relaxes. */
    HW_JOB_KIND_RELAX = 0,
    HW_JOB_KIND_TRANSPOSE = 1,
};

enum { /* Where the first phase begins. */
    HW_START_KIND_REST = 0,
    HW_START_KIND_RANDOM = 1,
    HW_START_KIND_CARRY = 2,
    HW_START_KIND_STATE = 3,
};

enum { /* Whose noise it is. */
    HW_NOISE_KIND_ADDRESSED = 0,
    HW_NOISE_KIND_PHYSICAL = 1,
};

enum { /* The force of a phase. */
    HW_FORCE_KIND_NONE = 0,
    HW_FORCE_KIND_CONSTANT = 1,
    HW_FORCE_KIND_WAVEFORM = 2,
};

enum { /* The gains of a TRANSPOSE. */
    HW_AT_KIND_VECTOR = 0,
    HW_AT_KIND_RECORDING = 1,
    HW_AT_KIND_TAPE = 2,
};

enum { /* On which tape a RUN keeps the states of one phase. */
    HW_CAPTURE_NONE = 0,
    HW_CAPTURE_PRE = 1,
    HW_CAPTURE_POST = 2,
};

enum { /* How the two tapes are paired. */
    HW_CREDIT_MODE_FINAL = 0,
    HW_CREDIT_MODE_REVERSED = 1,
    HW_CREDIT_MODE_ALIGNED = 2,
};

enum { /* Bits of `Run.flags`. */
    HW_RUN_FLAG_CLEAR_POST = 1,
    HW_RUN_FLAG_TAPE_ONLY = 2,
};

enum { /* Bits of `RunPhase.flags`. */
    HW_PHASE_FLAG_DISPLACE = 1,
    HW_PHASE_FLAG_CORRECT = 2,
};

enum { /* Bits of `Credit.flags`. */
    HW_CREDIT_FLAG_CLEAR = 1,
};

enum { /* Bits of `OpenSession.flags`. */
    HW_SESSION_FLAG_TAKE_OVER = 1,
};

enum { /* Named stretches of a board's memory. */
    HW_SLOT_NETWORK = 1,
    HW_SLOT_DATA = 2,
    HW_SLOT_RESULT = 3,
    HW_SLOT_CREDIT = 4,
    HW_SLOT_HELD = 5,
};

enum { /* How far a slot is. */
    HW_BLOB_PHASE_EMPTY = 0,
    HW_BLOB_PHASE_RECEIVING = 1,
    HW_BLOB_PHASE_COMMITTED = 2,
};

enum { /* Capabilities, the `capabilities` of the descriptor. Names up to CAPTURE_CREDIT are those of */
    HW_BIT_LOAD_STATE = 1,
    HW_BIT_DISPLACE = 2,
    HW_BIT_RECORD = 4,
    HW_BIT_WAVEFORM = 8,
    HW_BIT_TRANSPOSE = 16,
    HW_BIT_CORRECT = 32,
    HW_BIT_PLAYBACK = 64,
    HW_BIT_TWINS = 128,
    HW_BIT_REPLAYABLE_NOISE = 256,
    HW_BIT_CAPTURE_CREDIT = 512,
    HW_BIT_AVERAGE = 1024,
    HW_BIT_RANDOM_START = 2048,
    HW_BIT_CARRY = 4096,
};

enum { /* What an EVENT tells. */
    HW_EVENT_KIND_JOB_ENDED = 1,
    HW_EVENT_KIND_SAFE = 2,
};

enum { /* `status` of a reply. */
    HW_ERROR_CLASS_OK = 0,
    HW_ERROR_CLASS_LINK = 1,
    HW_ERROR_CLASS_PROTOCOL = 2,
    HW_ERROR_CLASS_ARGUMENT = 3,
    HW_ERROR_CLASS_STATE = 4,
    HW_ERROR_CLASS_BUSY = 5,
    HW_ERROR_CLASS_HARDWARE = 6,
    HW_ERROR_CLASS_RANGE = 7,
    HW_ERROR_CLASS_TIMEOUT = 8,
};

enum { /* `detail` of an error. */
    HW_ERROR_CODE_SCHEMA = 257,
    HW_ERROR_CODE_NO_SESSION = 258,
    HW_ERROR_CODE_STALE = 259,
    HW_ERROR_CODE_GAP = 260,
    HW_ERROR_CODE_REUSED = 261,
    HW_ERROR_CODE_SESSION_TAKEN = 262,
    HW_ERROR_CODE_UNKNOWN_TYPE = 513,
    HW_ERROR_CODE_LENGTH = 514,
    HW_ERROR_CODE_ARGUMENT = 769,
    HW_ERROR_CODE_SLOT = 770,
    HW_ERROR_CODE_OFFSET = 771,
    HW_ERROR_CODE_TOO_LARGE = 772,
    HW_ERROR_CODE_DATA_CRC = 773,
    HW_ERROR_CODE_NOT_OFFERED = 774,
    HW_ERROR_CODE_BLOB_SHA = 775,
    HW_ERROR_CODE_BLOB_GAP = 776,
    HW_ERROR_CODE_BLOB_SHORT = 777,
    HW_ERROR_CODE_NOT_PROGRAMMED = 1025,
    HW_ERROR_CODE_LATCHED = 1026,
    HW_ERROR_CODE_NO_JOB = 1027,
    HW_ERROR_CODE_NO_RESULT = 1028,
    HW_ERROR_CODE_NO_TRANSFER = 1029,
    HW_ERROR_CODE_TAPES = 1030,
    HW_ERROR_CODE_NO_CARRY = 1031,
    HW_ERROR_CODE_JOB_RUNNING = 1281,
    HW_ERROR_CODE_CONVERTER = 1537,
    HW_ERROR_CODE_SELFTEST = 1538,
    HW_ERROR_CODE_NOT_FINITE = 1793,
    HW_ERROR_CODE_OUT_OF_RANGE = 1794,
    HW_ERROR_CODE_LEASE_EXPIRED = 2049,
    HW_ERROR_CODE_WATCHDOG_RESET = 2050,
    HW_ERROR_CODE_ABORTED = 2051,
    HW_ERROR_CODE_COMMANDED_SAFE = 2052,
};

enum { /* Message types. */
    HW_TYPE_HELLO = 1,
    HW_TYPE_GET_DESCRIPTOR = 2,
    HW_TYPE_OPEN_SESSION = 3,
    HW_TYPE_CLOSE_SESSION = 4,
    HW_TYPE_PING = 5,
    HW_TYPE_STATUS = 6,
    HW_TYPE_BLOB_BEGIN = 16,
    HW_TYPE_BLOB_DATA = 17,
    HW_TYPE_BLOB_COMMIT = 18,
    HW_TYPE_BLOB_STATE = 19,
    HW_TYPE_READ = 20,
    HW_TYPE_PUT = 21,
    HW_TYPE_RUN = 32,
    HW_TYPE_JOB_STATUS = 33,
    HW_TYPE_CREDIT = 34,
    HW_TYPE_CANCEL = 35,
    HW_TYPE_ABORT = 36,
    HW_TYPE_SAFE = 48,
    HW_TYPE_CLEAR_FAULT = 49,
    HW_TYPE_NEXT_ERROR = 50,
    HW_TYPE_SELFTEST = 51,
    HW_TYPE_RESET = 52,
    HW_TYPE_HANG = 63,
    HW_TYPE_EVENT = 64,
};

/* In front of every payload. `schema` is `SCHEMA & 0xFFFF`; `status` an ErrorClass in replies and 0 in requests. */
typedef struct {
    uint8_t version;
    uint8_t flags;
    uint8_t type;
    uint8_t status;
    uint32_t session;
    uint16_t seq;
    uint16_t schema;
} hw_header_t;
_Static_assert(sizeof(hw_header_t) == 12, "layout of Header");

/* FROZEN: any host reads it from any board, whatever the schema. */
typedef struct {
    uint32_t magic;
    uint8_t major;
    uint8_t minor;
    uint8_t reset_cause;
    uint8_t state;
    uint64_t schema;
    uint32_t boot_id;
    uint32_t descriptor_length;
    uint8_t descriptor_sha[32];
    uint32_t rx_buffer;
    uint16_t max_payload;
    uint8_t window;
    uint8_t reserved;
    uint32_t session;
    uint32_t lease_ms;
} hw_hello_t;
_Static_assert(sizeof(hw_hello_t) == 72, "layout of Hello");

/* Payload of every reply whose status is not OK; `arg` is a number that helps (an offset, a limit, a seq). */
typedef struct {
    uint8_t kind;
    uint8_t retryable;
    uint16_t detail;
    uint32_t arg;
    uint8_t text[40];
} hw_failure_t;
_Static_assert(sizeof(hw_failure_t) == 48, "layout of Failure");

/* Bytes `offset` to `offset + length - 1` of the descriptor. */
typedef struct {
    uint32_t offset;
    uint32_t length;
} hw_stretch_t;
_Static_assert(sizeof(hw_stretch_t) == 8, "layout of Stretch");

/* In front of bytes of the descriptor or a slot: where they lie, and how many there are in all. */
typedef struct {
    uint32_t offset;
    uint32_t total;
} hw_chunk_t;
_Static_assert(sizeof(hw_chunk_t) == 8, "layout of Chunk");

/* `lease_ms` 0 asks for the default. */
typedef struct {
    uint32_t lease_ms;
    uint32_t flags;
} hw_open_session_t;
_Static_assert(sizeof(hw_open_session_t) == 8, "layout of OpenSession");

/* `next_seq` is the sequence number that the board expects next. */
typedef struct {
    uint32_t boot_id;
    uint32_t lease_ms;
    uint16_t next_seq;
    uint8_t state;
    uint8_t cause;
} hw_session_opened_t;
_Static_assert(sizeof(hw_session_opened_t) == 12, "layout of SessionOpened");

/* The same number comes back. */
typedef struct {
    uint32_t nonce;
    uint32_t board_ms;
} hw_ping_t;
_Static_assert(sizeof(hw_ping_t) == 8, "layout of Ping");

/* What a board knows of itself; counters since boot. `temperature` in degrees C, NaN where it is not measured. */
typedef struct {
    uint32_t board_ms;
    uint8_t state;
    uint8_t cause;
    uint8_t latched;
    uint8_t job_state;
    uint32_t session;
    uint32_t lease_left_ms;
    uint32_t job;
    uint32_t network_crc;
    uint16_t programmed;
    uint16_t errors;
    uint32_t frames;
    uint32_t bad_frames;
    uint32_t replays;
    uint32_t overruns;
    uint32_t clipped_reads;
    uint32_t refused_outputs;
    float temperature;
} hw_status_t;
_Static_assert(sizeof(hw_status_t) == 56, "layout of Status");

/* A transfer of `length` bytes with this digest into a slot. */
typedef struct {
    uint32_t slot;
    uint32_t length;
    uint8_t sha[32];
} hw_blob_begin_t;
_Static_assert(sizeof(hw_blob_begin_t) == 40, "layout of BlobBegin");

/* In front of bytes for `offset` of a slot (BLOB_DATA and PUT). */
typedef struct {
    uint32_t slot;
    uint32_t offset;
} hw_blob_data_t;
_Static_assert(sizeof(hw_blob_data_t) == 8, "layout of BlobData");

/* Names a slot. */
typedef struct {
    uint32_t slot;
} hw_blob_ask_t;
_Static_assert(sizeof(hw_blob_ask_t) == 4, "layout of BlobAsk");

/* How far a slot is: `received` is the next offset. `sha` is that of the transfer, or of the contents. */
typedef struct {
    uint32_t slot;
    uint32_t phase;
    uint32_t length;
    uint32_t received;
    uint8_t sha[32];
} hw_blob_state_t;
_Static_assert(sizeof(hw_blob_state_t) == 48, "layout of BlobState");

/* `received` bytes lie in the slot without a gap. */
typedef struct {
    uint32_t received;
} hw_blob_end_t;
_Static_assert(sizeof(hw_blob_end_t) == 4, "layout of BlobEnd");

/* Bytes `offset` to `offset + length - 1` of a slot. */
typedef struct {
    uint32_t slot;
    uint32_t offset;
    uint32_t length;
} hw_read_t;
_Static_assert(sizeof(hw_read_t) == 12, "layout of Read");

/* A plan, `phases` records RunPhase behind it. `inputs`, `addresses`, `state`, `at` and `weights` are offsets in */
typedef struct {
    uint32_t seed;
    uint32_t step;
    uint32_t data_length;
    uint32_t data_crc;
    uint32_t inputs;
    uint32_t addresses;
    uint32_t state;
    uint32_t at;
    uint32_t weights;
    float sigma;
    uint16_t lanes;
    uint16_t reads;
    uint16_t coarse;
    uint16_t reserved;
    uint8_t kind;
    uint8_t start;
    uint8_t phases;
    uint8_t noise;
    uint8_t at_kind;
    uint8_t capture;
    uint8_t capture_phase;
    uint8_t flags;
} hw_run_t;
_Static_assert(sizeof(hw_run_t) == 56, "layout of Run");

/* One phase; `force`, `displace` and `correct` are offsets in the DATA slot, in words. */
typedef struct {
    uint32_t steps;
    uint32_t record;
    uint32_t force;
    uint32_t displace;
    uint32_t correct;
    uint8_t force_kind;
    uint8_t flags;
    uint8_t index;
    uint8_t reserved;
} hw_run_phase_t;
_Static_assert(sizeof(hw_run_phase_t) == 24, "layout of RunPhase");

/* A job has been taken up; its result will have `result_length` bytes. */
typedef struct {
    uint32_t job;
    uint32_t result_length;
} hw_accepted_t;
_Static_assert(sizeof(hw_accepted_t) == 8, "layout of Accepted");

/* 0 is the latest job. */
typedef struct {
    uint32_t job;
} hw_ask_job_t;
_Static_assert(sizeof(hw_ask_job_t) == 4, "layout of AskJob");

/* How far a job is. `outcome` is the worst of all lanes, `clipped` the reads that met the end of a converter. */
typedef struct {
    uint32_t job;
    uint8_t state;
    uint8_t phase;
    uint16_t lane;
    uint32_t step;
    uint16_t detail;
    uint8_t kind;
    uint8_t outcome;
    uint32_t result_length;
    uint32_t result_crc;
    uint32_t network_crc;
    uint32_t elapsed_us;
    uint32_t clipped;
} hw_job_status_t;
_Static_assert(sizeof(hw_job_status_t) == 36, "layout of JobStatus");

/* Add `scale` times the pairs of the two tapes to the CREDIT slot. */
typedef struct {
    float scale;
    uint8_t mode;
    uint8_t flags;
    uint16_t reserved;
} hw_credit_t;
_Static_assert(sizeof(hw_credit_t) == 8, "layout of Credit");

/* `cause` must be the one that the board reports: nobody clears what he has not seen. */
typedef struct {
    uint32_t cause;
} hw_clear_fault_t;
_Static_assert(sizeof(hw_clear_fault_t) == 4, "layout of ClearFault");

/* The oldest entry of the error queue, taken out; `remaining` are left. `detail` 0: the queue was empty. */
typedef struct {
    uint16_t remaining;
    uint16_t detail;
    uint8_t kind;
    uint8_t retryable;
    uint16_t reserved;
    uint32_t arg;
    uint32_t board_ms;
    uint8_t text[40];
} hw_error_record_t;
_Static_assert(sizeof(hw_error_record_t) == 56, "layout of ErrorRecord");

/* Bit i of `failed`: test i of those in `ran` failed (CRC, SHA-256, Philox, tanh, COBS, converters). */
typedef struct {
    uint32_t ran;
    uint32_t failed;
} hw_selftest_t;
_Static_assert(sizeof(hw_selftest_t) == 8, "layout of Selftest");

/* `key` is RESET_KEY. */
typedef struct {
    uint32_t key;
} hw_reset_t;
_Static_assert(sizeof(hw_reset_t) == 4, "layout of Reset");

/* Sent unasked, once, under the session that is open; may be lost. */
typedef struct {
    uint8_t kind;
    uint8_t cause;
    uint8_t state;
    uint8_t job_state;
    uint32_t job;
} hw_event_t;
_Static_assert(sizeof(hw_event_t) == 8, "layout of Event");

/* Stop feeding the watchdog (builds for tests alone). */
typedef struct {
    uint32_t key;
} hw_hang_t;
_Static_assert(sizeof(hw_hang_t) == 4, "layout of Hang");

/* X(code, class, retryable, text) for every error. */
#define HW_PROBLEMS(X) \
    X(HW_ERROR_CODE_SCHEMA, HW_ERROR_CLASS_LINK, 0, "frame of another schema") \
    X(HW_ERROR_CODE_NO_SESSION, HW_ERROR_CLASS_LINK, 0, "no such session") \
    X(HW_ERROR_CODE_STALE, HW_ERROR_CLASS_LINK, 0, "reply no longer kept") \
    X(HW_ERROR_CODE_GAP, HW_ERROR_CLASS_LINK, 1, "an earlier request is missing") \
    X(HW_ERROR_CODE_REUSED, HW_ERROR_CLASS_LINK, 0, "sequence number used for another request") \
    X(HW_ERROR_CODE_SESSION_TAKEN, HW_ERROR_CLASS_BUSY, 1, "another session holds the board") \
    X(HW_ERROR_CODE_UNKNOWN_TYPE, HW_ERROR_CLASS_PROTOCOL, 0, "unknown message type") \
    X(HW_ERROR_CODE_LENGTH, HW_ERROR_CLASS_PROTOCOL, 0, "payload of another length") \
    X(HW_ERROR_CODE_ARGUMENT, HW_ERROR_CLASS_ARGUMENT, 0, "argument out of bounds") \
    X(HW_ERROR_CODE_SLOT, HW_ERROR_CLASS_ARGUMENT, 0, "no such slot for this") \
    X(HW_ERROR_CODE_OFFSET, HW_ERROR_CLASS_ARGUMENT, 0, "outside the slot") \
    X(HW_ERROR_CODE_TOO_LARGE, HW_ERROR_CLASS_ARGUMENT, 0, "does not fit the board's memory") \
    X(HW_ERROR_CODE_DATA_CRC, HW_ERROR_CLASS_ARGUMENT, 1, "DATA slot holds something else") \
    X(HW_ERROR_CODE_NOT_OFFERED, HW_ERROR_CLASS_ARGUMENT, 0, "capability not offered") \
    X(HW_ERROR_CODE_BLOB_SHA, HW_ERROR_CLASS_ARGUMENT, 1, "SHA-256 differs") \
    X(HW_ERROR_CODE_BLOB_GAP, HW_ERROR_CLASS_ARGUMENT, 1, "earlier bytes are missing") \
    X(HW_ERROR_CODE_BLOB_SHORT, HW_ERROR_CLASS_ARGUMENT, 1, "transfer is not complete") \
    X(HW_ERROR_CODE_NOT_PROGRAMMED, HW_ERROR_CLASS_STATE, 0, "no network is programmed") \
    X(HW_ERROR_CODE_LATCHED, HW_ERROR_CLASS_STATE, 0, "safe state is latched") \
    X(HW_ERROR_CODE_NO_JOB, HW_ERROR_CLASS_STATE, 0, "no such job") \
    X(HW_ERROR_CODE_NO_RESULT, HW_ERROR_CLASS_STATE, 0, "no result is kept") \
    X(HW_ERROR_CODE_NO_TRANSFER, HW_ERROR_CLASS_STATE, 0, "no transfer has begun") \
    X(HW_ERROR_CODE_TAPES, HW_ERROR_CLASS_STATE, 0, "tapes do not fit each other") \
    X(HW_ERROR_CODE_NO_CARRY, HW_ERROR_CLASS_STATE, 0, "other number of lanes ran last") \
    X(HW_ERROR_CODE_JOB_RUNNING, HW_ERROR_CLASS_BUSY, 1, "a job is running") \
    X(HW_ERROR_CODE_CONVERTER, HW_ERROR_CLASS_HARDWARE, 0, "a converter does not answer") \
    X(HW_ERROR_CODE_SELFTEST, HW_ERROR_CLASS_HARDWARE, 0, "self-test failed") \
    X(HW_ERROR_CODE_NOT_FINITE, HW_ERROR_CLASS_RANGE, 0, "a value is not finite") \
    X(HW_ERROR_CODE_OUT_OF_RANGE, HW_ERROR_CLASS_RANGE, 0, "a value is out of range") \
    X(HW_ERROR_CODE_LEASE_EXPIRED, HW_ERROR_CLASS_TIMEOUT, 0, "host fell silent: lease expired") \
    X(HW_ERROR_CODE_WATCHDOG_RESET, HW_ERROR_CLASS_TIMEOUT, 0, "firmware hung: watchdog reset") \
    X(HW_ERROR_CODE_ABORTED, HW_ERROR_CLASS_TIMEOUT, 0, "aborted by the host") \
    X(HW_ERROR_CODE_COMMANDED_SAFE, HW_ERROR_CLASS_TIMEOUT, 0, "safe state by command")

#endif
