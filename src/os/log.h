#pragma once
// Log lines: one line an event on standard error, text or JSON. Never a secret, never a record's
// content. Text from outside is escaped, so that one event stays one line.

#include <stdbool.h>

struct clock;
struct log_sink;

// Trace: each request and answer with its fields, so with what a client wrote into them.
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

struct log_sink *log_sink_new(struct clock *c, int fd, enum log_level level, bool as_json);
void log_sink_free(struct log_sink *s); // NULL is fine; the descriptor stays open

// A NULL sink swallows everything.
void log_event(struct log_sink *s, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool log_wants(const struct log_sink *s, enum log_level level);    // whether it is worth the work
bool log_level_parse(const char *name, enum log_level *ret_level); // error warn info debug trace
