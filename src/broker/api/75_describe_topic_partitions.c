// DescribeTopicPartitions: partitions of topics in order of name, a page at a time.
#include <stdlib.h>

#include "broker/api/api.h"
#include "broker/api/find.h"

struct page {
    struct request *r;
    struct describe_topic_partitions_response *resp;
    int32_t left; // partitions that still fit
};

static int by_name(const void *a, const void *b)
{
    return str_cmp(*(const struct str *)a, *(const struct str *)b);
}

// The names asked for, or all, sorted and each once, from the cursor's topic on.
static struct str *names_of(struct request *r, size_t *ret_n)
{
    const struct describe_topic_partitions_request *req = r->body;
    const struct topics *ts = broker_topics(r->broker);
    size_t n = 0, kept = 0;
    struct str *names;
    if (req->n_topics > 0) {
        names = arena_array(r->arena, (size_t)req->n_topics, sizeof *names);
        for (int32_t i = 0; i < req->n_topics; i++)
            names[n++] = req->topics[i].name;
    } else {
        names = arena_array(r->arena, topics_count(ts), sizeof *names);
        const struct topic *t;
        for (size_t it = 0; (t = topics_next(ts, &it));)
            names[n++] = t->name;
    }
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++)
        if ((kept == 0 || !str_eq(names[kept - 1], names[i])) &&
            (!req->cursor || str_cmp(names[i], req->cursor->topic_name) >= 0))
            names[kept++] = names[i];
    *ret_n = kept;
    return names;
}

static void fill_partition(const struct topic *t, int32_t i, int32_t *us, int32_t *none,
                           struct describe_topic_partitions_response_partition *p)
{
    describe_topic_partitions_response_partition_init(p);
    p->partition_index = i;
    p->leader_id = TALLY_NODE_ID;
    p->leader_epoch = t->partitions[i].leader_epoch;
    p->replica_nodes = p->isr_nodes = us;
    p->n_replica_nodes = p->n_isr_nodes = 1;
    p->eligible_leader_replicas = p->last_known_elr = none;
    p->n_eligible_leader_replicas = p->n_last_known_elr = 0;
}

static void set_cursor(struct page *page, struct str topic, int32_t partition)
{
    page->resp->next_cursor = arena_alloc(page->r->arena, sizeof *page->resp->next_cursor);
    page->resp->next_cursor->topic_name = arena_str(page->r->arena, topic);
    page->resp->next_cursor->partition_index = partition;
}

static void fill_topic(struct page *page, const struct topic *t, int32_t first,
                       struct describe_topic_partitions_response_topic *out)
{
    struct arena *a = page->r->arena;
    int32_t n = t->n_partitions - first;
    n = n > page->left ? page->left : n;
    out->name = arena_str(a, t->name);
    out->topic_id = t->id;
    out->is_internal = t->is_internal;
    out->topic_authorized_operations = ALL_TOPIC_OPERATIONS;
    out->partitions = arena_array(a, (size_t)n, sizeof *out->partitions);
    out->n_partitions = n;
    int32_t *us = arena_array(a, 2, sizeof *us);
    us[0] = TALLY_NODE_ID;
    for (int32_t i = 0; i < n; i++)
        fill_partition(t, first + i, us, us + 1, &out->partitions[i]);
    page->left -= n;
    if (first + n < t->n_partitions)
        set_cursor(page, t->name, first + n);
}

static void fill(struct page *page, struct str name, int32_t first)
{
    struct describe_topic_partitions_response_topic *out =
        &page->resp->topics[page->resp->n_topics++];
    describe_topic_partitions_response_topic_init(out);
    out->name = name;
    const struct topic *t = topics_by_name(broker_topics(page->r->broker), name);
    if (t)
        fill_topic(page, t, first < t->n_partitions ? first : t->n_partitions, out);
    else
        out->error_code = topic_name_check(name) == KERR_NONE ? KERR_UNKNOWN_TOPIC_OR_PARTITION
                                                              : KERR_INVALID_TOPIC_EXCEPTION;
}

// Who asks for topics by name goes on at one of them.
static bool cursor_is_good(const struct describe_topic_partitions_request *req)
{
    bool found = req->n_topics <= 0;
    for (int32_t i = 0; !found && i < req->n_topics; i++)
        found = str_eq(req->topics[i].name, req->cursor->topic_name);
    return found && req->cursor->partition_index >= 0;
}

// The answer has no error of its own: each topic bears it.
static void refuse(struct request *r)
{
    const struct describe_topic_partitions_request *req = r->body;
    struct describe_topic_partitions_response *resp = request_response(r);
    size_t n = req->n_topics > 0 ? (size_t)req->n_topics : 0;
    resp->topics = arena_array(r->arena, n, sizeof *resp->topics);
    for (size_t i = 0; i < n; i++) {
        struct describe_topic_partitions_response_topic *out = &resp->topics[resp->n_topics++];
        describe_topic_partitions_response_topic_init(out);
        out->name = req->topics[i].name;
        out->error_code = KERR_INVALID_REQUEST;
    }
    request_reply(r, resp);
}

void api_describe_topic_partitions(struct request *r)
{
    const struct describe_topic_partitions_request *req = r->body;
    if (req->cursor && !cursor_is_good(req)) {
        refuse(r);
        return;
    }
    struct config_view v = broker_view(r->broker);
    int64_t limit = config_i64(&v, "max.request.partition.size.limit");
    if (req->response_partition_limit < limit)
        limit = req->response_partition_limit > 0 ? req->response_partition_limit : 1;
    struct page page = {r, request_response(r), (int32_t)limit};
    size_t n;
    struct str *names = names_of(r, &n);
    page.resp->topics = arena_array(r->arena, n, sizeof *page.resp->topics);
    for (size_t i = 0; i < n && !page.resp->next_cursor; i++) {
        bool at_cursor = req->cursor && str_eq(names[i], req->cursor->topic_name);
        if (page.left == 0)
            set_cursor(&page, names[i], 0);
        else
            fill(&page, names[i], at_cursor ? req->cursor->partition_index : 0);
    }
    request_reply(r, page.resp);
}
