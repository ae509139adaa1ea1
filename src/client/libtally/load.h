#pragma once
// librdkafka, libpq and SQLite, loaded when a handle needs them. A handle has tables of its own:
// there is no global state, and `tally serve` pays for none of the three.

#include "client/libtally/error.h"

#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <sqlite3.h>

#define LOAD_KAFKA(X)                                                                              \
    X(rd_kafka_conf_new)                                                                           \
    X(rd_kafka_conf_destroy)                                                                       \
    X(rd_kafka_conf_set)                                                                           \
    X(rd_kafka_conf_get)                                                                           \
    X(rd_kafka_conf_set_opaque)                                                                    \
    X(rd_kafka_conf_set_rebalance_cb)                                                              \
    X(rd_kafka_conf_set_log_cb)                                                                    \
    X(rd_kafka_conf_set_error_cb)                                                                  \
    X(rd_kafka_conf_set_dr_msg_cb)                                                                 \
    X(rd_kafka_new)                                                                                \
    X(rd_kafka_destroy)                                                                            \
    X(rd_kafka_opaque)                                                                             \
    X(rd_kafka_poll)                                                                               \
    X(rd_kafka_poll_set_consumer)                                                                  \
    X(rd_kafka_subscribe)                                                                          \
    X(rd_kafka_consumer_poll)                                                                      \
    X(rd_kafka_consumer_close)                                                                     \
    X(rd_kafka_message_destroy)                                                                    \
    X(rd_kafka_message_timestamp)                                                                  \
    X(rd_kafka_message_headers)                                                                    \
    X(rd_kafka_header_get_all)                                                                     \
    X(rd_kafka_header_cnt)                                                                         \
    X(rd_kafka_topic_name)                                                                         \
    X(rd_kafka_topic_new)                                                                          \
    X(rd_kafka_topic_destroy)                                                                      \
    X(rd_kafka_topic_partition_list_new)                                                           \
    X(rd_kafka_topic_partition_list_add)                                                           \
    X(rd_kafka_topic_partition_list_destroy)                                                       \
    X(rd_kafka_assign)                                                                             \
    X(rd_kafka_incremental_assign)                                                                 \
    X(rd_kafka_incremental_unassign)                                                               \
    X(rd_kafka_assignment_lost)                                                                    \
    X(rd_kafka_rebalance_protocol)                                                                 \
    X(rd_kafka_error_destroy)                                                                      \
    X(rd_kafka_error_string)                                                                       \
    X(rd_kafka_commit)                                                                             \
    X(rd_kafka_committed)                                                                          \
    X(rd_kafka_query_watermark_offsets)                                                            \
    X(rd_kafka_offsets_for_times)                                                                  \
    X(rd_kafka_queue_get_consumer)                                                                 \
    X(rd_kafka_queue_length)                                                                       \
    X(rd_kafka_queue_destroy)                                                                      \
    X(rd_kafka_get_watermark_offsets)                                                              \
    X(rd_kafka_metadata)                                                                           \
    X(rd_kafka_metadata_destroy)                                                                   \
    X(rd_kafka_err2str)                                                                            \
    X(rd_kafka_err2name)                                                                           \
    X(rd_kafka_fatal_error)                                                                        \
    X(rd_kafka_headers_new)                                                                        \
    X(rd_kafka_headers_copy)                                                                       \
    X(rd_kafka_headers_destroy)                                                                    \
    X(rd_kafka_header_add)                                                                         \
    X(rd_kafka_producev)                                                                           \
    X(rd_kafka_flush)

#define LOAD_POSTGRES(X)                                                                           \
    X(PQconnectdbParams)                                                                           \
    X(PQfinish)                                                                                    \
    X(PQstatus)                                                                                    \
    X(PQtransactionStatus)                                                                         \
    X(PQerrorMessage)                                                                              \
    X(PQexec)                                                                                      \
    X(PQprepare)                                                                                   \
    X(PQexecPrepared)                                                                              \
    X(PQdescribePrepared)                                                                          \
    X(PQresultStatus)                                                                              \
    X(PQresultErrorField)                                                                          \
    X(PQclear)                                                                                     \
    X(PQntuples)                                                                                   \
    X(PQnfields)                                                                                   \
    X(PQfname)                                                                                     \
    X(PQftype)                                                                                     \
    X(PQgetvalue)                                                                                  \
    X(PQgetlength)                                                                                 \
    X(PQgetisnull)                                                                                 \
    X(PQcmdTuples)                                                                                 \
    X(PQsetNoticeProcessor)                                                                        \
    X(PQconninfoParse)                                                                             \
    X(PQconninfoFree)                                                                              \
    X(PQfreemem)

#define LOAD_SQLITE(X)                                                                             \
    X(sqlite3_open_v2)                                                                             \
    X(sqlite3_close_v2)                                                                            \
    X(sqlite3_errmsg)                                                                              \
    X(sqlite3_extended_errcode)                                                                    \
    X(sqlite3_busy_timeout)                                                                        \
    X(sqlite3_exec)                                                                                \
    X(sqlite3_prepare_v2)                                                                          \
    X(sqlite3_finalize)                                                                            \
    X(sqlite3_step)                                                                                \
    X(sqlite3_reset)                                                                               \
    X(sqlite3_clear_bindings)                                                                      \
    X(sqlite3_bind_parameter_index)                                                                \
    X(sqlite3_bind_parameter_count)                                                                \
    X(sqlite3_bind_null)                                                                           \
    X(sqlite3_bind_int64)                                                                          \
    X(sqlite3_bind_double)                                                                         \
    X(sqlite3_bind_text64)                                                                         \
    X(sqlite3_bind_blob64)                                                                         \
    X(sqlite3_bind_zeroblob)                                                                       \
    X(sqlite3_column_count)                                                                        \
    X(sqlite3_column_name)                                                                         \
    X(sqlite3_column_decltype)                                                                     \
    X(sqlite3_column_type)                                                                         \
    X(sqlite3_column_int64)                                                                        \
    X(sqlite3_column_double)                                                                       \
    X(sqlite3_column_blob)                                                                         \
    X(sqlite3_column_text)                                                                         \
    X(sqlite3_column_bytes)                                                                        \
    X(sqlite3_changes)                                                                             \
    X(sqlite3_get_autocommit)

// Fields have the names of the functions.
#define LOAD_FIELD(name) __typeof__(&name) name;
struct kafka_api {
    void *library;
    LOAD_KAFKA(LOAD_FIELD)
};
struct postgres_api {
    void *library;
    LOAD_POSTGRES(LOAD_FIELD)
};
struct sqlite_api {
    void *library;
    LOAD_SQLITE(LOAD_FIELD)
};

// 0 or TALLY_LIBRARY. Unloading is done with the process: these libraries own threads and
// thread-local data that outlive their last handle.
int load_kafka(struct kafka_api *ret_api, struct tally_error *error);
int load_postgres(struct postgres_api *ret_api, struct tally_error *error);
int load_sqlite(struct sqlite_api *ret_api, struct tally_error *error);
