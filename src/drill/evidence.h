#pragma once
// What counts as "worked on": lines of the consumer's output, or rows of its database.

#include "drill/book.h"

enum evidence_kind { EVIDENCE_STDOUT, EVIDENCE_SQLITE, EVIDENCE_NONE };

struct evidence;

// spec is --evidence: "stdout", "none", "sql:sqlite:FILE:QUERY". match is --match or NULL, with
// stdout only: an extended regular expression with {topic} {partition} {offset} or {key} in it.
// On failure *ret_why (the caller's to free) says what is wrong.
MUST_USE int evidence_parse(const char *spec, const char *match, struct evidence **ret_evidence,
                            char **ret_why);
void evidence_free(struct evidence *e); // NULL is fine
enum evidence_kind evidence_kind(const struct evidence *e);
const char *evidence_name(const struct evidence *e); // "stdout", "sql", "none"
// FILE as it was given, "{dir}" not replaced.
const char *evidence_file(const struct evidence *e);

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

// Reads the database into the book, which is cleared first. 0; -EBUSY: locked, try again;
// -errno and *ret_why. A file that is not there yet has no rows.
MUST_USE int evidence_query(const struct evidence *e, const char *file, struct book *b,
                            char **ret_why);
