#include "drill/evidence.h"

#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FORMS 8       // more are no form: the lines hold text of the records
#define MIN_FORM_LINES 20 // fewer have shown nothing

// Hashes of what lines look like.
struct forms {
    uint64_t seen[MAX_FORMS];
    size_t n; // MAX_FORMS + 1: too many
};

struct evidence {
    enum evidence_kind kind;
    struct forms whole;
    struct forms head;         // up to the first thing that varies
    size_t lines;              // learnt from
    struct database *database; // NULL: none
    bool has_match;
    regex_t match;
    int group_topic; // which capture group; 0: none
    int group_partition;
    int group_offset;
    int group_key;
    int n_groups;
};

static int refuse(char **ret_why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int refuse(char **ret_why, const char *format, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    *ret_why = strdup(text);
    CHECK(*ret_why);
    return -EINVAL;
}

// Makes the placeholders of --match into capture groups, counting those that are there already.
static int parse_match(struct evidence *e, const char *match, char **ret_why)
{
    static const char *const names[] = {"{topic}", "{partition}", "{offset}", "{key}"};
    static const char *const forms[] = {"([A-Za-z0-9._-]+)", "([0-9]+)", "([0-9]+)",
                                        "([^[:space:]]+)"};
    int *const into[] = {&e->group_topic, &e->group_partition, &e->group_offset, &e->group_key};
    struct buf regex = {0};
    int groups = 0;
    for (const char *c = match; *c;) {
        size_t i = 0;
        while (i < 4 && strncmp(c, names[i], strlen(names[i])) != 0)
            i++;
        if (i < 4) {
            buf_printf(&regex, "%s", forms[i]);
            *into[i] = ++groups;
            c += strlen(names[i]);
            continue;
        }
        if (*c == '\\' && c[1])
            buf_add(&regex, c++, 1);
        else if (*c == '(')
            groups++;
        buf_add(&regex, c++, 1);
    }
    buf_add(&regex, "", 1);
    int rc = regcomp(&e->match, (const char *)regex.ptr, REG_EXTENDED);
    buf_free(&regex);
    if (rc != 0) {
        char text[200];
        regerror(rc, &e->match, text, sizeof text);
        return refuse(ret_why, "--match \"%.80s\": %s", match, text);
    }
    e->has_match = true;
    e->n_groups = groups;
    if (!e->group_key && !(e->group_partition && e->group_offset))
        return refuse(ret_why, "--match \"%.80s\" needs {key}, or {partition} and {offset}", match);
    if (groups > 9)
        return refuse(ret_why, "--match \"%.80s\" has more than 9 groups", match);
    return 0;
}

int evidence_parse(const char *spec, const char *match, struct evidence **ret_evidence,
                   char **ret_why)
{
    struct evidence *e = calloc(1, sizeof *e);
    CHECK(e);
    int rc = 0;
    *ret_why = NULL;
    if (strcmp(spec, "stdout") == 0)
        e->kind = EVIDENCE_STDOUT;
    else if (strcmp(spec, "none") == 0)
        e->kind = EVIDENCE_NONE;
    else if (strncmp(spec, "sql:", 4) == 0)
        rc = database_parse(spec + 4, &e->database, ret_why);
    else if (strncmp(spec, "topic:", 6) == 0 || strcmp(spec, "http") == 0)
        rc = refuse(ret_why,
                    "--evidence %.60s comes in a later version; there are stdout, "
                    "sql:sqlite:FILE:QUERY, sql:postgres:URL:QUERY and none",
                    spec);
    else
        rc = refuse(ret_why,
                    "no --evidence \"%.60s\"; there are stdout, sql:sqlite:FILE:QUERY, "
                    "sql:postgres:URL:QUERY and none",
                    spec);
    if (e->database)
        e->kind = EVIDENCE_SQL;
    if (rc == 0 && match && e->kind != EVIDENCE_STDOUT)
        rc = refuse(ret_why, "--match goes with --evidence stdout");
    if (rc == 0 && match)
        rc = parse_match(e, match, ret_why);
    if (rc < 0) {
        evidence_free(e);
        return rc;
    }
    *ret_evidence = e;
    return 0;
}

void evidence_free(struct evidence *e)
{
    if (!e)
        return;
    if (e->has_match)
        regfree(&e->match);
    database_free(e->database);
    free(e);
}

enum evidence_kind evidence_kind(const struct evidence *e)
{
    return e->kind;
}

const char *evidence_name(const struct evidence *e)
{
    static const char *const names[] = {"stdout", "sql", "none"};
    return names[e->kind];
}

struct database *evidence_database(const struct evidence *e)
{
    return e->database;
}

// A whole non-negative number of at most 18 digits.
static bool parse_number(const char *text, size_t len, int64_t *ret_n)
{
    if (len == 0 || len > 18)
        return false;
    int64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        n = n * 10 + (text[i] - '0');
    }
    *ret_n = n;
    return true;
}

// "topic/partition/offset" of this book's topic.
static bool parse_id(const struct book *b, const char *text, size_t len, struct book_spot *ret)
{
    size_t topic = strlen(book_topic(b));
    if (len < topic + 4 || memcmp(text, book_topic(b), topic) != 0 || text[topic] != '/')
        return false;
    text += topic + 1;
    len -= topic + 1;
    const char *slash = memchr(text, '/', len);
    int64_t partition, offset;
    if (!slash || !parse_number(text, (size_t)(slash - text), &partition) ||
        !parse_number(slash + 1, len - (size_t)(slash - text) - 1, &offset) ||
        partition > INT32_MAX || !book_has(b, (int32_t)partition, offset))
        return false;
    *ret = (struct book_spot){(int32_t)partition, offset};
    return true;
}

static size_t add_spot(struct book_spot *spots, size_t n, size_t cap, struct book_spot at)
{
    for (size_t i = 0; i < n; i++) {
        if (spots[i].partition == at.partition && spots[i].offset == at.offset)
            return n; // the same record twice in one line is one piece of work
    }
    if (n < cap)
        spots[n++] = at;
    return n;
}

// White space and the punctuation that logs put around names. Whatever a key may hold beyond that
// is left to the wider cut: white space only.
static bool is_cut(char c, bool is_wide)
{
    return isspace((unsigned char)c) || (unsigned char)c < 32 ||
           (!is_wide && c && strchr("\"'()[]{}<>,;|=", c));
}

static bool find_token(struct str line, bool is_wide, int32_t *at, struct str *ret_token)
{
    int32_t i = *at;
    while (i < line.len && is_cut(line.ptr[i], is_wide))
        i++;
    int32_t start = i;
    while (i < line.len && !is_cut(line.ptr[i], is_wide))
        i++;
    *at = i;
    *ret_token = (struct str){line.ptr + start, i - start};
    return i > start;
}

static size_t line_ids(const struct book *b, struct str line, struct book_spot *spots, size_t cap)
{
    size_t n = 0;
    struct str t;
    for (int32_t at = 0; find_token(line, false, &at, &t);) {
        struct book_spot spot;
        while (t.len > 0 && strchr(".:!", t.ptr[t.len - 1]))
            t.len--;
        if (parse_id(b, t.ptr, (size_t)t.len, &spot))
            n = add_spot(spots, n, cap, spot);
    }
    return n;
}

// A number in a line may be anything: a key that is one counts only in a line of its own.
static bool is_number(struct str text)
{
    for (int32_t i = 0; i < text.len; i++) {
        if (!isdigit((unsigned char)text.ptr[i]))
            return false;
    }
    return true;
}

// The first token that is a key, and no other: prose behind it may hold words that are keys too.
static bool line_key(const struct book *b, struct str line, struct book_spot *ret)
{
    if (book_find_key(b, line, ret))
        return true;
    for (int wide = 1; wide >= 0; wide--) {
        struct str t;
        for (int32_t at = 0; find_token(line, wide, &at, &t);) {
            if (!is_number(t) && book_find_key(b, t, ret))
                return true;
            while (t.len > 1 && strchr(".:!", t.ptr[t.len - 1])) {
                t.len--;
                if (!is_number(t) && book_find_key(b, t, ret))
                    return true;
            }
        }
    }
    return false;
}

static uint64_t hash(uint64_t h, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        h = (h ^ (uint8_t)text[i]) * 1099511628211ULL; // FNV-1a
    return h;
}

// A word that holds a digit, or is a key, varies; what is left is the form.
static void take_form(const struct book *b, struct str line, uint64_t *ret_whole,
                      uint64_t *ret_head)
{
    uint64_t h = 14695981039346656037ULL;
    bool varies = false;
    for (int32_t i = 0; i < line.len;) {
        int32_t start = i;
        bool has_digit = false;
        for (; i < line.len && (isalnum((unsigned char)line.ptr[i]) ||
                                (line.ptr[i] && strchr("_./-+", line.ptr[i])));
             i++)
            has_digit |= isdigit((unsigned char)line.ptr[i]) != 0;
        struct str word = {line.ptr + start, i - start};
        struct book_spot spot;
        if (word.len == 0) {
            h = hash(h, line.ptr + i++, 1);
        } else if (has_digit || book_find_key(b, word, &spot)) {
            if (!varies)
                *ret_head = h;
            varies = true;
            h = hash(h, "#", 1);
        } else {
            h = hash(h, word.ptr, (size_t)word.len);
        }
    }
    *ret_whole = h;
    if (!varies)
        *ret_head = h;
}

static bool form_is_known(const struct forms *f, uint64_t form)
{
    for (size_t i = 0; i < f->n && i < MAX_FORMS; i++) {
        if (f->seen[i] == form)
            return true;
    }
    return false;
}

static void learn(struct forms *f, uint64_t form)
{
    if (f->n > MAX_FORMS || form_is_known(f, form))
        return;
    if (f->n < MAX_FORMS)
        f->seen[f->n] = form;
    f->n++;
}

void evidence_learn(struct evidence *e, const struct book *b, struct str line)
{
    uint64_t whole, head;
    take_form(b, line, &whole, &head);
    learn(&e->whole, whole);
    learn(&e->head, head);
    e->lines++;
}

bool evidence_is_odd(const struct evidence *e, const struct book *b, struct str line)
{
    if (e->has_match || e->lines < MIN_FORM_LINES)
        return false;
    uint64_t whole, head;
    take_form(b, line, &whole, &head);
    if (e->whole.n <= MAX_FORMS)
        return !form_is_known(&e->whole, whole);
    return e->head.n <= MAX_FORMS && !form_is_known(&e->head, head);
}

static size_t line_match(const struct evidence *e, const struct book *b, struct str line,
                         struct book_spot *ret)
{
    char *text = str_dup(line);
    regmatch_t m[10];
    size_t n = 0;
    if (regexec(&e->match, text, 10, m, 0) == 0) {
        int64_t partition, offset;
        const regmatch_t *p = &m[e->group_partition], *o = &m[e->group_offset];
        const regmatch_t *t = &m[e->group_topic], *k = &m[e->group_key];
        bool is_topic =
            !e->group_topic || ((size_t)(t->rm_eo - t->rm_so) == strlen(book_topic(b)) &&
                                memcmp(text + t->rm_so, book_topic(b), strlen(book_topic(b))) == 0);
        if (e->group_partition && is_topic && p->rm_so >= 0 && o->rm_so >= 0 &&
            parse_number(text + p->rm_so, (size_t)(p->rm_eo - p->rm_so), &partition) &&
            parse_number(text + o->rm_so, (size_t)(o->rm_eo - o->rm_so), &offset) &&
            partition <= INT32_MAX && book_has(b, (int32_t)partition, offset)) {
            *ret = (struct book_spot){(int32_t)partition, offset};
            n = 1;
        } else if (e->group_key && k->rm_so >= 0) {
            struct str key = {text + k->rm_so, (int32_t)(k->rm_eo - k->rm_so)};
            n = book_find_key(b, key, ret);
        }
    }
    free(text);
    return n;
}

size_t evidence_line(const struct evidence *e, const struct book *b, struct str line,
                     struct book_spot *ret_spots, size_t cap)
{
    if (e->kind != EVIDENCE_STDOUT || cap == 0)
        return 0;
    if (e->has_match)
        return line_match(e, b, line, ret_spots);
    size_t n = line_ids(b, line, ret_spots, cap);
    return n > 0 ? n : line_key(b, line, ret_spots);
}
