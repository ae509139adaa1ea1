#include "client/libtally/discard.h"

#include "base/thread.h"

static void destroy_all(struct discard *d, rd_kafka_message_t *const *messages, size_t n)
{
    for (size_t i = 0; i < n; i++)
        d->destroy(messages[i]);
}

static void *run(void *user)
{
    struct discard *d = user;
    int ours = 1; // as each hand-over swaps the two, so does the thread
    pthread_mutex_lock(&d->lock);
    for (;;) {
        while (d->n_handed == 0 && !d->ends)
            pthread_cond_wait(&d->some, &d->lock);
        size_t n = d->n_handed;
        if (n == 0)
            break;
        pthread_mutex_unlock(&d->lock);
        ours = !ours;
        destroy_all(d, d->messages[ours], n);
        pthread_mutex_lock(&d->lock);
        d->n_handed = 0;
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

void discard_start(struct discard *d, const struct kafka_api *k)
{
    d->destroy = k->rd_kafka_message_destroy;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->some, NULL);
    d->has_thread = thread_start(&d->thread, run, d) == 0;
}

static void forget_filling(struct discard *d)
{
    d->n_filling = d->filling_bytes = 0;
}

void discard_flush(struct discard *d)
{
    if (d->n_filling == 0)
        return;
    pthread_mutex_lock(&d->lock);
    bool is_free = d->n_handed == 0;
    if (is_free) {
        d->n_handed = d->n_filling;
        d->filling = !d->filling;
        pthread_cond_signal(&d->some);
    }
    pthread_mutex_unlock(&d->lock);
    if (is_free)
        forget_filling(d);
}

void discard_put(struct discard *d, rd_kafka_message_t *message)
{
    if (!d->has_thread) {
        d->destroy(message);
        return;
    }
    d->messages[d->filling][d->n_filling++] = message;
    d->filling_bytes += message->len + message->key_len;
    // Not at each record while the thread is busy.
    if (d->n_filling % DISCARD_HAND == 0 || d->filling_bytes >= DISCARD_HAND_BYTES)
        discard_flush(d);
    if (d->n_filling == DISCARD_MAX || d->filling_bytes >= DISCARD_MAX_BYTES) {
        destroy_all(d, d->messages[d->filling], d->n_filling);
        forget_filling(d);
    }
}

void discard_stop(struct discard *d)
{
    if (!d->destroy)
        return;
    if (d->has_thread) {
        pthread_mutex_lock(&d->lock);
        d->ends = true;
        pthread_cond_signal(&d->some);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    destroy_all(d, d->messages[d->filling], d->n_filling);
    forget_filling(d);
    d->has_thread = false;
    pthread_cond_destroy(&d->some);
    pthread_mutex_destroy(&d->lock);
}
