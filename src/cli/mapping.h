#pragma once
// Which column gets what of a record, for `tally consume`. Nothing is guessed and nothing left
// out: a record that does not fit is TALLY_UNFIT with a sentence that names the field.

#include "base/check.h"
#include "tally.h"

enum mapping_format { MAPPING_RAW, MAPPING_LINES, MAPPING_JSON, MAPPING_CSV };

struct mapping;

struct mapping_options {
    enum mapping_format format;
    const char *table;       // NULL: each topic has a table of its name
    bool creates;            // tables that are not there
    const char *const *maps; // COLUMN[:TYPE]=FIELD
    size_t n_maps;           // 0: the format's own columns, or those of the table
    const char *const *topics;
    size_t n_topics;
};

#define MAPPING_WHY_MAX 256
#define MAPPING_MAX_COLUMNS 500

// False, with a sentence in `why`, for what cannot be right whatever the table looks like.
// The options' strings are borrowed.
MUST_USE bool mapping_new(const struct mapping_options *o, struct mapping **ret_mapping,
                          char why[MAPPING_WHY_MAX]);
void mapping_free(struct mapping *m); // NULL is fine
// False: no column takes @headers.
bool mapping_may_want_headers(const struct mapping *m);
// Makes tables if told to, and checks that each has the columns. A tally_setup_fn.
int mapping_setup(void *mapping, struct tally_tx *tx, struct tally_error *error);
// Inserts a row for each. A tally_process_some_fn.
int mapping_store(void *mapping, const struct tally_record *records, size_t n, struct tally_tx *tx,
                  size_t *ret_bad, struct tally_error *error);
