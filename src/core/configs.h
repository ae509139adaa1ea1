#pragma once
// Settings: sets of overrides by name, and typed lookup through them. What exists, with type,
// default, range and meaning, is the generated table of schema/configs.kw.

#include "base/arena.h"
#include "base/bytes.h"
#include "base/check.h"

// One set of overrides (of a topic, of a group, of the broker): name -> text. Owns its copies.
struct configs;

struct configs *configs_new(void);
void configs_free(struct configs *c);                             // NULL is fine
struct str configs_get(const struct configs *c, struct str name); // STR_NULL when not set or c NULL
void configs_set(struct configs *c, struct str name, struct str value); // null value removes
size_t configs_count(const struct configs *c);                          // c may be NULL
// In order of first setting. for (size_t it = 0; configs_next(c, &it, &name, &value);)
bool configs_next(const struct configs *c, size_t *it, struct str *ret_name, struct str *ret_value);

// Where a value is looked for, in this order; each may be NULL. The default comes last.
struct config_view {
    const struct configs *own;             // of the topic or the group
    const struct configs *dynamic;         // of this broker, altered while running
    const struct configs *dynamic_default; // of all brokers, altered while running
    const struct configs *fixed;           // of the broker, from the config file and --set
};

// Name is one of the table ("retention.ms" for a topic, "log.retention.ms" for the broker);
// an unknown one, or one of another type, is a programmer error. For a topic's or a group's
// setting the broker's synonyms ("log.retention.ms", ".minutes", ".hours") are followed.
// Values in the sets were checked when they were set.
int64_t config_i64(const struct config_view *v, const char *name);
bool config_bool(const struct config_view *v, const char *name);
double config_f64(const struct config_view *v, const char *name);
struct str config_str(const struct config_view *v, const char *name); // STR_NULL when null
// For a list setting: does it hold this item?
bool config_has(const struct config_view *v, const char *name, const char *item);

// Numbers as settings are written: false when it is none, or does not fit.
bool config_parse_i64(struct str text, int64_t *ret);
bool config_parse_f64(struct str text, double *ret);

enum config_check {
    CONFIG_OK,
    CONFIG_IGNORED, // Kafka has it, tally has no use for it
    CONFIG_UNKNOWN, // nobody has it
    CONFIG_INVALID, // wrong type, out of range, or refused
};

// Checks a name and value for the broker's own file and --set. On CONFIG_UNKNOWN and
// CONFIG_INVALID ret_why (cap bytes, always terminated) says what is wrong and what to do.
enum config_check config_check_broker(struct str name, struct str value, char *ret_why, size_t cap);
// The same for an override of a topic (scope_group false) or a group.
enum config_check config_check_topic(struct str name, struct str value, char *ret_why, size_t cap);
enum config_check config_check_group(struct str name, struct str value, char *ret_why, size_t cap);

// Where a value stands, as DescribeConfigs numbers it.
enum config_source {
    CONFIG_FROM_TOPIC = 1,
    CONFIG_FROM_BROKER = 2,
    CONFIG_FROM_ALL_BROKERS = 3,
    CONFIG_FROM_FILE = 4,
    CONFIG_FROM_DEFAULT = 5,
    CONFIG_FROM_GROUP = 8,
};

struct config_place {
    const char *name; // in which setting: "log.retention.hours" can give retention.ms
    struct str value; // as it is written there
    enum config_source source;
};

struct config_def; // schema.h

// All places that set this one, the one that counts first, the default last. In the arena.
// scope is the one that is asked about: CONFIG_SCOPE_TOPIC, _GROUP or _BROKER.
size_t config_places(const struct config_view *v, const struct config_def *d, int scope,
                     struct arena *a, struct config_place **ret_places);
// The value that counts, in the setting's own unit, as text in the arena.
struct str config_text(const struct config_view *v, const struct config_def *d, struct arena *a);
// May it be altered while the broker runs? (Topic and group settings always may.)
bool config_is_dynamic(const struct config_def *d);
// Settings tally has in this scope (not those it ignores), in order of name; NULL at the end.
const struct config_def *config_next(int scope, size_t *it);
