#include "client/internal.h"
#include "wire/batch.h"

#include <errno.h>
#include <stdlib.h>

#define FETCH_BY_NAME 12      // the last version that names topics, not ids
#define FETCH_WAIT_MS 500     // for records that are there at once
#define FETCH_BYTES (1 << 20) // of one partition in one answer; a larger batch comes whole
#define MAX_EMPTY_ANSWERS 4   // then what is left is held back by an open transaction
#define READ_COMMITTED 1

struct reader_partition {
    int32_t partition;
    int32_t leader;
    int64_t next;
    int64_t end; // when it was opened
    int n_empty; // answers in a row
};

struct client_reader {
    struct client *client;
    struct arena *names; // lives as long
    struct arena *a;     // of one answer
    struct str topic;
    struct reader_partition *partitions;
    int32_t n_partitions;
    int32_t at; // whose turn it is
    // The answer that is given out.
    const struct fetch_response_partition *answer; // NULL: none
    struct bytes rest;
    bool is_in_batch;
    struct record_iter it;
    struct buf scratch;
};

static int find_ends(struct client_reader *r, const struct client_topic *t)
{
    r->partitions = arena_array(r->names, (size_t)t->n_partitions, sizeof *r->partitions);
    r->n_partitions = t->n_partitions;
    for (int32_t i = 0; i < t->n_partitions; i++) {
        struct reader_partition *p = &r->partitions[i];
        *p = (struct reader_partition){.partition = t->partitions[i].partition,
                                       .leader = t->partitions[i].leader};
        if (p->leader < 0)
            return client_fail(r->client, -EHOSTUNREACH, "%.*s/%d has no leader now",
                               STR_FMT(r->topic), (int)p->partition);
        int rc = client_list_offset(r->client, r->topic, p->partition, p->leader, CLIENT_EARLIEST,
                                    &p->next);
        if (rc == 0)
            rc = client_list_offset(r->client, r->topic, p->partition, p->leader, CLIENT_LATEST,
                                    &p->end);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int client_reader_open(struct client *c, const char *topic, struct client_reader **ret_reader)
{
    struct client_reader *r = calloc(1, sizeof *r);
    CHECK(r);
    r->client = c;
    r->names = arena_new();
    r->a = arena_new();
    r->topic = str_from(topic);
    struct client_topic *found;
    int32_t n;
    int rc = client_metadata(c, &r->topic, 1, r->names, &found, &n);
    if (rc == 0 && n != 1)
        rc = client_fail(c, -EBADMSG, "Metadata: an answer without the topic");
    if (rc == 0 && found->error_code)
        rc = client_refused(c, found->error_code, "topic %s", topic);
    if (rc == 0)
        rc = find_ends(r, found);
    if (rc < 0) {
        client_reader_close(r);
        return rc;
    }
    *ret_reader = r;
    return 0;
}

void client_reader_close(struct client_reader *r)
{
    if (!r)
        return;
    buf_free(&r->scratch);
    arena_free(r->a);
    arena_free(r->names);
    free(r);
}

// Asks for what comes next in a partition. Its answer is then given out.
static int fetch(struct client_reader *r, struct reader_partition *p)
{
    struct fetch_request_partition part;
    fetch_request_partition_init(&part);
    part.partition = p->partition;
    part.fetch_offset = p->next;
    part.partition_max_bytes = FETCH_BYTES;
    struct fetch_request_topic topic;
    fetch_request_topic_init(&topic);
    topic.topic = r->topic;
    topic.partitions = &part;
    topic.n_partitions = 1;
    struct fetch_request request;
    fetch_request_init(&request);
    request.max_wait_ms = FETCH_WAIT_MS;
    request.min_bytes = 1;
    request.max_bytes = FETCH_BYTES;
    request.isolation_level = READ_COMMITTED;
    request.topics = &topic;
    request.n_topics = 1;
    request.rack_id = STR_EMPTY;
    arena_reset(r->a);
    r->answer = NULL;
    struct fetch_response *response = arena_array(r->a, 1, sizeof *response);
    int rc =
        client_call(r->client, p->leader, API_FETCH, FETCH_BY_NAME, &request, r->a, response, NULL);
    if (rc < 0)
        return rc;
    if (response->error_code)
        return client_refused(r->client, response->error_code, "fetch from %.*s/%d",
                              STR_FMT(r->topic), (int)p->partition);
    if (response->n_responses != 1 || response->responses[0].n_partitions != 1)
        return client_fail(r->client, -EBADMSG, "Fetch: an answer without the partition");
    const struct fetch_response_partition *got = &response->responses[0].partitions[0];
    if (got->error_code == KERR_OFFSET_OUT_OF_RANGE) {
        // Retention was faster: on with what is left.
        return client_list_offset(r->client, r->topic, p->partition, p->leader, CLIENT_EARLIEST,
                                  &p->next);
    }
    if (got->error_code)
        return client_refused(r->client, got->error_code, "fetch from %.*s/%d", STR_FMT(r->topic),
                              (int)p->partition);
    r->answer = got;
    r->rest = (struct bytes){got->records.ptr, got->records.len > 0 ? (size_t)got->records.len : 0};
    r->is_in_batch = false;
    p->n_empty = r->rest.len > 0 ? 0 : p->n_empty + 1;
    return 0;
}

// A transaction's records before its abort marker; the list names those that overlap the answer.
static bool is_aborted(const struct fetch_response_partition *answer, const struct batch *b)
{
    if (!batch_is_transactional(b))
        return false;
    for (int32_t i = 0; i < answer->n_aborted_transactions; i++) {
        const struct fetch_response_aborted_transaction *t = &answer->aborted_transactions[i];
        if (t->producer_id != b->producer_id || b->base_offset < t->first_offset)
            continue;
        // Up to this producer's next marker; one behind that is another transaction.
        struct bytes rest = {answer->records.ptr, (size_t)answer->records.len};
        struct batch m;
        bool is_ended = false;
        while (batch_next(&rest, &m) > 0 && m.base_offset < b->base_offset)
            is_ended |= batch_is_control(&m) && m.producer_id == b->producer_id &&
                        m.base_offset > t->first_offset;
        if (!is_ended)
            return true;
    }
    return false;
}

// Into the next batch of the answer that holds records. 1, 0: it is used up, or negative.
static int next_batch(struct client_reader *r, struct reader_partition *p)
{
    struct batch b;
    int rc;
    while ((rc = batch_next(&r->rest, &b)) > 0) {
        int64_t behind = batch_last_offset(&b) + 1;
        if (behind <= p->next)
            continue;
        if (batch_is_control(&b) || is_aborted(r->answer, &b)) {
            p->next = behind;
            continue;
        }
        rc = record_iter_start(&r->it, &b, &r->scratch);
        if (rc < 0)
            break;
        r->is_in_batch = true;
        return 1;
    }
    if (rc < 0)
        return client_fail(r->client, -EBADMSG,
                           "%.*s/%d: a batch at or behind offset %lld is damaged, or of the old "
                           "message format",
                           STR_FMT(r->topic), (int)p->partition, (long long)p->next);
    return 0;
}

// The next record of the answer: 1, 0: there is no more, or negative.
static int next_of_answer(struct client_reader *r, struct reader_partition *p,
                          struct client_read *ret)
{
    for (;;) {
        int rc = r->is_in_batch ? 1 : next_batch(r, p);
        if (rc <= 0)
            return rc;
        struct record got;
        rc = record_next(&r->it, &got);
        if (rc < 0)
            return client_fail(r->client, -EBADMSG, "%.*s/%d: the batch at offset %lld is damaged",
                               STR_FMT(r->topic), (int)p->partition,
                               (long long)r->it.batch.base_offset);
        if (rc == 0) {
            r->is_in_batch = false;
            // Compaction may have taken the last ones.
            int64_t behind = batch_last_offset(&r->it.batch) + 1;
            p->next = behind > p->next ? behind : p->next;
            continue;
        }
        if (got.offset < p->next)
            continue;
        if (got.offset >= p->end)
            return 0;
        p->next = got.offset + 1;
        *ret = (struct client_read){.partition = p->partition,
                                    .offset = got.offset,
                                    .key = got.key,
                                    .value = got.value,
                                    .n_headers = got.n_headers,
                                    .headers = got.headers};
        return 1;
    }
}

int client_reader_next(struct client_reader *r, struct client_read *ret)
{
    int32_t n_done = 0;
    while (n_done < r->n_partitions) {
        struct reader_partition *p = &r->partitions[r->at];
        int rc = r->answer ? next_of_answer(r, p, ret) : 0;
        if (rc != 0)
            return rc;
        if (r->answer) {
            r->answer = NULL;
            r->at = (r->at + 1) % r->n_partitions;
            continue;
        }
        if (p->next >= p->end || p->n_empty >= MAX_EMPTY_ANSWERS) {
            n_done++;
            r->at = (r->at + 1) % r->n_partitions;
            continue;
        }
        n_done = 0;
        rc = fetch(r, p);
        if (rc < 0)
            return rc;
    }
    return 0;
}
