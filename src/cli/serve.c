// tally serve: the broker as a program. Everything it does is in src/broker; here are its options,
// its signals, its data directory and its one line of output.
#include "broker/broker.h"
#include "broker/config_file.h"
#include "cli/cli.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/entropy.h"
#include "os/log.h"
#include "os/net.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define HOST_MAX 256
// All requests that have not wholly arrived or are being worked on: five of the largest fit.
#define INPUT_MAX_BYTES (512ull << 20)
// All answers that slow readers have not taken yet, what is sent from files not counted.
#define OUTPUT_MAX_BYTES (256ull << 20)
// Of the process's open files, the part that connections may take; logs need the rest.
#define CONNECTIONS_PERCENT 75
#define FILES_WALKED_MAX 16
// The loopback, a network or two, and room: each is a socket and two words to keep apart.
#define LISTENERS_MAX 8

static const char help[] =
    "usage: tally serve [OPTION]...\n"
    "\n"
    "A Kafka-compatible broker that accounts for every record each consumer group gets.\n"
    "\n"
    "  -l, --listen HOST:PORT     where clients connect (default 127.0.0.1:9092; port 0: a free\n"
    "                             one); may be given several times\n"
    "  -a, --advertise HOST:PORT  the address clients are told (default: where it listens); with\n"
    "                             several listeners in their order\n"
    "  -d, --data DIR             data directory, made when missing (default ./tally-data)\n"
    "      --memory               a temporary data directory, removed at exit\n"
    "  -c, --config FILE          settings, as Kafka's server.properties\n"
    "  -s, --set NAME=VALUE       one setting, by Kafka's name; overrides the file\n"
    "      --accounting on|off    account for what consumers get (default on)\n"
    "      --io-threads N         threads that read and write connections, 1 to 64 (default 1: "
    "the\n"
    "                             one that does all else). For many cores and many clients; the\n"
    "                             setting num.network.threads is the same, and 3 in Kafka\n"
    "      --clamp-replication-factor  take replication factors above 1 as 1\n"
    "      --log-level LEVEL      error, warn, info (default), debug or trace\n"
    "      --log-json             log lines as JSON objects\n"
    "      --trace                log each request and each answer with its fields\n"
    "\n"
    "Prints \"ready HOST:PORT\" (several: with commas) when it takes connections; logs on "
    "standard\n"
    "error. SIGTERM or Ctrl-C stops it in order.\n"
    "\n"
    "examples:\n"
    "  tally serve\n"
    "  tally serve --memory --listen 127.0.0.1:0\n"
    "  tally serve --data /var/lib/tally --listen 0.0.0.0:9092 --advertise broker.example:9092\n"
    "  tally serve --set num.partitions=3 --set log.retention.hours=48\n";

struct address {
    char host[HOST_MAX];
    uint16_t port;
};

struct addresses {
    struct address at[LISTENERS_MAX];
    size_t n;
};

struct options {
    struct addresses listen;    // empty: not given
    struct addresses advertise; // of the listener at the same place
    const char *data;
    bool memory;
    bool accounting;
    bool clamp_replication;
    const char *io_threads; // NULL: not given
    enum log_level log_level;
    bool log_json;
    struct configs *configs;  // owned
    const char *warnings[64]; // ignored settings, said once the log is there; owned
    size_t n_warnings;
};

struct server {
    struct options *options;
    const char *dir;
    char memory_dir[64];
    sigset_t old_mask;
    int signal_fd;
    struct clock *clock;
    struct entropy *entropy;
    struct disk *disk;
    struct log_sink *log;
    struct net *net;
    struct broker *broker;
};

// ---- Options

static bool parse_address(const char *text, struct address *ret)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    if (!colon || !cli_number(colon + 1, 0, 65535, &port))
        return false;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= sizeof ret->host)
        return false;
    memcpy(ret->host, text, len);
    ret->host[len] = 0;
    ret->port = (uint16_t)port;
    return true;
}

static int add_address(struct addresses *to, const char *what, const char *text)
{
    if (to->n == LISTENERS_MAX)
        return cli_fail("serve", "%s: there can be %d at most", what, LISTENERS_MAX);
    if (!parse_address(text, &to->at[to->n]))
        return cli_fail("serve", "%s \"%s\" is no address; it is written HOST:PORT", what, text);
    to->n++;
    return CLI_FINE;
}

static void note_ignored(void *ctx, const char *where, const char *name)
{
    struct options *o = ctx;
    size_t cap = sizeof o->warnings / sizeof *o->warnings;
    char *text = NULL;
    if (o->n_warnings < cap &&
        asprintf(&text, "%s: %s is a setting of Apache Kafka that tally has no use for; ignored",
                 where, name) >= 0)
        o->warnings[o->n_warnings++] = text;
}

static int take_setting(struct options *o, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return cli_fail("serve", "--set takes NAME=VALUE, not \"%s\"", text);
    char why[1024];
    struct str name = {text, (int32_t)(equals - text)};
    if (config_file_set(o->configs, "--set", name, str_from(equals + 1), note_ignored, o, why,
                        sizeof why))
        return cli_fail("serve", "%s", why);
    return CLI_FINE;
}

static int take_file(struct options *o, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return cli_fail("serve", "%s: %s", path, strerror(errno));
    char *text = malloc(CONFIG_FILE_MAX_BYTES + 1);
    size_t len = text ? fread(text, 1, CONFIG_FILE_MAX_BYTES + 1, f) : 0;
    bool bad = ferror(f) || !text;
    fclose(f);
    char why[1024];
    int status = CLI_FINE;
    if (bad)
        status = cli_fail("serve", "%s: cannot be read", path);
    else if (len > CONFIG_FILE_MAX_BYTES)
        status = cli_fail("serve", "%s: larger than a file of settings can be (%u bytes)", path,
                          CONFIG_FILE_MAX_BYTES);
    else if (config_file_parse(o->configs, path, (struct str){text, (int32_t)len}, note_ignored, o,
                               why, sizeof why))
        status = cli_fail("serve", "%s", why);
    free(text);
    return status;
}

static int take_on_off(const char *option, const char *text, bool *ret)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return cli_fail("serve", "%s takes on or off, not \"%s\"", option, text);
    *ret = strcmp(text, "on") == 0;
    return CLI_FINE;
}

static int take_threads(struct options *o, const char *text)
{
    int64_t n;
    o->io_threads = text;
    if (cli_number(text, 1, NET_THREADS_MAX, &n))
        return CLI_FINE;
    return cli_fail("serve", "--io-threads takes a number from 1 to %d, not \"%s\"",
                    NET_THREADS_MAX, text);
}

enum {
    OPT_MEMORY = 256,
    OPT_ACCOUNTING,
    OPT_WEB,
    OPT_IO_THREADS,
    OPT_CLAMP,
    OPT_LOG_LEVEL,
    OPT_LOG_JSON,
    OPT_TRACE,
};

#define OPTIONS "l:a:d:c:s:h"
static const struct option long_options[] = {
    {"listen", required_argument, NULL, 'l'},
    {"advertise", required_argument, NULL, 'a'},
    {"data", required_argument, NULL, 'd'},
    {"config", required_argument, NULL, 'c'},
    {"set", required_argument, NULL, 's'},
    {"memory", no_argument, NULL, OPT_MEMORY},
    {"accounting", required_argument, NULL, OPT_ACCOUNTING},
    {"web", required_argument, NULL, OPT_WEB},
    {"io-threads", required_argument, NULL, OPT_IO_THREADS},
    {"clamp-replication-factor", no_argument, NULL, OPT_CLAMP},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"log-json", no_argument, NULL, OPT_LOG_JSON},
    {"trace", no_argument, NULL, OPT_TRACE},
    {"help", no_argument, NULL, 'h'},
    {0},
};

// --set and --config are taken in a second round, the file first, so that --set overrides it
// wherever it stands.
static int take_option(struct options *o, int option, bool *ret_is_help)
{
    switch (option) {
    case 'l':
        return add_address(&o->listen, "--listen", optarg);
    case 'a':
        return add_address(&o->advertise, "--advertise", optarg);
    case 'd':
        o->data = optarg;
        return CLI_FINE;
    case 'c':
    case 's':
        return CLI_FINE;
    case OPT_MEMORY:
        o->memory = true;
        return CLI_FINE;
    case OPT_ACCOUNTING:
        return take_on_off("--accounting", optarg, &o->accounting);
    case OPT_WEB:
        if (strcmp(optarg, "off") == 0)
            return CLI_FINE;
        return cli_fail("serve", "--web %s: the web page is not built yet; use --web off", optarg);
    case OPT_IO_THREADS:
        return take_threads(o, optarg);
    case OPT_CLAMP:
        o->clamp_replication = true;
        return CLI_FINE;
    case OPT_LOG_LEVEL:
        if (log_level_parse(optarg, &o->log_level))
            return CLI_FINE;
        return cli_fail("serve", "--log-level takes error, warn, info, debug or trace, not \"%s\"",
                        optarg);
    case OPT_LOG_JSON:
        o->log_json = true;
        return CLI_FINE;
    case OPT_TRACE:
        o->log_level = LOG_TRACE;
        return CLI_FINE;
    case 'h':
        *ret_is_help = true;
        return CLI_FINE;
    default:
        return cli_see_help("serve");
    }
}

static int take_settings(int argc, char **argv, struct options *o)
{
    static const int rounds[] = {'c', 's'};
    for (size_t i = 0; i < 2; i++) {
        optind = 0;
        for (int option; (option = getopt_long(argc, argv, OPTIONS, long_options, NULL)) >= 0;)
            if (option == rounds[i]) {
                int status = option == 'c' ? take_file(o, optarg) : take_setting(o, optarg);
                if (status)
                    return status;
            }
    }
    // The setting, so that it is shown as it is.
    char why[1024];
    if (o->io_threads && config_file_set(o->configs, "--io-threads", STR("num.network.threads"),
                                         str_from(o->io_threads), note_ignored, o, why, sizeof why))
        return cli_fail("serve", "%s", why);
    return CLI_FINE;
}

static int parse(int argc, char **argv, struct options *o, bool *ret_is_help)
{
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, OPTIONS, long_options, NULL)) >= 0;) {
        int status = take_option(o, option, ret_is_help);
        if (status || *ret_is_help)
            return status;
    }
    if (optind < argc)
        return cli_fail("serve", "\"%s\" is no option; see tally serve --help", argv[optind]);
    if (o->memory && o->data)
        return cli_fail("serve", "--memory and --data exclude each other");
    return take_settings(argc, argv, o);
}

// Kafka's own names for the same things: PLAINTEXT://HOST:PORT, and more behind commas.
static int from_setting(const struct options *o, const char *name, struct addresses *to)
{
    struct str set = configs_get(o->configs, str_from(name));
    if (to->n > 0 || set.len <= 0)
        return CLI_FINE;
    char *text = str_dup(set), *rest = text;
    int status = CLI_FINE;
    for (char *one; !status && (one = strsep(&rest, ","));) {
        const char *host = strstr(one, "://");
        if (host && strncasecmp(one, "PLAINTEXT", 9) == 0)
            status = add_address(to, name, host + 3);
        else
            status = cli_fail("serve", "%s=%.*s: PLAINTEXT://HOST:PORT is what tally can do", name,
                              STR_FMT(set));
    }
    free(text);
    return status;
}

static int find_directory(struct server *s)
{
    struct options *o = s->options;
    struct str set = configs_get(o->configs, STR("log.dirs"));
    if (set.len <= 0)
        set = configs_get(o->configs, STR("log.dir"));
    if (o->data || (!o->memory && set.len <= 0)) {
        s->dir = strdup(o->data ? o->data : "tally-data");
    } else if (!o->memory) {
        if (memchr(set.ptr, ',', (size_t)set.len))
            return cli_fail("serve", "log.dirs=%.*s: tally keeps its data in one directory",
                            STR_FMT(set));
        s->dir = str_dup(set);
    } else {
        const char *tmp = getenv("TMPDIR");
        // Memory indeed, where the machine has such a place.
        const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : tmp ? tmp : "/tmp";
        if (snprintf(s->memory_dir, sizeof s->memory_dir, "%s/tally-XXXXXX", base) >=
                (int)sizeof s->memory_dir ||
            !mkdtemp(s->memory_dir)) {
            s->memory_dir[0] = 0;
            return cli_fail("serve", "--memory: no directory can be made in %s: %s", base,
                            strerror(errno));
        }
        s->dir = strdup(s->memory_dir);
    }
    return CLI_FINE;
}

// ---- Running

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void on_signal(void *arg, uint32_t events)
{
    (void)events;
    struct server *s = arg;
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof info) != (ssize_t)sizeof info)
        return;
    // A stop is short; whoever asks a second time does not want to wait for it.
    if (s->broker && !broker_is_stopped(s->broker))
        broker_stop(s->broker);
    sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
}

static void on_disk(void *arg, uint32_t events)
{
    (void)arg;
    (void)events; // broker_step() takes what is done
}

static uint32_t connections_max(const struct config_view *view)
{
    int64_t most = config_i64(view, "max.connections");
    int64_t room = cli_raise_open_files() * CONNECTIONS_PERCENT / 100;
    return (uint32_t)(room < 0 || most < room ? most : room);
}

static int start_net(struct server *s)
{
    struct config_view view = {.fixed = s->options->configs};
    int64_t idle_ms = config_i64(&view, "connections.max.idle.ms");
    struct net_limits limits = {
        .max_frame_bytes = (uint32_t)config_i64(&view, "socket.request.max.bytes"),
        .max_connections = connections_max(&view),
        .max_input_bytes = INPUT_MAX_BYTES,
        .max_output_bytes = OUTPUT_MAX_BYTES,
        .idle_ms = idle_ms > 0 ? (uint64_t)idle_ms : 0,
        .threads = (unsigned)config_i64(&view, "num.network.threads"),
    };
    s->net = net_new(&limits, s->clock);
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    // Before the disk pool's threads start, which inherit the mask.
    sigprocmask(SIG_BLOCK, &stop, &s->old_mask);
    s->signal_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0 || net_watch(s->net, s->signal_fd, EPOLLIN, on_signal, s))
        return cli_fail("serve", "signals: %s", strerror(errno));
    int error = disk_new(&s->disk);
    if (!error)
        error = net_watch(s->net, disk_event_fd(s->disk), EPOLLIN, on_disk, s);
    return error ? cli_fail("serve", "disk: %s", strerror(-error)) : CLI_FINE;
}

static const char *listen_advice(int error)
{
    if (error == -EADDRINUSE)
        return "; another program listens there: stop it or use --listen with another port";
    if (error == -EINVAL || error == -EADDRNOTAVAIL)
        return "; --listen wants an address of this machine, 0.0.0.0 for all of them; the one that "
               "clients are told is --advertise";
    return "";
}

static int start_listener(struct server *s, size_t i)
{
    struct address *at = &s->options->listen.at[i], *told = &s->options->advertise.at[i];
    int listener;
    uint16_t port;
    int error = net_listen(s->net, at->host, at->port, &listener, &port);
    if (error)
        return cli_fail("serve", "%s:%u: %s%s", at->host, at->port,
                        error == -EINVAL ? "no such host" : strerror(-error), listen_advice(error));
    at->port = port;
    if (!told->host[0])
        memcpy(told->host, at->host, sizeof told->host);
    if (told->port == 0)
        told->port = port;
    broker_add_listener(s->broker, listener, told->host, told->port);
    return CLI_FINE;
}

// One line, and only when all of them take connections: it can be given to a client as it is.
static int say_ready(const struct server *s)
{
    printf("ready");
    for (size_t i = 0; i < s->options->listen.n; i++) {
        const struct address *at = &s->options->listen.at[i];
        bool is_v6 = strchr(at->host, ':');
        printf(is_v6 ? "%c[%s]:%u" : "%c%s:%u", i ? ',' : ' ', at->host, at->port);
    }
    printf("\n");
    return fflush(stdout) == 0 ? CLI_FINE
                               : cli_fail("serve", "standard output: %s", strerror(errno));
}

static int start_broker(struct server *s)
{
    struct broker_config config = {
        .net = s->net,
        .clock = s->clock,
        .entropy = s->entropy,
        .disk = s->disk,
        .log = s->log,
        .dir = s->dir,
        .fixed = s->options->configs,
        .accounting = s->options->accounting,
        .clamp_replication = s->options->clamp_replication,
    };
    char why[1024];
    if (broker_new(&config, &s->broker, why, sizeof why))
        return cli_fail("serve", "%s", why);
    int status = CLI_FINE;
    for (size_t i = 0; !status && i < s->options->listen.n; i++)
        status = start_listener(s, i);
    return status ? status : say_ready(s);
}

// Clients cannot connect to "everywhere": they are told the machine's name instead.
static int choose_addresses(struct options *o)
{
    int status = from_setting(o, "listeners", &o->listen);
    if (!status && o->listen.n == 0)
        status = add_address(&o->listen, "--listen", CLI_BOOTSTRAP_DEFAULT);
    if (!status)
        status = from_setting(o, "advertised.listeners", &o->advertise);
    if (!status && o->advertise.n > o->listen.n)
        status = cli_fail("serve", "an address is advertised that nothing listens for");
    for (size_t i = 0; !status && i < o->listen.n; i++) {
        char *host = o->listen.at[i].host, *told = o->advertise.at[i].host;
        if (!host[0])
            snprintf(host, HOST_MAX, "0.0.0.0");
        bool is_any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
        if (!told[0] && is_any && gethostname(told, HOST_MAX) != 0)
            snprintf(told, HOST_MAX, "localhost");
    }
    return status;
}

static int run(struct server *s)
{
    struct options *o = s->options;
    int status = choose_addresses(o);
    if (!status)
        status = find_directory(s);
    if (status)
        return status;
    s->clock = clock_new();
    s->entropy = entropy_new();
    s->log = log_sink_new(s->clock, STDERR_FILENO, o->log_level, o->log_json);
    for (size_t i = 0; i < o->n_warnings; i++)
        log_event(s->log, LOG_WARN, "%s", o->warnings[i]);
    status = start_net(s);
    if (!status)
        status = start_broker(s);
    if (status)
        return status;
    while (!broker_is_stopped(s->broker)) {
        int handled = net_run_once(s->net, broker_timeout_ms(s->broker));
        broker_step(s->broker, handled == 0);
    }
    return broker_failure(s->broker) ? CLI_COULD_NOT_RUN : CLI_FINE;
}

static void clean_up(struct server *s)
{
    broker_free(s->broker);
    net_free(s->net);
    disk_free(s->disk);
    log_sink_free(s->log);
    entropy_free(s->entropy);
    clock_free(s->clock);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    if (s->memory_dir[0])
        nftw(s->memory_dir, remove_one, FILES_WALKED_MAX, FTW_DEPTH | FTW_PHYS);
    for (size_t i = 0; i < s->options->n_warnings; i++)
        free((char *)(uintptr_t)s->options->warnings[i]);
    free((char *)(uintptr_t)s->dir);
}

int cli_serve(int argc, char **argv)
{
    struct options o = {.accounting = true, .log_level = LOG_INFO, .configs = configs_new()};
    struct server s = {.options = &o, .signal_fd = -1};
    bool is_help = false;
    int status = parse(argc, argv, &o, &is_help);
    if (is_help)
        fputs(help, stdout);
    else if (!status)
        status = run(&s);
    clean_up(&s);
    configs_free(o.configs);
    return status;
}
