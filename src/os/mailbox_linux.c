#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "os/mailbox.h"
#include "os/net.h"

struct mailbox {
    struct net *net;
    int fd;
    pthread_mutex_t lock;
    struct mail *first; // under the lock
    struct mail **last; // under the lock
};

static struct mail *take_all(struct mailbox *mb)
{
    pthread_mutex_lock(&mb->lock);
    struct mail *first = mb->first;
    mb->first = NULL;
    mb->last = &mb->first;
    pthread_mutex_unlock(&mb->lock);
    return first;
}

static void on_readable(void *arg, uint32_t events)
{
    (void)events;
    struct mailbox *mb = arg;
    uint64_t count;
    if (read(mb->fd, &count, sizeof count) < 0 && errno != EAGAIN)
        UNREACHABLE();
    for (struct mail *m = take_all(mb), *next; m; m = next) {
        next = m->next;
        m->run(m);
    }
}

struct mailbox *mailbox_new(struct net *n)
{
    struct mailbox *mb = calloc(1, sizeof *mb);
    CHECK(mb);
    mb->net = n;
    mb->last = &mb->first;
    mb->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(mb->fd >= 0);
    pthread_mutex_init(&mb->lock, NULL);
    CHECK(net_watch(n, mb->fd, EPOLLIN, on_readable, mb) == 0);
    return mb;
}

void mailbox_free(struct mailbox *mb)
{
    if (!mb)
        return;
    net_unwatch(mb->net, mb->fd);
    close(mb->fd);
    pthread_mutex_destroy(&mb->lock);
    free(mb);
}

void mailbox_post(struct mailbox *mb, struct mail *m)
{
    m->next = NULL;
    pthread_mutex_lock(&mb->lock);
    bool was_empty = !mb->first;
    *mb->last = m;
    mb->last = &m->next;
    pthread_mutex_unlock(&mb->lock);
    uint64_t one = 1;
    if (was_empty && write(mb->fd, &one, sizeof one) < 0)
        CHECK(errno == EAGAIN);
}
