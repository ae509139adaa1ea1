#pragma once
// Views of memory that somebody else owns. A view never frees; whoever keeps one longer than
// its owner lives copies it (arena_str, str_dup).

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *ptr;
    size_t len;
};

// A protocol string: UTF-8, not terminated. len is -1 for null (ptr is then NULL).
struct str {
    const char *ptr;
    int32_t len;
};

struct uuid {
    uint8_t b[16];
};

#define STR_NULL ((struct str){NULL, -1})
#define STR_EMPTY ((struct str){"", 0})
#define STR(literal) ((struct str){(literal), (int32_t)(sizeof(literal) - 1)})
// For printf("%.*s", STR_FMT(s)). A null string prints as nothing.
#define STR_FMT(s) ((s).len > 0 ? (int)(s).len : 0), ((s).ptr ? (s).ptr : "")

struct str str_from(const char *terminated); // NULL gives STR_NULL
bool str_is_null(struct str s);
bool str_eq(struct str a, struct str b); // null equals only null
bool str_eq_c(struct str a, const char *terminated);
int str_cmp(struct str a, struct str b); // bytewise; null sorts first
// Owned, terminated copy on the heap; free() it. NULL for a null string.
char *str_dup(struct str s);

bool bytes_eq(struct bytes a, struct bytes b);

bool uuid_eq(struct uuid a, struct uuid b);
bool uuid_is_zero(struct uuid u);
int uuid_cmp(struct uuid a, struct uuid b);
// Kafka's text form of an id: 22 characters of URL-safe base64, terminated.
void uuid_text(struct uuid u, char ret_text[23]);
