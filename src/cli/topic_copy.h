#pragma once
// tally topic export, import and repair: topics of a stopped broker's data directory; the first two
// to and from one of Apache Kafka.

#include "client/client.h"

struct topic_copy {
    const char *data; // tally's data directory
    const char *dir;  // Kafka's
    char **names;     // of topics; none: all
    int n_names;
    const struct client_config *configs; // import: settings of the new topics
    size_t n_configs;
};

int cli_topic_export(const struct topic_copy *o);
int cli_topic_import(const struct topic_copy *o);
// Mends the damaged logs of a stopped broker; dir is not used.
int cli_topic_repair(const struct topic_copy *o);
