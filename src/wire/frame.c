#include "wire/frame.h"

#include <errno.h>

#include "schema.h"
#include "wire/reader.h"
#include "wire/writer.h"

static void skip_tags(struct reader *r)
{
    uint32_t count = reader_uvarint(r);
    for (uint32_t i = 0; i < count && !r->bad; i++) {
        reader_uvarint(r);
        reader_take(r, reader_uvarint(r));
    }
}

static struct str read_client_id(struct reader *r)
{
    int16_t len = reader_i16(r);
    if (len <= 0)
        return STR_EMPTY;
    const uint8_t *p = reader_take(r, (size_t)len);
    return p ? (struct str){(const char *)p, len} : STR_EMPTY;
}

// The second header form, with tags, goes with flexible bodies; the client id stays in its old
// form. An api or version that we do not have leaves open which form it is: only what both
// share is read then.
int frame_read_request(struct bytes frame, struct request_header *ret_header,
                       struct bytes *ret_body)
{
    struct reader r = reader_of(frame);
    struct request_header h = {0};
    h.api_key = reader_i16(&r);
    h.api_version = reader_i16(&r);
    h.correlation_id = reader_i32(&r);
    if (r.bad)
        return -EBADMSG;
    h.client_id = read_client_id(&r);
    const struct kw_api *api = kw_api(h.api_key);
    if (!api || h.api_version < api->min_version || h.api_version > api->max_version) {
        *ret_header = h;
        return -EPROTONOSUPPORT;
    }
    if (kw_is_flexible(api->request, h.api_version))
        skip_tags(&r);
    if (r.bad)
        return -EBADMSG;
    *ret_header = h;
    *ret_body = (struct bytes){r.p, reader_left(&r)};
    return 0;
}

// ApiVersions is answered before a client knows what the broker speaks: its response header has
// no tags in any version.
static bool response_has_tags(const struct kw_api *api, int version)
{
    return api->key != API_API_VERSIONS && kw_is_flexible(api->response, version);
}

int frame_read_response(struct bytes frame, const struct kw_api *api, int version,
                        int32_t *ret_correlation_id, struct bytes *ret_body)
{
    struct reader r = reader_of(frame);
    int32_t id = reader_i32(&r);
    if (response_has_tags(api, version))
        skip_tags(&r);
    if (r.bad)
        return -EBADMSG;
    *ret_correlation_id = id;
    *ret_body = (struct bytes){r.p, reader_left(&r)};
    return 0;
}

struct frame_mark {
    size_t at;    // of the size
    size_t total; // bytes of the whole output before it
};

static struct frame_mark begin(struct kw_out *out)
{
    struct frame_mark m = {out->buf.len, kw_out_total(out)};
    writer_u32(&out->buf, 0);
    return m;
}

static void end(struct kw_out *out, struct frame_mark m)
{
    size_t size = kw_out_total(out) - m.total - sizeof(uint32_t);
    CHECK(size <= INT32_MAX);
    uint32_t big_endian = __builtin_bswap32((uint32_t)size);
    memcpy(out->buf.ptr + m.at, &big_endian, sizeof big_endian);
}

void frame_write_request(const struct request_header *h, const void *request, struct kw_out *out)
{
    const struct kw_api *api = kw_api(h->api_key);
    CHECK(api && h->client_id.len <= INT16_MAX);
    struct frame_mark m = begin(out);
    writer_i16(&out->buf, h->api_key);
    writer_i16(&out->buf, h->api_version);
    writer_i32(&out->buf, h->correlation_id);
    writer_i16(&out->buf, (int16_t)h->client_id.len);
    if (h->client_id.len > 0)
        writer_bytes(&out->buf, h->client_id.ptr, (size_t)h->client_id.len);
    if (kw_is_flexible(api->request, h->api_version))
        writer_u8(&out->buf, 0);
    kw_encode(api->request, h->api_version, request, out);
    end(out, m);
}

void frame_write_response(const struct kw_api *api, int version, int32_t correlation_id,
                          const void *response, struct kw_out *out)
{
    struct frame_mark m = begin(out);
    writer_i32(&out->buf, correlation_id);
    if (response_has_tags(api, version))
        writer_u8(&out->buf, 0);
    kw_encode(api->response, version, response, out);
    end(out, m);
}
