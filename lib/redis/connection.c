/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/connection_state.h"

#include "rlp.h"

#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#define CONNECTION_BUFFERS 64
#define CONNECTION_IDLE RLP_SECOND /* after so long the server may have hung up */

/* What the work of one leader came to: one event for the breaker. */
typedef struct {
    redis_fault_t fault;
    bool ends; /* the connection */
    redis_ticket_t ticket;
    char why[REDIS_WHY_MAX];
} outcome_t;

static void connection_fail(redis_call_t *const calls[], int n, redis_fault_t fault)
{
    for (int i = 0; i < n; i++) {
        calls[i]->fault = fault;
    }
}

static void connection_report(const redis_connection_t *connection, redis_change_t change,
                              const char *why)
{
    if (change.from != change.to && connection->settings->report != NULL) {
        connection->settings->report(connection->settings->baton, connection->name, change, why);
    }
}

static void connection_failed(redis_connection_t *connection, const redis_ticket_t *ticket,
                              redis_fault_t fault, const char *why)
{
    const redis_change_t change =
        redis_breaker_fail(connection->breaker, &connection->settings->breaker, ticket,
                           rlp_clock_monotonic(), redis_remedy(fault)->opens);

    connection_report(connection, change, why);
}

/* Tells the breaker, before anybody hears of it. */
static void connection_conclude(redis_connection_t *connection, const outcome_t *outcome)
{
    const redis_remedy_t *remedy = redis_remedy(outcome->fault);

    if (remedy->moves) {
        __atomic_fetch_add(&connection->trouble, 1, __ATOMIC_RELAXED);
    }
    if (remedy->counts) {
        connection_failed(connection, &outcome->ticket, outcome->fault, outcome->why);
    } else {
        connection_report(connection, redis_breaker_succeed(connection->breaker, &outcome->ticket),
                          "");
    }
}

/* Buffers on their way. */
typedef struct {
    struct iovec at[CONNECTION_BUFFERS];
    int n;
} buffers_t;

/* Adds one batch, sending what is full. */
static redis_fault_t connection_send_batch(redis_connection_t *connection,
                                           const redis_batch_t *batch, buffers_t *buffers,
                                           rlp_time_t deadline)
{
    redis_fault_t fault = REDIS_FAULT_NONE;

    for (int i = 0; i < batch->n && fault == REDIS_FAULT_NONE; i++) {
        buffers->at[buffers->n++] = (struct iovec){ .iov_base = batch->commands[i].bytes,
                                                    .iov_len = batch->commands[i].len };
        if (buffers->n == CONNECTION_BUFFERS) {
            fault = redis_wire_send(&connection->wire, buffers->at, buffers->n, deadline);
            buffers->n = 0;
        }
    }
    return fault;
}

/* Sends all commands of the batches. */
static redis_fault_t connection_send(redis_connection_t *connection, const redis_batch_t *batches,
                                     rlp_time_t deadline)
{
    redis_fault_t fault = REDIS_FAULT_NONE;
    buffers_t buffers;

    buffers.n = 0;
    for (; batches != NULL && fault == REDIS_FAULT_NONE; batches = batches->next) {
        fault = connection_send_batch(connection, batches, &buffers, deadline);
    }
    return fault == REDIS_FAULT_NONE
               ? redis_wire_send(&connection->wire, buffers.at, buffers.n, deadline)
               : fault;
}

/* Keeps the worst of what a reply tells. */
static void connection_judge(outcome_t *outcome, const redis_command_t *command)
{
    const redis_remedy_t *remedy = redis_remedy(command->fault);

    outcome->ends |= remedy->closes;
    if (remedy->counts > redis_remedy(outcome->fault)->counts ||
        remedy->opens > redis_remedy(outcome->fault)->opens ||
        (remedy->moves && outcome->fault == REDIS_FAULT_NONE)) {
        outcome->fault = command->fault;
        redis_reply_why(command->reply, outcome->why);
    }
}

static redis_fault_t connection_receive(redis_connection_t *connection, redis_batch_t *batch,
                                        rlp_time_t deadline, outcome_t *outcome)
{
    for (int i = 0; i < batch->n; i++) {
        redis_command_t *command = &batch->commands[i];
        const redis_fault_t fault =
            redis_wire_receive(&connection->wire, &command->reply, deadline);

        if (fault != REDIS_FAULT_NONE) {
            return fault;
        }
        command->fault = redis_reply_fault(command->reply);
        connection_judge(outcome, command);
    }
    return REDIS_FAULT_NONE;
}

/* Its commands are done with; under the lock. */
static void connection_finish(redis_batch_t *batch)
{
    if (batch->abandoned) {
        redis_batch_free(batch);
        return;
    }
    batch->done = true;
    pthread_cond_signal(&batch->changed);
}

/* Reads the replies and wakes who waits for them; *batches are those left. */
static redis_fault_t connection_answer(redis_connection_t *connection, redis_batch_t **batches,
                                       rlp_time_t deadline, outcome_t *outcome)
{
    while (*batches != NULL) {
        redis_batch_t *batch = *batches;
        const redis_fault_t fault = connection_receive(connection, batch, deadline, outcome);

        if (fault != REDIS_FAULT_NONE) {
            return fault;
        }
        *batches = batch->next;
        pthread_mutex_lock(&connection->mutex);
        connection_finish(batch);
        pthread_mutex_unlock(&connection->mutex);
    }
    /* a reply too many would be taken for that of the next command */
    return connection->wire.unread == 0 ? REDIS_FAULT_NONE : REDIS_FAULT_PROTOCOL;
}

/* Fails those whose replies did not come; what has come stays with its command. */
static void connection_drop(redis_connection_t *connection, redis_batch_t *batches,
                            redis_fault_t fault)
{
    pthread_mutex_lock(&connection->mutex);
    while (batches != NULL) {
        redis_batch_t *next = batches->next;

        for (int i = 0; i < batches->n; i++) {
            redis_command_t *command = &batches->commands[i];

            command->fault = command->reply == NULL ? fault : command->fault;
        }
        connection_finish(batches);
        batches = next;
    }
    pthread_mutex_unlock(&connection->mutex);
}

/* An open wire to where the server is. */
static redis_fault_t connection_ready(redis_connection_t *connection, bool moved,
                                      rlp_time_t deadline, char why[REDIS_WHY_MAX])
{
    redis_wire_t *wire = &connection->wire;

    if (wire->fd >= 0 && (moved || (rlp_clock_monotonic() - connection->used > CONNECTION_IDLE &&
                                    !redis_wire_idle(wire)))) {
        redis_wire_close(wire);
    }
    if (wire->fd >= 0) {
        return REDIS_FAULT_NONE;
    }
    connection_locate(connection, deadline);
    return connection_dial(connection, wire, deadline, why);
}

/* The leader's work, without the lock: all the batches to their end. */
static void connection_work(redis_connection_t *connection, redis_batch_t *batches, bool moved,
                            rlp_time_t deadline, outcome_t *outcome)
{
    redis_fault_t fault = connection_ready(connection, moved, deadline, outcome->why);

    if (fault == REDIS_FAULT_NONE) {
        fault = connection_send(connection, batches, deadline);
    }
    if (fault == REDIS_FAULT_NONE) {
        fault = connection_answer(connection, &batches, deadline, outcome);
    }
    if (fault != REDIS_FAULT_NONE) {
        outcome->ends = true;
    }
    /* what the server said before it hung up tells more than that it did */
    if (fault != REDIS_FAULT_NONE && !redis_remedy(outcome->fault)->counts) {
        outcome->fault = fault;
    }
    if (outcome->fault != REDIS_FAULT_NONE && outcome->why[0] == '\0') {
        redis_wire_why(&connection->wire, outcome->fault, outcome->why, sizeof(outcome->why));
    }
    if (outcome->ends) {
        redis_wire_close(&connection->wire);
    }
    connection->used = rlp_clock_monotonic();
    connection_conclude(connection, outcome);
    connection_drop(connection, batches, fault);
}

/* The oldest of those that wait leads next. */
static void connection_wake(const redis_connection_t *connection)
{
    if (!connection->led && connection->queue != NULL) {
        pthread_cond_signal(&connection->queue->changed);
    }
}

/* Under the lock. A server that does not answer the leader would let those who came meanwhile wait
   in vain, one after the other, each a failure more. */
static void connection_give_up(redis_connection_t *connection, redis_fault_t fault)
{
    redis_batch_t *batches = connection->queue;

    if (fault != REDIS_FAULT_TIMEOUT && fault != REDIS_FAULT_CONNECT && fault != REDIS_FAULT_NAME) {
        return;
    }
    connection->queue = NULL;
    for (; batches != NULL; batches = batches->next) {
        batches->queued = false;
        batches->unasked = true;
        for (int i = 0; i < batches->n; i++) {
            batches->commands[i].fault = fault;
        }
        batches->done = true;
        pthread_cond_signal(&batches->changed);
    }
}

/* Under the lock, which it gives up meanwhile: takes the queue and works it off. */
static void connection_lead(redis_connection_t *connection, rlp_time_t deadline)
{
    redis_batch_t *batches = connection->queue;
    outcome_t outcome = { .fault = REDIS_FAULT_NONE };
    const bool moved = connection->moved;

    for (redis_batch_t *batch = batches; batch != NULL; batch = batch->next) {
        batch->queued = false;
        if (batch == batches || batch->ticket.probe) {
            outcome.ticket = batch->ticket;
        }
    }
    connection->queue = NULL;
    connection->moved = false;
    connection->led = true;
    pthread_mutex_unlock(&connection->mutex);
    connection_work(connection, batches, moved, deadline, &outcome);
    pthread_mutex_lock(&connection->mutex);
    connection->led = false;
    connection_give_up(connection, outcome.fault);
    if (outcome.fault != REDIS_FAULT_NONE) {
        memcpy(connection->why, outcome.why, sizeof(connection->why));
    }
    connection_wake(connection);
}

static void connection_queue(redis_connection_t *connection, redis_batch_t *batch)
{
    redis_batch_t **last = &connection->queue;

    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = batch;
    batch->queued = true;
}

/* Its time is over: out of the queue, or left to the leader. */
static void connection_leave(redis_connection_t *connection, redis_batch_t *batch)
{
    redis_batch_t **at = &connection->queue;

    if (!batch->queued) {
        batch->abandoned = true;
        return;
    }
    while (*at != NULL && *at != batch) {
        at = &(*at)->next;
    }
    *at = batch->next;
    connection_wake(connection);
    redis_batch_free(batch);
}

/* Under the lock: until its commands are done with. false: not by the deadline, and the batch is
   gone. */
static bool connection_await(redis_connection_t *connection, redis_batch_t *batch,
                             rlp_time_t deadline)
{
    const struct timespec until = redis_condition_until(deadline);
    int rv = 0;

    while (!batch->done) {
        if (rv == ETIMEDOUT || (!connection->led && rlp_clock_monotonic() >= deadline)) {
            connection_leave(connection, batch);
            return false;
        }
        if (connection->led) {
            rv = pthread_cond_timedwait(&batch->changed, &connection->mutex, &until);
        } else {
            connection_lead(connection, deadline);
        }
    }
    return true;
}

/* One round trip, or none. */
static void connection_round(redis_connection_t *connection, redis_call_t *const calls[], int n,
                             rlp_time_t deadline)
{
    redis_ticket_t ticket;

    connection_report(connection,
                      redis_breaker_ask(connection->breaker, &connection->settings->breaker,
                                        rlp_clock_monotonic(), &ticket),
                      "");
    if (!ticket.admitted) {
        connection_fail(calls, n, REDIS_FAULT_BREAKER);
        return;
    }
    redis_batch_t *batch = redis_batch_make(calls, n);

    if (batch == NULL) {
        connection_fail(calls, n, REDIS_FAULT_LOCAL);
        return;
    }
    batch->ticket = ticket;
    pthread_mutex_lock(&connection->mutex);
    connection_own(connection);
    connection_queue(connection, batch);
    const bool done = connection_await(connection, batch, deadline);
    const bool asked = done && !batch->unasked;

    pthread_mutex_unlock(&connection->mutex);
    if (done) {
        redis_batch_take(batch, calls);
        redis_batch_free(batch);
    } else {
        connection_fail(calls, n, REDIS_FAULT_TIMEOUT);
    }
    if (ticket.probe && !asked) {
        connection_failed(connection, &ticket, REDIS_FAULT_TIMEOUT, "");
    }
}

/* A server without memory or without the slot, or whose script fails, is there: nobody else says
   why it is of no use. */
static void connection_tell(const redis_connection_t *connection, redis_call_t *const calls[],
                            int n)
{
    char why[REDIS_WHY_MAX];

    for (int i = 0; connection->settings->error != NULL && i < n; i++) {
        const redis_fault_t fault = calls[i]->fault;

        if (calls[i]->script != NULL &&
            (fault == REDIS_FAULT_MEMORY || fault == REDIS_FAULT_UNSERVED ||
             fault == REDIS_FAULT_ERROR)) {
            redis_reply_why(calls[i]->reply, why);
            connection->settings->error(connection->settings->baton, connection->name, why);
        }
    }
}

/* It is asked again. */
static void connection_renew(redis_call_t *again[], int *n, redis_call_t *call)
{
    freeReplyObject(call->reply);
    call->reply = NULL;
    again[(*n)++] = call;
}

void redis_connection_exchange(redis_connection_t *connection, redis_call_t *const calls[], int n,
                               rlp_time_t deadline)
{
    redis_call_t *again[REDIS_CALLS_MAX];
    int more = 0;

    connection_round(connection, calls, n, deadline);
    for (int i = 0; i < n; i++) {
        if (calls[i]->fault != REDIS_FAULT_NOSCRIPT || calls[i]->script == NULL) {
            continue;
        }
        if (calls[i]->asking != NULL) {
            connection_renew(again, &more, calls[i]->asking);
        }
        connection_renew(again, &more, calls[i]);
    }
    if (more > 0) {
        connection_round(connection, again, more, deadline);
    }
    connection_tell(connection, calls, n);
}

/* --- what became of it */

unsigned redis_connection_trouble(const redis_connection_t *connection)
{
    return __atomic_load_n(&connection->trouble, __ATOMIC_RELAXED);
}

void redis_connection_why(redis_connection_t *connection, char why[REDIS_WHY_MAX])
{
    pthread_mutex_lock(&connection->mutex);
    memcpy(why, connection->why, REDIS_WHY_MAX);
    pthread_mutex_unlock(&connection->mutex);
}

const redis_breaker_t *redis_connection_breaker(const redis_connection_t *connection)
{
    return connection->breaker;
}

const char *redis_connection_name(const redis_connection_t *connection)
{
    return connection->name;
}
