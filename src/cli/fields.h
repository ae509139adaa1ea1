#pragma once
// Takes single values out of a record and fits them to the type of a column.
//
// A field is
//   @topic @partition @offset @time @key @value @headers @claim_epoch    of the record itself
//   a.b.c       in a JSON value: the member c of b of a
//   3           in a CSV value: the third column

#include "base/check.h"
#include "cli/mapping.h"

struct fields;

struct fields_want {
    const char *field;
    int meta;             // fields_meta(field)
    const char *column;   // for messages
    enum tally_type type; // of the column; TALLY_NULL: any
    bool is_optional;
    enum tally_database database;
};

// Which @field it is; -1: none.
int fields_meta(const char *field);
struct fields *fields_new(enum mapping_format format);
void fields_free(struct fields *f); // NULL is fine
// False, with a sentence, for a name that the format cannot have.
MUST_USE bool fields_check(enum mapping_format format, const char *field,
                           char why[MAPPING_WHY_MAX]);
// What --create makes of it.
enum tally_type fields_type(enum mapping_format format, const char *field);

// Parses the record. Its values live until fields_close(), which also follows a failure.
MUST_USE int fields_open(struct fields *f, const struct tally_record *r, struct tally_error *error);
MUST_USE int fields_take(struct fields *f, const struct fields_want *want,
                         struct tally_value *ret_value, struct tally_error *error);
void fields_close(struct fields *f);
