#pragma once
// The wire codec: constant tables made by tools/gen.py from schema/*.kw, and one interpreter.
// The same tables decode, encode, size, print and compare messages and our own journal records.

#include "base/arena.h"
#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"

struct kw_struct; // a field table; opaque outside src/wire
struct disk_file; // os/disk.h

// One message (request or response of one API) or one record type.
struct kw_message {
    const char *name; // "fetch_request"
    int16_t key;      // api key or record type
    int16_t min_version;
    int16_t max_version;
    int16_t flexible_version; // INT16_MAX when never flexible
    const struct kw_struct *body;
};

// A field of type `records`: opaque record batches. In memory (ptr), or, when encoding a
// response, a slice of a log file that the network layer sends without copying it.
struct kw_records {
    const uint8_t *ptr;
    int32_t len;            // bytes; -1 is null
    struct disk_file *file; // used when ptr is NULL and len > 0; must stay open until sent
    uint64_t file_pos;
};

// Where a file slice belongs in an encoded message: after `at` bytes of the buffer.
struct kw_splice {
    size_t at;
    struct disk_file *file;
    uint64_t file_pos;
    uint32_t len;
};

// What is encoded: the buffer, with the splices sent in between. Start from {0}.
struct kw_out {
    struct buf buf;
    struct kw_splice *splices; // owned
    size_t n_splices;
    size_t cap_splices;
};

void kw_out_free(struct kw_out *out);
void kw_out_clear(struct kw_out *out);
size_t kw_out_total(const struct kw_out *out); // bytes on the wire, splices included

// Sets every field of *msg to the default its schema names.
void kw_init(const struct kw_message *m, void *msg);
// Sets every field of one array element or nested struct to its default.
// Generated as <struct name>_init(struct <name> *) for convenience.
void kw_struct_init(const struct kw_struct *s, void *ret);
// Bytes of the C struct of a whole message.
size_t kw_size_in_memory(const struct kw_message *m);

// Decodes a whole body; bytes left over are an error. Strings, bytes and records in *ret_msg
// point into `in`; arrays are in the arena. An array longer than the bytes that are left could
// hold is refused before anything is allocated.
// 0, or -EBADMSG (truncated, lying length, trailing bytes, bad value), -EPROTONOSUPPORT (version).
// On failure *ret_why, when not NULL, names the field and what is wrong with it
// ("topics[2].partitions[0].records: longer than what is left"); it lives in the arena.
MUST_USE int kw_decode(const struct kw_message *m, int version, struct bytes in, struct arena *a,
                       void *ret_msg, const char **ret_why);

// As kw_decode, for a body that something else follows: the bytes left over go to *ret_rest.
MUST_USE int kw_decode_part(const struct kw_message *m, int version, struct bytes in,
                            struct arena *a, void *ret_msg, struct bytes *ret_rest,
                            const char **ret_why);

// Appends the body. Fields that do not exist in this version are left out. Encoding never fails
// on a message that its schema allows; a null where null is not legal is a CHECK. A string of
// more than 32767 bytes is cut there.
void kw_encode(const struct kw_message *m, int version, const void *msg, struct kw_out *out);

// One line of text, for --trace, logs and test failures: {throttle_time_ms=0 topics=[{...}]}.
void kw_print(const struct kw_message *m, int version, const void *msg, struct buf *out);
// Equal in every field that exists in this version. *ret_why names the first that differs.
bool kw_equal(const struct kw_message *m, int version, const void *a, const void *b,
              const char **ret_why);

static inline bool kw_is_flexible(const struct kw_message *m, int version)
{
    return version >= m->flexible_version;
}

// One API as the broker advertises it; the table is generated from schema/*.kw.
struct kw_api {
    int16_t key;
    const char *name; // "Fetch": the name Kafka's documentation uses
    int16_t min_version;
    int16_t max_version;
    int16_t advertised_min_version; // Produce says 0 though 0-2 are refused (KAFKA-18659)
    const struct kw_message *request;
    const struct kw_message *response;
    bool is_private; // ours; never in ApiVersions
};

const struct kw_api *kw_api(int16_t key);     // NULL when we do not have it
const struct kw_api *kw_api_at(size_t index); // in order of key; NULL past the end

// Our own record types, in order of type.
const struct kw_message *kw_record_type(int16_t type); // NULL when we do not have it
const struct kw_message *kw_record_type_at(size_t index);
