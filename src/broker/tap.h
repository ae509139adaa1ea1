#pragma once
// What a drill may see and do inside the broker. Without a tap none of this costs anything.

#include "broker/request.h"

enum tap_act {
    TAP_PASS,
    TAP_HOLD, // until tap_release()
    TAP_FAIL, // answer with *ret_code and do nothing (on_request), or instead (on_response)
    TAP_DROP, // on_request: not applied and the connection cut; on_response: applied, the
              // answer is lost and the connection cut
};

enum tap_event_kind {
    TAP_CONN_OPEN,
    TAP_CONN_CLOSED,
    TAP_COMMIT, // an OffsetCommit of one partition, accepted (durable) or refused
    TAP_SENT,   // [offset, end) was given to the connection
};

struct tap_event {
    enum tap_event_kind kind;
    uint64_t conn;
    int listener;
    struct str group;
    struct str member;
    struct str client_id;
    struct uuid topic_id;
    struct str topic;
    int32_t partition;
    int64_t offset; // K of a commit, first of a range
    int64_t end;    // of a range, exclusive
    enum kerr code; // TAP_COMMIT
};

struct tap {
    void *user;
    // Before dispatch, body decoded. NULL entries pass.
    enum tap_act (*on_request)(void *user, struct request *r, enum kerr *ret_code);
    // Before the answer is encoded; it may be changed in place.
    enum tap_act (*on_response)(void *user, struct request *r, void *response, enum kerr *ret_code);
    void (*on_event)(void *user, const struct tap_event *e);
};

void broker_set_tap(struct broker *b, const struct tap *t); // copied; NULL removes

// Lets a held request or response go on; fails (false) when it is gone.
bool tap_release(struct broker *b, uint64_t token);
// Cuts a held one's connection; or any connection.
void tap_cut(struct broker *b, uint64_t conn);
int tap_listener(struct broker *b, uint64_t conn); // -1: gone

// Acts. Each is committed like any decision; its effect is durable before anybody sees it.
enum tap_eviction { TAP_SESSION_TIMEOUT, TAP_POLL_TIMEOUT };
enum kerr tap_evict(struct broker *b, struct str group, struct str member, enum tap_eviction how);
enum kerr tap_add_partitions(struct broker *b, struct str topic, int32_t total);
enum kerr tap_trim(struct broker *b, struct str topic, int32_t partition, int64_t new_start);
enum kerr tap_set_offset(struct broker *b, struct str group, struct str topic, int32_t partition,
                         int64_t offset);
