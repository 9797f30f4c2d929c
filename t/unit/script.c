/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The script in Redis against the steps in C: the same random questions to both, with the same
 * clock, and the same answers. RLP_SEQUENCES=N for each algorithm; RLP_SEED=N replays them.
 */

#include "redis/script.h"
#include "case_table.h"
#include "check.h"
#include "redis_server.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEQUENCES 300 /* unless RLP_SEQUENCES says more */
#define STEPS 20      /* of one sequence */
#define LIMITS 6      /* of one question */
#define NOW INT64_C(1700000000000000)
#define NOW_MAX INT64_C(2000000000000000)
#define DAY (INT64_C(86400) * RLP_SECOND)

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

/* --- random limits and questions */

typedef struct {
    const char *name;
    const char *words; /* behind a rate; NULL: no rate */
    bool has_burst;
    bool has_initial;
    bool has_start;
} kind_t;

static const kind_t kinds[] = {
    { "token-bucket", "", true, true, false },
    { "stepped-bucket", " algorithm=stepped-bucket", true, true, true },
    { "leaky-bucket", " algorithm=leaky-bucket", true, false, false },
    { "fixed-window", " algorithm=fixed-window", false, false, true },
    { "sliding-window", " algorithm=sliding-window", false, false, true },
    { "sliding-log", " algorithm=sliding-log", false, false, false },
    { "quota", NULL, false, true, false },
    { "concurrency", NULL, false, false, false },
};

#define KIND_LOG 5
#define KIND_QUOTA 6
#define KIND_CONCURRENCY 7
#define KINDS 8

/* What one sequence knows. */
typedef struct {
    uint64_t random;
    apr_pool_t *pool;
    rlp_store_t *store;
    int number;
    int n; /* limits */
    rlp_limit_t limits[LIMITS];
    rlp_branch_t branches[LIMITS];
    const char *words[LIMITS];
    uint64_t signatures[LIMITS];
    rlp_time_t now;
    rlp_time_t longest;
    rlp_time_t charged_at;
    rlp_time_t waited;
    rlp_units_t taken;
    rlp_decision_t last; /* of the first limit that counts */
    uint64_t holders[64];
    int holders_n;
    uint64_t holder;
    bool kept; /* not for ever */
} walk_t;

static int64_t random_size(uint64_t *random, unsigned digits)
{
    uint64_t bound = 10;

    for (uint64_t n = unit_below(random, digits); n > 0; n--) {
        bound *= 10;
    }
    return (int64_t)unit_below(random, bound) + 1;
}

static const char *random_option(walk_t *walk, const char *name, unsigned digits)
{
    const rlp_units_t units = random_size(&walk->random, digits);

    return apr_psprintf(walk->pool, " %s=%" PRId64 ".%03d", name, units / RLP_UNIT,
                        (int)(units % RLP_UNIT));
}

static const char *random_quota(walk_t *walk)
{
    static const char *const periods[] = { "/day", "/week", "/month", "/year" };
    const char *zone = unit_below(&walk->random, 8) ? "" : "@Europe/Berlin";
    const int64_t count = unit_below(&walk->random, 16) == 0 ? 0 : random_size(&walk->random, 4);

    if (unit_below(&walk->random, 4) == 0) {
        return apr_psprintf(walk->pool, "quota=%" PRId64 "%s", count,
                            unit_below(&walk->random, 2) ? random_option(walk, "initial", 3) : "");
    }
    return apr_psprintf(walk->pool, "quota=%" PRId64 "%s%s", count,
                        periods[unit_below(&walk->random, 4)], zone);
}

static const char *random_words(walk_t *walk, int kind, int64_t period)
{
    const kind_t *k = &kinds[kind];
    const unsigned digits = kind == KIND_LOG ? 2 : unit_below(&walk->random, 2) == 0 ? 12 : 2;

    if (kind == KIND_QUOTA) {
        return random_quota(walk);
    }
    if (kind == KIND_CONCURRENCY) {
        return apr_psprintf(walk->pool, "concurrent=%" PRId64 " lease=520weeks",
                            random_size(&walk->random, 1));
    }
    const char *burst = k->has_burst && unit_below(&walk->random, 2)
                            ? random_option(walk, "burst", unit_below(&walk->random, 2) ? 5 : 15)
                            : "";
    const char *initial = k->has_initial && unit_below(&walk->random, 8) == 0
                              ? random_option(walk, "initial", *burst ? 4 : 3)
                              : "";

    return apr_psprintf(walk->pool, "rate=%" PRId64 "/%" PRId64 "ms%s%s%s%s",
                        random_size(&walk->random, digits), period, k->words, burst, initial,
                        k->has_start && unit_below(&walk->random, 2) ? " start=2020-02-29" : "");
}

/* A limit of that kind; false if the words are refused. */
static bool walk_parse(walk_t *walk, int i, const char *words)
{
    char *rest = NULL;
    const char *list[8];
    int n = 0;
    rlp_plan_t *plan;

    for (char *word = apr_strtok(apr_pstrdup(walk->pool, words), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        list[n++] = word;
    }
    const rlp_plan_source_t source = {
        .name = "test", .words = list, .n = n, .wall = NOW, .since = NOW
    };

    if (rlp_plan_parse(&plan, &source, walk->pool) != NULL ||
        script_limit_error(&plan->limits[0], 0, walk->pool) != NULL) {
        return false;
    }
    walk->limits[i] = plan->limits[0];
    walk->words[i] = words;
    return true;
}

static void walk_add(walk_t *walk, int kind)
{
    const int i = walk->n++;
    int64_t period;

    do {
        period = random_size(&walk->random, unit_below(&walk->random, 2) ? 5 : 11);
    } while (!walk_parse(walk, i, random_words(walk, kind, period)));
    walk->limits[i].ordinal = (unsigned)i;
    walk->signatures[i] = rlp_signature("rule", NULL, &walk->limits[i]);
    walk->branches[i] = RLP_ALWAYS;
}

/* Another plan of the same signature: what is kept is judged under it. */
static void walk_change(walk_t *walk, int kind)
{
    const rlp_limit_t was = walk->limits[0];
    const char *words = walk->words[0];

    if (kind >= KIND_QUOTA) {
        walk->limits[0].count = random_size(&walk->random, 2);
        walk->limits[0].burst = walk->limits[0].count * RLP_UNIT;
        walk->limits[0].initial = was.calendar || kind == KIND_CONCURRENCY
                                      ? walk->limits[0].burst
                                      : walk->limits[0].burst / 2;
        return;
    }
    if (!walk_parse(walk, 0, random_words(walk, kind, was.period / 1000)) ||
        rlp_signature("rule", NULL, &walk->limits[0]) != walk->signatures[0] ||
        script_limit_error(&walk->limits[0], walk->longest, walk->pool) != NULL) {
        walk->limits[0] = was;
        walk->words[0] = words;
    }
}

/* No wait, or one up to some drains. */
static rlp_time_t random_longest(walk_t *walk)
{
    rlp_time_t longest = (rlp_time_t)(1 + unit_below(&walk->random, 4)) * walk->limits[0].drain;

    if (unit_below(&walk->random, 2) || walk->limits[0].period == 0) {
        return 0;
    }
    for (int i = 0; i < walk->n; i++) {
        while (script_limit_error(&walk->limits[i], longest, walk->pool) != NULL) {
            longest /= 16;
        }
    }
    return longest;
}

static rlp_time_t random_wait(walk_t *walk)
{
    switch (unit_below(&walk->random, 4)) {
    case 0:
        return 0;
    case 1:
        return (rlp_time_t)unit_below(&walk->random, (uint64_t)walk->longest + 1);
    default:
        return walk->longest;
    }
}

static rlp_units_t random_units(walk_t *walk, const rlp_limit_t *limit)
{
    const rlp_units_t burst = limit->burst;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 0;
    case 1:
        return burst;
    case 2:
        return burst + 1;
    case 3:
        return -(rlp_units_t)unit_below(&walk->random, 5000) - 1;
    case 4:
    case 5:
    case 6:
        return (rlp_units_t)unit_below(&walk->random, (uint64_t)burst + 1);
    case 7:
        return (rlp_units_t)unit_below(&walk->random, 3000);
    case 8:
        return RLP_UNITS_MAX;
    default:
        return RLP_UNIT;
    }
}

static rlp_time_t random_gap(walk_t *walk)
{
    const rlp_limit_t *limit = &walk->limits[0];
    const rlp_decision_t *d = &walk->last;

    switch (unit_below(&walk->random, 16)) {
    case 0:
        return 1;
    case 1:
        return (rlp_time_t)unit_below(&walk->random, 2 * (uint64_t)limit->drain + 1);
    case 2:
    case 3:
        return d->retry;
    case 4:
        return d->retry > 0 ? d->retry - 1 : 0;
    case 5:
        return d->reset == RLP_TIME_NEVER ? 0 : d->reset;
    case 6:
        return d->next == RLP_TIME_NEVER || d->next == 0 ? 0 : d->next - 1;
    case 7:
        return limit->count > 0
                   ? (rlp_time_t)unit_below(&walk->random,
                                            (uint64_t)(limit->period / limit->count) + 2)
                   : 0;
    case 8:
        return d->wait;
    case 9:
        return (rlp_time_t)unit_below(&walk->random, (uint64_t)limit->period + 1);
    case 10:
        return walk->n > 1 || unit_below(&walk->random, 4) ? 0 : -random_size(&walk->random, 14);
    default:
        return 0;
    }
}

static void walk_move(walk_t *walk)
{
    rlp_time_t gap = random_gap(walk);

    for (int i = 0; i < walk->n; i++) {
        walk->kept |= walk->limits[i].initial < walk->limits[i].burst;
    }
    /* a key that starts with less than it holds is kept for 30 days after it is full */
    gap = walk->kept ? gap % DAY : gap;
    if (walk->now + gap < NOW_MAX) {
        walk->now += gap;
    }
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
    const rlp_time_t max_wait = random_wait(walk);

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
        charge->waited = walk->waited;
        if (op == SCRIPT_SETTLE && unit_below(&walk->random, 2)) {
            charge->cost = -walk->taken;
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
    walk->charged_at = walk->now;
    walk->waited = answer.wait;
    walk->taken = asked->charges[0].cost;
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
    walk->charged_at = walk->waited = walk->taken = 0;
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
        if (kind < KINDS && unit_below(&walk->random, 16) == 0) {
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
    const int kind = (int)((const kind_t *)unit_row(state) - kinds);
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
    const char *missing = redis_server_start();

    if (missing != NULL) {
        unit_add("the script", unit_skip_row, missing);
        return unit_run();
    }
    load_script();
    if (!case_table_add(" (Redis)", ask_case, script_limit_error)) {
        return 1;
    }
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        unit_add_case("T-29 S-15 B-29: Redis and C decide the same", kinds[i].name, test_single,
                      &kinds[i]);
    }
    unit_add("T-15: several limits, all or none, with then=", test_mixed, NULL);
    return unit_run();
}
