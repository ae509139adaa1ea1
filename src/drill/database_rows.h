#pragma once
// What the kinds of database share. Private to database*.c.

#include "drill/database.h"

// Which column holds what: by name, else by position; -1: none.
struct database_columns {
    int topic;
    int partition;
    int offset;
    int key;
};
struct database_columns database_columns(const char *const *names, int n);

#define DATABASE_MAX_COLUMNS 64 // the rest is not looked at
// values[i] is null for NULL. Into the book, or counted when there is none (database_look_before).
void database_row(struct database *d, const struct database_columns *c, const struct str *values,
                  struct book *b);
int database_refuse(char **ret_why, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct postgres;
MUST_USE int postgres_new(const char *url, struct postgres **ret_postgres, char **ret_why);
void postgres_free(struct postgres *p); // NULL is fine
// Book NULL: counts.
MUST_USE int postgres_read(struct postgres *p, struct database *d, const char *url,
                           const char *query, struct book *b, char **ret_why);
