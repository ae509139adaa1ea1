#pragma once
// Programmer errors. CHECK stays on in production: a broker that goes on after a broken
// invariant would account wrongly, and a false verdict is worse than none.

#include <stdnoreturn.h>

#define MUST_USE __attribute__((warn_unused_result))

noreturn void check_failed(const char *file, int line, const char *what);

#define CHECK(cond) ((cond) ? (void)0 : check_failed(__FILE__, __LINE__, #cond))
#define UNREACHABLE() check_failed(__FILE__, __LINE__, "unreachable")
