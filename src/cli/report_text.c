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

// What was sent twice may have been worked on twice, no more is known from the wire.
static void put_bound(const struct tally_report_response_incident *i, struct buf *out)
{
    if (!str_eq_c(i->class, "resent") || i->first < 0)
        return;
    buf_printf(out,
               " Sent twice is not worked on twice: at most %lld were, and this counts what was "
               "only fetched ahead.",
               (long long)i->records);
    if (i->likely_at_most >= 0 && i->likely_at_most < i->records)
        buf_printf(out, " Its commits lay %lld records apart at most, so likely no more than that.",
                   (long long)i->likely_at_most);
}

void report_incident_text(const struct tally_report_response_incident *i, struct str group,
                          const struct report_style *style, struct buf *out)
{
    put_what(i, group, style, out);
    struct buf sentence = {0};
    put(&sentence, i->cause);
    enum cause cause = cause_find(i->cause);
    if (cause != CAUSE_COUNT)
        buf_printf(&sentence, ": %s", cause_def(cause)->meaning);
    put_bound(i, &sentence);
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
    put(&sentence, i->advice);
    if (sentence.len)
        put_sentence(out, "     do:  ", &sentence, style->width);
    buf_free(&sentence);
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

static void put_incidents(const struct tally_report_response_group *g,
                          const struct report_style *style, struct buf *out)
{
    int hidden = 0;
    for (int32_t i = g->n_incidents - 1; i >= 0; i--) { // newest first
        const struct tally_report_response_incident *incident = &g->incidents[i];
        if (!style->all && (incident->quiet || str_eq_c(incident->class, "note")))
            hidden++;
        else
            report_incident_text(incident, STR_NULL, style, out);
    }
    if (hidden)
        buf_printf(out, "  %d quiet one%s not shown (--all)\n", hidden, hidden == 1 ? "" : "s");
    else if (g->n_incidents == 0)
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
