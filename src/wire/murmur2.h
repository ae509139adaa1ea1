#pragma once
// The hash of Kafka's default partitioner.

#include "base/bytes.h"

uint32_t murmur2(struct bytes key);
// Where the Java client puts a record with this key; count > 0.
int32_t murmur2_partition(struct bytes key, int32_t count);
