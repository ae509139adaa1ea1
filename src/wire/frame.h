#pragma once
// Frames: a size of four bytes, a header, a body.

#include "wire/codec.h"

// Kafka's socket.request.max.bytes: a longer frame closes the connection before it is read.
#define FRAME_MAX ((size_t)104857600)

struct request_header {
    int16_t api_key;
    int16_t api_version;
    int32_t correlation_id;
    struct str client_id; // null is given as ""
};

// Splits a request frame (without its size) into header and body. 0, or -EBADMSG (the header is
// cut), or -EPROTONOSUPPORT (an api or a version that we do not have; *ret_header is then filled
// as far as it can be read, so that ApiVersions can be answered and a log line written).
MUST_USE int frame_read_request(struct bytes frame, struct request_header *ret_header,
                                struct bytes *ret_body);
// Splits a response frame. 0 or -EBADMSG.
MUST_USE int frame_read_response(struct bytes frame, const struct kw_api *api, int version,
                                 int32_t *ret_correlation_id, struct bytes *ret_body);

// Append a whole frame, size included (splices count into the size). Several may follow each
// other in one kw_out.
void frame_write_request(const struct request_header *h, const void *request, struct kw_out *out);
void frame_write_response(const struct kw_api *api, int version, int32_t correlation_id,
                          const void *response, struct kw_out *out);
