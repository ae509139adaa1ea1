#pragma once
// Topics, their partitions, every setting that can be altered while running, and producer ids:
// pure. Decisions (topics_decide_*) read the state and put records and a reply into the effects;
// only topics_apply() changes it. Logs themselves are the shell's (broker/partition.h).

#include "core/configs.h"
#include "core/effects.h"
#include "schema.h"

// Kafka's limit is the file name's: NAME-PARTITION must fit 255 bytes.
#define TOPIC_NAME_MAX 249
// A partition costs a directory, memory and time at start; a request for more is a mistake.
#define TOPIC_PARTITIONS_MAX 100000
// Ids are handed out from blocks, one journal record each.
#define PRODUCER_ID_BLOCK 1000
// The one node there is.
#define TALLY_NODE_ID 1

// What settings belong to, as on the wire. For brokers the name is "1", or "" for all of them.
enum resource_type {
    RESOURCE_TOPIC = 2,
    RESOURCE_BROKER = 4,
    RESOURCE_BROKER_LOGGER = 8,
    RESOURCE_CLIENT_METRICS = 16,
    RESOURCE_GROUP = 32,
};

// Why a log's start moved (record log_start_moved).
enum log_start_cause { LOG_START_RETENTION = 0, LOG_START_DELETE_RECORDS = 1 };

// Holes kept of one log. Each is an unclean stop of the machine; beyond that many the oldest
// would count as records, which only a log that nothing was ever trimmed from can show.
#define TOPIC_GAPS_MAX 1024

// [from, to) of a log holds no records: the machine went down, and the log went on at `to`.
struct topic_gap {
    int32_t epoch; // that began at `to`
    int64_t from;
    int64_t to;
};

// What the journal knows of one partition.
struct topic_partition {
    int32_t leader_epoch;       // 0 at first; +1 for each unclean stop of the machine
    int64_t epoch_start_offset; // where the current epoch begins
    struct topic_gap *gaps;     // owned, rising, apart
    int32_t n_gaps;
    int64_t reserved_upto; // offsets below may be in use (record offsets_reserved)
    int64_t synced;        // below it nothing can be torn, as that record said
    int64_t log_start;     // the highest start the journal was told
};

struct topic {
    struct uuid id;
    struct str name; // owned by the topic, terminated
    bool is_internal;
    int32_t n_partitions;
    struct topic_partition *partitions;
    struct configs *configs; // overrides only
    int64_t created_ms;
};

struct topics;

// fixed: the broker's own configs (file and --set), borrowed; may be NULL.
struct topics *topics_new(const struct configs *fixed);
void topics_free(struct topics *ts);

const struct topic *topics_by_name(const struct topics *ts, struct str name); // NULL: none
const struct topic *topics_by_id(const struct topics *ts, struct uuid id);
size_t topics_count(const struct topics *ts);
uint64_t topics_partitions(const struct topics *ts); // of all topics together
// In order of creation; *it starts at 0. NULL at the end.
const struct topic *topics_next(const struct topics *ts, size_t *it);
// Changes whenever a topic is made, deleted or widened: groups compare it to see new partitions.
uint64_t topics_version(const struct topics *ts);
// Changes with every setting: whoever caches resolved values compares it.
uint64_t topics_config_version(const struct topics *ts);

// Where to look settings up.
struct config_view topics_broker_view(const struct topics *ts);
struct config_view topics_topic_view(const struct topics *ts, const struct topic *t);
struct config_view topics_group_view(const struct topics *ts, struct str group);
const struct configs *topics_group_configs(const struct topics *ts, struct str group); // or NULL

// KERR_NONE, or KERR_INVALID_TOPIC_EXCEPTION.
enum kerr topic_name_check(struct str name);
// Why a name is not legal, in Kafka's words; in the arena.
const char *topic_name_text(struct str name, struct arena *a);

// How replication factors above 1 are taken. Set once at start.
void topics_clamp_replication(struct topics *ts, bool on);

// How many partitions all topics together may have. Set at start; what is there already stays.
void topics_limit_partitions(struct topics *ts, uint64_t most);

// The decisions. Each answers a->token through the effects.
void topics_decide_create(const struct topics *ts, const struct asker *a,
                          const struct create_topics_request *req, struct effects *fx);
void topics_decide_delete(const struct topics *ts, const struct asker *a,
                          const struct delete_topics_request *req, struct effects *fx);
void topics_decide_add_partitions(const struct topics *ts, const struct asker *a,
                                  const struct create_partitions_request *req, struct effects *fx);
void topics_decide_alter_configs(const struct topics *ts, const struct asker *a,
                                 const struct alter_configs_request *req, struct effects *fx);
void topics_decide_alter_configs_incrementally(const struct topics *ts, const struct asker *a,
                                               const struct incremental_alter_configs_request *req,
                                               struct effects *fx);
// Handing out an id from a block is soft state, therefore not const: after a restart the rest of
// a block is skipped.
void topics_decide_init_producer_id(struct topics *ts, const struct asker *a,
                                    const struct init_producer_id_request *req, struct effects *fx);

// Reads nothing but topics and settings.
void topics_decide_describe_configs(const struct topics *ts, const struct asker *a,
                                    const struct describe_configs_request *req, struct effects *fx);

// Adds the record that makes a topic with default settings (Metadata's auto creation, and the
// internal topics with partitions > 0). Nothing is answered. KERR_NONE when the record was added,
// KERR_TOPIC_ALREADY_EXISTS, KERR_INVALID_TOPIC_EXCEPTION.
enum kerr topics_decide_make(const struct topics *ts, const struct asker *a, struct str name,
                             int32_t partitions, bool is_internal, struct effects *fx);

// Applies one of our records (schema/records_topic.kw). False: not one of ours.
bool topics_apply(struct topics *ts, const struct kw_message *type, const void *record);

// The whole state as records, for a snapshot: applied to an empty struct they give it again.
void topics_snapshot(const struct topics *ts, struct effects *fx);
