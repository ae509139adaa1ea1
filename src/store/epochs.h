#pragma once
// Leader epochs of a log: which began where. Kafka's file leader-epoch-checkpoint. Private to
// src/store.

#include "base/buf.h"
#include "os/disk.h"

struct epoch_start {
    int32_t epoch;
    int64_t start;
};

struct epochs {
    struct epoch_start *items; // owned, rising in both
    size_t n;
};

#define EPOCHS_FILE "leader-epoch-checkpoint"

void epochs_free(struct epochs *e);
// Epochs that began at or behind data_end, in which nothing was written, give way to it.
void epochs_add(struct epochs *e, int32_t epoch, int64_t start, int64_t data_end);
// -ENOENT when there is no file, -EBADMSG when it is damaged.
MUST_USE int epochs_load(struct epochs *e, struct disk *d, const char *dir);
void epochs_text(const struct epochs *e, struct buf *ret_text); // what the file holds
MUST_USE int epochs_store(const struct epochs *e, struct disk *d, const char *dir); // durable
bool epochs_begins_at(const struct epochs *e, int64_t offset);
void epochs_end(const struct epochs *e, int32_t epoch, int64_t log_start, int64_t log_end,
                int32_t *ret_epoch, int64_t *ret_end);
