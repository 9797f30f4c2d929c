/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Those who wait for their turn: they sleep in their worker, so only some of the threads may. A
 * worker of a 2.4 server cannot be handed back in the middle of a request.
 */

#include "annex.h"
#include "private.h"

#include <ap_mpm.h>
#include <http_core.h>
#include <http_log.h>

#include <apr_atomic.h>
#include <apr_portable.h>
#include <apr_thread_mutex.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

APLOG_USE_MODULE(ratelimit_plans);

#define TURN_SLICE (20 * INT64_C(1000)) /* where nothing but a look tells of an end */

struct turns_t {
    int ends[2];               /* a pipe; a byte in it ends all waiting */
    int threads;               /* of this child; 0: it has one only, and others share the budget */
    apr_uint32_t waiting;      /* threads of this child */
    rlp_hold_t *processes;     /* without threads: those that wait in the whole server, by number */
    apr_thread_mutex_t *mutex; /* of the queue */
    turn_queue_t *queue;       /* who waits for a place, the first first */
};

/* How many of so many may wait: a share, but one at least, and never all. */
static int turn_share(int all, const server_conf_t *server)
{
    const int percent = server->delay_budget == RLP_UNSET ? RLP_DELAY_BUDGET : server->delay_budget;
    const int share = all * percent / 100 > 1 ? all * percent / 100 : 1;

    return share < all ? share : all - 1;
}

static int turn_query(int what)
{
    int answer = 0;

    return ap_mpm_query(what, &answer) == APR_SUCCESS ? answer : 0;
}

static apr_status_t turn_close(void *data)
{
    const turns_t *turns = data;

    (void)close(turns->ends[0]);
    (void)close(turns->ends[1]);
    return APR_SUCCESS;
}

/* What says, among the words of all processes, that this one waits: its number in the store, while
   it does. NULL: it cannot be said. */
static rlp_hold_t *turn_word(const turns_t *turns)
{
    const rlp_hold_t owner = rlp_world->owner;

    return owner != 0 && turns->processes != NULL ? &turns->processes[owner >> 48] : NULL;
}

void turn_begin(apr_pool_t *pchild, server_rec *server)
{
    turns_t *turns = apr_pcalloc(pchild, sizeof(*turns));

    if (turn_query(AP_MPMQ_IS_THREADED) > 0) {
        turns->threads = turn_query(AP_MPMQ_MAX_THREADS);
    } else {
        turns->processes = annex_area(rlp_world->annex, ANNEX_WAITING);
        rlp_hold_t *own = turn_word(turns);

        if (own != NULL) { /* who had the number before waits no more */
            __atomic_store_n(own, 0, __ATOMIC_SEQ_CST);
        }
    }
    if (apr_thread_mutex_create(&turns->mutex, APR_THREAD_MUTEX_DEFAULT, pchild) != APR_SUCCESS ||
        pipe2(turns->ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        ap_log_error(APLOG_MARK, APLOG_ERR, errno, server,
                     "RLP007: no request of this process can wait");
        return;
    }
    apr_pool_cleanup_register(pchild, turns, turn_close, apr_pool_cleanup_null);
    rlp_world->turns = turns;
}

void turn_stop(apr_pool_t *pchild, int graceful)
{
    (void)pchild;
    if (rlp_world == NULL || rlp_world->turns == NULL) {
        return;
    }
    rlp_world->cut_off = rlp_world->turns->threads == 0;
    if (!graceful) {
        const ssize_t written = write(rlp_world->turns->ends[1], "", 1);

        (void)written; /* a pipe that is full has told them already */
    }
}

/* --- how many may wait */

/* The processes that wait in the whole server; of one that has died its word tells nothing. */
static int turn_processes(const rlp_hold_t processes[])
{
    int waiting = 0;

    for (int i = 0; i < RLP_OWNERS_MAX; i++) {
        const rlp_hold_t hold = __atomic_load_n(&processes[i], __ATOMIC_SEQ_CST);

        waiting += hold != 0 && rlp_hold_lives(rlp_world->living, hold);
    }
    return waiting;
}

/* Of two that come at the same time both may be refused, but not both be one too many. */
static bool turn_process(const turns_t *turns, const server_conf_t *server, bool enters)
{
    rlp_hold_t *own = turn_word(turns);

    if (own == NULL) {
        return false;
    }
    __atomic_store_n(own, enters ? rlp_world->owner : 0, __ATOMIC_SEQ_CST);
    if (!enters ||
        turn_processes(turns->processes) <= turn_share(turn_query(AP_MPMQ_MAX_DAEMONS), server)) {
        return true;
    }
    __atomic_store_n(own, 0, __ATOMIC_SEQ_CST);
    return false;
}

bool turn_enter(const server_conf_t *server)
{
    turns_t *turns = rlp_world->turns;

    if (turns == NULL) {
        return false;
    }
    if (turns->threads == 0) {
        return turn_process(turns, server, true);
    }
    if ((int)apr_atomic_inc32(&turns->waiting) < turn_share(turns->threads, server)) {
        return true;
    }
    apr_atomic_dec32(&turns->waiting);
    return false;
}

void turn_leave(const server_conf_t *server)
{
    turns_t *turns = rlp_world->turns;

    if (turns->threads == 0) {
        (void)turn_process(turns, server, false);
    } else {
        apr_atomic_dec32(&turns->waiting);
    }
}

/* --- waiting */

/* A child without threads dies of a stop or a restart where it stands; while it waits, and until it
   has answered, these signals are kept back. */
static sigset_t turn_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

static apr_status_t turn_unblock(void *data)
{
    const sigset_t set = turn_signals();

    (void)data;
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return APR_SUCCESS;
}

static void turn_block(const turns_t *turns)
{
    const sigset_t set = turn_signals();

    if (turns->threads == 0) {
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    }
}

static bool turn_terminated(const turns_t *turns)
{
    sigset_t set;

    return turns->threads == 0 && sigpending(&set) == 0 &&
           (sigismember(&set, SIGTERM) || sigismember(&set, SIGHUP));
}

/* The socket of the client, where an end of the connection shows; -1 for a stream of HTTP/2. */
static int turn_client(const request_rec *r)
{
    apr_os_sock_t fd = -1;
    apr_socket_t *socket = r->connection->master == NULL ? ap_get_conn_socket(r->connection) : NULL;

    return socket != NULL && apr_os_sock_get(&fd, socket) == APR_SUCCESS ? fd : -1;
}

/* Looks for an end of waiting, for so long at most. */
static turn_t turn_look(const turns_t *turns, const request_rec *r, int client, rlp_time_t span)
{
    const struct timespec timeout = { .tv_sec = span / RLP_SECOND,
                                      .tv_nsec = span % RLP_SECOND * 1000 };
    struct pollfd fds[2] = { { .fd = turns->ends[0], .events = POLLIN },
                             { .fd = client, .events = POLLRDHUP } };

    (void)ppoll(fds, 2, &timeout, NULL);
    if ((fds[0].revents & POLLIN) || turn_terminated(turns)) {
        return TURN_STOPPED;
    }
    return (fds[1].revents & (POLLRDHUP | POLLHUP | POLLERR)) || r->connection->aborted ? TURN_GONE
                                                                                        : TURN_CAME;
}

turn_t turn_wait(const request_rec *r, rlp_time_t span)
{
    const turns_t *turns = rlp_world->turns;
    const rlp_time_t end = rlp_clock_monotonic() + span;
    const int client = turn_client(r);
    turn_t turn = TURN_CAME;

    turn_block(turns);
    for (rlp_time_t left = span; left > 0 && turn == TURN_CAME;
         left = end - rlp_clock_monotonic()) {
        const bool slices = client < 0 || turns->threads == 0;

        turn = turn_look(turns, r, client, slices && left > TURN_SLICE ? TURN_SLICE : left);
    }
    if (turns->threads == 0 && turn == TURN_STOPPED) {
        apr_pool_cleanup_register(r->pool, NULL, turn_unblock, apr_pool_cleanup_null);
    } else if (turns->threads == 0) {
        (void)turn_unblock(NULL);
    }
    return turn;
}

/* --- the queue for places, of this process */

void turn_join(turn_queue_t *self)
{
    turns_t *turns = rlp_world->turns;
    turn_queue_t **end = &turns->queue;

    apr_thread_mutex_lock(turns->mutex);
    while (*end != NULL) {
        end = &(*end)->next;
    }
    self->next = NULL;
    *end = self;
    apr_thread_mutex_unlock(turns->mutex);
}

void turn_quit(const turn_queue_t *self)
{
    turns_t *turns = rlp_world->turns;
    turn_queue_t **at = &turns->queue;

    apr_thread_mutex_lock(turns->mutex);
    while (*at != self) {
        at = &(*at)->next;
    }
    *at = self->next;
    apr_thread_mutex_unlock(turns->mutex);
}

bool turn_is_waited_for(uint64_t key)
{
    turns_t *turns = rlp_world->turns;

    if (turns == NULL) {
        return false;
    }
    apr_thread_mutex_lock(turns->mutex);
    const turn_queue_t *at = turns->queue;

    while (at != NULL && at->key != key) {
        at = at->next;
    }
    apr_thread_mutex_unlock(turns->mutex);
    return at != NULL;
}

bool turn_first(const turn_queue_t *self)
{
    turns_t *turns = rlp_world->turns;

    apr_thread_mutex_lock(turns->mutex);
    const turn_queue_t *at = turns->queue;

    while (at->key != self->key) {
        at = at->next;
    }
    apr_thread_mutex_unlock(turns->mutex);
    return at == self;
}
