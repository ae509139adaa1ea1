#pragma once
// Idempotent producers of one partition: the last batches of each producer id, so that a retry is
// answered with the offset of the first try. Owned by the partition's log, which updates it with
// each append and rebuilds it after a crash.

#include "base/bytes.h"
#include "base/check.h"

struct producer_state; // opaque

// Kafka clients have at most five requests in flight, so five batches cover every retry.
#define PRODUCER_BATCHES_KEPT 5
// Producers one partition remembers; the one idle longest makes room (bounds memory to ~25 MB).
#define PRODUCERS_MAX 100000

enum producer_verdict {
    PRODUCER_APPEND,        // fresh: append it
    PRODUCER_DUPLICATE,     // answer NONE with the original offset and timestamp, append nothing
    PRODUCER_OUT_OF_ORDER,  // OUT_OF_ORDER_SEQUENCE_NUMBER
    PRODUCER_INVALID_EPOCH, // INVALID_PRODUCER_EPOCH
};

struct producer_batch {
    int64_t producer_id;
    int16_t epoch;
    int32_t first_seq;
    int32_t last_seq;
    int64_t base_offset;
    int64_t last_offset;
    int64_t timestamp_ms; // max timestamp of the batch
};

struct producer_state *producer_state_new(void);
void producer_state_free(struct producer_state *p); // NULL is fine

// Judges a batch; base_offset and last_offset of *b are not looked at. For PRODUCER_DUPLICATE
// *ret_original is the batch it repeats. A batch without producer id is always PRODUCER_APPEND.
enum producer_verdict producer_state_check(const struct producer_state *p,
                                           const struct producer_batch *b,
                                           struct producer_batch *ret_original);
// The batch was refused and will come again. Of a producer that is not known yet nothing else tells
// that those behind it, which may be on their way, must not overtake it: they are out of order
// until it was written. Not kept over a restart, in which connections end.
void producer_state_refused(struct producer_state *p, const struct producer_batch *b);
void producer_state_update(struct producer_state *p, const struct producer_batch *b,
                           int64_t now_ms);
// Forgets producers that were silent longer than producer.id.expiration.ms.
void producer_state_expire(struct producer_state *p, int64_t now_ms, int64_t expiration_ms);
// Each producer's newest batch: for (size_t it = 0; producer_state_next(p, &it, &b);) ...
bool producer_state_next(const struct producer_state *p, size_t *it, struct producer_batch *ret);
size_t producer_state_count(const struct producer_state *p);
// Last sequence + 1 after wrap: 2147483647 is followed by 0.
int32_t producer_seq_add(int32_t seq, int32_t n);

struct buf;
void producer_state_encode(const struct producer_state *p, struct buf *out);
// Replaces the state. -EBADMSG when damaged; then the state is empty.
MUST_USE int producer_state_decode(struct producer_state *p, struct bytes in);
