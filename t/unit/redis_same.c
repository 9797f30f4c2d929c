/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The store in Redis beside the one in memory, through the functions that a module calls: the same
 * random requests, corrections and looks, with the same clock, have the same answers, and leave the
 * same. Of the same sequences each time; RLP_SEQUENCES=N asks N of them.
 */

#include "redis/store.h"

#include "redis_server.h"
#include "script_walk.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SEQUENCES 40 /* of each kind, unless RLP_SEQUENCES says more */
#define STEPS 16     /* of one of them */
#define TAKEN 4      /* requests that may be corrected or end */

enum { MEMORY, REDIS, STORES };

/* How the limits of a request stand beside each other. */
static const struct layout {
    const char *what;
    int limits; /* at most */
    bool apart; /* each under a rule of its own; else a limit that has expired is forgotten with the
                   next write to their key: then the clock does not step back */
} layouts[] = {
    { "one limit", 1, true },
    { "several rules", 3, true },
    { "several limits of one rule", 3, false },
};

/* What one store was asked. */
typedef struct {
    rlp_charge_t charges[LIMITS];
    int n;
    rlp_time_t at;
    rlp_answer_t answer;
} asked_t;

typedef struct {
    walk_t walk;
    const struct layout *layout;
    int kind; /* of the first limit */
    int taken;
    asked_t requests[STORES][TAKEN];
} same_t;

typedef apr_status_t ask_fn(rlp_store_t *, rlp_charge_t[], int, const rlp_question_t *,
                            rlp_answer_t *);

static rlp_store_t *redis_store;

/* --- the two are asked */

static void same_request(same_t *same, asked_t *asked, rlp_units_t cost, rlp_time_t max_wait)
{
    walk_t *walk = &same->walk;
    const char *identity = apr_psprintf(walk->pool, "walk:%d", walk->number);

    asked->n = walk->n;
    for (int i = 0; i < walk->n; i++) {
        const rlp_limit_t *limit = apr_pmemdup(walk->pool, &walk->limits[i], sizeof(*limit));
        rlp_charge_t *charge = &asked->charges[i];

        rlp_charge_init(charge, identity, strlen(identity), walk->signatures[i], limit);
        charge->rule = same->layout->apart ? apr_itoa(walk->pool, i) : "rule";
        charge->cost = cost;
        charge->max_wait = max_wait;
        charge->entry.state = apr_pcalloc(walk->pool, limit->state_size + 8);
    }
}

static void same_ask(const same_t *same, int store, ask_fn *ask, asked_t *asked,
                     rlp_time_t charged_at)
{
    const rlp_question_t question = { .now = same->walk.now,
                                      .wall = same->walk.now,
                                      .owner = rlp_owner(3, 1),
                                      .charged_at = charged_at };

    asked->at = question.now;
    assert_int_equal(ask(store == MEMORY ? same->walk.store : redis_store, asked->charges, asked->n,
                         &question, &asked->answer),
                     APR_SUCCESS);
}

static void expect_number(const same_t *same, const rlp_charge_t *charge, const char *what,
                          int64_t redis, int64_t memory)
{
    if (redis != memory) {
        fail_msg("sequence %d, kind %d: %s is %" PRId64 " in Redis, %" PRId64
                 " in memory; %s of %" PRId64 " in %" PRId64 " us, cost %" PRId64,
                 same->walk.number, same->kind, what, redis, memory, charge->limit->algorithm->name,
                 charge->limit->count, charge->limit->period, charge->cost);
    }
}

static void expect_same(const same_t *same, const asked_t asked[STORES])
{
    assert_int_equal(asked[REDIS].answer.verdict, asked[MEMORY].answer.verdict);
    assert_int_equal(asked[REDIS].answer.retry, asked[MEMORY].answer.retry);
    assert_int_equal(asked[REDIS].answer.wait, asked[MEMORY].answer.wait);
    for (int i = 0; i < asked[MEMORY].n; i++) {
        const rlp_charge_t *charge = &asked[REDIS].charges[i];
        const rlp_decision_t *d = &charge->decision;
        const rlp_decision_t *c = &asked[MEMORY].charges[i].decision;

        expect_number(same, charge, "the verdict", d->verdict, c->verdict);
        expect_number(same, charge, "wait", d->wait, c->wait);
        expect_number(same, charge, "retry", d->retry, c->retry);
        expect_number(same, charge, "next", d->next, c->next);
        expect_number(same, charge, "reset", d->reset, c->reset);
        expect_number(same, charge, "remaining", d->remaining, c->remaining);
    }
}

/* --- what they are asked */

/* What is left, and whether a look tells what a request is told. */
static void same_look(same_t *same, rlp_units_t cost, rlp_time_t max_wait)
{
    asked_t asked[STORES];

    for (int store = 0; store < STORES; store++) {
        same_request(same, &asked[store], cost, max_wait);
        same_ask(same, store, rlp_peek, &asked[store], 0);
    }
    expect_same(same, asked);
    same->walk.last = asked[MEMORY].charges[0].decision;
}

static void same_take(same_t *same)
{
    const rlp_units_t cost = random_units(&same->walk, &same->walk.limits[0]);
    const rlp_time_t max_wait = unit_wait(&same->walk.random, same->walk.longest);
    asked_t asked[STORES];

    same_look(same, cost, max_wait);
    for (int store = 0; store < STORES; store++) {
        same_request(same, &asked[store], cost, max_wait);
        same_ask(same, store, rlp_check, &asked[store], 0);
        assert_int_equal(asked[store].charges[0].decision.verdict, same->walk.last.verdict);
        assert_int_equal(asked[store].charges[0].decision.retry, same->walk.last.retry);
    }
    expect_same(same, asked);
    if (asked[MEMORY].answer.verdict <= RLP_WAIT && cost > 0 && same->taken < TAKEN) {
        same->requests[MEMORY][same->taken] = asked[MEMORY];
        same->requests[REDIS][same->taken++] = asked[REDIS];
    }
}

/* Of a request, its places or all else, as the module keeps it. */
static asked_t same_part(const asked_t *request, bool holds, rlp_units_t units)
{
    asked_t part = { .n = 0 };

    for (int i = 0; i < request->n; i++) {
        const rlp_charge_t *charge = &request->charges[i];

        if (charge->limit->algorithm->holds == holds) {
            rlp_charge_t *copy = &part.charges[part.n++];

            *copy = *charge;
            copy->waited = rlp_waited(charge);
            copy->cost = holds ? charge->cost : units == 0 ? -charge->cost : units;
        }
    }
    return part;
}

/* The latest requests, each or all of its charges: given back, or charged more or less. */
static void same_settle(same_t *same)
{
    uint64_t *random = &same->walk.random;
    const int i = (int)unit_below(random, (uint64_t)same->taken);
    const rlp_units_t units =
        unit_below(random, 2) ? 0 : random_units(&same->walk, &same->walk.limits[0]) - 500;
    asked_t asked[STORES];

    for (int store = 0; store < STORES; store++) {
        const asked_t *request = &same->requests[store][i];

        asked[store] = same_part(request, false, units);
        if (asked[store].n > 0) {
            same_ask(same, store, rlp_settle, &asked[store], request->at);
        }
    }
    expect_same(same, asked);
}

/* The latest request ends. */
static void same_end(same_t *same)
{
    const int i = --same->taken;
    asked_t asked[STORES];

    for (int store = 0; store < STORES; store++) {
        asked[store] = same_part(&same->requests[store][i], true, 0);
        if (asked[store].n > 0) {
            same_ask(same, store, rlp_release, &asked[store], 0);
        }
    }
    expect_same(same, asked);
}

/* --- sequences */

static void same_begin(same_t *same, int number)
{
    walk_t *walk = &same->walk;
    apr_pool_t *pool = walk->pool;

    apr_pool_clear(pool);
    *walk = (walk_t){ .random = (uint64_t)(1000 * same->kind + number), .pool = pool };
    walk->number = number;
    walk->now = NOW + (rlp_time_t)unit_below(&walk->random, 366 * (uint64_t)DAY);
    same->taken = 0;
    assert_int_equal(rlp_memory_create(&walk->store, pool), APR_SUCCESS);
    walk->store->owners->owner[3] = 1;
    walk_add(walk, same->kind);
    while (walk->n < same->layout->limits) {
        walk_add(walk, (int)unit_below(&walk->random, KINDS));
    }
    walk->longest = random_longest(walk);
}

static void same_move(same_t *same)
{
    const rlp_time_t before = same->walk.now;

    walk_move(&same->walk);
    if (!same->layout->apart && same->walk.now < before) {
        same->walk.now = before;
    }
}

static void same_step(same_t *same)
{
    same_move(same);
    if (unit_below(&same->walk.random, 8) == 0) {
        walk_change(&same->walk, same->kind);
    }
    const uint64_t what = same->taken == 0 ? 0 : unit_below(&same->walk.random, 8);

    if (what < 5) {
        same_take(same);
    } else if (what < 7) {
        same_settle(same);
    } else {
        same_end(same);
    }
    same_look(same, RLP_UNIT, 0);
}

static void test_same(void **state)
{
    const char *given = getenv("RLP_SEQUENCES");
    const int sequences = given != NULL ? atoi(given) : SEQUENCES;
    same_t *same = apr_pcalloc(unit_pool(), sizeof(*same));

    same->layout = unit_row(state);
    assert_int_equal(apr_pool_create(&same->walk.pool, unit_pool()), APR_SUCCESS);
    freeReplyObject(redis_server_ask("FLUSHALL"));
    for (int i = 0; i < sequences; i++) {
        for (same->kind = 0; same->kind < KINDS; same->kind++) {
            same_begin(same, KINDS * i + same->kind);
            for (int step = 0; step < STEPS; step++) {
                same_step(same);
            }
        }
    }
    apr_pool_destroy(same->walk.pool);
}

int main(void)
{
    if (!redis_server_start("what the stores agree on")) {
        return unit_run();
    }
    redis_store = redis_server_told();
    for (size_t i = 0; i < UNIT_N(layouts); i++) {
        unit_add_case("T-29 S-15: Redis and memory say the same of", layouts[i].what, test_same,
                      &layouts[i]);
    }
    return unit_run();
}
