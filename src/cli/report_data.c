// The report on a data directory whose broker is stopped: the recovery that its next start would
// make, on a disk that only reads.
#include "broker/broker.h"
#include "cli/cli.h"
#include "cli/report.h"
#include "os/clock.h"
#include "os/disk.h"
#include "os/entropy.h"
#include "os/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct report_data {
    struct clock *clock;
    struct entropy *entropy;
    struct disk *disk;
    struct log_sink *log;
    struct configs *configs;
    struct broker *broker;
};

int report_data_open(const char *dir, struct report_data **ret_data)
{
    struct report_data *d = calloc(1, sizeof *d);
    CHECK(d);
    *ret_data = d;
    d->clock = clock_new();
    d->log = log_sink_new(d->clock, STDERR_FILENO, LOG_WARN, false);
    d->configs = configs_new();
    (void)cli_raise_open_files();
    int error = disk_new(&d->disk);
    if (error)
        return cli_fail("report", "disk: %s", strerror(-error));
    disk_make_read_only(d->disk);
    d->entropy = entropy_new();
    struct broker_config config = {.clock = d->clock,
                                   .entropy = d->entropy,
                                   .disk = d->disk,
                                   .log = d->log,
                                   .dir = dir,
                                   .fixed = d->configs,
                                   .accounting = true};
    char why[1024];
    error = broker_new(&config, &d->broker, why, sizeof why);
    if (error == -EBUSY)
        return cli_fail("report", "%s; ask the running broker: tally report --bootstrap HOST:PORT",
                        why);
    return error ? cli_fail("report", "%s", why) : CLI_FINE;
}

void report_data_close(struct report_data *d)
{
    if (!d)
        return;
    broker_free(d->broker);
    disk_free(d->disk);
    configs_free(d->configs);
    log_sink_free(d->log);
    entropy_free(d->entropy);
    clock_free(d->clock);
    free(d);
}

void report_data_ask(struct report_data *d, const struct tally_report_request *request,
                     struct tally_report_response *ret, struct arena *a)
{
    broker_report(d->broker, request, ret, a);
}
