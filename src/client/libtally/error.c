#include "client/libtally/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Messages of databases and of librdkafka come with line ends: a sentence has none.
static void make_one_line(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        bool is_break = *from == '\n' || *from == '\r' || *from == '\t';
        if (is_break && (to == text || to[-1] == ' '))
            continue;
        *to++ = is_break ? ' ' : *from;
    }
    while (to > text && to[-1] == ' ')
        to--;
    *to = 0;
}

int tally_error_set(struct tally_error *error, enum tally_code code, const char *format, ...)
{
    if (!error)
        return code;
    // The arguments may be the error's own text.
    char text[TALLY_ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    make_one_line(text);
    error->code = code;
    memcpy(error->text, text, sizeof text);
    return code;
}

struct tally_value tally_null(void)
{
    return (struct tally_value){.type = TALLY_NULL};
}

struct tally_value tally_int(int64_t integer)
{
    return (struct tally_value){.type = TALLY_INT, .integer = integer};
}

struct tally_value tally_real(double real)
{
    return (struct tally_value){.type = TALLY_REAL, .real = real};
}

struct tally_value tally_text(const char *text)
{
    if (!text)
        return tally_null();
    return (struct tally_value){.type = TALLY_TEXT, .data = text, .len = strlen(text)};
}

struct tally_value tally_bytes(const void *data, size_t len)
{
    if (!data)
        return tally_null();
    return (struct tally_value){.type = TALLY_BYTES, .data = data, .len = len};
}
