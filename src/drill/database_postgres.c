#include "drill/database_rows.h"

#include "client/libtally/load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Our own thread runs the broker, so no reading may take long.
#define SET_UP                                                                                     \
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;"                                        \
    "SET statement_timeout = '10s'; SET lock_timeout = '1s'"
#define CONNECT_SECONDS "3"

struct postgres {
    struct postgres_api api;
    PGconn *conn; // NULL: not open
    char *url;    // of conn
    char place[160];
};

static void drop(struct postgres *p)
{
    if (p->conn)
        p->api.PQfinish(p->conn);
    p->conn = NULL;
    free(p->url);
    p->url = NULL;
}

// Where it is, for messages, never with the password; and whether libpq understands it at all.
static int read_place(struct postgres *p, const char *url, char **ret_why)
{
    char *why = NULL;
    PQconninfoOption *all = p->api.PQconninfoParse(url, &why);
    if (!all) {
        int rc = database_refuse(ret_why,
                                 "--evidence sql:postgres: no connection that libpq "
                                 "knows: %.300s",
                                 why ? why : "out of memory");
        (*ret_why)[strcspn(*ret_why, "\n")] = '\0';
        p->api.PQfreemem(why);
        return rc;
    }
    const char *host = NULL, *name = NULL;
    for (PQconninfoOption *o = all; o->keyword; o++) {
        if (strcmp(o->keyword, "host") == 0)
            host = o->val;
        else if (strcmp(o->keyword, "dbname") == 0)
            name = o->val;
    }
    snprintf(p->place, sizeof p->place, "%.100s/%.50s", host ? host : "local", name ? name : "");
    p->api.PQconninfoFree(all);
    return 0;
}

int postgres_new(const char *url, struct postgres **ret_postgres, char **ret_why)
{
    struct postgres *p = calloc(1, sizeof *p);
    CHECK(p);
    struct tally_error error = {0};
    int rc = load_postgres(&p->api, &error) < 0
                 ? database_refuse(ret_why, "--evidence sql:postgres: %s", error.text)
                 : read_place(p, url, ret_why);
    if (rc < 0) {
        free(p);
        return rc;
    }
    *ret_postgres = p;
    return 0;
}

void postgres_free(struct postgres *p)
{
    if (!p)
        return;
    drop(p);
    free(p);
}

static void ignore_notice(void *user, const char *message)
{
    (void)user;
    (void)message;
}

// -EBUSY: lost, or not there now.
static int lost(struct postgres *p, char **ret_why)
{
    (void)database_refuse(ret_why, "database %s: %.400s", p->place,
                          p->conn ? p->api.PQerrorMessage(p->conn) : "out of memory");
    (*ret_why)[strcspn(*ret_why, "\n")] = '\0';
    drop(p);
    return -EBUSY;
}

static int open_connection(struct postgres *p, const char *url, char **ret_why)
{
    if (p->conn && strcmp(p->url, url) == 0)
        return 0;
    drop(p);
    int rc = read_place(p, url, ret_why);
    if (rc < 0)
        return rc;
    static const char *const names[] = {"connect_timeout", "fallback_application_name", "dbname",
                                        NULL};
    const char *const values[] = {CONNECT_SECONDS, "tally drill", url, NULL};
    p->conn = p->api.PQconnectdbParams(names, values, 1);
    if (!p->conn || p->api.PQstatus(p->conn) != CONNECTION_OK)
        return lost(p, ret_why);
    p->api.PQsetNoticeProcessor(p->conn, ignore_notice, NULL);
    p->url = strdup(url);
    CHECK(p->url);
    PGresult *r = p->api.PQexec(p->conn, SET_UP);
    bool is_set = p->api.PQresultStatus(r) == PGRES_COMMAND_OK;
    p->api.PQclear(r);
    return is_set ? 0 : lost(p, ret_why);
}

static bool starts(const char *state, const char *with)
{
    return strncmp(state, with, strlen(with)) == 0;
}

// Takes the result, which is no success.
static int judge_failure(struct postgres *p, PGresult *r, const char *query, char **ret_why)
{
    const char *state = p->api.PQresultErrorField(r, PG_DIAG_SQLSTATE);
    const char *text = p->api.PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    int rc = -EBUSY;
    if (!state || p->api.PQstatus(p->conn) != CONNECTION_OK || starts(state, "57P")) {
        rc = lost(p, ret_why);
    } else if (starts(state, "42P01") || starts(state, "3F000")) {
        rc = 0; // the consumer has not made its table or schema yet
    } else if (starts(state, "25006")) {
        rc = database_refuse(ret_why, "the evidence query must only read: %.200s", query);
    } else if (starts(state, "40") || starts(state, "55P03")) {
        (void)database_refuse(ret_why, "database %s: %.300s", p->place, text ? text : state);
    } else {
        rc = database_refuse(ret_why, "database %s: %.300s, in: %.200s", p->place,
                             text ? text : state, query);
    }
    p->api.PQclear(r);
    return rc;
}

static void take_rows(struct postgres *p, struct database *d, const PGresult *r, struct book *b)
{
    const char *names[DATABASE_MAX_COLUMNS];
    struct str values[DATABASE_MAX_COLUMNS];
    int n = p->api.PQnfields(r);
    n = n > DATABASE_MAX_COLUMNS ? DATABASE_MAX_COLUMNS : n;
    if (n == 0)
        return;
    for (int i = 0; i < n; i++)
        names[i] = p->api.PQfname(r, i);
    struct database_columns c = database_columns(names, n);
    int rows = p->api.PQntuples(r);
    for (int row = 0; row < rows; row++) {
        for (int i = 0; i < n; i++)
            values[i] = p->api.PQgetisnull(r, row, i) ? STR_NULL
                                                      : (struct str){p->api.PQgetvalue(r, row, i),
                                                                     p->api.PQgetlength(r, row, i)};
        database_row(d, &c, values, b);
    }
}

int postgres_read(struct postgres *p, struct database *d, const char *url, const char *query,
                  struct book *b, char **ret_why)
{
    int rc = open_connection(p, url, ret_why);
    if (rc < 0)
        return rc;
    // Prepared, so that it is one statement and no more.
    PGresult *r = p->api.PQprepare(p->conn, "", query, 0, NULL);
    if (p->api.PQresultStatus(r) != PGRES_COMMAND_OK)
        return judge_failure(p, r, query, ret_why);
    p->api.PQclear(r);
    r = p->api.PQexecPrepared(p->conn, "", 0, NULL, NULL, NULL, 0);
    ExecStatusType status = p->api.PQresultStatus(r);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        return judge_failure(p, r, query, ret_why);
    take_rows(p, d, r, b);
    p->api.PQclear(r);
    return 0;
}
