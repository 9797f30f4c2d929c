/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef THREAD_H
#define THREAD_H

/*
 * Threads of a child beside its requests: who keeps a store's connections, gives back what was
 * drawn ahead, or looks at files. They end as the child's pool begins to go, while requests may go
 * on in threads of other modules, such as those of mod_http2: what these share with them goes with
 * the pool itself. One that hangs when its child ends, with a server that does not answer, ends
 * with the process, and keeps until then what it uses.
 */

#include <apr_pools.h>
#include <apr_thread_proc.h>

#include <pthread.h>
#include <stdbool.h>

#pragma GCC visibility push(hidden)

typedef struct thread_t thread_t;

typedef void thread_fn(thread_t *thread, void *data);

struct thread_t {
    apr_pool_t *room; /* for what it works with: not the child's, which may end before it */
    apr_thread_t *thread;
    pthread_mutex_t mutex; /* of `done`, and of what it shares with requests */
    pthread_cond_t cond;   /* something of that has changed */
    thread_fn *run;
    void *data;
    volatile apr_uint32_t stop;
    bool done;
    bool joined; /* of who has ended it */
};

/* Starts one, which ends when run has returned. It works with a copy of the data. */
apr_status_t thread_begin(thread_t **made, thread_fn *run, const void *data, apr_size_t size);

/* Is it to end? */
bool thread_is_stopped(thread_t *thread);

/* Of the thread itself: sleeps so long, or until it is woken; false: it is to end. */
bool thread_sleep(thread_t *thread, apr_interval_time_t span);

/* Tells it to end, and waits so long for that; false: it has not. Under prefork this may run in the
   midst of anything, so it never waits for ever. */
bool thread_stop(thread_t *thread, apr_interval_time_t patience);

/* Comes last: it has ended (done), and nobody waits for it any more. Of one that has not nothing is
   freed, and the process ends without freeing anything else below it. */
void thread_leave(thread_t *thread, bool done);

/* Both, with a second of patience. */
apr_status_t thread_end(void *thread);

/* Has it ended, by thread_end() or by what does more, when the child's pool begins to go, and freed
   with the pool. */
void thread_end_with(apr_pool_t *pchild, thread_t *thread, apr_status_t (*end)(void *thread));

/* A condition for thread_await(). */
apr_status_t thread_condition(pthread_cond_t *cond);

/* With the mutex: until it is signalled, or so long at most, whatever becomes of the wall clock,
   which APR waits by; false: that is over. */
bool thread_await(pthread_cond_t *cond, pthread_mutex_t *mutex, apr_interval_time_t span);

/* Starts a thread to which no signals go: those are for the threads of the MPM. */
apr_status_t thread_spawn(apr_thread_t **thread, apr_thread_start_t run, void *data,
                          apr_pool_t *pool);

#pragma GCC visibility pop

#endif
