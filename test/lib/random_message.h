#pragma once
// Fills any message of the schema with seeded contents that its schema allows in a version.

#include "base/arena.h"
#include "base/prng.h"
#include "wire/codec.h"

void random_message(struct prng *p, const struct kw_message *m, int version, struct arena *a,
                    void *ret_msg);
