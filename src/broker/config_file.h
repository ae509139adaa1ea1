#pragma once
// Kafka's server.properties: names and values as Java's Properties.load() reads them.

#include "core/configs.h"

// A file larger than this is no list of settings.
#define CONFIG_FILE_MAX_BYTES (1u << 20)

// Called for a setting that Kafka has and tally has no use for; name is terminated.
typedef void config_ignored_fn(void *ctx, const char *where, const char *name);

// Checks one setting and keeps it. where ("server.properties:12" or "--set") begins the one line
// that ret_why (cap bytes) says on failure. 0 or -EINVAL.
MUST_USE int config_file_set(struct configs *into, const char *where, struct str name,
                             struct str value, config_ignored_fn *ignored, void *ctx, char *ret_why,
                             size_t cap);

// Reads a text of settings; path is for messages. 0 or -EINVAL, with file and line in ret_why.
MUST_USE int config_file_parse(struct configs *into, const char *path, struct str text,
                               config_ignored_fn *ignored, void *ctx, char *ret_why, size_t cap);
