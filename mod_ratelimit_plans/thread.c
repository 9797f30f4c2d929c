/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Threads of a child beside its requests.
 */

#include "thread.h"

#include "rlp.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define THREAD_NAPS 1000 /* of a patience */

apr_status_t thread_spawn(apr_thread_t **thread, apr_thread_start_t run, void *data,
                          apr_pool_t *pool)
{
    sigset_t all;
    sigset_t before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const apr_status_t rv = apr_thread_create(thread, NULL, run, data, pool);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rv;
}

apr_status_t thread_condition(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    apr_status_t rv = pthread_condattr_init(&attributes);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    rv = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return rv;
}

bool thread_await(pthread_cond_t *cond, pthread_mutex_t *mutex, apr_interval_time_t span)
{
    const rlp_time_t end = rlp_clock_monotonic() + span;
    const struct timespec until = { .tv_sec = end / RLP_SECOND,
                                    .tv_nsec = end % RLP_SECOND * 1000 };

    return pthread_cond_timedwait(cond, mutex, &until) != ETIMEDOUT;
}

static apr_status_t thread_make(thread_t **made)
{
    apr_pool_t *room;
    apr_status_t rv = apr_pool_create_unmanaged_ex(&room, NULL, NULL);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    thread_t *thread = apr_pcalloc(room, sizeof(*thread));

    thread->room = room;
    rv = pthread_mutex_init(&thread->mutex, NULL);
    if (rv == APR_SUCCESS) {
        rv = thread_condition(&thread->cond);
    }
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(room);
        return rv;
    }
    *made = thread;
    return APR_SUCCESS;
}

static void *APR_THREAD_FUNC thread_main(apr_thread_t *self, void *data)
{
    thread_t *thread = data;

    (void)self;
    thread->run(thread, thread->data);
    pthread_mutex_lock(&thread->mutex);
    thread->done = true;
    pthread_cond_broadcast(&thread->cond);
    pthread_mutex_unlock(&thread->mutex);
    return NULL;
}

apr_status_t thread_begin(thread_t **made, thread_fn *run, const void *data, apr_size_t size)
{
    thread_t *thread;
    apr_status_t rv = thread_make(&thread);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    thread->run = run;
    thread->data = apr_pmemdup(thread->room, data, size);
    rv = thread_spawn(&thread->thread, thread_main, thread, thread->room);
    if (rv != APR_SUCCESS) {
        apr_pool_destroy(thread->room);
        return rv;
    }
    *made = thread;
    return APR_SUCCESS;
}

bool thread_is_stopped(thread_t *thread)
{
    return apr_atomic_read32(&thread->stop) != 0;
}

bool thread_sleep(thread_t *thread, apr_interval_time_t span)
{
    pthread_mutex_lock(&thread->mutex);
    if (!thread_is_stopped(thread)) {
        (void)thread_await(&thread->cond, &thread->mutex, span);
    }
    pthread_mutex_unlock(&thread->mutex);
    return !thread_is_stopped(thread);
}

/* False: this is a signal's handler, in the midst of what has the mutex. */
static bool thread_lock(thread_t *thread, apr_interval_time_t patience)
{
    int rv = pthread_mutex_trylock(&thread->mutex);

    for (int naps = 0; rv != 0 && naps < THREAD_NAPS; naps++) {
        apr_sleep(patience / THREAD_NAPS);
        rv = pthread_mutex_trylock(&thread->mutex);
    }
    return rv == 0;
}

bool thread_stop(thread_t *thread, apr_interval_time_t patience)
{
    bool waits = true;

    apr_atomic_set32(&thread->stop, 1);
    if (!thread_lock(thread, patience)) {
        return false;
    }
    pthread_cond_broadcast(&thread->cond);
    while (!thread->done && waits) {
        waits = thread_await(&thread->cond, &thread->mutex, patience);
    }
    const bool done = thread->done;

    pthread_mutex_unlock(&thread->mutex);
    return done;
}

/* Before httpd's own function for that, which comes last and takes all memory and modules away. */
static void thread_exit(void)
{
    _exit(EXIT_SUCCESS);
}

void thread_leave(thread_t *thread, bool done)
{
    apr_status_t rv;

    if (done) {
        apr_thread_join(&rv, thread->thread);
        thread->joined = true;
    } else {
        (void)atexit(thread_exit);
    }
}

apr_status_t thread_end(void *thread)
{
    thread_leave(thread, thread_stop(thread, APR_USEC_PER_SEC));
    return APR_SUCCESS;
}

static apr_status_t thread_free(void *data)
{
    thread_t *thread = data;

    if (thread->joined) {
        pthread_cond_destroy(&thread->cond);
        pthread_mutex_destroy(&thread->mutex);
        apr_pool_destroy(thread->room);
    }
    return APR_SUCCESS;
}

void thread_end_with(apr_pool_t *pchild, thread_t *thread, apr_status_t (*end)(void *thread))
{
    apr_pool_pre_cleanup_register(pchild, thread, end);
    apr_pool_cleanup_register(pchild, thread, thread_free, apr_pool_cleanup_null);
}
