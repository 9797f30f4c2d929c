/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Threads beside requests, when their process ends: one that still works keeps what it uses.
 */

#include "thread.h"
#include "unit.h"

#include <apr_general.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG (20 * APR_USEC_PER_SEC)
#define SHORT (APR_USEC_PER_SEC / 100)

static int rounds[2]; /* a pipe: a byte for each time that a thread was awake */

/* A byte; false: nobody will write any more. */
static bool read_byte(int fd)
{
    char byte;

    return read(fd, &byte, 1) == 1;
}

static void write_byte(int fd)
{
    assert_int_equal(write(fd, "x", 1), 1);
}

/* --- one that is told to end */

static void worker_run(thread_t *thread, void *data)
{
    const apr_interval_time_t *span = data;

    do {
        write_byte(rounds[1]);
    } while (thread_sleep(thread, *span));
}

/* Is awake so often, sleeps so long in between, and ends when it is told to. */
static void check_end(int times, apr_interval_time_t span)
{
    thread_t *thread;

    assert_int_equal(pipe(rounds), 0);
    assert_int_equal(thread_begin(&thread, worker_run, &span, sizeof(span)), APR_SUCCESS);
    for (int i = 0; i < times; i++) {
        assert_true(read_byte(rounds[0]));
    }
    assert_false(thread_is_stopped(thread));
    assert_true(thread_stop(thread, LONG));
    thread_leave(thread, true);
    apr_pool_destroy(thread->room);
    (void)close(rounds[1]);
    while (span < LONG && read_byte(rounds[0])) {
    }
    assert_false(read_byte(rounds[0]));
    (void)close(rounds[0]);
}

static void test_end(void **state)
{
    (void)state;
    check_end(3, SHORT);
}

/* Who sleeps for long is woken, and works no more. */
static void test_wake(void **state)
{
    (void)state;
    check_end(1, 1000 * LONG);
}

/* By how much the wall clock is ahead when somebody begins to wait by it, and set back at once. */
static apr_time_t ahead;

/* In the place of APR's own. */
apr_time_t apr_time_now(void)
{
    return rlp_clock_wall() + ahead;
}

static void test_clock(void **state)
{
    (void)state;
    ahead = 1000 * LONG;
    alarm(LONG / APR_USEC_PER_SEC);
    check_end(3, SHORT);
    alarm(0);
    ahead = 0;
}

/* --- with the pool of its child */

static apr_status_t late_freed(void *freed)
{
    *(bool *)freed = true;
    return APR_SUCCESS;
}

typedef struct {
    thread_t *thread;
    bool freed;
    bool late; /* something has come to the thread after its end */
} late_t;

/* Of another module's threads, which end later: a request has found it before it ended. */
static apr_status_t late_request(void *data)
{
    late_t *late = data;

    assert_false(late->freed);
    assert_true(thread_is_stopped(late->thread));
    pthread_mutex_lock(&late->thread->mutex);
    late->late = late->thread->done;
    pthread_cond_signal(&late->thread->cond);
    pthread_mutex_unlock(&late->thread->mutex);
    return APR_SUCCESS;
}

static void test_late(void **state)
{
    const apr_interval_time_t span = 1000 * LONG;
    late_t late = { .freed = false };
    apr_pool_t *pchild;

    (void)state;
    assert_int_equal(apr_pool_create(&pchild, NULL), APR_SUCCESS);
    assert_int_equal(pipe(rounds), 0);
    assert_int_equal(thread_begin(&late.thread, worker_run, &span, sizeof(span)), APR_SUCCESS);
    apr_pool_cleanup_register(late.thread->room, &late.freed, late_freed, apr_pool_cleanup_null);
    apr_pool_pre_cleanup_register(pchild, &late, late_request); /* as of a module loaded before */
    thread_end_with(pchild, late.thread, thread_end);
    assert_true(read_byte(rounds[0]));
    apr_pool_destroy(pchild);
    assert_true(late.late);
    assert_true(late.freed);
    (void)close(rounds[0]);
    (void)close(rounds[1]);
}

/* --- one that hangs */

static int cleared[2]; /* a pipe: says that memory and modules have been taken away */

static void end_clears(void)
{
    (void)!write(cleared[1], "x", 1);
}

static void hanging_run(thread_t *thread, void *data)
{
    (void)thread;
    (void)data;
    for (;;) {
        pause();
    }
}

/* A process whose thread hangs, or has the mutex for itself. */
static void end_hanging(bool locked)
{
    thread_t *thread;

    atexit(end_clears);
    if (thread_begin(&thread, hanging_run, NULL, 0) != APR_SUCCESS) {
        _exit(2);
    }
    if (locked) { /* as in the handler of a signal that came just then */
        pthread_mutex_lock(&thread->mutex);
    }
    if (thread_stop(thread, SHORT)) {
        _exit(3);
    }
    thread_leave(thread, false);
    exit(4);
}

static void end_forked(bool locked)
{
    int status = -1;

    assert_int_equal(pipe(cleared), 0);
    const pid_t child = fork();

    if (child == 0) {
        end_hanging(locked);
    }
    assert_true(child > 0);
    (void)close(cleared[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_false(read_byte(cleared[0]));
    (void)close(cleared[0]);
}

static void test_hanging(void **state)
{
    (void)state;
    end_forked(false);
}

static void test_locked(void **state)
{
    (void)state;
    end_forked(true);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "a thread that is told to end", test_end },
        { "one that sleeps is woken", test_wake },
        { "who sets the wall clock back makes no sleep longer", test_clock },
        { "with the pool of its child, after requests of other modules' threads", test_late },
        { "one that hangs keeps what it uses", test_hanging },
        { "and nobody waits for its mutex", test_locked },
    };

    unit_add_singles(singles, UNIT_N(singles));
    return unit_run();
}
