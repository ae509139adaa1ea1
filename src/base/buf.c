#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void buf_free(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
}

uint8_t *buf_extend(struct buf *b, size_t more)
{
    CHECK(more <= SIZE_MAX / 4 && b->len <= SIZE_MAX / 4);
    if (!b->ptr || b->cap - b->len < more) { // never NULL: adding 0 to it is undefined
        size_t cap = b->cap ? b->cap : 64;
        while (cap - b->len < more)
            cap *= 2;
        b->ptr = realloc(b->ptr, cap);
        CHECK(b->ptr);
        b->cap = cap;
    }
    uint8_t *at = b->ptr + b->len;
    b->len += more;
    return at;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
    if (len > 0)
        memcpy(buf_extend(b, len), data, len);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(len >= 0);
    // vsnprintf writes a terminator; it is given room and then taken back.
    char *at = (char *)buf_extend(b, (size_t)len + 1);
    vsnprintf(at, (size_t)len + 1, format, again);
    va_end(again);
    b->len--;
}
