#pragma once
// Threads of ours take no signals: those are for the program's own, and its event loop.

#include <pthread.h>
#include <signal.h>

// As pthread_create(): 0 or an error number.
static inline int thread_start(pthread_t *ret, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(ret, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}
