#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "os/clock.h"
#include "os/log.h"

// A line from a message that quotes what a client sent stays readable.
#define LINE_MAX_BYTES 2000

struct log_sink {
    struct clock *clock;
    int fd;
    enum log_level level;
    bool as_json;
};

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

struct log_sink *log_sink_new(struct clock *c, int fd, enum log_level level, bool as_json)
{
    struct log_sink *s = calloc(1, sizeof *s);
    CHECK(s);
    *s = (struct log_sink){.clock = c, .fd = fd, .level = level, .as_json = as_json};
    return s;
}

void log_sink_free(struct log_sink *s)
{
    free(s);
}

bool log_level_parse(const char *name, enum log_level *ret_level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++)
        if (strcmp(level_names[i], name) == 0) {
            *ret_level = (enum log_level)i;
            return true;
        }
    return false;
}

static void add_time(struct buf *out, int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(out, "%s.%03dZ", text, (int)(wall_ms % 1000));
}

// Control characters would break the line or the terminal; JSON escapes its own two as well.
static void add_text(struct buf *out, const char *text, bool as_json)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            buf_printf(out, as_json ? "\\u%04x" : "\\x%02x", *p);
        else if (as_json && (*p == '"' || *p == '\\'))
            buf_printf(out, "\\%c", *p);
        else
            buf_add(out, p, 1);
    }
}

bool log_wants(const struct log_sink *s, enum log_level level)
{
    return s && level <= s->level;
}

void log_event(struct log_sink *s, enum log_level level, const char *format, ...)
{
    if (!log_wants(s, level))
        return;
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    struct buf line = {0};
    if (s->as_json)
        buf_printf(&line, "{\"time\":\"");
    add_time(&line, clock_wall_ms(s->clock));
    buf_printf(&line, s->as_json ? "\",\"level\":\"%s\",\"text\":\"" : " %-5s ",
               level_names[level]);
    add_text(&line, text, s->as_json);
    buf_printf(&line, s->as_json ? "\"}\n" : "\n");
    // Where the log cannot be written there is nobody left to tell.
    ssize_t written = write(s->fd, line.ptr, line.len);
    (void)written;
    buf_free(&line);
}
