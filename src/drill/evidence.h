#pragma once
// What counts as "worked on": lines of the consumer's output, or rows of its database.

#include "drill/book.h"
#include "drill/database.h"

enum evidence_kind { EVIDENCE_STDOUT, EVIDENCE_SQL, EVIDENCE_NONE };

struct evidence;

// spec is --evidence: "stdout", "none", "sql:" and a database (database.h). match is --match or
// NULL, with stdout only: an extended regular expression with {topic} {partition} {offset} or {key}
// in it. On failure *ret_why (the caller's to free) says what is wrong.
MUST_USE int evidence_parse(const char *spec, const char *match, struct evidence **ret_evidence,
                            char **ret_why);
void evidence_free(struct evidence *e); // NULL is fine
enum evidence_kind evidence_kind(const struct evidence *e);
const char *evidence_name(const struct evidence *e);          // "stdout", "sql", "none"
struct database *evidence_database(const struct evidence *e); // NULL: none

#define EVIDENCE_MAX_SPOTS 4096 // records one line may name; the rest is not looked at
// The records of the book that a line names. Returns how many.
size_t evidence_line(const struct evidence *e, const struct book *b, struct str line,
                     struct book_spot *ret_spots, size_t cap);
// How a line that names records looks apart from them: learnt in the control pass, where nothing
// went wrong. A line that looks otherwise may tell of something else than work ("skipped", "commit
// of ... failed"). Never odd with --match, nor where the lines of the control pass had no few
// forms.
void evidence_learn(struct evidence *e, const struct book *b, struct str line);
bool evidence_is_odd(const struct evidence *e, const struct book *b, struct str line);
