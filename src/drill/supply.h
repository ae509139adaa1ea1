#pragma once
// Where a drill's records come from: a file or a topic that is read once, or made up. Shared by all
// drills of a set; each keeps its own place in it.

#include "cli/records.h"
#include "drill/book.h"

struct supply;

struct supply_record {
    struct bytes key;   // ptr NULL: none
    struct bytes value; // ptr NULL: tombstone
    int32_t n_headers;
    struct bytes headers; // raw, as in struct record of wire/batch.h
};

// What one drill can use at most. Beyond it the rest of the file or topic is left alone.
#define SUPPLY_MAX_RECORDS 100000
#define SUPPLY_MAX_BYTES (256ULL << 20)

// path NULL: records are made up, without end. On failure *ret_why is the caller's to free.
MUST_USE int supply_open(const char *path, enum records_format format, const char *key_field,
                         struct supply **ret_supply, char **ret_why);
// BROKER/TOPIC: records of any Kafka-protocol cluster, headers too; times become those of the
// drill.
MUST_USE int supply_open_topic(const char *from, struct supply **ret_supply, char **ret_why);
void supply_free(struct supply *f); // NULL is fine

// Made-up keys have this in them from now on: "-1a2b3c4d", or "". Copied.
void supply_mark(struct supply *f, const char *mark);
// The record at this place, valid until the next call. False past the end.
bool supply_at(struct supply *f, uint64_t place, struct supply_record *ret_record);
// Keys that occur twice in what was read are no evidence: told to the book.
void supply_forbid_keys(const struct supply *f, struct book *b);
