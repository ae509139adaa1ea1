#include "broker/tap.h"

#include "broker/internal.h"
#include "store/log.h"

void broker_set_tap(struct broker *b, const struct tap *t)
{
    b->tap = t ? *t : (struct tap){0};
}

bool tap_release(struct broker *b, uint64_t token)
{
    struct request *r = request_by_token(b, token);
    if (!r || (r->stage != REQUEST_TAPPED && r->stage != REQUEST_TAPPED_ANSWER))
        return false;
    broker_read_clock(b);
    dispatch_tapped(b, r);
    return true;
}

void tap_cut(struct broker *b, uint64_t conn)
{
    net_close(b->config.net, conn);
}

int tap_listener(struct broker *b, uint64_t conn)
{
    const struct channel *c = channel_find(b, conn);
    return c ? c->peer.listener : -1;
}
