#pragma once
// Records that are done with, freed by a thread of their own. librdkafka's threads allocate them,
// and whoever frees one waits for its turn with them: at 500,000 records a second that is a tenth
// of the time of the thread that stores.
//
// The thread has what was handed to it and nothing else; it calls no callback.

#include "client/libtally/load.h"

#include <pthread.h>
#include <stdbool.h>

#define DISCARD_HAND 1024          // records that are worth waking the thread
#define DISCARD_HAND_BYTES 1000000 // or as many bytes
#define DISCARD_MAX 4096           // records that wait for it; more are freed by who has them
#define DISCARD_MAX_BYTES 16000000

struct discard {
    void (*destroy)(rd_kafka_message_t *message);
    bool has_thread; // false: what is put is freed at once
    pthread_t thread;
    rd_kafka_message_t *messages[2][DISCARD_MAX];
    int filling; // which of the two is the owner's; the other is the thread's
    size_t n_filling;
    size_t filling_bytes;
    pthread_mutex_t lock;
    pthread_cond_t some;
    size_t n_handed; // under the lock, and the following: 0 when the thread has done its work
    bool ends;
};

// Without a thread, when none can be had, it works as well. Zeros before.
void discard_start(struct discard *d, const struct kafka_api *k);
// The message is not the caller's any more.
void discard_put(struct discard *d, rd_kafka_message_t *message);
// Nothing is left waiting for more, so far as the thread has time.
void discard_flush(struct discard *d);
// Frees the rest; without discard_start() it does nothing.
void discard_stop(struct discard *d);
