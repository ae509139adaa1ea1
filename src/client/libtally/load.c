#include "client/libtally/load.h"

#include <dlfcn.h>
#include <string.h>

static void *open_library(const char *file, const char *package, struct tally_error *error)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        tally_error_set(error, TALLY_LIBRARY, "%s cannot be loaded; install it (Debian: %s)", file,
                        package);
    return library;
}

// A data pointer is not a function pointer to ISO C; POSIX says that copying it is right.
static bool find(void *library, const char *file, const char *name, void *ret_function,
                 struct tally_error *error)
{
    void *symbol = dlsym(library, name);
    if (!symbol) {
        tally_error_set(error, TALLY_LIBRARY, "%s has no %s; install a newer version", file, name);
        return false;
    }
    memcpy(ret_function, &symbol, sizeof symbol);
    return true;
}

#define LOAD_FUNCTION(name)                                                                        \
    if (!find(api.library, file, #name, &api.name, error)) {                                       \
        return TALLY_LIBRARY;                                                                      \
    }

int load_kafka(struct kafka_api *ret_api, struct tally_error *error)
{
    static const char file[] = "librdkafka.so.1";
    struct kafka_api api = {.library = open_library(file, "librdkafka1", error)};
    if (!api.library)
        return TALLY_LIBRARY;
    LOAD_KAFKA(LOAD_FUNCTION)
    *ret_api = api;
    return 0;
}

int load_postgres(struct postgres_api *ret_api, struct tally_error *error)
{
    static const char file[] = "libpq.so.5";
    struct postgres_api api = {.library = open_library(file, "libpq5", error)};
    if (!api.library)
        return TALLY_LIBRARY;
    LOAD_POSTGRES(LOAD_FUNCTION)
    *ret_api = api;
    return 0;
}

int load_sqlite(struct sqlite_api *ret_api, struct tally_error *error)
{
    static const char file[] = "libsqlite3.so.0";
    struct sqlite_api api = {.library = open_library(file, "libsqlite3-0", error)};
    if (!api.library)
        return TALLY_LIBRARY;
    LOAD_SQLITE(LOAD_FUNCTION)
    *ret_api = api;
    return 0;
}
