#include "wire/consumer_protocol.h"

#include <errno.h>

#include "wire/reader.h"
#include "wire/writer.h"

static int read_blob(const struct kw_message *m, struct bytes in, struct arena *a, void *ret,
                     int16_t *ret_version)
{
    struct reader r = reader_of(in);
    int16_t version = reader_i16(&r);
    if (r.bad || version < 0)
        return -EBADMSG;
    if (version > m->max_version)
        version = m->max_version;
    struct bytes rest = {r.p, reader_left(&r)};
    int e = kw_decode_part(m, version, rest, a, ret, &rest, NULL);
    if (e == 0 && ret_version)
        *ret_version = version;
    return e;
}

static void write_blob(const struct kw_message *m, int16_t version, const void *msg,
                       struct buf *out)
{
    struct kw_out whole = {.buf = *out};
    writer_i16(&whole.buf, version);
    kw_encode(m, version, msg, &whole);
    *out = whole.buf;
}

int consumer_subscription_read(struct bytes in, struct arena *a,
                               struct consumer_protocol_subscription *ret, int16_t *ret_version)
{
    return read_blob(&consumer_protocol_subscription_msg, in, a, ret, ret_version);
}

int consumer_assignment_read(struct bytes in, struct arena *a,
                             struct consumer_protocol_assignment *ret, int16_t *ret_version)
{
    return read_blob(&consumer_protocol_assignment_msg, in, a, ret, ret_version);
}

void consumer_subscription_write(int16_t version, const struct consumer_protocol_subscription *s,
                                 struct buf *out)
{
    write_blob(&consumer_protocol_subscription_msg, version, s, out);
}

void consumer_assignment_write(int16_t version, const struct consumer_protocol_assignment *s,
                               struct buf *out)
{
    write_blob(&consumer_protocol_assignment_msg, version, s, out);
}
