// A request frame of any API, and (first byte odd) a response body or a journal record. What
// decodes must encode, and decode to the same again.

#include <stdlib.h>
#include <string.h>

#include "schema.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void there_and_back(const struct kw_message *m, int version, struct bytes in)
{
    struct arena *a = arena_new();
    void *first = arena_alloc(a, kw_size_in_memory(m));
    void *second = arena_alloc(a, kw_size_in_memory(m));
    const char *why = NULL;
    if (kw_decode(m, version, in, a, first, &why) == 0) {
        struct kw_out out = {0};
        struct buf text = {0};
        kw_encode(m, version, first, &out);
        kw_print(m, version, first, &text);
        CHECK(kw_decode(m, version, (struct bytes){out.buf.ptr, out.buf.len}, a, second, &why) ==
              0);
        // Not kw_equal: a NaN is not itself. The bytes are.
        struct kw_out again = {0};
        kw_encode(m, version, second, &again);
        CHECK(again.buf.len == out.buf.len &&
              (out.buf.len == 0 || memcmp(again.buf.ptr, out.buf.ptr, out.buf.len) == 0));
        kw_out_free(&out);
        kw_out_free(&again);
        buf_free(&text);
    } else {
        CHECK(why);
    }
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    struct bytes rest = {data + 1, size - 1};
    if (data[0] % 2 == 0) {
        struct request_header h;
        struct bytes body;
        if (frame_read_request(rest, &h, &body) == 0)
            there_and_back(kw_api(h.api_key)->request, h.api_version, body);
        return 0;
    }
    size_t which = rest.ptr[0];
    const struct kw_api *api = kw_api_at(which);
    const struct kw_message *m = api ? api->response : kw_record_type_at(which - 128);
    if (!m)
        return 0;
    int versions = m->max_version - m->min_version + 1;
    there_and_back(m, m->min_version + rest.ptr[1] % versions,
                   (struct bytes){rest.ptr + 2, rest.len - 2});
    return 0;
}
