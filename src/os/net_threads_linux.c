#include "base/thread.h"
#include "os/net_threads.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

// How long the loop waits for threads to rest before it goes on with what it has.
#define REST_WAIT_MS 1

struct letter {
    struct stream *s;
    unsigned flags;        // enum order, or one of enum news
    struct kw_out answers; // of an order
};

struct letters {
    struct letter *at; // owned
    size_t n, cap;
};

struct thread {
    struct worker worker;
    struct threads *all;
    pthread_t id;
    int wake_fd;
    struct letters told;  // the thread's own: news to post
    struct letters todo;  // the thread's own: orders it took
    struct letters given; // the loop's own: orders to post
    size_t n_streams;     // the loop's own
    uint64_t heard_looks; // the loop's own: it has the news of so many
    uint64_t heard_posts; // the loop's own: and has taken so many

    // Under the lock.
    struct letters orders;
    bool sleeps;    // it posted everything and has no orders; who posts some wakes it
    bool is_to_end; // of the whole
    uint64_t wakes; // how often it stopped sleeping
    uint64_t looks; // at its sockets, whose news are posted
    uint64_t posts; // how often there were any
};

struct threads {
    unsigned n;
    int wake_fd; // of the loop
    pthread_mutex_t lock;
    // Under the lock.
    struct letters news;
    bool loop_sleeps;
    bool loop_awaits_rest;

    struct letters heard; // the loop's own: news it took
    struct thread thread[];
};

// ---- Letters

static struct letter *letter_add(struct letters *l)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 64;
        l->at = realloc(l->at, l->cap * sizeof *l->at);
        CHECK(l->at);
    }
    return &l->at[l->n++];
}

// Behind those that are there; *from is empty then.
static void letters_move(struct letters *to, struct letters *from)
{
    if (to->n == 0) {
        struct letters swap = *to;
        *to = *from;
        *from = swap;
        return;
    }
    for (size_t i = 0; i < from->n; i++)
        *letter_add(to) = from->at[i];
    from->n = 0;
}

static void letters_free(struct letters *l, struct budget *output)
{
    for (size_t i = 0; i < l->n; i++)
        out_free(output, &l->at[i].answers, 0);
    free(l->at);
}

static void wake(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0)
        CHECK(errno == EAGAIN); // it is woken already
}

// ---- A thread

static void tell(struct worker *w, struct stream *s, enum news news)
{
    struct thread *t = (struct thread *)(void *)w;
    *letter_add(&t->told) = (struct letter){.s = s, .flags = news};
}

// Posts what was found. Returns how long to wait.
static int end_look(struct thread *t)
{
    struct threads *all = t->all;
    pthread_mutex_lock(&all->lock);
    bool has_news = t->told.n > 0;
    if (has_news)
        letters_move(&all->news, &t->told);
    t->looks++;
    t->posts += has_news;
    t->sleeps = t->orders.n == 0 && !t->is_to_end;
    bool wakes = all->loop_sleeps && (has_news || (t->sleeps && all->loop_awaits_rest));
    all->loop_sleeps &= !wakes;
    bool sleeps = t->sleeps;
    pthread_mutex_unlock(&all->lock);
    if (wakes)
        wake(all->wake_fd);
    if (!sleeps)
        return 0;
    return t->worker.input.n_spares > 0 ? SPARES_KEPT_MS : -1;
}

// Before anything is read: who finds the thread asleep after this did not yet begin knows that it
// has read nothing. False: it is the end.
static bool begin_look(struct thread *t)
{
    pthread_mutex_lock(&t->all->lock);
    t->wakes += t->sleeps;
    t->sleeps = false;
    letters_move(&t->todo, &t->orders);
    bool goes_on = !t->is_to_end;
    pthread_mutex_unlock(&t->all->lock);
    return goes_on;
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int wait_ms = end_look(t);
        int count = epoll_wait(t->worker.epoll_fd, events, EVENTS_MAX, wait_ms);
        while (count < 0 && errno == EINTR) // as in net_run_once()
            count = epoll_wait(t->worker.epoll_fd, events, EVENTS_MAX, 0);
        CHECK(count >= 0);
        if (!begin_look(t))
            return NULL;
        if (count == 0 && wait_ms > 0)
            input_pool_trim(&t->worker.input);
        for (int i = 0; i < count; i++) {
            struct slot *s = events[i].data.ptr;
            if (s) // not the one that only wakes
                stream_event(&t->worker, (struct stream *)(void *)s, events[i].events);
        }
        for (size_t i = 0; i < t->todo.n; i++) {
            struct letter *l = &t->todo.at[i];
            stream_order(&t->worker, l->s, &l->answers, l->flags);
        }
        t->todo.n = 0;
    }
}

// ---- Starting and ending

static int wake_fd_new(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static void net_thread_start(struct thread *t, const struct worker *like)
{
    t->worker = (struct worker){.epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                                .is_thread = true,
                                .max_frame_bytes = like->max_frame_bytes,
                                .input.budget = like->input.budget,
                                .output = like->output,
                                .tell = tell};
    CHECK(t->worker.epoll_fd >= 0);
    t->wake_fd = wake_fd_new();
    struct epoll_event e = {.events = EPOLLIN | EPOLLET};
    CHECK(epoll_ctl(t->worker.epoll_fd, EPOLL_CTL_ADD, t->wake_fd, &e) == 0);
    CHECK(thread_start(&t->id, thread_main, t) == 0);
    pthread_setname_np(t->id, "tally-net");
}

struct threads *threads_new(unsigned n, const struct worker *like)
{
    CHECK(n <= NET_THREADS_MAX);
    struct threads *all = calloc(1, sizeof *all + n * sizeof all->thread[0]);
    CHECK(all);
    all->n = n;
    all->wake_fd = wake_fd_new();
    pthread_mutex_init(&all->lock, NULL);
    for (unsigned i = 0; i < n; i++) {
        all->thread[i].all = all;
        net_thread_start(&all->thread[i], like);
    }
    return all;
}

void threads_free(struct threads *all)
{
    if (!all)
        return;
    pthread_mutex_lock(&all->lock);
    for (unsigned i = 0; i < all->n; i++)
        all->thread[i].is_to_end = true;
    pthread_mutex_unlock(&all->lock);
    for (unsigned i = 0; i < all->n; i++) {
        struct thread *t = &all->thread[i];
        wake(t->wake_fd);
        pthread_join(t->id, NULL);
        struct budget *output = t->worker.output;
        letters_free(&t->told, output);
        letters_free(&t->todo, output);
        letters_free(&t->given, output);
        letters_free(&t->orders, output);
        input_pool_trim(&t->worker.input);
        close(t->worker.epoll_fd);
        close(t->wake_fd);
    }
    free(all->news.at);
    free(all->heard.at);
    close(all->wake_fd);
    pthread_mutex_destroy(&all->lock);
    free(all);
}

int threads_wake_fd(const struct threads *all)
{
    return all->wake_fd;
}

// ---- The loop's side

void threads_adopt(struct threads *all, struct stream *s)
{
    struct thread *least = &all->thread[0];
    for (unsigned i = 1; i < all->n; i++)
        if (all->thread[i].n_streams < least->n_streams)
            least = &all->thread[i];
    least->n_streams++;
    s->worker = &least->worker;
}

static struct thread *thread_of(const struct stream *s)
{
    return (struct thread *)(void *)s->worker;
}

void threads_forget(struct threads *all, struct stream *s)
{
    (void)all;
    thread_of(s)->n_streams--;
}

void threads_order(struct threads *all, struct stream *s, struct kw_out *answers, unsigned orders)
{
    struct thread *t = thread_of(s);
    // Usually the answer and "read on" come one after the other.
    struct letter *last = t->given.n > 0 ? &t->given.at[t->given.n - 1] : NULL;
    if (!last || last->s != s) {
        last = letter_add(&t->given);
        *last = (struct letter){.s = s};
    }
    last->flags |= orders;
    if (!out_is_empty(answers))
        out_move(all->thread[0].worker.output, &last->answers, answers);
}

// Under the lock. Who has to be woken is marked.
static void post_all(struct threads *all, bool *ret_wakes)
{
    for (unsigned i = 0; i < all->n; i++) {
        struct thread *t = &all->thread[i];
        ret_wakes[i] = t->given.n > 0 && t->sleeps;
        if (t->given.n == 0)
            continue;
        letters_move(&t->orders, &t->given);
        t->wakes += t->sleeps;
        t->sleeps = false;
    }
}

static void wake_all(struct threads *all, const bool *wakes)
{
    for (unsigned i = 0; i < all->n; i++)
        if (wakes[i])
            wake(all->thread[i].wake_fd);
}

void threads_post(struct threads *all)
{
    bool wakes[NET_THREADS_MAX], has_some = false;
    for (unsigned i = 0; i < all->n; i++)
        has_some |= all->thread[i].given.n > 0;
    if (!has_some)
        return;
    pthread_mutex_lock(&all->lock);
    post_all(all, wakes);
    pthread_mutex_unlock(&all->lock);
    wake_all(all, wakes);
}

int threads_sleep(struct threads *all, int timeout_ms, bool rests_first)
{
    threads_post(all);
    bool awaits_rest = rests_first && !threads_rest(all);
    if (awaits_rest && timeout_ms >= 0 && timeout_ms < REST_WAIT_MS)
        timeout_ms = REST_WAIT_MS;
    pthread_mutex_lock(&all->lock);
    if (all->news.n > 0)
        timeout_ms = 0;
    all->loop_sleeps = timeout_ms != 0;
    all->loop_awaits_rest = awaits_rest;
    pthread_mutex_unlock(&all->lock);
    return timeout_ms;
}

int threads_take_news(struct threads *all,
                      void (*hear)(void *arg, struct stream *s, enum news news), void *arg)
{
    pthread_mutex_lock(&all->lock);
    all->loop_sleeps = false;
    letters_move(&all->heard, &all->news);
    for (unsigned i = 0; i < all->n; i++) {
        all->thread[i].heard_looks = all->thread[i].looks;
        all->thread[i].heard_posts = all->thread[i].posts;
    }
    pthread_mutex_unlock(&all->lock);
    for (size_t i = 0; i < all->heard.n; i++)
        hear(arg, all->heard.at[i].s, (enum news)all->heard.at[i].flags);
    int count = (int)all->heard.n;
    all->heard.n = 0;
    return count;
}

// ---- Whether anything is there that the loop was not told

struct nap {
    bool is_asked; // about this thread
    uint64_t wakes;
};

// Under the lock. They sleep, and the loop has all they told.
static bool all_nap(struct threads *all, struct nap *naps, bool is_first)
{
    for (unsigned i = 0; i < all->n; i++) {
        const struct thread *t = &all->thread[i];
        if (!naps[i].is_asked)
            continue;
        if (!t->sleeps || t->posts != t->heard_posts || t->given.n > 0)
            return false;
        if (is_first)
            naps[i].wakes = t->wakes;
        else if (naps[i].wakes != t->wakes)
            return false;
    }
    return true;
}

// A thread that sleeps and whose epoll has nothing has found all there was before the look at its
// epoll: had it read something since it was asked the first time, it would have stopped sleeping
// before, and be seen awake, or to have woken, the second time.
static bool all_rest(struct threads *all, struct nap *naps)
{
    struct pollfd fds[NET_THREADS_MAX];
    nfds_t n = 0;
    for (unsigned i = 0; i < all->n; i++)
        if (naps[i].is_asked)
            fds[n++] = (struct pollfd){.fd = all->thread[i].worker.epoll_fd, .events = POLLIN};
    pthread_mutex_lock(&all->lock);
    bool rest = all_nap(all, naps, true);
    pthread_mutex_unlock(&all->lock);
    if (!rest || poll(fds, n, 0) != 0)
        return false;
    pthread_mutex_lock(&all->lock);
    rest = all_nap(all, naps, false);
    pthread_mutex_unlock(&all->lock);
    return rest;
}

bool threads_rest(struct threads *all)
{
    struct nap naps[NET_THREADS_MAX];
    for (unsigned i = 0; i < all->n; i++)
        naps[i] = (struct nap){.is_asked = true};
    return all_rest(all, naps);
}

bool threads_round_is_over(struct threads *all, struct round *r)
{
    if (!r->is_on) {
        r->is_on = true;
        pthread_mutex_lock(&all->lock);
        for (unsigned i = 0; i < all->n; i++)
            r->looks[i] = all->thread[i].looks;
        pthread_mutex_unlock(&all->lock);
    }
    struct nap naps[NET_THREADS_MAX];
    for (unsigned i = 0; i < all->n; i++) // the look that was under way then does not count
        naps[i] = (struct nap){.is_asked = all->thread[i].heard_looks < r->looks[i] + 2};
    r->is_on = !all_rest(all, naps);
    return !r->is_on;
}
