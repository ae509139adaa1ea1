#pragma once
// What every file of libtally includes. Nothing here uses src/base: the library is handed to
// other programs, must not abort for lack of memory, and stands alone.

#include "tally.h"

#define MUST_CHECK __attribute__((warn_unused_result))
