#pragma once
// Members of one consumer group (classic protocol), one on each connection. Private to src/client.

#include "client/load_engine.h"

enum member_state {
    MEMBER_OUT, // has not asked, or left
    MEMBER_JOINING,
    MEMBER_SYNCING,
    MEMBER_STABLE,
};

struct member {
    enum member_state state;
    struct str group;
    char id[256]; // "" until the coordinator has given one
    int32_t generation;
    uint64_t asked_ns; // when the join began
    uint64_t beat_ns;  // when the next heartbeat is due
    bool is_asking;    // a request is on its way
    int64_t offset;    // committed last
    int32_t partition; // that it commits: the first that is its own, or any if none is
};

struct members {
    struct load *load;
    struct member *of; // owned, one a connection
    int32_t n;
    int32_t n_stable;
    int32_t generation; // of the stable ones, the newest
    uint64_t beat_every_ns;
    int join_version, sync_version, beat_version, leave_version;
    // A member has its assignment. May be NULL.
    void (*on_stable)(struct members *m, int32_t i);
    // An answer to what the kind itself asked (tag >= MEMBERS_TAGS).
    void (*on_other)(struct members *m, int32_t i, const struct load_sent *s, struct bytes frame);
};

#define MEMBERS_TAGS 100

// Opens the connections to the coordinator; nobody joins yet.
MUST_USE int members_open(struct members *m, struct load *l, int32_t n, char *why);
// So that the next run of the same group need not wait for these.
void members_leave_all(struct members *m);
void members_close(struct members *m);
void members_join(struct members *m, int32_t i, uint64_t now_ns);
void members_leave(struct members *m, int32_t i);
// Sends the heartbeats that are due; when the next one is.
uint64_t members_beat(struct members *m, uint64_t now_ns);
