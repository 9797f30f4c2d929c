/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The script in Redis against the steps in C: the same random questions to both, with the same
 * clock, and the same answers. RLP_SEQUENCES=N for each algorithm; RLP_SEED=N replays them.
 */

#include "redis/script.h"
#include "case_table.h"
#include "check.h"
#include "redis_server.h"
#include "script_walk.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEQUENCES 300 /* unless RLP_SEQUENCES says more */
#define STEPS 20      /* of one sequence */
static char sha[SCRIPT_SHA_SIZE];

/* One question, and what C has answered. */
typedef struct {
    script_call_t call;
    rlp_charge_t charges[LIMITS];
    rlp_charge_t *pointers[LIMITS];
    script_key_t keys[LIMITS];
    rlp_decision_t expected[LIMITS];
    bool spared[LIMITS];
    const char *words[LIMITS];
} asked_t;

/* Sends a question; redis_answer() reads what comes. */
static void redis_send(const asked_t *asked)
{
    static script_packet_t packet;

    assert_true(script_pack(&packet, &asked->call, sha));
    assert_int_equal(redisAppendCommandArgv(redis_server(), packet.argc, packet.argv, packet.lens),
                     REDIS_OK);
}

static rlp_time_t redis_answer(asked_t *asked)
{
    redisReply *reply;
    rlp_time_t now;

    assert_int_equal(redisGetReply(redis_server(), (void **)&reply), REDIS_OK);
    if (reply->type != REDIS_REPLY_STRING) {
        fail_msg("reply of type %d: %s", reply->type, reply->str ? reply->str : "");
    }
    const bool read = script_unpack(&asked->call, reply->str, reply->len, &now);

    freeReplyObject(reply);
    assert_true(read);
    return now;
}

static void load_script(void)
{
    size_t len;
    const char *text = script_text(&len);
    redisReply *reply = redis_server_ask("SCRIPT LOAD %b", text, len);

    script_sha(sha);
    if (reply->type != REDIS_REPLY_STRING) {
        fail_msg("%s", reply->str);
    }
    assert_string_equal(reply->str, sha);
    freeReplyObject(reply);
}

/* --- both are asked */

/* Concurrency: each place of a holder of its own; C knows one owner. */
static void walk_hold(walk_t *walk, asked_t *asked)
{
    asked->call.holder = ++walk->holder * UINT64_C(0x9e3779b97f4a7c15);
    if (asked->call.op == SCRIPT_RELEASE && walk->holders_n > 0) {
        asked->call.holder = walk->holders[--walk->holders_n];
    }
}

static void walk_prepare(walk_t *walk, asked_t *asked, script_op_t op)
{
    const rlp_units_t cost =
        random_units(walk, &walk->limits[unit_below(&walk->random, (uint64_t)walk->n)]);
    const rlp_time_t max_wait = unit_wait(&walk->random, walk->longest);
    const bool ever = op == SCRIPT_SETTLE && unit_below(&walk->random, 4) == 0;

    walk->charged_at = ever ? RLP_TIME_EVER : walk->charged_at;
    asked->call =
        (script_call_t){ .op = op,
                         .charges = asked->pointers,
                         .keys = asked->keys,
                         .n = walk->n,
                         .wall = walk->now,
                         .charged_at = walk->charged_at,
                         .clock = apr_pmemdup(walk->pool, &walk->now, sizeof(walk->now)) };
    walk_hold(walk, asked);
    for (int i = 0; i < walk->n; i++) {
        const char *key = apr_psprintf(walk->pool, "rlp:{walk:%d}:rule%d", walk->number, i % 2);
        rlp_charge_t *charge = &asked->charges[i];
        rlp_limit_t *limit = apr_pmemdup(walk->pool, &walk->limits[i], sizeof(*limit));

        rlp_charge_init(charge, "walk", 4, walk->signatures[i], limit);
        charge->branch = walk->branches[i];
        charge->cost = cost;
        charge->max_wait = max_wait;
        charge->waited = walk->waited[i];
        if (op == SCRIPT_SETTLE && unit_below(&walk->random, 2)) {
            charge->cost = -walk->taken;
        }
        if (op == SCRIPT_SETTLE && ever) {
            charge->cost = -cost;
        }
        charge->entry.state = apr_pcalloc(walk->pool, limit->state_size + 8);
        asked->pointers[i] = charge;
        asked->keys[i] = (script_key_t){ .bytes = key, .len = strlen(key) };
        asked->words[i] = walk->words[i];
    }
}

/* Asks C, keeps the answer, and readies the charges for Redis. */
static void walk_ask(walk_t *walk, asked_t *asked)
{
    static apr_status_t (*const ask[])(rlp_store_t *, rlp_charge_t[], int, const rlp_question_t *,
                                       rlp_answer_t *) = { rlp_check, rlp_peek, rlp_settle,
                                                           rlp_release };
    const rlp_question_t question = { .now = walk->now,
                                      .wall = walk->now,
                                      .owner = rlp_owner(3, 1),
                                      .charged_at = walk->charged_at };
    rlp_answer_t answer;
    bool places = false;

    assert_int_equal(ask[asked->call.op](walk->store, asked->charges, walk->n, &question, &answer),
                     APR_SUCCESS);
    for (int i = walk->n - 1; i >= 0; i--) {
        rlp_charge_t *charge = &asked->charges[i];

        asked->spared[i] = charge->spared;
        if (!charge->spared) {
            asked->expected[i] = charge->decision;
            walk->last = charge->decision;
            places |= charge->limit->algorithm->holds;
        }
    }
    if (asked->call.op != SCRIPT_TAKE || answer.verdict > RLP_WAIT || asked->charges[0].cost <= 0) {
        return;
    }
    if (walk->taken == 0 || unit_below(&walk->random, 2)) { /* else one before it is corrected */
        walk->charged_at = walk->now;
        for (int i = 0; i < walk->n; i++) {
            walk->waited[i] = rlp_waited(&asked->charges[i]);
        }
        walk->taken = asked->charges[0].cost;
    }
    if (places && walk->holders_n < (int)UNIT_N(walk->holders)) {
        walk->holders[walk->holders_n++] = asked->call.holder;
    }
}

static void expect_same(const asked_t *asked, int i, const char *what, int64_t redis, int64_t c)
{
    if (redis != c) {
        fail_msg("%s of \"%s\" (%d of %d): %" PRId64 " in Redis, %" PRId64
                 " in C; op %d at %" PRId64 " us, cost %" PRId64 ", delay %" PRId64
                 ", charged at %" PRId64 ", key %s (RLP_SEED=%" PRIu64 ")",
                 what, asked->words[i], i + 1, asked->call.n, redis, c, (int)asked->call.op,
                 *asked->call.clock, asked->charges[i].cost, asked->charges[i].max_wait,
                 asked->call.charged_at, asked->keys[i].bytes, unit_seed());
    }
}

static void expect_answer(asked_t *asked)
{
    assert_int_equal(redis_answer(asked), *asked->call.clock);
    for (int i = 0; i < asked->call.n; i++) {
        const rlp_decision_t *d = &asked->charges[i].decision;
        const rlp_decision_t *c = &asked->expected[i];

        expect_same(asked, i, "spared", asked->charges[i].spared, asked->spared[i]);
        if (asked->spared[i]) {
            continue;
        }
        expect_same(asked, i, "verdict", d->verdict, c->verdict);
        expect_same(asked, i, "wait", d->wait, c->wait);
        if (asked->call.op <= SCRIPT_PEEK) {
            expect_same(asked, i, "late", d->late, c->late);
        }
        expect_same(asked, i, "retry", d->retry, c->retry);
        expect_same(asked, i, "remaining", d->remaining, c->remaining);
        expect_same(asked, i, "next", d->next, c->next);
        expect_same(asked, i, "reset", d->reset, c->reset);
        expect_same(asked, i, "damage", d->damaged, c->damaged);
    }
}

static script_op_t random_op(walk_t *walk)
{
    static const script_op_t ops[] = { SCRIPT_PEEK, SCRIPT_SETTLE, SCRIPT_RELEASE, SCRIPT_SETTLE };
    const uint64_t n = unit_below(&walk->random, 16);

    return n < UNIT_N(ops) ? ops[n] : SCRIPT_TAKE;
}

/* --- sequences */

static int sequences(void)
{
    const char *given = getenv("RLP_SEQUENCES");

    return given != NULL ? atoi(given) : SEQUENCES;
}

static void walk_begin(walk_t *walk, int number)
{
    walk->number = number;
    walk->n = 0;
    walk->now = NOW + (rlp_time_t)unit_below(&walk->random, 366 * (uint64_t)DAY);
    walk->charged_at = walk->taken = 0;
    memset(walk->waited, 0, sizeof(walk->waited));
    walk->holders_n = 0;
    walk->kept = false;
    walk->last = (rlp_decision_t){ .verdict = RLP_ALLOW };
    apr_pool_clear(walk->pool);
    assert_int_equal(rlp_memory_create(&walk->store, walk->pool), APR_SUCCESS);
    walk->store->owners->owner[3] = 1;
}

/* Questions are sent as C answers them, and the answers read when the sequence is over. */
static void walk_run(walk_t *walk, int kind)
{
    static asked_t asked[STEPS];

    walk->longest = random_longest(walk);
    for (int i = 0; i < STEPS; i++) {
        walk_move(walk);
        if (kind < KINDS && unit_below(&walk->random, 8) == 0) {
            walk_change(walk, kind);
        }
        walk_prepare(walk, &asked[i], random_op(walk));
        walk_ask(walk, &asked[i]);
        redis_send(&asked[i]);
    }
    for (int i = 0; i < STEPS; i++) {
        expect_answer(&asked[i]);
    }
}

static walk_t walk_of(uint64_t salt)
{
    walk_t walk = { .random = unit_seed() + salt };

    redis_server_again();
    freeReplyObject(redis_server_ask("FLUSHALL"));
    load_script();
    assert_int_equal(apr_pool_create(&walk.pool, unit_pool()), APR_SUCCESS);
    return walk;
}

static void walk_end(walk_t *walk, int i)
{
    if (i % 1000 == 999) {
        freeReplyObject(redis_server_ask("FLUSHALL"));
    }
    (void)walk;
}

static void test_single(void **state)
{
    const int kind = (int)((const kind_t *)unit_row(state) - walk_kinds);
    walk_t walk = walk_of((uint64_t)kind);

    for (int i = 0; i < sequences(); i++) {
        walk_begin(&walk, i);
        walk_add(&walk, kind);
        walk_run(&walk, kind);
        walk_end(&walk, i);
    }
    apr_pool_destroy(walk.pool);
}

/* Several limits, all or none; in some sequences a quota hands over to a limit of another plan. */
static void test_mixed(void **state)
{
    walk_t walk = walk_of(100);

    (void)state;
    for (int i = 0; i < sequences(); i++) {
        walk_begin(&walk, i);
        const bool then = unit_below(&walk.random, 2);

        if (then) {
            walk_add(&walk, KIND_QUOTA);
            walk_add(&walk, (int)unit_below(&walk.random, KIND_QUOTA));
            walk_add(&walk, (int)unit_below(&walk.random, KIND_QUOTA));
            walk.branches[0] = walk.branches[1] = RLP_FIRST;
            walk.branches[2] = RLP_INSTEAD;
        }
        for (uint64_t n = unit_below(&walk.random, 3) + !then; n > 0; n--) {
            walk_add(&walk, (int)unit_below(&walk.random, KINDS));
        }
        walk_run(&walk, KINDS);
        walk_end(&walk, i);
    }
    apr_pool_destroy(walk.pool);
}

/* --- the table of cases */

static void ask_case(rlp_op_kind_t kind, rlp_charge_t charges[], int n,
                     const rlp_question_t *question, rlp_answer_t *answer)
{
    const char *key = apr_psprintf(unit_pool(), "rlp:{%s}:case", charges[0].entry.key.identity);
    asked_t asked = { .call = { .op = (script_op_t)kind,
                                .charges = asked.pointers,
                                .keys = asked.keys,
                                .n = n,
                                .wall = question->wall,
                                .holder = (uint64_t)random(),
                                .clock = &question->now } };

    for (int i = 0; i < n; i++) {
        asked.pointers[i] = &charges[i];
        asked.keys[i] = (script_key_t){ .bytes = key, .len = strlen(key) };
    }
    redis_send(&asked);
    redis_answer(&asked);
    check_answer(charges, n, answer);
}

int main(void)
{
    if (!redis_server_start("the script")) {
        return unit_run();
    }
    load_script();
    if (!case_table_add(" (Redis)", ask_case, script_limit_error)) {
        return 1;
    }
    for (size_t i = 0; i < UNIT_N(walk_kinds); i++) {
        unit_add_case("T-29 S-15 B-29: Redis and C decide the same", walk_kinds[i].name,
                      test_single, &walk_kinds[i]);
    }
    unit_add("T-15: several limits, all or none, with then=", test_mixed, NULL);
    return unit_run();
}
