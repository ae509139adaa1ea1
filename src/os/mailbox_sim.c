#include "os/mailbox.h"

#include <stdlib.h>

#include "base/check.h"

// One thread: a letter is run when it is posted, so nothing is ever waiting.
struct mailbox {
    struct net *net;
};

struct mailbox *mailbox_new(struct net *n)
{
    struct mailbox *mb = malloc(sizeof *mb);
    CHECK(mb);
    mb->net = n;
    return mb;
}

void mailbox_free(struct mailbox *mb)
{
    free(mb);
}

void mailbox_post(struct mailbox *mb, struct mail *m)
{
    (void)mb;
    m->run(m);
}
