#include "cli/cli.h"
#include "cli/topic_copy.h"
#include "client/client.h"

#include "schema.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 30000
#define DATA_DEFAULT "./tally-data"
#define MAX_CONFIGS 64         // --set on one command line
#define RESOURCE_TOPIC 2       // Kafka's number for a topic in the configs APIs
#define SOURCE_DYNAMIC_TOPIC 1 // set on the topic itself
#define OP_SET 0               // IncrementalAlterConfigs
#define OP_DELETE 1
#define DELETE_TOPICS_BY_NAME 5 // the last version that names topics in one plain list

static const char help[] =
    "usage: tally topic create NAME [--partitions N] [--set NAME=VALUE]...\n"
    "       tally topic list\n"
    "       tally topic describe NAME...\n"
    "       tally topic alter NAME [--partitions N] [--set NAME=VALUE]...   (NAME= : default "
    "again)\n"
    "       tally topic delete NAME...\n"
    "       tally topic export DIR [NAME]... [--data DIR]\n"
    "       tally topic import DIR [NAME]... [--data DIR] [--set NAME=VALUE]...\n"
    "       tally topic repair [NAME]... [--data DIR]\n"
    "\n"
    "export and import copy topics to and from a data directory of Apache Kafka (its log.dirs), "
    "all\n"
    "of them unless some are named. Neither broker may run. An empty topic that Kafka made is "
    "filled;\n"
    "one that is imported keeps its records for ever unless retention.ms is set.\n"
    "\n"
    "repair is for damaged files that a stopped broker does not start with, or could not read: it "
    "reads\n"
    "every batch, keeps what is whole at its offsets, names the offsets that are lost, and leaves "
    "the\n"
    "segments as they were beside the new ones, as *.log.damaged. A copy put back is better.\n"
    "\n"
    "  -b, --bootstrap HOST:PORT   any Kafka-protocol cluster (default 127.0.0.1:9092)\n"
    "  -p, --partitions N          create: how many (default 1); alter: the new total\n"
    "  -s, --set NAME=VALUE        a topic setting, by Kafka's name\n"
    "      --data DIR              export, import, repair: tally's data directory (default "
    "./tally-data)\n"
    "\n"
    "examples:\n"
    "  tally topic create orders --partitions 3 --set retention.ms=86400000\n"
    "  tally topic describe orders\n"
    "  tally topic alter orders --set retention.ms=\n"
    "  tally topic import /var/lib/kafka/data orders --set retention.ms=604800000\n";

struct options {
    const char *bootstrap;
    const char *data;
    int64_t partitions; // -1: not given
    struct client_config configs[MAX_CONFIGS];
    size_t n_configs;
    char **names;
    int n_names;
};

static int failed(const struct client *c)
{
    return cli_fail("topic", "%s", client_error(c));
}

static bool take_setting(struct options *o, char *text)
{
    char *equals = strchr(text, '=');
    if (!equals || equals == text || o->n_configs == MAX_CONFIGS)
        return false;
    *equals = 0;
    o->configs[o->n_configs++] = (struct client_config){text, equals[1] ? equals + 1 : NULL};
    return true;
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"bootstrap", required_argument, NULL, 'b'},
                                            {"partitions", required_argument, NULL, 'p'},
                                            {"set", required_argument, NULL, 's'},
                                            {"data", required_argument, NULL, 'd'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    *o = (struct options){
        .bootstrap = CLI_BOOTSTRAP_DEFAULT, .data = DATA_DEFAULT, .partitions = -1};
    int c;
    while ((c = getopt_long(argc, argv, "b:p:s:h", options, NULL)) != -1) {
        switch (c) {
        case 'b':
            o->bootstrap = optarg;
            break;
        case 'd':
            o->data = optarg;
            break;
        case 'p':
            if (!cli_number(optarg, 1, INT32_MAX, &o->partitions))
                return cli_fail("topic", "--partitions wants a number from 1, not \"%s\"", optarg);
            break;
        case 's':
            if (!take_setting(o, optarg))
                return cli_fail("topic", "--set wants NAME=VALUE, not \"%s\"", optarg);
            break;
        case 'h':
            fputs(help, stdout);
            exit(CLI_FINE);
        default:
            return cli_see_help("topic");
        }
    }
    o->names = argv + optind;
    o->n_names = argc - optind;
    return 0;
}

static int create(struct client *c, const struct options *o)
{
    for (int i = 0; i < o->n_names; i++) {
        int32_t partitions = o->partitions < 0 ? 1 : (int32_t)o->partitions;
        if (client_create_topic(c, o->names[i], partitions, o->configs, o->n_configs) < 0)
            return failed(c);
        printf("created %s with %d partition%s\n", o->names[i], (int)partitions,
               partitions == 1 ? "" : "s");
    }
    return CLI_FINE;
}

static int compare_names(const void *a, const void *b)
{
    return str_cmp(((const struct client_topic *)a)->name, ((const struct client_topic *)b)->name);
}

static int list(struct client *c, struct arena *a)
{
    struct client_topic *topics;
    int32_t n;
    if (client_metadata(c, NULL, 0, a, &topics, &n) < 0)
        return failed(c);
    if (n > 1)
        qsort(topics, (size_t)n, sizeof *topics, compare_names);
    for (int32_t i = 0; i < n; i++)
        printf("%.*s\t%d partition%s%s\n", STR_FMT(topics[i].name), (int)topics[i].n_partitions,
               topics[i].n_partitions == 1 ? "" : "s", topics[i].is_internal ? "\tinternal" : "");
    return CLI_FINE;
}

static int describe_configs(struct client *c, struct str name, struct arena *a)
{
    struct describe_configs_request_resource resource;
    describe_configs_request_resource_init(&resource);
    resource.resource_type = RESOURCE_TOPIC;
    resource.resource_name = name;
    resource.n_configuration_keys = -1; // all
    struct describe_configs_request request;
    describe_configs_request_init(&request);
    request.resources = &resource;
    request.n_resources = 1;
    struct describe_configs_response response;
    if (client_call(c, CLIENT_ANY_NODE, API_DESCRIBE_CONFIGS, -1, &request, a, &response, NULL) < 0)
        return failed(c);
    for (int32_t r = 0; r < response.n_results; r++) {
        for (int32_t i = 0; i < response.results[r].n_configs; i++) {
            struct describe_configs_response_config *config = &response.results[r].configs[i];
            if (config->config_source == SOURCE_DYNAMIC_TOPIC)
                printf("  %.*s=%.*s\n", STR_FMT(config->name), STR_FMT(config->value));
        }
    }
    return CLI_FINE;
}

// What the broker says, or the sentence of the code where it says nothing.
static int refused(const char *name, int16_t error_code, struct str why)
{
    if (error_code == KERR_UNKNOWN_TOPIC_OR_PARTITION)
        return cli_fail("topic", "no topic \"%s\"; tally topic list names all", name);
    if (why.len <= 0)
        why = str_from(kerr_message(error_code));
    int32_t len = why.len > 0 && why.ptr[why.len - 1] == '.' ? why.len - 1 : why.len;
    return cli_fail("topic", "%s: %.*s (%s)", name, len, why.ptr, kerr_name(error_code));
}

static int describe_one(struct client *c, const char *name, struct arena *a)
{
    struct str text = str_from(name);
    struct client_topic *topics;
    int32_t n;
    if (client_metadata(c, &text, 1, a, &topics, &n) < 0)
        return failed(c);
    if (n != 1 || topics[0].error_code)
        return refused(name, n == 1 ? topics[0].error_code : KERR_UNKNOWN_TOPIC_OR_PARTITION,
                       STR_NULL);
    char id[23];
    uuid_text(topics[0].id, id);
    printf("%s  id %s, %d partition%s\n", name, id, (int)topics[0].n_partitions,
           topics[0].n_partitions == 1 ? "" : "s");
    int status = describe_configs(c, text, a);
    for (int32_t i = 0; status == CLI_FINE && i < topics[0].n_partitions; i++) {
        struct client_partition *p = &topics[0].partitions[i];
        int64_t start, end;
        if (client_list_offset(c, text, p->partition, p->leader, CLIENT_EARLIEST, &start) < 0 ||
            client_list_offset(c, text, p->partition, p->leader, CLIENT_LATEST, &end) < 0)
            return failed(c);
        printf("  partition %d  leader %d, offsets %lld to %lld (%lld)\n", (int)p->partition,
               (int)p->leader, (long long)start, (long long)end, (long long)(end - start));
    }
    return status;
}

static int describe(struct client *c, const struct options *o, struct arena *a)
{
    int status = CLI_FINE;
    for (int i = 0; status == CLI_FINE && i < o->n_names; i++)
        status = describe_one(c, o->names[i], a);
    return status;
}

static int add_partitions(struct client *c, int32_t node, const char *name, int32_t total,
                          struct arena *a)
{
    struct create_partitions_request_topic topic;
    create_partitions_request_topic_init(&topic);
    topic.name = str_from(name);
    topic.count = total;
    topic.n_assignments = -1; // the cluster chooses
    struct create_partitions_request request;
    create_partitions_request_init(&request);
    request.topics = &topic;
    request.n_topics = 1;
    request.timeout_ms = TIMEOUT_MS;
    struct create_partitions_response response;
    if (client_call(c, node, API_CREATE_PARTITIONS, -1, &request, a, &response, NULL) < 0)
        return failed(c);
    if (response.n_results == 1 && response.results[0].error_code)
        return refused(name, response.results[0].error_code, response.results[0].error_message);
    printf("%s has %d partitions now\n", name, (int)total);
    return CLI_FINE;
}

static int alter_configs(struct client *c, const struct options *o, const char *name,
                         struct arena *a)
{
    struct incremental_alter_configs_request_resource resource;
    incremental_alter_configs_request_resource_init(&resource);
    resource.resource_type = RESOURCE_TOPIC;
    resource.resource_name = str_from(name);
    resource.configs = arena_array(a, o->n_configs, sizeof *resource.configs);
    resource.n_configs = (int32_t)o->n_configs;
    for (size_t i = 0; i < o->n_configs; i++) {
        incremental_alter_configs_request_config_init(&resource.configs[i]);
        resource.configs[i].name = str_from(o->configs[i].name);
        resource.configs[i].value = str_from(o->configs[i].value);
        resource.configs[i].config_operation = o->configs[i].value ? OP_SET : OP_DELETE;
    }
    struct incremental_alter_configs_request request;
    incremental_alter_configs_request_init(&request);
    request.resources = &resource;
    request.n_resources = 1;
    struct incremental_alter_configs_response response;
    if (client_call(c, CLIENT_ANY_NODE, API_INCREMENTAL_ALTER_CONFIGS, -1, &request, a, &response,
                    NULL) < 0)
        return failed(c);
    if (response.n_responses == 1 && response.responses[0].error_code)
        return refused(name, response.responses[0].error_code, response.responses[0].error_message);
    printf("altered %s\n", name);
    return CLI_FINE;
}

static int alter(struct client *c, const struct options *o, struct arena *a)
{
    if (o->partitions < 0 && o->n_configs == 0)
        return cli_fail("topic", "alter what? give --partitions N or --set NAME=VALUE");
    int32_t node = CLIENT_ANY_NODE;
    if (client_controller(c, &node) < 0)
        return failed(c);
    int status = CLI_FINE;
    for (int i = 0; status == CLI_FINE && i < o->n_names; i++) {
        if (o->n_configs)
            status = alter_configs(c, o, o->names[i], a);
        if (status == CLI_FINE && o->partitions > 0)
            status = add_partitions(c, node, o->names[i], (int32_t)o->partitions, a);
    }
    return status;
}

static int delete (struct client *c, const struct options *o, struct arena *a)
{
    int32_t node = CLIENT_ANY_NODE;
    if (client_controller(c, &node) < 0)
        return failed(c);
    struct delete_topics_request request;
    delete_topics_request_init(&request);
    request.topic_names = arena_array(a, (size_t)o->n_names, sizeof *request.topic_names);
    request.n_topic_names = o->n_names;
    for (int i = 0; i < o->n_names; i++)
        request.topic_names[i] = str_from(o->names[i]);
    request.timeout_ms = TIMEOUT_MS;
    struct delete_topics_response response;
    if (client_call(c, node, API_DELETE_TOPICS, DELETE_TOPICS_BY_NAME, &request, a, &response,
                    NULL) < 0)
        return failed(c);
    int status = CLI_FINE;
    for (int32_t i = 0; i < response.n_responses; i++) {
        struct delete_topics_response_response *r = &response.responses[i];
        if (r->error_code)
            status = refused(arena_printf(a, "%.*s", STR_FMT(r->name)), r->error_code, STR_NULL);
        else
            printf("deleted %.*s\n", STR_FMT(r->name));
    }
    return status;
}

static int run(const char *action, struct client *c, const struct options *o, struct arena *a)
{
    if (!strcmp(action, "list"))
        return list(c, a);
    if (!strcmp(action, "create"))
        return create(c, o);
    if (!strcmp(action, "describe"))
        return describe(c, o, a);
    if (!strcmp(action, "alter"))
        return alter(c, o, a);
    return delete (c, o, a);
}

static int copy(const char *action, const struct options *o)
{
    if (o->n_names == 0)
        return cli_fail("topic", "%s: which directory? give Apache Kafka's log.dirs", action);
    const struct topic_copy what = {.data = o->data,
                                    .dir = o->names[0],
                                    .names = o->names + 1,
                                    .n_names = o->n_names - 1,
                                    .configs = o->configs,
                                    .n_configs = o->n_configs};
    bool is_export = !strcmp(action, "export");
    if (is_export && o->n_configs)
        return cli_fail("topic", "export: --set is for what is made here; see import");
    return is_export ? cli_topic_export(&what) : cli_topic_import(&what);
}

static int repair(const struct options *o)
{
    if (o->n_configs)
        return cli_fail("topic", "repair: --set is for what is made; see import");
    return cli_topic_repair(
        &(struct topic_copy){.data = o->data, .names = o->names, .n_names = o->n_names});
}

int cli_topic(int argc, char **argv)
{
    static const char *const actions[] = {"create", "list",   "describe", "alter",
                                          "delete", "export", "import",   "repair"};
    struct options o;
    int status = parse(argc, argv, &o);
    if (status)
        return status;
    const char *action = o.n_names ? o.names[0] : "";
    bool known = false;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++)
        known = known || !strcmp(action, actions[i]);
    if (!known)
        return cli_fail(
            "topic",
            "say create, list, describe, alter, delete, export, import or repair (see --help)");
    o.names++;
    o.n_names--;
    if (!strcmp(action, "repair"))
        return repair(&o);
    if (!strcmp(action, "export") || !strcmp(action, "import"))
        return copy(action, &o);
    if (o.n_names == 0 && strcmp(action, "list") != 0)
        return cli_fail("topic", "%s which topic? give its name", action);

    char why[CLIENT_WHY_MAX];
    struct client *c;
    if (client_open(o.bootstrap, "tally-topic", TIMEOUT_MS, &c, why) < 0)
        return cli_fail("topic", "%s", why);
    struct arena *a = arena_new();
    status = run(action, c, &o, a);
    arena_free(a);
    client_close(c);
    return status;
}
