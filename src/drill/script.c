#include "drill/script.h"

#include "base/buf.h"
#include "schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES 65536 // a drill is a page of text

struct word {
    const char *name;
    int value;
    int64_t min; // of the number; max 0: takes none
    int64_t max;
};

static const struct word whens[] = {
    {"ahead", WHEN_AHEAD, 0, 0},        {"behind", WHEN_BEHIND, 1, 100000},
    {"worked", WHEN_WORKED, 1, 100000}, {"stable", WHEN_STABLE, 0, 0},
    {"moved", WHEN_MOVED, 0, 0},        {"empty", WHEN_EMPTY, 0, 0},
    {"commit", WHEN_COMMIT, 0, 0},
};

static const struct word acts[] = {
    {"kill", ACT_KILL, 0, 0},
    {"freeze", ACT_FREEZE, 0, 0},
    {"thaw", ACT_THAW, 0, 0},
    {"evict-session", ACT_EVICT_SESSION, 0, 0},
    {"evict-poll", ACT_EVICT_POLL, 0, 0},
    {"hold-commits", ACT_HOLD_COMMITS, 0, 0},
    {"release", ACT_RELEASE, 0, 0},
    {"start", ACT_START, 0, 0},
    {"stop", ACT_STOP, 0, 0},
    {"stop-all", ACT_STOP_ALL, 0, 0},
    {"start-all", ACT_START_ALL, 0, 0},
    {"roll", ACT_ROLL, 0, 0},
    {"add-partitions", ACT_ADD_PARTITIONS, 1, 100},
    {"append", ACT_APPEND, 1, 100000},
    {"refresh", ACT_REFRESH, 0, 0},
    {"reset-back", ACT_RESET_BACK, 1, 1000000},
    {"trim-past", ACT_TRIM_PAST, 1, 1000000},
};

static const struct word settings[] = {
    {"copies", 0, 1, 16},
    {"partitions", 1, 1, 64},
    {"records", 2, 1, 100000},
    {"chances", 3, 1, 1000},
};

static const struct word *find_word(const struct word *words, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    }
    return NULL;
}

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char *name_of(const struct word *words, size_t n, int value)
{
    for (size_t i = 0; i < n; i++) {
        if (words[i].value == value)
            return words[i].name;
    }
    return "?";
}

const char *drill_when_name(enum drill_when w)
{
    return name_of(whens, COUNT(whens), (int)w);
}

const char *drill_act_name(enum drill_act a)
{
    return name_of(acts, COUNT(acts), (int)a);
}

struct parser {
    const char *file;
    int line;
    struct drill_script *s;
    struct buf about;
    bool is_about;
    char why[256];
};

static int bad(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int bad(struct parser *p, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(p->why, sizeof p->why, format, ap);
    va_end(ap);
    return -EBADMSG;
}

// A list of what is allowed, for the message.
static int bad_word(struct parser *p, const char *what, const char *got, const struct word *words,
                    size_t n)
{
    struct buf list = {0};
    for (size_t i = 0; i < n; i++)
        buf_printf(&list, "%s%s", i ? ", " : "", words[i].name);
    int rc = bad(p, "no %s \"%.40s\"; there are: %.*s", what, got, (int)list.len,
                 (const char *)list.ptr);
    buf_free(&list);
    return rc;
}

static int parse_number(struct parser *p, const struct word *w, const char *text, int64_t *ret_n)
{
    if (w->max == 0) {
        if (*text)
            return bad(p, "\"%s\" takes no number", w->name);
        *ret_n = 0;
        return 0;
    }
    char *end = NULL;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (!*text || *end || errno || n < w->min || n > w->max)
        return bad(p, "\"%s\" needs a number from %lld to %lld", w->name, (long long)w->min,
                   (long long)w->max);
    *ret_n = n;
    return 0;
}

static int parse_step(struct parser *p, bool is_act, char *rest)
{
    char *number = rest + strcspn(rest, " \t");
    if (*number)
        *number++ = '\0';
    number += strspn(number, " \t");
    const struct word *words = is_act ? acts : whens;
    size_t n_words = is_act ? COUNT(acts) : COUNT(whens);
    const struct word *w = find_word(words, n_words, rest);
    if (!w)
        return bad_word(p, is_act ? "act" : "trigger", rest, words, n_words);
    if (p->s->n_steps == DRILL_MAX_STEPS)
        return bad(p, "more than %d steps", DRILL_MAX_STEPS);
    struct drill_step *step = &p->s->steps[p->s->n_steps];
    int rc = parse_number(p, w, number, &step->n);
    if (rc < 0)
        return rc;
    step->is_act = is_act;
    step->line = p->line;
    if (is_act)
        step->act = (enum drill_act)w->value;
    else
        step->when = (enum drill_when)w->value;
    p->s->n_steps++;
    return 0;
}

static int parse_name(struct parser *p, const char *rest)
{
    if (p->s->name)
        return bad(p, "a second \"drill\" line");
    for (const char *c = rest; *c; c++) {
        if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && *c != '-')
            return bad(p, "a drill's name has lower case letters, digits and '-' only");
    }
    if (!*rest || strlen(rest) > 60)
        return bad(p, "a drill's name has 1 to 60 characters");
    p->s->name = strdup(rest);
    return 0;
}

static int parse_setting(struct parser *p, const struct word *w, const char *rest)
{
    int64_t n;
    int rc = parse_number(p, w, rest, &n);
    if (rc < 0)
        return rc;
    int *const into[] = {&p->s->copies, &p->s->partitions, &p->s->records, &p->s->chances};
    *into[w->value] = (int)n;
    return 0;
}

static int parse_text(struct parser *p, const char *word, const char *rest, bool *ret_is_known)
{
    struct drill_script *s = p->s;
    struct {
        const char *name;
        char **into;
    } const texts[] = {
        {"title", &s->title}, {"finds", &s->finds}, {"passes", &s->passes}, {"advice", &s->advice}};
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (strcmp(texts[i].name, word) != 0)
            continue;
        *ret_is_known = true;
        if (*texts[i].into)
            return bad(p, "a second \"%s\" line", word);
        *texts[i].into = strdup(rest);
        return 0;
    }
    *ret_is_known = false;
    return 0;
}

static int parse_line(struct parser *p, char *line)
{
    if (isspace((unsigned char)*line) && p->is_about) {
        buf_printf(&p->about, "%s\n", line + strspn(line, " \t"));
        return 0;
    }
    if (!*line && p->is_about) {
        buf_printf(&p->about, "\n");
        return 0;
    }
    p->is_about = false;
    line += strspn(line, " \t");
    if (!*line || *line == '#')
        return 0;
    char *rest = line + strcspn(line, " \t");
    if (*rest)
        *rest++ = '\0';
    rest += strspn(rest, " \t");
    bool is_known = false;
    int rc = parse_text(p, line, rest, &is_known);
    if (is_known)
        return rc;
    if (strcmp(line, "drill") == 0)
        return parse_name(p, rest);
    if (strcmp(line, "about") == 0) {
        p->is_about = true;
        return *rest ? bad(p, "the explanation stands in indented lines below \"about\"") : 0;
    }
    if (strcmp(line, "when") == 0 || strcmp(line, "do") == 0)
        return parse_step(p, line[0] == 'd', rest);
    const struct word *w = find_word(settings, COUNT(settings), line);
    if (w)
        return parse_setting(p, w, rest);
    return bad(p,
               "no statement \"%.40s\"; there are: drill, title, finds, passes, advice, about, "
               "copies, partitions, records, chances, when, do",
               line);
}

static int parse_all(struct parser *p, struct bytes text)
{
    if (text.len > MAX_FILE_BYTES)
        return bad(p, "longer than %d bytes", MAX_FILE_BYTES);
    if (memchr(text.ptr, '\0', text.len))
        return bad(p, "not a text file");
    char *copy = strndup((const char *)text.ptr, text.len);
    CHECK(copy);
    int rc = 0;
    for (char *line = copy, *next; rc == 0 && line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = '\0';
        size_t len = strlen(line);
        while (len > 0 && isspace((unsigned char)line[len - 1]))
            line[--len] = '\0';
        p->line++;
        rc = parse_line(p, line);
    }
    free(copy);
    if (rc == 0 && !p->s->name)
        return bad(p, "no \"drill NAME\" line");
    if (rc == 0 && p->s->n_steps == 0)
        return bad(p, "no step: a drill needs \"when\" and \"do\" lines");
    return rc;
}

int drill_script_parse(const char *file, struct bytes text, struct drill_script **ret_script,
                       char **ret_why)
{
    struct drill_script *s = calloc(1, sizeof *s);
    CHECK(s);
    s->copies = 2;
    s->partitions = 2;
    s->records = 200;
    s->chances = 20;
    struct parser p = {.file = file, .s = s};
    int rc = parse_all(&p, text);
    if (rc < 0) {
        struct buf why = {0};
        buf_printf(&why, "%s:%d: %s", file, p.line ? p.line : 1, p.why);
        buf_add(&why, "", 1);
        *ret_why = (char *)why.ptr;
        buf_free(&p.about);
        drill_script_free(s);
        return rc;
    }
    buf_add(&p.about, "", 1);
    s->about = (char *)p.about.ptr;
    s->text = strndup((const char *)text.ptr, text.len);
    char **const texts[] = {&s->title, &s->finds, &s->passes, &s->advice};
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (!*texts[i])
            *texts[i] = strdup("");
    }
    *ret_script = s;
    return 0;
}

void drill_script_free(struct drill_script *s)
{
    if (!s)
        return;
    free(s->name);
    free(s->title);
    free(s->finds);
    free(s->passes);
    free(s->advice);
    free(s->about);
    free(s->text);
    free(s);
}

const char *drill_builtin_text(size_t index)
{
    return index < n_drill_files ? drill_files[index].text : NULL;
}

const char *drill_builtin_file(size_t index)
{
    return index < n_drill_files ? drill_files[index].name : NULL;
}

static int load_file(const char *path, struct drill_script **ret_script, char **ret_why)
{
    FILE *f = fopen(path, "re");
    struct buf b = {0};
    int rc = f ? 0 : -errno;
    char piece[4096];
    for (size_t n; f && b.len <= MAX_FILE_BYTES && (n = fread(piece, 1, sizeof piece, f)) > 0;)
        buf_add(&b, piece, n);
    if (f && ferror(f))
        rc = -EIO;
    if (f)
        fclose(f);
    if (rc < 0) {
        struct buf why = {0};
        buf_printf(&why, "%s: cannot read: %s", path, strerror(-rc));
        buf_add(&why, "", 1);
        *ret_why = (char *)why.ptr;
    } else {
        rc = drill_script_parse(path, (struct bytes){b.ptr, b.len}, ret_script, ret_why);
    }
    buf_free(&b);
    return rc;
}

int drill_script_load(const char *name_or_path, struct drill_script **ret_script, char **ret_why)
{
    size_t len = strlen(name_or_path);
    if (strchr(name_or_path, '/') || (len > 6 && strcmp(name_or_path + len - 6, ".drill") == 0))
        return load_file(name_or_path, ret_script, ret_why);
    for (size_t i = 0; drill_builtin_file(i); i++) {
        const char *file = drill_builtin_file(i);
        if (strcmp(file, name_or_path) == 0) {
            struct bytes text = {(const uint8_t *)drill_files[i].text, strlen(drill_files[i].text)};
            return drill_script_parse(file, text, ret_script, ret_why);
        }
    }
    struct buf why = {0};
    buf_printf(&why,
               "no drill \"%s\"; `tally drill list` names them, a file of your own is "
               "given as a path",
               name_or_path);
    buf_add(&why, "", 1);
    *ret_why = (char *)why.ptr;
    return -ENOENT;
}
