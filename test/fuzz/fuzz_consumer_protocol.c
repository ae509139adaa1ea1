// The opaque bytes that consumers hand each other through the coordinator.

#include "wire/consumer_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct consumer_protocol_subscription s, s2;
    struct consumer_protocol_assignment as, as2;
    struct bytes in = {data, size};
    int16_t version;
    struct buf out = {0};
    if (consumer_subscription_read(in, a, &s, &version) == 0) {
        consumer_subscription_write(version, &s, &out);
        in = (struct bytes){out.ptr, out.len};
        CHECK(consumer_subscription_read(in, a, &s2, &version) == 0);
        CHECK(kw_equal(&consumer_protocol_subscription_msg, version, &s, &s2, NULL));
    }
    buf_clear(&out);
    in = (struct bytes){data, size};
    if (consumer_assignment_read(in, a, &as, &version) == 0) {
        consumer_assignment_write(version, &as, &out);
        in = (struct bytes){out.ptr, out.len};
        CHECK(consumer_assignment_read(in, a, &as2, &version) == 0);
        CHECK(kw_equal(&consumer_protocol_assignment_msg, version, &as, &as2, NULL));
    }
    buf_free(&out);
    arena_free(a);
    return 0;
}
