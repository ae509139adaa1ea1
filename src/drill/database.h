#pragma once
// The user's own database as evidence: a query gives the records that were worked on.

#include "drill/book.h"

struct database;

// spec: "sqlite:FILE:QUERY", or "postgres:URL:QUERY" where QUERY begins with SELECT, WITH, VALUES,
// TABLE or '(' (a URL holds colons). libpq is loaded when PostgreSQL is named. -EINVAL and *ret_why
// (the caller's to free).
MUST_USE int database_parse(const char *spec, struct database **ret_database, char **ret_why);
void database_free(struct database *d); // NULL is fine
// As they were given, "{dir}" and the like not replaced.
const char *database_place(const struct database *d);
const char *database_query(const struct database *d);
// It outlives a run: it is not in the run's own {dir}.
bool database_is_lasting(const struct database *d);

// Reads the rows into the book, which is cleared first. 0; -EBUSY: locked or not to be reached now,
// try again; -errno. The latter two with *ret_why, but for -EBUSY of SQLite. A file or a table that
// is not there yet has no rows.
MUST_USE int database_read(struct database *d, const char *place, const char *query, struct book *b,
                           char **ret_why);
// Somebody holds SQLite's lock for writing at this moment. Of PostgreSQL nothing is known: false.
bool database_is_held(const struct database *d, const char *place);
// Before any copy runs: keys that are there already count only beyond that from now on. *ret_rows
// are those that name a partition and an offset of the topic, which nobody can tell from new ones.
MUST_USE int database_look_before(struct database *d, const char *place, const char *query,
                                  const char *topic, int64_t *ret_rows, char **ret_why);
