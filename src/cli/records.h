#pragma once
// Reads records out of a file or standard input, one at a time, so that a file larger than
// memory is fine. What a record's value is, is never rewritten: the bytes of the file are kept.
//
//   lines    each line is a value; no key
//   json     one object a line; the line is the value, --key names the field that is the key
//   csv      a header line, then RFC 4180 rows; the row is the value, --key names a column
//   rfc822   paragraphs of "Field: text" separated by empty lines, as apt-cache dumpavail prints;
//            the paragraph is the value; the key is --key, else the first paragraph's first field

#include "base/bytes.h"
#include "base/check.h"

enum records_format { RECORDS_AUTO, RECORDS_LINES, RECORDS_JSON, RECORDS_CSV, RECORDS_RFC822 };

// Longer records are refused: Kafka's default message.max.bytes with room for the batch around.
#define RECORDS_MAX_BYTES 1048000

struct record_read {
    struct bytes key;   // ptr NULL: no key
    struct bytes value; // never NULL
    uint64_t line;      // where it began, from 1
};

struct records;

// "lines", "json", "csv", "rfc822", "auto".
MUST_USE bool records_format_parse(const char *name, enum records_format *ret_format);

// path "-" is standard input. key_field NULL: see above. On failure -errno and *ret_why (never
// NULL, the caller's to free) says what is wrong and what to do.
MUST_USE int records_open(const char *path, enum records_format format, const char *key_field,
                          struct records **ret_records, char **ret_why);
// 1: *ret_record is valid until the next call. 0: the end. -EBADMSG or another -errno:
// records_why() names file, line and what to do.
MUST_USE int records_next(struct records *r, struct record_read *ret_record);
const char *records_why(const struct records *r);
void records_close(struct records *r); // NULL is fine
