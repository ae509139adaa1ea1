#pragma once
// The field tables that tools/gen.py writes and that the codec interprets. Included by src/wire
// and by the generated schema.c only; everybody else uses wire/codec.h.

#include "wire/codec.h"

enum kw_kind {
    KW_BOOL,
    KW_I8,
    KW_I16,
    KW_I32,
    KW_I64,
    KW_U16,
    KW_U32,
    KW_F64,
    KW_UUID,
    KW_STRING,
    KW_BYTES,
    KW_RECORDS,
    KW_STRUCT, // by value; by pointer (NULL is null) when the schema says `name?`
};

struct kw_field {
    const char *name;
    const struct kw_struct *sub; // of KW_STRUCT, and of arrays of them
    const char *default_text;    // of strings; NULL is ""
    int64_t default_number;      // of numbers and bool
    uint32_t versions;           // bit v is set when the field exists in version v
    uint32_t nullable;           // bit v is set when null is legal in version v
    uint16_t offset;             // in the C struct
    uint16_t count_offset;       // of n_<name>, for arrays
    int16_t tag;                 // -1: an ordinary field
    uint8_t kind;                // enum kw_kind; of the element when is_array
    uint8_t fixed; // bytes of a number or uuid, the same on the wire and in memory; 0: any other
    bool is_array;
    bool by_pointer;   // a struct that can be null
    bool default_null; // starts as null
    bool has_default;  // starts as anything but zeroed memory
};

struct kw_struct {
    const char *name; // of the C struct, without "struct "
    // Ordinary fields in order of the wire, then tagged ones in order of tag.
    const struct kw_field *fields;
    // The fewest bytes that one takes on the wire, by version up to the message's last.
    const uint16_t *min_size;
    uint16_t n_plain;
    uint16_t n_fields;
    uint32_t size; // sizeof the C struct
};

// Bytes of one value of a kind in memory (not of KW_STRUCT).
size_t kw_kind_size(uint8_t kind);
// Sets one field of zeroed memory to its default.
void kw_field_set_default(const struct kw_field *f, void *owner);
// True when the field holds its default, so that its tag can be left out.
bool kw_field_is_default(const struct kw_field *f, const void *owner);

extern const struct kw_api kw_apis[];
extern const size_t kw_n_apis;
extern const struct kw_message *const kw_record_types[];
extern const size_t kw_n_record_types;
