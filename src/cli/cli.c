#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

int cli_fail(const char *verb, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "tally %s: ", verb);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CLI_COULD_NOT_RUN;
}

struct str cli_shown(struct str s, struct arena *a)
{
    char *copy = arena_alloc(a, (size_t)(s.len > 0 ? s.len : 0) + 1);
    for (int32_t i = 0; i < s.len; i++)
        copy[i] = (unsigned char)s.ptr[i] < 32 || s.ptr[i] == 127 ? '?' : s.ptr[i];
    return (struct str){copy, s.len > 0 ? s.len : 0};
}

int cli_see_help(const char *verb)
{
    return cli_fail(verb, "see tally %s --help", verb);
}

int64_t cli_raise_open_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return -1;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    return files.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)files.rlim_cur;
}

bool cli_number(const char *text, int64_t min, int64_t max, int64_t *ret_value)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

// "15m" and the like: that long before now.
static bool time_ago(const char *text, int64_t *ret_ms)
{
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
    char *end;
    long long n = strtoll(text, &end, 10);
    if (end == text || n < 0 || n > 100000 || end[0] == 0 || end[1] != 0)
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (units[i].unit != *end)
            continue;
        *ret_ms = ((int64_t)time(NULL) * 1000) - n * units[i].ms;
        return true;
    }
    return false;
}

bool cli_time(const char *text, int64_t *ret_ms)
{
    if (time_ago(text, ret_ms))
        return true;
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%d", &tm);
    if (!rest)
        return false;
    int64_t ms = 0;
    if (*rest == 'T' || *rest == ' ') {
        rest = strptime(rest + 1, "%H:%M:%S", &tm);
        if (!rest)
            return false;
        if (*rest == '.') {
            char *end;
            double fraction = strtod(rest, &end);
            ms = (int64_t)(fraction * 1000);
            rest = end;
        }
    }
    int sign = 0, hours = 0, minutes = 0, used = 0;
    if (sscanf(rest, "%*1[+-]%2d:%2d%n", &hours, &minutes, &used) == 2 && rest[used] == 0) {
        sign = *rest == '-' ? -1 : 1;
    } else if (strcmp(rest, "Z") != 0 && *rest != 0) {
        return false;
    }
    int64_t east_s = (int64_t)sign * (hours * 3600 + minutes * 60);
    *ret_ms = ((int64_t)timegm(&tm) - east_s) * 1000 + ms;
    return true;
}

void cli_time_text(int64_t ms, char ret_text[CLI_TIME_MAX])
{
    int64_t seconds = ms / 1000 - (ms % 1000 < 0);
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!gmtime_r(&t, &tm))
        memset(&tm, 0, sizeof tm);
    size_t len = strftime(ret_text, CLI_TIME_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(ret_text + len, CLI_TIME_MAX - len, ".%03dZ", (int)(ms - seconds * 1000));
}
