/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Threads beside requests, when their process ends: one that still works keeps what it uses.
 */

#include "thread.h"
#include "unit.h"

#include <apr_atomic.h>
#include <apr_general.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define LONG (20 * APR_USEC_PER_SEC)
#define SHORT (APR_USEC_PER_SEC / 100)

/* --- one that is told to end */

static void worker_run(thread_t *thread, void *data)
{
    apr_uint32_t *rounds = data;

    do {
        apr_atomic_inc32(rounds);
    } while (thread_sleep(thread, SHORT));
}

static void test_end(void **state)
{
    apr_uint32_t rounds = 0;
    thread_t *thread;

    (void)state;
    assert_int_equal(thread_make(&thread), APR_SUCCESS);
    assert_int_equal(thread_start(thread, worker_run, &rounds), APR_SUCCESS);
    while (apr_atomic_read32(&rounds) < 3) {
        apr_sleep(SHORT);
    }
    assert_false(thread_is_stopped(thread));
    assert_true(thread_stop(thread, LONG));
    thread_leave(thread, true);
}

/* Who sleeps for long is woken. */
static void sleeper_run(thread_t *thread, void *data)
{
    apr_uint32_t *rounds = data;

    apr_atomic_inc32(rounds);
    while (thread_sleep(thread, 1000 * LONG)) {
        apr_atomic_inc32(rounds);
    }
}

static void test_wake(void **state)
{
    apr_uint32_t rounds = 0;
    thread_t *thread;

    (void)state;
    assert_int_equal(thread_make(&thread), APR_SUCCESS);
    assert_int_equal(thread_start(thread, sleeper_run, &rounds), APR_SUCCESS);
    assert_true(thread_stop(thread, LONG));
    thread_leave(thread, true);
    assert_int_equal(rounds, 1);
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
    apr_atomic_set32(data, 1);
    for (;;) {
        apr_sleep(LONG);
    }
}

/* A process whose thread hangs, or has the mutex for itself. */
static void end_hanging(bool locked)
{
    apr_uint32_t *begun;
    thread_t *thread;

    atexit(end_clears);
    if (thread_make(&thread) != APR_SUCCESS) {
        _exit(2);
    }
    begun = apr_pcalloc(thread->room, sizeof(*begun));
    if (thread_start(thread, hanging_run, begun) != APR_SUCCESS) {
        _exit(3);
    }
    while (apr_atomic_read32(begun) == 0) {
        apr_sleep(SHORT);
    }
    if (locked) { /* as in the handler of a signal that came just then */
        apr_thread_mutex_lock(thread->mutex);
    }
    if (thread_stop(thread, SHORT)) {
        _exit(4);
    }
    thread_leave(thread, false);
    exit(5);
}

static void end_forked(bool locked)
{
    char byte;
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
    assert_int_equal(read(cleared[0], &byte, 1), 0); /* nobody has written */
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
        { "one that hangs keeps what it uses", test_hanging },
        { "and nobody waits for its mutex", test_locked },
    };

    unit_add_singles(singles, UNIT_N(singles));
    return unit_run();
}
