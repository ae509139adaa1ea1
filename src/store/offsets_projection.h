#pragma once
// `__consumer_offsets` as Kafka's tools and clients expect it, made from the journal's records of
// groups. It is written behind the journal without being waited for, and made anew when it lags:
// nothing in tally reads it.
//
//   start    if not offsets_projection_is_current(): trim each of its logs to the end, and add all
//            records of the core's snapshot
//   running  add each record that was applied
//   at leisure  append what offsets_projection_next() hands out
//   clean stop  offsets_projection_mark()

#include "os/disk.h"
#include "wire/codec.h"

struct offsets_projection; // opaque

#define OFFSETS_TOPIC "__consumer_offsets"
#define OFFSETS_PARTITIONS 50

struct offsets_projection *offsets_projection_new(void);
void offsets_projection_free(struct offsets_projection *p); // NULL is fine

// abs(String.hashCode()) % 50 of the group id, as Kafka places it.
int32_t offsets_partition(struct str group_id);

// Takes what a record of schema/records_group.kw changes; others are passed over.
void offsets_projection_add(struct offsets_projection *p, const struct kw_message *type,
                            const void *record);
// An offset that is committed again before it was handed out takes the place of the former one.
bool offsets_projection_has_news(const struct offsets_projection *p);
// Hands out one batch to append to that partition, valid until the next call of any function here.
// False when everything was handed out.
bool offsets_projection_next(struct offsets_projection *p, int32_t *ret_partition,
                             struct bytes *ret_batch, int32_t *ret_records);

// Whether the logs hold exactly what the journal said at the clean stop that came before.
bool offsets_projection_is_current(struct disk *d, const char *data_dir, int64_t clean_position);
// At a clean stop, when everything was appended and the logs are synced.
MUST_USE int offsets_projection_mark(struct disk *d, const char *data_dir,
                                     uint64_t journal_position);
