#include "cli/cli.h"
#include "cli/report.h"

#include <string.h>

#define BOLD "\033[1m"
#define DIM "\033[2m"
#define RED "\033[31m"
#define YELLOW "\033[33m"
#define PLAIN "\033[0m"

static void paint(struct buf *out, const struct report_style *style, const char *color)
{
    if (style->color)
        buf_printf(out, "%s", color);
}

// Names come from clients and go to a terminal: no control characters.
static void put(struct buf *out, struct str s)
{
    for (int32_t i = 0; i < s.len; i++) {
        char c = (unsigned char)s.ptr[i] < 32 || s.ptr[i] == 127 ? '?' : s.ptr[i];
        buf_add(out, &c, 1);
    }
}

static void put_time(struct buf *out, int64_t ms)
{
    char text[CLI_TIME_MAX];
    cli_time_text(ms, text);
    buf_printf(out, "%s", text);
}

// Sentences, broken at blanks. The first line starts at column `indent`, where the others begin.
static void put_wrapped(struct buf *out, struct str s, int indent, int width)
{
    int column = indent;
    int32_t at = 0;
    while (at < s.len) {
        int32_t end = at;
        while (end < s.len && s.ptr[end] != ' ')
            end++;
        if (end > at) {
            bool is_first = column == indent;
            if (!is_first && column + 1 + (end - at) > width) {
                buf_printf(out, "\n%*s", indent, "");
                column = indent;
            } else if (!is_first) {
                buf_add(out, " ", 1);
                column++;
            }
            put(out, (struct str){s.ptr + at, end - at});
            column += end - at;
        }
        at = end + 1;
    }
    buf_add(out, "\n", 1);
}

void report_sentence(struct buf *out, const char *head, struct str sentence, int width)
{
    buf_printf(out, "%s", head);
    put_wrapped(out, sentence, (int)strlen(head), width);
}

// A sentence is put together first, because members' names have no known length.
static void put_sentence(struct buf *out, const char *head, struct buf *sentence, int width)
{
    report_sentence(out, head, (struct str){(const char *)sentence->ptr, (int32_t)sentence->len},
                    width);
    buf_clear(sentence);
}

struct column {
    const char *name;
    size_t offset; // of the count in the partition
    bool always;   // shown even when all are 0
};

#define COUNT(field) offsetof(struct tally_report_response_partition, field)
static const struct column columns[] = {
    {"committed", COUNT(committed), true},  {"in flight", COUNT(in_flight), false},
    {"waiting", COUNT(waiting), true},      {"returned", COUNT(returned), false},
    {"skipped", COUNT(skipped), false},     {"expired", COUNT(expired), false},
    {"abandoned", COUNT(abandoned), false}, {"unknown", COUNT(unknown), false},
    {"not data", COUNT(not_data), false},   {"resent", COUNT(resent), true},
};
#define N_COLUMNS (sizeof columns / sizeof columns[0])

static int64_t count_of(const struct tally_report_response_partition *p, const struct column *c)
{
    int64_t n;
    memcpy(&n, (const char *)p + c->offset, sizeof n);
    return n;
}

// The log; and where the group's account begins, which its counts add up from.
#define RANGE_MAX 80
static int range_text(const struct tally_report_response_partition *p, char ret_text[RANGE_MAX])
{
    int n = snprintf(ret_text, RANGE_MAX, "%lld-%lld", (long long)p->log_start, (long long)p->end);
    if (p->first > p->log_start)
        n += snprintf(ret_text + n, RANGE_MAX - (size_t)n, " from %lld", (long long)p->first);
    return n;
}

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

// Widths of the columns; 0 hides one in which nothing stands.
static void measure(const struct tally_report_response_group *g, int widths[N_COLUMNS],
                    int *ret_label, int *ret_range)
{
    char text[RANGE_MAX];
    *ret_label = (int)strlen("topic/partition");
    *ret_range = (int)strlen("log");
    for (size_t c = 0; c < N_COLUMNS; c++)
        widths[c] = 0;
    for (int32_t i = 0; i < g->n_partitions; i++) {
        const struct tally_report_response_partition *p = &g->partitions[i];
        *ret_label = max_int(*ret_label,
                             p->topic.len + snprintf(text, sizeof text, "/%d", (int)p->partition));
        *ret_range = max_int(*ret_range, range_text(p, text));
        for (size_t c = 0; c < N_COLUMNS; c++) {
            int64_t n = count_of(p, &columns[c]);
            if (n == 0 && !columns[c].always)
                continue;
            int len = snprintf(text, sizeof text, "%lld", (long long)n);
            widths[c] = max_int(widths[c], max_int(len, (int)strlen(columns[c].name)));
        }
    }
}

static void put_partitions(const struct tally_report_response_group *g,
                           const struct report_style *style, struct buf *out)
{
    int widths[N_COLUMNS], label, range;
    measure(g, widths, &label, &range);
    paint(out, style, DIM);
    buf_printf(out, "  %-*s  %*s", label, "topic/partition", range, "log");
    for (size_t c = 0; c < N_COLUMNS; c++) {
        if (widths[c])
            buf_printf(out, "  %*s", widths[c], columns[c].name);
    }
    paint(out, style, PLAIN);
    buf_add(out, "\n", 1);
    for (int32_t i = 0; i < g->n_partitions; i++) {
        const struct tally_report_response_partition *p = &g->partitions[i];
        char text[RANGE_MAX];
        int used = p->topic.len + snprintf(text, sizeof text, "/%d", (int)p->partition);
        buf_printf(out, "  ");
        put(out, p->topic);
        buf_printf(out, "%s%*s", text, max_int(label - used, 0), "");
        range_text(p, text);
        buf_printf(out, "  %*s", range, text);
        for (size_t c = 0; c < N_COLUMNS; c++) {
            if (widths[c])
                buf_printf(out, "  %*lld", widths[c], (long long)count_of(p, &columns[c]));
        }
        buf_add(out, "\n", 1);
    }
}

static void put_party(struct buf *out, const char *word,
                      const struct tally_report_response_party *p)
{
    if (str_is_null(p->member))
        return;
    buf_printf(out, " %s ", word);
    put(out, p->member);
    buf_printf(out, " (");
    put(out, p->client_id);
    buf_printf(out, "%s", p->client_id.len > 0 && p->host.len > 0 ? ", " : "");
    put(out, p->host);
    buf_printf(out, "%s", p->software.len > 0 ? ", " : "");
    put(out, p->software);
    buf_printf(out, ")");
}

static const char *color_of(struct str class)
{
    if (str_eq_c(class, "missed") || str_eq_c(class, "stalled"))
        return RED;
    if (str_eq_c(class, "note"))
        return DIM;
    return YELLOW;
}

static void put_what(const struct tally_report_response_incident *i, struct str group,
                     const struct report_style *style, struct buf *out)
{
    buf_printf(out, "  #%lld ", (long long)i->id);
    put_time(out, i->time_ms);
    if (!str_is_null(group)) {
        buf_printf(out, " ");
        put(out, group);
    }
    buf_printf(out, "  ");
    paint(out, style, color_of(i->class));
    put(out, i->class);
    paint(out, style, PLAIN);
    if (i->first >= 0) {
        buf_printf(out, " ");
        put(out, i->topic);
        buf_printf(out, "/%d %lld", (int)i->partition, (long long)i->first);
        if (i->last != i->first)
            buf_printf(out, "-%lld", (long long)i->last);
        buf_printf(out, ": %lld record%s", (long long)i->records, i->records == 1 ? "" : "s");
    }
    buf_printf(out, ", ");
    put(out, i->certainty);
    buf_printf(out, "%s%s\n",
               i->resolved ? ", resolved"
               : i->closed ? ""
                           : ", still open",
               i->forced ? ", forced" : "");
}

// What an incident of a group has said at length, the next ones with the same cause refer to.
struct told {
    int64_t meaning[CAUSE_COUNT]; // ids; 0: not said yet
    const struct tally_report_response_incident *advice[CAUSE_COUNT];
};

// The last commit of a member that died: what its cause means is then only suspected.
static bool may_be_unworked(const struct tally_report_response_incident *i)
{
    return str_eq_c(i->class, "risk") && cause_find(i->cause) == CAUSE_COMMIT_BEFORE_WORK;
}

// What was sent twice may have been worked on twice, what was committed may not have been: no more
// is known from the wire.
static void put_bound(const struct tally_report_response_incident *i, bool again, struct buf *out)
{
    long long n = (long long)i->records;
    if (i->first < 0)
        return;
    if (may_be_unworked(i)) {
        buf_printf(out,
                   again ? " At most %lld records are lost."
                         : " If it commits before the work, at most %lld records are lost; if "
                           "it works first, none. A broker does not see which.",
                   n);
        return;
    }
    if (!str_eq_c(i->class, "resent"))
        return;
    buf_printf(out,
               again ? " At most %lld were worked on twice."
                     : " Sent twice is not worked on twice: at most %lld were, and this counts "
                       "what was only fetched ahead.",
               n);
    if (i->likely_at_most >= 0 && i->likely_at_most < i->records)
        buf_printf(out, " Its commits lay %lld records apart at most, so likely no more than that.",
                   (long long)i->likely_at_most);
}

static void put_why(const struct tally_report_response_incident *i, enum cause cause, int64_t told,
                    const struct report_style *style, struct buf *out)
{
    struct buf sentence = {0};
    put(&sentence, i->cause);
    if (told)
        buf_printf(&sentence, ", as #%lld.", (long long)told);
    else if (may_be_unworked(i))
        buf_printf(&sentence, ": A member committed, and then ended without leaving.");
    else if (cause != CAUSE_COUNT)
        buf_printf(&sentence, ": %s", cause_def(cause)->meaning);
    put_bound(i, told != 0, &sentence);
    buf_printf(&sentence, " Trigger: ");
    put(&sentence, i->trigger);
    if (i->rebalance)
        buf_printf(&sentence, ", rebalance %lld", (long long)i->rebalance);
    put_party(&sentence, "from", &i->from);
    put_party(&sentence, "to", &i->to);
    buf_printf(&sentence, ".");
    for (int32_t n = 0; n < i->n_contributing; n++) {
        buf_printf(&sentence, n ? ", " : " Contributing: ");
        put(&sentence, i->contributing[n]);
    }
    put_sentence(out, "     why: ", &sentence, style->width);
    buf_free(&sentence);
}

static void incident_text(const struct tally_report_response_incident *i, struct str group,
                          const struct report_style *style, struct told *told, struct buf *out)
{
    put_what(i, group, style, out);
    enum cause cause = cause_find(i->cause);
    bool is_known = cause != CAUSE_COUNT;
    const struct tally_report_response_incident *same = is_known ? told->advice[cause] : NULL;
    put_why(i, cause, is_known ? told->meaning[cause] : 0, style, out);
    if (same && str_eq(same->advice, i->advice)) {
        buf_printf(out, "     do:  as for #%lld\n", (long long)same->id);
    } else if (i->advice.len > 0) {
        struct buf sentence = {0};
        put(&sentence, i->advice);
        put_sentence(out, "     do:  ", &sentence, style->width);
        buf_free(&sentence);
    }
    if (!is_known)
        return;
    if (!told->meaning[cause] && cause_def(cause)->drill && !str_eq_c(i->class, "note"))
        buf_printf(out, "     try: tally drill %s -- COMMAND\n", cause_def(cause)->drill);
    if (!told->meaning[cause])
        told->meaning[cause] = i->id;
    if (!same || !str_eq(same->advice, i->advice))
        told->advice[cause] = i;
}

void report_incident_text(const struct tally_report_response_incident *i, struct str group,
                          const struct report_style *style, struct buf *out)
{
    struct told nothing = {0};
    incident_text(i, group, style, &nothing, out);
}

static void put_rebalance(const struct tally_report_response_rebalance *r,
                          const struct report_style *style, struct buf *out)
{
    struct buf sentence = {0};
    buf_printf(out, "  rebalance %lld  ", (long long)r->id);
    put_time(out, r->time_ms);
    if (r->ended_ms < 0)
        buf_printf(out, "  under way");
    else
        buf_printf(out, "  took %lld ms, generation %d to %d",
                   (long long)(r->ended_ms - r->time_ms), (int)r->from_epoch, (int)r->to_epoch);
    buf_add(out, "\n", 1);
    put(&sentence, r->trigger);
    if (!str_is_null(r->member)) {
        buf_printf(&sentence, " of ");
        put(&sentence, r->member);
    }
    if (r->reason.len > 0) {
        buf_printf(&sentence, " (");
        put(&sentence, r->reason);
        buf_printf(&sentence, ")");
    }
    if (r->waited_for.len > 0) {
        buf_printf(&sentence, ", waited for ");
        put(&sentence, r->waited_for);
    }
    put_sentence(out, "     why: ", &sentence, style->width);
    for (int32_t i = 0; i < r->n_partitions; i++) {
        const struct tally_report_response_handover *h = &r->partitions[i];
        put(&sentence, h->topic);
        buf_printf(&sentence, "/%d from ", (int)h->partition);
        put(&sentence, str_is_null(h->from) ? STR("nobody") : h->from);
        buf_printf(&sentence, " to ");
        put(&sentence, str_is_null(h->to) ? STR("nobody") : h->to);
        if (h->pause_ms >= 0)
            buf_printf(&sentence, ", paused %lld ms", (long long)h->pause_ms);
        if (h->resent)
            buf_printf(&sentence, ", %lld resent", (long long)h->resent);
        put_sentence(out, "          ", &sentence, style->width);
    }
    buf_free(&sentence);
}

// Whether an incident is in the text; what is not is counted by class.
static bool is_shown(const struct tally_report_response_incident *i,
                     const struct report_style *style)
{
    return style->all || (!i->quiet && !str_eq_c(i->class, "note"));
}

// A right consumer leaves the same traces as one that lost records, so that such an incident is
// quiet; but whoever looks for lost records has to learn that it is there.
static void put_hidden(const struct tally_report_response_group *g,
                       const struct report_style *style, struct buf *out)
{
    static const char *const classes[] = {"missed", "repeated", "resent",
                                          "risk",   "stalled",  "note"};
    bool may_be_lost = false;
    int32_t n_kinds = 0;
    for (size_t c = 0; c < sizeof classes / sizeof classes[0]; c++) {
        int32_t n = 0;
        for (int32_t i = 0; i < g->n_incidents; i++) {
            const struct tally_report_response_incident *incident = &g->incidents[i];
            if (is_shown(incident, style) || !str_eq_c(incident->class, classes[c]))
                continue;
            n++;
            may_be_lost |= may_be_unworked(incident);
        }
        if (n)
            buf_printf(out, "%s%d %s", n_kinds++ ? ", " : "  not shown (--all): ", (int)n,
                       classes[c]);
    }
    if (n_kinds)
        buf_add(out, "\n", 1);
    if (may_be_lost)
        report_sentence(out, "     risk: ",
                        STR("a member died after a commit. If it commits before the work is done, "
                            "records are lost, which a broker does not see; a drill does: tally "
                            "drill auto-commit-miss commit-first-miss -- COMMAND"),
                        style->width);
}

// Sent again for want of any commit: the simplest reason there is.
static void put_uncommitted(const struct tally_report_response_group *g,
                            const struct report_style *style, struct buf *out)
{
    int32_t n = 0;
    for (int32_t i = 0; i < g->n_partitions; i++)
        n += g->partitions[i].committed_offset < 0 && g->partitions[i].resent > 0;
    if (n == 0)
        return;
    struct buf sentence = {0};
    buf_printf(&sentence,
               "%d of %d partitions have no committed offset, and records of theirs were sent "
               "again: does the consumer commit? Without it each new owner begins where "
               "auto.offset.reset says.",
               (int)n, (int)g->n_partitions);
    put_sentence(out, "  ", &sentence, style->width);
    buf_free(&sentence);
}

static void put_incidents(const struct tally_report_response_group *g,
                          const struct report_style *style, struct buf *out)
{
    struct told told = {0};
    for (int32_t i = g->n_incidents - 1; i >= 0; i--) { // newest first
        if (is_shown(&g->incidents[i], style))
            incident_text(&g->incidents[i], STR_NULL, style, &told, out);
    }
    put_hidden(g, style, out);
    if (g->n_incidents == 0)
        buf_printf(out, "  no incidents\n");
}

static void put_group(const struct tally_report_response_group *g, const struct report_style *style,
                      struct buf *out)
{
    paint(out, style, BOLD);
    put(out, g->group);
    paint(out, style, PLAIN);
    buf_printf(out, "  ");
    put(out, g->protocol);
    buf_printf(out, "%s", g->protocol.len > 0 ? ", " : "");
    put(out, g->state);
    buf_printf(out, "%sexpected: ", g->state.len > 0 ? ", " : "");
    put(out, g->expect);
    buf_add(out, "\n", 1);
    if (g->n_partitions)
        put_partitions(g, style, out);
    put_uncommitted(g, style, out);
    put_incidents(g, style, out);
    for (int32_t i = g->n_rebalances - 1; style->rebalances && i >= 0; i--)
        put_rebalance(&g->rebalances[i], style, out);
}

void report_text(const struct tally_report_response *report, const struct report_style *style,
                 struct buf *out)
{
    for (int32_t i = 0; i < report->n_groups; i++) {
        if (i)
            buf_add(out, "\n", 1);
        put_group(&report->groups[i], style, out);
    }
    if (report->n_groups == 0)
        buf_printf(out, "no groups yet\n");
}
