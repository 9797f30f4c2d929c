/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The Redis of the simulation of hosts (t/bench/hosts_redis.c) answers questions for leases as the
 * script does: the same hosts ask both, at the same times; questions come twice or out of order,
 * and answers get lost.
 */

#include "../bench/hosts_redis.h"
#include "redis/lease_call.h"

#include "redis_server.h"
#include "unit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS 3
#define STEPS 2000
#define EPOCH (INT64_C(1800000000) * RLP_SECOND)
#define PATIENCE (RLP_SECOND / 10)
#define EARLIER 4

typedef struct {
    const rlp_limit_t *limit;
    redis_sim_t *redis;
    lease_table_t *hosts[HOSTS];
    rlp_time_t now;
    lease_question_t earlier[EARLIER]; /* that may come again */
    int asked;
} walk_t;

static char sha[SCRIPT_SHA_SIZE];

static void walk_begin(walk_t *walk, const char *words, uint64_t *random)
{
    const size_t size = (lease_table_size(LEASE_TABLE_STEP) + 63) / 64 * 64;

    *walk = (walk_t){ .limit = &unit_plan(words)->limits[0],
                      .now = EPOCH + (rlp_time_t)unit_below(random, 60 * RLP_SECOND) };
    walk->redis = redis_sim_create(walk->limit, 1, unit_pool());
    for (int i = 0; i < HOSTS; i++) {
        void *memory = aligned_alloc(64, size);

        assert_non_null(memory);
        memset(memory, 0, size);
        walk->hosts[i] = lease_table_make(memory, LEASE_TABLE_STEP, PATIENCE);
    }
    freeReplyObject(redis_server_ask("FLUSHALL"));
}

static void walk_end(walk_t *walk)
{
    for (int i = 0; i < HOSTS; i++) {
        free(walk->hosts[i]);
    }
    redis_sim_destroy(walk->redis);
}

static lease_answer_t walk_script(const walk_t *walk, lease_question_t *question)
{
    lease_packet_t packet;
    lease_answer_t answer;

    lease_pack(&packet, question, sha, &walk->now);
    redisReply *reply = redisCommandArgv(redis_server(), LEASE_ARGC, packet.argv, packet.lens);

    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR) {
        fail_msg("%s", reply->str);
    }
    assert_true(lease_unpack(&answer, question, reply->str, reply->len));
    freeReplyObject(reply);
    return answer;
}

static void walk_show(const char *who, const lease_answer_t *answer)
{
    const rlp_decision_t *d = &answer->decision;

    print_message("# %s: granted %" PRId64 ", lasts %" PRId64 ", turns %" PRId64 ", others %" PRId64
                  ", verdict %d, remaining %" PRId64 ", retry %" PRId64 ", next %" PRId64
                  ", reset %" PRId64 "\n",
                  who, answer->granted, answer->lasts, answer->turns, answer->others,
                  (int)d->verdict, d->remaining, d->retry, d->next, d->reset);
}

static bool walk_alike(const lease_answer_t *one, const lease_answer_t *other)
{
    const rlp_decision_t *a = &one->decision;
    const rlp_decision_t *b = &other->decision;

    return one->granted == other->granted && one->lasts == other->lasts &&
           one->turns == other->turns && one->others == other->others && a->verdict == b->verdict &&
           a->remaining == b->remaining && a->retry == b->retry && a->next == b->next &&
           a->reset == b->reset;
}

/* Asks both. */
static lease_answer_t walk_ask(walk_t *walk, lease_question_t *question)
{
    const lease_answer_t script = walk_script(walk, question);
    const lease_answer_t simulated = redis_sim_lease(walk->redis, 0, question, walk->now);

    if (!walk_alike(&script, &simulated)) {
        walk_show("script", &script);
        walk_show("simulated", &simulated);
        fail_msg("question %d (RLP_SEED=%" PRIu64 ")", walk->asked, unit_seed());
    }
    walk->earlier[walk->asked++ % EARLIER] = *question;
    return script;
}

/* A question of a host, whose answer may get lost. */
static void walk_question(walk_t *walk, int host, lease_question_t *question, uint64_t *random)
{
    const script_key_t key = { .bytes = "rlp:{user:1}:site", .len = 17 };
    lease_result_t result;
    rlp_charge_t charge;

    if (question->key_len == 0) {
        rlp_charge_init(&charge, "user:1", 6, 42, walk->limit);
        assert_true(lease_identify(question, &charge, &key, walk->now));
    }
    const lease_answer_t answer = walk_ask(walk, question);

    walk->now += (rlp_time_t)unit_below(random, 1000);
    if (unit_below(random, 20) > 0) {
        lease_granted(walk->hosts[host], question, &answer, walk->now, &result);
    }
    if (unit_below(random, 20) == 0) {
        (void)walk_ask(walk, &walk->earlier[unit_below(random, (uint64_t)walk->asked) % EARLIER]);
    }
}

/* What was spent turns out to have been less, or more. */
static void walk_correct(walk_t *walk, int host, const lease_charge_t *paid,
                         const lease_result_t *result, uint64_t *random)
{
    lease_charge_t more = *paid;

    more.cost = unit_below(random, 2) ? paid->cost : -paid->cost;
    (void)lease_settle(walk->hosts[host], &more, result->id, result->charged_at, walk->now);
}

static void walk_step(walk_t *walk, uint64_t *random)
{
    const int host = (int)unit_below(random, HOSTS);
    const lease_charge_t wanted = { .identity = 7,
                                    .signature = 42,
                                    .cost = ((rlp_units_t)unit_below(random, 5) + 1) * RLP_UNIT / 2,
                                    .limit = walk->limit };
    lease_question_t question;
    lease_result_t result;

    walk->now += (rlp_time_t)unit_below(random, unit_below(random, 100) ? 4000 : 8 * RLP_SECOND);
    lease_spend(walk->hosts[host], &wanted, walk->now, &result, &question);
    if (result.outcome == LEASE_SPENT && unit_below(random, 10) == 0) {
        walk_correct(walk, host, &wanted, &result, random);
    }
    if (result.outcome == LEASE_ASK ||
        lease_due(walk->hosts[host], result.index, false, walk->now, &question)) {
        walk_question(walk, host, &question, random);
    }
}

static void test_alike(void **state)
{
    uint64_t random = unit_seed();
    walk_t walk;

    walk_begin(&walk, unit_row(state), &random);
    for (int i = 0; i < STEPS; i++) {
        walk_step(&walk, &random);
    }
    assert_true(walk.asked > STEPS / 100);
    walk_end(&walk);
}

static const char *const plans[] = { "rate=1000/s",
                                     "rate=100/s burst=1000",
                                     "rate=100/min burst=50 initial=20",
                                     "rate=500/5s algorithm=fixed-window",
                                     "rate=200/s algorithm=sliding-window",
                                     "quota=5000/day" };

int main(void)
{
    if (!redis_server_start("a simulated Redis")) {
        return unit_run();
    }
    size_t len;
    const char *text = script_text(&len);

    freeReplyObject(redis_server_ask("SCRIPT LOAD %b", text, len));
    script_sha(sha);
    for (size_t i = 0; i < UNIT_N(plans); i++) {
        unit_add_case("a simulated Redis leases as the script", plans[i], test_alike, plans[i]);
    }
    return unit_run();
}
