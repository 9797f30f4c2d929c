/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What becomes of a request that cannot have what it needs at once: places of the dead are counted
 * out, and who may wait does so, for a turn or for a place.
 */

#include "decide.h"

#include <util_filter.h>

#include <apr_strings.h>

/* Is it only for places of concurrency limits that the charges are refused? What holds them may
   wait for some. */
static bool wait_lacks_places(const decide_t *d)
{
    bool lacks = false;

    for (int i = 0; i < d->n; i++) {
        const rlp_charge_t *charge = &d->charges[i];

        if (charge->spared || charge->decision.verdict <= RLP_WAIT) {
            continue;
        }
        if (!charge->limit->algorithm->holds) {
            return false;
        }
        lacks = true;
    }
    return lacks;
}

/* A quota is of the period in which the place comes: an instant of the one before would be taken
   for a wall clock that has been set back. */
static void wait_look_at_clock(const decide_t *d, rlp_question_t *question)
{
    question->now = rlp_world->clock->monotonic();
    question->wall = d->dated ? rlp_world->clock->wall() : 0;
}

/* httpd keeps the answers to pipelined requests until there are some, and what those requests hold,
   or get back by their responses, comes back with them. False: there were none to send. */
static bool wait_send_answers(const decide_t *d, rlp_question_t *question)
{
    const conn_rec *c = d->r->connection;

    if (!c->data_in_output_filters) {
        return false;
    }
    /* by ap_flush_conn() the connection would end, as mod_ssl understands it */
    (void)ap_fflush(c->output_filters, apr_brigade_create(d->r->pool, c->bucket_alloc));
    wait_look_at_clock(d, question);
    return true;
}

/* Before anybody is refused, what the same client's requests before it still have comes back, and
   for a place, those of dead processes do. */
apr_status_t wait_check(decide_t *d, rlp_question_t *question, rlp_answer_t *answer)
{
    const apr_status_t rv = rlp_check(rlp_world->store, d->charges, d->n, question, answer);

    if (rv != APR_SUCCESS || d->plain || answer->verdict <= RLP_WAIT) {
        return rv;
    }
    if (!wait_send_answers(d, question) && !(wait_lacks_places(d) && stores_sweep())) {
        return rv;
    }
    return rlp_check(rlp_world->store, d->charges, d->n, question, answer);
}

/* Under which the request queues for places; 0 if it would not wait for any. */
static uint64_t wait_queue_key(const decide_t *d)
{
    for (int i = 0; i < d->n; i++) {
        const rlp_charge_t *charge = &d->charges[i];

        if (charge->limit->algorithm->holds && charge->max_wait > 0) {
            return charge->entry.key.signature ^
                   rlp_store_fingerprint(rlp_world->store, charge->entry.key.identity,
                                         charge->entry.key.identity_len);
        }
    }
    return 0;
}

/* How long the request would wait for the places it lacks. Those it has are not waited for, whether
   it would wait for them or not. */
static rlp_time_t wait_patience(const decide_t *d)
{
    rlp_time_t least = RLP_TIME_NEVER;

    for (int i = 0; i < d->n; i++) {
        const rlp_charge_t *charge = &d->charges[i];
        const bool waits =
            charge->decision.verdict > RLP_WAIT || decide_max_wait(d, d->rules[i]) > 0;

        if (!charge->spared && charge->limit->algorithm->holds && waits &&
            charge->max_wait < least) {
            least = charge->max_wait;
        }
    }
    return least;
}

/* How long the charges would wait, after so much of the patience is spent. */
static void wait_set_patience(decide_t *d, rlp_time_t spent)
{
    for (int i = 0; i < d->n; i++) {
        const rlp_time_t most = decide_max_wait(d, d->rules[i]);

        d->charges[i].max_wait = most > spent ? most - spent : 0;
    }
}

/* between two looks for a place: in shared memory, and where each asks a server */
#define WAIT_NAP (2 * INT64_C(1000))
#define WAIT_NAP_REMOTE (50 * INT64_C(1000))

/* Who waits is let in by the places that there are by now: there may have been a graceful
   restart. */
static void wait_follow(decide_t *d)
{
    for (int i = 0; i < d->n; i++) {
        const rlp_limit_t *limit = d->charges[i].limit;
        const int64_t count = limit->algorithm->holds
                                  ? capacity_today(d->owners[i].variant, d->owners[i].limit)
                                  : limit->count;

        if (count != limit->count) {
            rlp_limit_t *today = apr_pmemdup(d->r->pool, limit, sizeof(*limit));

            today->count = count;
            today->initial = today->burst = count * RLP_UNIT;
            d->charges[i].limit = today;
        }
    }
}

/* No more are told than the limit has that the header fields speak of. */
static void wait_tell(decide_t *d)
{
    for (int i = 0; i < d->n; i++) {
        const int64_t told = d->owners[i].variant->plan->limits[d->owners[i].limit].count;
        rlp_charge_t *charge = &d->charges[i];

        if (charge->limit->count > told && charge->decision.remaining >= told) {
            charge->decision.remaining = told - 1;
        }
    }
}

/* Asks again and again until there is a place, patience ends or waiting does; in the order of
   coming among the requests of this process. */
static apr_status_t wait_queue(decide_t *d, rlp_question_t *question, rlp_answer_t *answer,
                               turn_t *turn)
{
    turn_queue_t self = { .key = wait_queue_key(d) };
    const rlp_time_t begin = rlp_clock_monotonic();
    apr_status_t rv = APR_SUCCESS;
    bool lacks = true;

    turn_join(&self);
    while (lacks && *turn == TURN_CAME) {
        const bool last = wait_patience(d) == 0;

        if (last || turn_first(&self)) {
            wait_look_at_clock(d, question);
            wait_follow(d);
            rv = wait_check(d, question, answer);
            wait_tell(d);
            lacks = rv == APR_SUCCESS && !last && wait_lacks_places(d);
        }
        if (lacks) {
            *turn = turn_wait(d->r, rlp_world->store->type->decide ? WAIT_NAP_REMOTE : WAIT_NAP);
            d->verdict->action = "delay";
            d->delayed = true;
            wait_set_patience(d, rlp_clock_monotonic() - begin);
        }
    }
    turn_quit(&self);
    /* one that leaves the queue without having asked has yet to hear what it is refused by */
    return *turn == TURN_CAME ? rv : rlp_peek(rlp_world->store, d->charges, d->n, question, answer);
}

/* Waits until a charge's turn comes; if it never will, gives the charge back. */
static turn_t wait_out(decide_t *d, const rlp_question_t *question, const rlp_answer_t *answer)
{
    const turn_t turn = turn_wait(d->r, answer->wait);

    d->verdict->action = "delay";
    d->delayed = true;
    if (turn != TURN_CAME) {
        after_undo(d->charges, d->n, question->now);
    }
    return turn;
}

/* Those who need not wait take nothing of the budget of those who do; but nobody passes those who
   wait for the same place. True: it is decided. */
static bool wait_check_at_once(decide_t *d, rlp_question_t *question, rlp_answer_t *answer,
                               apr_status_t *rv)
{
    const uint64_t key = wait_queue_key(d);

    if (key != 0 && turn_is_waited_for(key)) {
        return false;
    }
    wait_set_patience(d, RLP_TIME_NEVER);
    *rv = wait_check(d, question, answer);
    wait_set_patience(d, 0);
    return *rv != APR_SUCCESS || answer->verdict <= RLP_WAIT;
}

/* Refuses who may not wait, for now and not for ever: until what was asked last would admit him; a
   place that is free by now is told as one that comes soon. */
static void wait_turn_down(rlp_answer_t *answer, const rlp_answer_t *asked)
{
    const rlp_time_t span = asked->wait > asked->retry ? asked->wait : asked->retry;

    answer->verdict = RLP_DENY;
    answer->retry = span > 0 ? span : RLP_SECOND;
}

/* Too many wait already: who would have to is refused. */
static apr_status_t wait_check_crowded(decide_t *d, const rlp_question_t *question,
                                       rlp_answer_t *answer)
{
    rlp_answer_t waiting;
    apr_status_t rv = rlp_peek(rlp_world->store, d->charges, d->n, question, &waiting);

    wait_set_patience(d, RLP_TIME_NEVER);
    if (rv == APR_SUCCESS) {
        rv = rlp_peek(rlp_world->store, d->charges, d->n, question, answer);
    }
    if (rv == APR_SUCCESS && (answer->verdict <= RLP_WAIT ||
                              (answer->verdict == RLP_NEVER && waiting.verdict != RLP_NEVER))) {
        wait_turn_down(answer, &waiting);
    }
    return rv;
}

/* Waits for a turn and for places, as long as it may. */
static apr_status_t wait_check_turn(decide_t *d, rlp_question_t *question, rlp_answer_t *answer)
{
    turn_t turn = TURN_CAME;
    const apr_status_t rv = wait_queue_key(d) ? wait_queue(d, question, answer, &turn)
                                              : wait_check(d, question, answer);

    if (rv == APR_SUCCESS && turn == TURN_CAME && answer->verdict == RLP_WAIT) {
        turn = wait_out(d, question, answer);
    }
    if (turn != TURN_CAME) {
        wait_turn_down(answer, answer);
        d->left = true;
    }
    return rv;
}

/* A request that may wait: refused when too many do, or when its turn is too far away. */
apr_status_t wait_for_turn(decide_t *d, rlp_question_t *question, rlp_answer_t *answer)
{
    apr_status_t rv = APR_SUCCESS;

    if (wait_check_at_once(d, question, answer, &rv)) {
        return rv;
    }
    (void)wait_send_answers(d, question); /* nor do they wait for this one */
    if (!turn_enter(d->server)) {
        return wait_check_crowded(d, question, answer);
    }
    rv = wait_check_turn(d, question, answer);
    turn_leave(d->server);
    return rv;
}
