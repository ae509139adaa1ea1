#pragma once
// What consumers put into the opaque bytes of the classic protocol: JoinGroup metadata and
// SyncGroup assignments. Read as Kafka reads it: a version above 3 is read as 3, bytes behind the
// known fields are ignored.

#include "schema.h"

// 0, or -EBADMSG (cut, or a negative version). Strings point into `in`, arrays are in the arena.
// Fields that the version lacks have their defaults (generation_id -1, rack_id null).
MUST_USE int consumer_subscription_read(struct bytes in, struct arena *a,
                                        struct consumer_protocol_subscription *ret,
                                        int16_t *ret_version);
MUST_USE int consumer_assignment_read(struct bytes in, struct arena *a,
                                      struct consumer_protocol_assignment *ret,
                                      int16_t *ret_version);
// Append the version and the body; version 0-3.
void consumer_subscription_write(int16_t version, const struct consumer_protocol_subscription *s,
                                 struct buf *out);
void consumer_assignment_write(int16_t version, const struct consumer_protocol_assignment *s,
                               struct buf *out);
