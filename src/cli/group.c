#include "cli/cli.h"
#include "client/client.h"

#include "schema.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 30000

static const char help[] =
    "usage: tally group list\n"
    "       tally group describe GROUP\n"
    "       tally group set GROUP --expect at-least-once|at-most-once|exactly-once\n"
    "       tally group reset GROUP --topic T --to earliest|latest|OFFSET|TIME [--execute]\n"
    "\n"
    "  -b, --bootstrap HOST:PORT   any Kafka-protocol cluster (default 127.0.0.1:9092)\n"
    "      --expect GUARANTEE      what the group is held to (tally only)\n"
    "      --topic T               which topic's offsets are reset\n"
    "      --partition N           only this partition\n"
    "      --to WHERE              earliest, latest, an offset, or a time (2026-01-31T10:00:00Z)\n"
    "      --execute               do it; without it the change is only shown\n"
    "\n"
    "examples:\n"
    "  tally group describe orders-app\n"
    "  tally group reset orders-app --topic orders --to earliest\n"
    "  tally group set orders-app --expect exactly-once\n";

struct options {
    const char *bootstrap;
    const char *expect;
    const char *topic;
    const char *to;
    int64_t partition; // -1: all
    bool execute;
    const char *action;
    const char *group;
};

static int failed(const struct client *c)
{
    return cli_fail("group", "%s", client_error(c));
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"bootstrap", required_argument, NULL, 'b'},
                                            {"expect", required_argument, NULL, 'e'},
                                            {"topic", required_argument, NULL, 't'},
                                            {"partition", required_argument, NULL, 'p'},
                                            {"to", required_argument, NULL, 'o'},
                                            {"execute", no_argument, NULL, 'x'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *o = (struct options){.bootstrap = CLI_BOOTSTRAP_DEFAULT, .partition = -1};
    int c;
    while ((c = getopt_long(argc, argv, "b:h", options, NULL)) != -1) {
        switch (c) {
        case 'b':
            o->bootstrap = optarg;
            break;
        case 'e':
            o->expect = optarg;
            break;
        case 't':
            o->topic = optarg;
            break;
        case 'p':
            if (!cli_number(optarg, 0, INT32_MAX, &o->partition))
                return cli_fail("group", "--partition wants a number, not \"%s\"", optarg);
            break;
        case 'o':
            o->to = optarg;
            break;
        case 'x':
            o->execute = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(CLI_FINE);
        default:
            return cli_see_help("group");
        }
    }
    o->action = optind < argc ? argv[optind] : "";
    o->group = optind + 1 < argc ? argv[optind + 1] : NULL;
    if (argc - optind > 2)
        return cli_fail("group", "one group at a time (see --help)");
    return 0;
}

static int list(struct client *c, struct arena *a)
{
    // Every broker lists the groups that it coordinates.
    struct describe_cluster_request cluster_request;
    describe_cluster_request_init(&cluster_request);
    struct describe_cluster_response cluster;
    if (client_call(c, CLIENT_ANY_NODE, API_DESCRIBE_CLUSTER, -1, &cluster_request, a, &cluster,
                    NULL) < 0)
        return failed(c);
    struct client_topic *topics; // asked for the brokers' addresses
    int32_t n_topics;
    if (client_metadata(c, &STR_EMPTY, 0, a, &topics, &n_topics) < 0)
        return failed(c);
    for (int32_t b = 0; b < cluster.n_brokers; b++) {
        struct list_groups_request request;
        list_groups_request_init(&request);
        struct list_groups_response response;
        if (client_call(c, cluster.brokers[b].broker_id, API_LIST_GROUPS, -1, &request, a,
                        &response, NULL) < 0)
            return failed(c);
        if (response.error_code)
            return cli_fail("group", "list: %s", kerr_name(response.error_code));
        for (int32_t i = 0; i < response.n_groups; i++)
            printf("%.*s\t%.*s\t%.*s\n", STR_FMT(cli_shown(response.groups[i].group_id, a)),
                   STR_FMT(response.groups[i].group_state),
                   STR_FMT(cli_shown(response.groups[i].protocol_type, a)));
    }
    return CLI_FINE;
}

// The group as its coordinator sees it; a group nobody knows has state Dead.
static int ask_group(struct client *c, const struct options *o, int32_t node, struct arena *a,
                     struct describe_groups_response_group *ret)
{
    struct str name = str_from(o->group);
    struct describe_groups_request request;
    describe_groups_request_init(&request);
    request.groups = &name;
    request.n_groups = 1;
    struct describe_groups_response response;
    if (client_call(c, node, API_DESCRIBE_GROUPS, -1, &request, a, &response, NULL) < 0)
        return failed(c);
    if (response.n_groups != 1)
        return cli_fail("group", "the broker told nothing of %s", o->group);
    *ret = response.groups[0];
    if (ret->error_code == KERR_GROUP_ID_NOT_FOUND || str_eq_c(ret->group_state, "Dead"))
        return cli_fail("group", "no group \"%s\"; tally group list names all", o->group);
    if (ret->error_code)
        return cli_fail("group", "%s: %s", o->group, kerr_name(ret->error_code));
    return CLI_FINE;
}

static int32_t leader_of(const struct client_topic *topics, int32_t n_topics, struct str topic,
                         int32_t partition)
{
    for (int32_t i = 0; i < n_topics; i++) {
        if (!str_eq(topics[i].name, topic))
            continue;
        for (int32_t p = 0; p < topics[i].n_partitions; p++) {
            if (topics[i].partitions[p].partition == partition)
                return topics[i].partitions[p].leader;
        }
    }
    return -1;
}

static int print_offsets(struct client *c, const struct client_offset *offsets, int32_t n,
                         struct arena *a)
{
    struct client_topic *topics;
    int32_t n_topics;
    if (client_metadata(c, NULL, 0, a, &topics, &n_topics) < 0)
        return failed(c);
    printf("  %-30s %9s %12s %12s %12s\n", "topic", "partition", "committed", "end", "lag");
    for (int32_t i = 0; i < n; i++) {
        int32_t leader = leader_of(topics, n_topics, offsets[i].topic, offsets[i].partition);
        int64_t end;
        printf("  %-30.*s %9d %12lld", STR_FMT(offsets[i].topic), (int)offsets[i].partition,
               (long long)offsets[i].offset);
        if (leader < 0) { // the topic is gone, the offset is not
            printf(" %12s %12s\n", "-", "-");
            continue;
        }
        if (client_list_offset(c, offsets[i].topic, offsets[i].partition, leader, CLIENT_LATEST,
                               &end) < 0)
            return failed(c);
        printf(" %12lld %12lld\n", (long long)end, (long long)(end - offsets[i].offset));
    }
    return CLI_FINE;
}

static int by_place(const void *a, const void *b)
{
    const struct client_offset *x = a, *y = b;
    int order = str_cmp(x->topic, y->topic);
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

static int describe(struct client *c, const struct options *o, struct arena *a)
{
    int32_t node = CLIENT_ANY_NODE;
    if (client_coordinator(c, str_from(o->group), &node) < 0)
        return failed(c);
    struct describe_groups_response_group group;
    int status = ask_group(c, o, node, a, &group);
    if (status)
        return status;
    printf("%s  %.*s, %s%.*s, %d member%s\n", o->group, STR_FMT(group.group_state),
           group.protocol_data.len > 0 ? "assignor " : "no assignor", STR_FMT(group.protocol_data),
           (int)group.n_members, group.n_members == 1 ? "" : "s");
    for (int32_t i = 0; i < group.n_members; i++)
        printf("  member %.*s  client.id %.*s, host %.*s\n",
               STR_FMT(cli_shown(group.members[i].member_id, a)),
               STR_FMT(cli_shown(group.members[i].client_id, a)),
               STR_FMT(cli_shown(group.members[i].client_host, a)));
    struct client_offset *offsets;
    int32_t n;
    if (client_committed(c, node, str_from(o->group), a, &offsets, &n) < 0)
        return failed(c);
    if (n == 0) {
        printf("  no committed offset\n");
        return CLI_FINE;
    }
    qsort(offsets, (size_t)n, sizeof *offsets, by_place);
    return print_offsets(c, offsets, n, a);
}

static int set(struct client *c, const struct options *o, struct arena *a)
{
    struct tally_expect_request request;
    tally_expect_request_init(&request);
    request.group = str_from(o->group);
    request.expect = str_from(o->expect);
    struct tally_expect_response response;
    if (client_call(c, CLIENT_ANY_NODE, API_TALLY_EXPECT, -1, &request, a, &response, NULL) < 0)
        return failed(c);
    if (response.error_code)
        return cli_fail("group", "%s: %s: %.*s", o->group, kerr_name(response.error_code),
                        STR_FMT(response.error_message));
    printf("%s is expected to be %.*s\n", o->group, STR_FMT(response.expect));
    return CLI_FINE;
}

// Where --to is, in one partition, kept within the log as Kafka's own tool does.
static int target_offset(struct client *c, const struct options *o, struct str topic,
                         const struct client_partition *p, int64_t *ret_offset)
{
    int64_t start, end, to;
    if (client_list_offset(c, topic, p->partition, p->leader, CLIENT_EARLIEST, &start) < 0 ||
        client_list_offset(c, topic, p->partition, p->leader, CLIENT_LATEST, &end) < 0)
        return failed(c);
    if (!strcmp(o->to, "earliest")) {
        to = start;
    } else if (!strcmp(o->to, "latest")) {
        to = end;
    } else if (!cli_number(o->to, 0, INT64_MAX, &to)) {
        int64_t time_ms;
        if (!cli_time(o->to, &time_ms))
            return cli_fail("group", "--to wants earliest, latest, an offset or a time, not \"%s\"",
                            o->to);
        if (client_list_offset(c, topic, p->partition, p->leader, time_ms, &to) < 0)
            return failed(c);
        if (to < 0)
            to = end; // nothing that young
    }
    *ret_offset = to < start ? start : to > end ? end : to;
    return CLI_FINE;
}

static int64_t committed_in(const struct client_offset *offsets, int32_t n, struct str topic,
                            int32_t partition)
{
    for (int32_t i = 0; i < n; i++) {
        if (offsets[i].partition == partition && str_eq(offsets[i].topic, topic))
            return offsets[i].offset;
    }
    return -1;
}

// The offsets to commit; shown as they are found.
static int plan_reset(struct client *c, const struct options *o, int32_t node, struct arena *a,
                      struct client_offset **ret_plan, int32_t *ret_n)
{
    struct str name = str_from(o->topic);
    struct client_topic *topic;
    struct client_offset *before;
    int32_t n_topics, n_before;
    if (client_metadata(c, &name, 1, a, &topic, &n_topics) < 0 ||
        client_committed(c, node, str_from(o->group), a, &before, &n_before) < 0)
        return failed(c);
    if (n_topics != 1 || topic[0].error_code)
        return cli_fail("group", "no topic \"%s\"; tally topic list names all", o->topic);

    struct client_offset *plan = arena_array(a, (size_t)topic[0].n_partitions, sizeof *plan);
    int32_t n = 0;
    for (int32_t i = 0; i < topic[0].n_partitions; i++) {
        struct client_partition *p = &topic[0].partitions[i];
        if (o->partition >= 0 && p->partition != o->partition)
            continue;
        plan[n] = (struct client_offset){.topic = name, .partition = p->partition};
        int status = target_offset(c, o, name, p, &plan[n].offset);
        if (status)
            return status;
        int64_t from = committed_in(before, n_before, name, p->partition);
        char text[24] = "none";
        if (from >= 0)
            snprintf(text, sizeof text, "%lld", (long long)from);
        printf("%s/%d  %s -> %lld\n", o->topic, (int)p->partition, text, (long long)plan[n].offset);
        n++;
    }
    if (n == 0)
        return cli_fail("group", "%s has no partition %lld", o->topic, (long long)o->partition);
    *ret_plan = plan;
    *ret_n = n;
    return CLI_FINE;
}

static int reset(struct client *c, const struct options *o, struct arena *a)
{
    if (!o->topic || !o->to)
        return cli_fail("group", "reset wants --topic T and --to WHERE");
    int32_t node = CLIENT_ANY_NODE;
    if (client_coordinator(c, str_from(o->group), &node) < 0)
        return failed(c);
    struct describe_groups_response_group group;
    int status = ask_group(c, o, node, a, &group);
    if (status)
        return status;
    if (!str_eq_c(group.group_state, "Empty"))
        return cli_fail("group", "%s is %.*s: stop its %d members first", o->group,
                        STR_FMT(group.group_state), (int)group.n_members);
    struct client_offset *plan = NULL;
    int32_t n = 0;
    status = plan_reset(c, o, node, a, &plan, &n);
    if (status)
        return status;
    if (!o->execute) {
        printf("nothing was changed; add --execute to do it\n");
        return CLI_FINE;
    }
    if (client_commit_offsets(c, node, str_from(o->group), plan, n) < 0)
        return failed(c);
    printf("done\n");
    return CLI_FINE;
}

static int run(struct client *c, const struct options *o, struct arena *a)
{
    if (!strcmp(o->action, "list"))
        return list(c, a);
    if (!strcmp(o->action, "describe"))
        return describe(c, o, a);
    if (!strcmp(o->action, "reset"))
        return reset(c, o, a);
    return set(c, o, a);
}

int cli_group(int argc, char **argv)
{
    struct options o;
    int status = parse(argc, argv, &o);
    if (status)
        return status;
    bool is_list = !strcmp(o.action, "list"), is_set = !strcmp(o.action, "set");
    if (!is_list && !is_set && strcmp(o.action, "describe") != 0 && strcmp(o.action, "reset") != 0)
        return cli_fail("group", "say list, describe, set or reset (see --help)");
    if (!is_list && !o.group)
        return cli_fail("group", "%s which group? give its name", o.action);
    if (is_set && !o.expect)
        return cli_fail("group", "set wants --expect at-least-once, at-most-once or exactly-once");

    char why[CLIENT_WHY_MAX];
    struct client *c;
    if (client_open(o.bootstrap, "tally-group", TIMEOUT_MS, &c, why) < 0)
        return cli_fail("group", "%s", why);
    struct arena *a = arena_new();
    status = run(c, &o, a);
    arena_free(a);
    client_close(c);
    return status;
}
