#pragma once
// Random bytes for ids that must be unique.

#include "base/bytes.h"

struct entropy;

struct entropy *entropy_new(void);
void entropy_free(struct entropy *e); // NULL is fine

void entropy_fill(struct entropy *e, void *out, size_t len);
// A version 4 uuid whose text form does not begin with '-', as Kafka makes them: such a name
// could be taken for a command line option.
struct uuid entropy_uuid(struct entropy *e);
