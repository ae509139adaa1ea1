#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct str str_from(const char *terminated)
{
    if (!terminated)
        return STR_NULL;
    return (struct str){terminated, (int32_t)strlen(terminated)};
}

bool str_is_null(struct str s)
{
    return s.len < 0;
}

bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len <= 0 || memcmp(a.ptr, b.ptr, (size_t)a.len) == 0);
}

bool str_eq_c(struct str a, const char *terminated)
{
    return str_eq(a, str_from(terminated));
}

int str_cmp(struct str a, struct str b)
{
    int32_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter > 0 ? memcmp(a.ptr, b.ptr, (size_t)shorter) : 0;
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

char *str_dup(struct str s)
{
    if (s.len < 0)
        return NULL;
    char *copy = malloc((size_t)s.len + 1);
    CHECK(copy);
    if (s.len > 0)
        memcpy(copy, s.ptr, (size_t)s.len);
    copy[s.len] = '\0';
    return copy;
}

bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool uuid_eq(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b) == 0;
}

bool uuid_is_zero(struct uuid u)
{
    return uuid_eq(u, (struct uuid){{0}});
}

int uuid_cmp(struct uuid a, struct uuid b)
{
    return memcmp(a.b, b.b, sizeof a.b);
}

void uuid_text(struct uuid u, char ret_text[23])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    int have = 0;
    int at = 0;
    for (size_t i = 0; i < sizeof u.b; i++) {
        bits = bits << 8 | u.b[i];
        have += 8;
        for (; have >= 6; have -= 6)
            ret_text[at++] = digits[bits >> (have - 6) & 63];
    }
    ret_text[at++] = digits[bits << (6 - have) & 63];
    ret_text[at] = '\0';
}
