/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Calls of the script in Redis: what they write and for how long, what damage does, what comes
 * back, leases, and many who ask at once. What is decided is in script.c.
 */

#include "redis/script.h"
#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW INT64_C(1700000000000000)
#define DAY (INT64_C(86400) * RLP_SECOND)
#define KEY "rlp:{user:42}:api"

static char sha[SCRIPT_SHA_SIZE];

/* A call for the limits of one plan under one key. */
typedef struct {
    script_call_t call;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_charge_t *pointers[RLP_LIMITS_MAX];
    script_key_t keys[RLP_LIMITS_MAX];
    rlp_time_t now;    /* the server's clock, unless 0 */
    rlp_time_t answer; /* the clock that the answer tells */
} ask_t;

static void ask_init(ask_t *ask, const char *words)
{
    const rlp_plan_t *plan = unit_plan(words);

    *ask = (ask_t){ .now = NOW };
    ask->call = (script_call_t){ .charges = ask->pointers, .keys = ask->keys, .n = plan->n };
    for (int i = 0; i < plan->n; i++) {
        const rlp_limit_t *limit = &plan->limits[i];

        rlp_charge_init(&ask->charges[i], "user:42", 7, rlp_signature("api", NULL, limit), limit);
        ask->pointers[i] = &ask->charges[i];
        ask->keys[i] = (script_key_t){ .bytes = KEY, .len = strlen(KEY) };
    }
}

static void ask_pack(ask_t *ask, script_packet_t *packet)
{
    ask->call.clock = ask->now != 0 ? &ask->now : NULL;
    ask->call.wall = ask->call.wall != 0 ? ask->call.wall : NOW;
    assert_true(script_pack(packet, &ask->call, sha));
}

static redisReply *ask_reply(redisContext *context, const script_packet_t *packet)
{
    return redisCommandArgv(context, packet->argc, (const char **)(uintptr_t)packet->argv,
                            packet->lens);
}

/* Asks; the first limit's decision. */
static rlp_decision_t ask_on(redisContext *context, ask_t *ask, script_op_t op)
{
    static script_packet_t packet;

    ask->call.op = op;
    ask_pack(ask, &packet);
    redisReply *reply = ask_reply(context, &packet);

    assert_non_null(reply);
    if (reply->type != REDIS_REPLY_STRING) {
        fail_msg("%s", reply->str);
    }
    assert_true(script_unpack(&ask->call, reply->str, reply->len, &ask->answer));
    freeReplyObject(reply);
    return ask->charges[0].decision;
}

static rlp_decision_t ask_for(ask_t *ask, script_op_t op)
{
    return ask_on(redis_server(), ask, op);
}

static int64_t server_integer(const char *command)
{
    redisReply *reply = redis_server_ask(command);
    const int64_t value = reply->integer;

    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    freeReplyObject(reply);
    return value;
}

static int server_fresh(void **state)
{
    size_t len;
    const char *text = script_text(&len);

    (void)state;
    freeReplyObject(redis_server_ask("FLUSHALL"));
    freeReplyObject(redis_server_ask("SCRIPT LOAD %b", text, len));
    script_sha(sha);
    return 0;
}

/* --- what is written */

static const struct lifetime {
    const char *words;
    int64_t most; /* milliseconds after one request */
    int64_t least;
} lifetimes[] = {
    { "rate=1/s", 1000, 1 },
    { "rate=1000000/s", 1, 0 },
    { "rate=1/week burst=500", INT64_C(604800000), INT64_C(604799000) },
    { "rate=1/s initial=.5 burst=1.5", INT64_C(2592001000), INT64_C(2591999000) },
    { "rate=5/min algorithm=sliding-log", 60000, 59000 },
    { "rate=5/min algorithm=sliding-window", 120000, 59000 },
    { "rate=5/min algorithm=stepped-bucket", 120000, 119000 },
    { "rate=5/min algorithm=leaky-bucket", 12000, 11000 },
    { "rate=5/min algorithm=fixed-window", 60000, 1 },
    { "quota=5", INT64_C(316224000000), INT64_C(316223999000) },
    { "quota=5/day", INT64_C(172800000), INT64_C(86400000) },
    { "concurrent=5", 60000, 59000 },
    { "concurrent=5 lease=10s", 10000, 9000 },
    { "rate=1/s rate=1/h quota=9/day", INT64_C(172800000), INT64_C(86400000) },
};

static void test_lifetime(void **state)
{
    const struct lifetime *row = unit_row(state);
    ask_t ask;

    server_fresh(state);
    ask_init(&ask, row->words);
    ask.now = 0;
    ask.call.wall = rlp_clock_wall();
    ask_for(&ask, SCRIPT_TAKE);
    assert_in_range(ask.answer, rlp_clock_wall() - 60 * RLP_SECOND, rlp_clock_wall() + RLP_SECOND);
    const int64_t left = server_integer("PTTL " KEY);

    if (left == -2 && row->most <= 1000) {
        return; /* gone already */
    }
    if (left > row->most || left < row->least) {
        fail_msg("%s: kept for %" PRId64 " ms", row->words, left);
    }
}

/* No write on a peek or a refusal. */
static void test_refusal(void **state)
{
    ask_t ask;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "rate=100/min rate=2/h quota=5/day rate=9/h algorithm=sliding-log");
    ask_for(&ask, SCRIPT_PEEK);
    assert_int_equal(server_integer("EXISTS " KEY), 0);
    ask_for(&ask, SCRIPT_TAKE);
    ask_for(&ask, SCRIPT_TAKE);
    freeReplyObject(redis_server_ask("CONFIG RESETSTAT"));
    for (int i = 0; i < 20; i++) {
        ask_for(&ask, i % 2 ? SCRIPT_TAKE : SCRIPT_PEEK);
        assert_int_equal(ask.charges[1].decision.verdict, RLP_DENY);
        assert_int_equal(ask.charges[0].decision.remaining, 98);
    }
    redisReply *reply = redis_server_ask("INFO commandstats");

    assert_non_null(strstr(reply->str, "cmdstat_get:calls=20,"));
    assert_null(strstr(reply->str, "cmdstat_set:"));
    assert_null(strstr(reply->str, "cmdstat_del:"));
    freeReplyObject(reply);
}

/* What another plan has used is kept until it expires, but not of any number of plans. */
static void test_others(void **state)
{
    ask_t ask;
    ask_t other;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "rate=2/h");
    ask_init(&other, "rate=5/day");
    ask_for(&ask, SCRIPT_TAKE);
    ask_for(&ask, SCRIPT_TAKE);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask_for(&other, SCRIPT_TAKE).verdict, RLP_ALLOW);
    }
    assert_int_equal(ask_for(&ask, SCRIPT_TAKE).verdict, RLP_DENY);
    for (int i = 2; i < 40; i++) {
        ask_init(&other, apr_psprintf(unit_pool(), "rate=5/%dh", i));
        ask_for(&other, SCRIPT_TAKE);
        if (i == 12) {
            assert_int_equal(ask_for(&ask, SCRIPT_TAKE).verdict, RLP_DENY);
        }
    }
    assert_int_equal(server_integer("STRLEN " KEY), 4 + 17 * 60);
    other.now += DAY * 30;
    ask_for(&other, SCRIPT_TAKE);
    assert_int_equal(server_integer("STRLEN " KEY), 64);
}

/* --- damage */

static const char *const damages[] = {
    "RPUSH " KEY " x",          "SET " KEY " garbage",      "SET " KEY " \"\"",
    "SADD " KEY " rlp1",        "SET " KEY " rlp0",         "SET " KEY " rlp1x",
    "SET " KEY " 12",           "HSET " KEY " rlp1 2",      "APPEND " KEY " x",
    "SETRANGE " KEY " 13 x",    "SETRANGE " KEY " 23 \xff", "SETRANGE " KEY " 22 \xff\xff",
    "SETRANGE " KEY " 12 \x01", "SETRANGE " KEY " 3 2",
};

/* T-27: what is no state is taken for a new one, and told. */
static void test_damage(void **state)
{
    static const char *const limits[] = {
        "rate=5/h",
        "rate=5/h algorithm=stepped-bucket",
        "rate=5/h algorithm=fixed-window",
        "rate=5/h algorithm=sliding-window",
        "rate=5/h algorithm=sliding-log",
        "quota=5/day",
        "concurrent=5",
    };
    const char *damage = *(const char *const *)unit_row(state);

    for (size_t i = 0; i < UNIT_N(limits); i++) {
        ask_t ask;

        server_fresh(state);
        ask_init(&ask, limits[i]);
        if (strncmp(damage, "APPEND", 6) == 0 || strncmp(damage, "SETRANGE", 8) == 0) {
            ask_for(&ask, SCRIPT_TAKE);
        }
        freeReplyObject(redis_server_ask(damage));
        ask.call.holder = 1;
        const rlp_decision_t peek = ask_for(&ask, SCRIPT_PEEK);
        const rlp_decision_t take = ask_for(&ask, SCRIPT_TAKE);
        const rlp_decision_t next = ask_for(&ask, SCRIPT_PEEK);

        assert_true(peek.damaged);
        assert_int_equal(peek.remaining, 5);
        assert_true(take.damaged);
        assert_int_equal(take.remaining, 4);
        assert_false(next.damaged);
        assert_int_equal(next.remaining, 4);
        assert_true(server_integer("PTTL " KEY) > 0);
    }
}

/* Any bytes for the state of one limit. */
static void test_any_state(void **state)
{
    static const char *const limits[] = {
        "rate=5/h",
        "rate=7/h algorithm=stepped-bucket",
        "rate=5/h algorithm=leaky-bucket",
        "rate=5/h algorithm=fixed-window",
        "rate=5/h algorithm=sliding-window",
        "rate=5/h algorithm=sliding-log",
        "quota=5/day",
        "concurrent=5",
    };
    uint64_t random = unit_seed();

    (void)state;
    for (int i = 0; i < 4000; i++) {
        ask_t ask;
        char bytes[8];

        if (i % 500 == 0) {
            server_fresh(state);
        }
        ask_init(&ask, limits[i / 500]);
        ask.call.holder = (uint64_t)i;
        if (i % 4 == 0) {
            freeReplyObject(redis_server_ask("DEL " KEY));
            ask_for(&ask, SCRIPT_TAKE);
        }
        const uint64_t word = unit_random(&random);

        memcpy(bytes, &word, 8);
        if (unit_below(&random, 2)) {
            const double number = (double)(unit_random(&random) >> unit_below(&random, 64));

            memcpy(bytes, &number, 8);
        }
        freeReplyObject(redis_server_ask("SETRANGE " KEY " %d %b",
                                         24 + (int)unit_below(&random, 6) * 8, bytes, (size_t)8));
        ask.now += (rlp_time_t)unit_below(&random, 2 * (uint64_t)DAY);
        ask.charges[0].max_wait = (rlp_time_t)unit_below(&random, 2) * DAY;
        ask.call.charged_at = NOW;
        ask_for(&ask,
                (script_op_t)unit_below(&random, 5)); /* unpacked: so what it says is possible */
    }
}

/* --- the short way */

#define SHORT_WAY "if kind == 0 and slots_n == 1"
#define STATE_MAX 256

/* What a call answers, and what is there after it, for so many milliseconds. */
typedef struct {
    rlp_decision_t decision;
    int64_t life;
    size_t len;
    char bytes[STATE_MAX];
} seen_t;

/* By the script of that checksum, on a value that is there before; len 0: on none. */
static void run_on(const char *checksum, const char *value, size_t len, ask_t *ask, seen_t *seen)
{
    memcpy(sha, checksum, sizeof(sha));
    freeReplyObject(redis_server_ask("DEL " KEY));
    if (len > 0) {
        freeReplyObject(redis_server_ask("SET " KEY " %b", value, len));
    }
    seen->decision = ask_for(ask, SCRIPT_TAKE);
    seen->life = server_integer("PTTL " KEY);
    redisReply *after = redis_server_ask("GET " KEY);

    assert_true(after->len <= sizeof(seen->bytes));
    seen->len = after->len;
    memcpy(seen->bytes, after->str, after->len);
    freeReplyObject(after);
}

static void expect_same(const seen_t *one, const seen_t *other, const char *what)
{
    const rlp_decision_t *a = &one->decision;
    const rlp_decision_t *b = &other->decision;

    if (a->verdict != b->verdict || a->damaged != b->damaged || a->remaining != b->remaining ||
        a->next != b->next || a->reset != b->reset || a->retry != b->retry) {
        fail_msg("%s: verdict %d, remaining %" PRId64 "; the long way %d, %" PRId64, what,
                 (int)a->verdict, a->remaining, (int)b->verdict, b->remaining);
    }
    if (one->len != other->len || memcmp(one->bytes, other->bytes, one->len) != 0) {
        fail_msg("%s: writes another state", what);
    }
    if (llabs(one->life - other->life) > 1000) { /* Redis counts on between SET and PTTL */
        fail_msg("%s: lives %" PRId64 " ms, the long way %" PRId64, what, one->life, other->life);
    }
}

/* A number of a state: as it is, beside that, or anything. */
static double random_number(uint64_t *random, double good)
{
    const double others[] = {
        good,       good,    good + 1,    good - 1,        good * 2, good / 2 + .5, 0,
        1,          -1,      (double)NOW, (double)NOW + 1, -good,    0x1p52,        0x1p53,
        0x1p53 + 2, -0x1p53, 1e300,       INFINITY,        NAN,
    };

    return others[unit_below(random, UNIT_N(others))];
}

/* Loads the script without its short way. */
static void long_way(char checksum[SCRIPT_SHA_SIZE])
{
    size_t len;
    const char *text = script_text(&len);
    char *copy = apr_pstrmemdup(unit_pool(), text, len);
    char *at = strstr(copy, SHORT_WAY);

    assert_non_null(at);
    assert_null(strstr(at + 1, SHORT_WAY));
    at[sizeof("if kind == ") - 1] = '9';
    redisReply *reply = redis_server_ask("SCRIPT LOAD %b", copy, len);

    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    memcpy(checksum, reply->str, SCRIPT_SHA_SIZE);
    freeReplyObject(reply);
}

/* The usual call has a way of its own through the script: on whatever state, of this limit or of
   another of its signature, it says and writes what all others would. */
static void test_short_way(void **state)
{
    static const char *const limits[] = { "rate=5/h", "rate=7/s burst=3", "rate=1000000/s",
                                          "rate=1/week burst=500",
                                          "rate=3/s initial=.5 burst=1.5" };
    char usual[SCRIPT_SHA_SIZE];
    char whole[SCRIPT_SHA_SIZE];
    uint64_t random = unit_seed();

    server_fresh(state);
    memcpy(usual, sha, sizeof(usual));
    long_way(whole);
    for (int i = 0; i < 5000; i++) {
        double numbers[6];
        seen_t base;
        seen_t got;
        seen_t due;
        ask_t ask;

        ask_init(&ask, limits[i % (int)UNIT_N(limits)]);
        run_on(whole, NULL, 0, &ask, &base);
        memcpy(numbers, base.bytes + 16, sizeof(numbers));
        for (int n = (int)unit_below(&random, 3); n > 0; n--) {
            double *number = &numbers[unit_below(&random, 6)];

            *number = random_number(&random, *number);
        }
        memcpy(base.bytes + 16, numbers, sizeof(numbers));
        ask.now +=
            (rlp_time_t)unit_below(&random, 3) * (rlp_time_t)unit_below(&random, 5000000) - 1;
        ask.charges[0].cost = (rlp_units_t)(1 + unit_below(&random, 2 * RLP_UNIT));
        run_on(usual, base.bytes, base.len, &ask, &got);
        run_on(whole, base.bytes, base.len, &ask, &due);
        expect_same(&got, &due,
                    apr_psprintf(unit_pool(), "%d: %s: %g %g %g %g %g %g", i,
                                 limits[i % (int)UNIT_N(limits)], numbers[0], numbers[1],
                                 numbers[2], numbers[3], numbers[4], numbers[5]));
    }
}

/* --- the script is not there */

static void test_flushed(void **state)
{
    static script_packet_t packet;
    ask_t ask;
    rlp_time_t now;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "rate=5/h");
    ask_for(&ask, SCRIPT_TAKE);
    freeReplyObject(redis_server_ask("SCRIPT FLUSH"));
    ask_pack(&ask, &packet);
    redisReply *reply = ask_reply(redis_server(), &packet);

    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    assert_memory_equal(reply->str, "NOSCRIPT", 8);
    freeReplyObject(reply);
    script_pack_text(&packet);
    reply = ask_reply(redis_server(), &packet);
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    assert_true(script_unpack(&ask.call, reply->str, reply->len, &now));
    assert_int_equal(ask.charges[0].decision.remaining, 3);
    freeReplyObject(reply);
    assert_int_equal(ask_for(&ask, SCRIPT_TAKE).remaining, 2);
}

/* --- many at once */

#define HOST_FAILED 255

/* One process of a host; how many it was allowed. A child: it fails by its status, since an
   assertion would go on with the tests. */
static int host_run(ask_t *ask, int requests)
{
    static script_packet_t packet;
    redisContext *context = redisConnectUnix(redis_server_path());
    int allowed = 0;

    if (context == NULL || context->err != 0 || !script_pack(&packet, &ask->call, sha)) {
        return HOST_FAILED;
    }
    for (int i = 0; i < requests; i++) {
        redisReply *reply = ask_reply(context, &packet);

        if (reply == NULL || reply->type != REDIS_REPLY_STRING ||
            !script_unpack(&ask->call, reply->str, reply->len, &ask->answer)) {
            return HOST_FAILED;
        }
        allowed += ask->charges[0].decision.verdict == RLP_ALLOW;
        freeReplyObject(reply);
    }
    redisFree(context);
    return allowed;
}

static const struct crowd {
    const char *name;
    const char *words;
    int processes;
    int requests;
    int allowed;
} crowds[] = {
    { "T-24: 50 in parallel, limit 5", "rate=5/h", 10, 5, 5 },
    { "S-11: 50 in parallel, limit 5", "rate=5/h algorithm=sliding-log", 10, 5, 5 },
    { "T-25: 4 processes, limit 100 and others", "rate=100/day quota=1000 rate=500/h", 4, 60, 100 },
};

static void test_crowd(void **state)
{
    const struct crowd *row = unit_row(state);
    int allowed = 0;
    ask_t ask;

    server_fresh(state);
    ask_init(&ask, row->words);
    ask.call.wall = NOW;
    fflush(stdout);
    for (int i = 0; i < row->processes; i++) {
        if (fork() == 0) {
            _exit(host_run(&ask, row->requests));
        }
    }
    for (int i = 0; i < row->processes; i++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != HOST_FAILED);
        allowed += WEXITSTATUS(status);
    }
    assert_int_equal(allowed, row->allowed);
}

/* S-15, B-29: hosts whose clocks differ, about midnight: the server's clock decides. */
static void test_clocks(void **state)
{
    static const rlp_time_t ahead[] = { 0, 120 * RLP_SECOND, -2 * RLP_SECOND, 61 * RLP_SECOND };
    const rlp_time_t midnight = (NOW / DAY + 1) * DAY;
    ask_t ask;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "quota=1000/day rate=1/s algorithm=sliding-window rate=20/min");
    for (int i = -180; i < 180; i++) {
        ask.now = midnight + i * RLP_SECOND;
        ask.call.wall = ask.now + ahead[(unsigned)i % UNIT_N(ahead)];
        ask_for(&ask, SCRIPT_TAKE);
        const rlp_time_t end = i < 0 ? midnight : midnight + DAY;

        assert_int_equal(ask.charges[0].decision.reset, end - ask.now);
        assert_true(ask.charges[0].decision.verdict == RLP_ALLOW);
        if (i == 0) {
            assert_true(ask.charges[0].decision.remaining >= 999);
        }
    }
}

/* --- places */

static rlp_verdict_t place(ask_t *ask, script_op_t op, uint64_t holder)
{
    ask->call.holder = holder;
    return ask_for(ask, op).verdict;
}

static void test_places(void **state)
{
    ask_t ask;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=2 lease=10s");
    assert_int_equal(place(&ask, SCRIPT_TAKE, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 1), RLP_ALLOW); /* again after a lost answer */
    assert_int_equal(ask.charges[0].decision.remaining, 1);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_DENY);
    assert_int_equal(ask.charges[0].decision.retry, RLP_SECOND);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, 3), RLP_ALLOW); /* has none */
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_DENY);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_ALLOW);
    assert_int_equal(ask.charges[0].decision.remaining, 0);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, 3), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, 2), RLP_ALLOW);
    assert_int_equal(ask.charges[0].decision.remaining, 2);
}

/* C-09: whoever renews keeps the place beyond the lease; whoever does not loses it, and gets it
   again only where there is room. */
static void test_leases(void **state)
{
    ask_t ask;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=1 lease=10s");
    assert_int_equal(place(&ask, SCRIPT_TAKE, 1), RLP_ALLOW);
    for (int i = 0; i < 10; i++) {
        ask.now += 8 * RLP_SECOND;
        assert_int_equal(place(&ask, SCRIPT_RENEW, 1), RLP_ALLOW);
        assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_DENY);
    }
    ask.now += 10 * RLP_SECOND - 1;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_DENY);
    ask.now += 1;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_RENEW, 1), RLP_DENY);
    ask.now += 10 * RLP_SECOND;
    assert_int_equal(place(&ask, SCRIPT_RENEW, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_DENY);
}

/* Random holders against a list of who holds until when. */
static void test_holders(void **state)
{
    enum { N = 12, PLACES = 5 };
    rlp_time_t until[N] = { 0 };
    uint64_t random = unit_seed();
    ask_t ask;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=5 lease=10s");
    for (int i = 0; i < 3000; i++) {
        const int who = (int)unit_below(&random, N);
        const script_op_t op = (script_op_t[]){ SCRIPT_TAKE, SCRIPT_TAKE, SCRIPT_RENEW,
                                                SCRIPT_RELEASE }[unit_below(&random, 4)];
        int held = 0;

        ask.now += (rlp_time_t)unit_below(&random, 3 * RLP_SECOND);
        for (int k = 0; k < N; k++) {
            held += until[k] > ask.now;
        }
        const bool has = until[who] > ask.now;
        const bool fits = has || held < PLACES || op == SCRIPT_RELEASE;

        /* bytes that come in other holders, too */
        assert_int_equal(place(&ask, op, UINT64_C(0x0100010001000100) << who % 8 | (unsigned)who),
                         fits ? RLP_ALLOW : RLP_DENY);
        if (fits) {
            until[who] = op == SCRIPT_RELEASE ? 0 : ask.now + 10 * RLP_SECOND;
            held += (op != SCRIPT_RELEASE) - has;
        }
        assert_int_equal(ask.charges[0].decision.remaining, PLACES - held);
    }
}

int main(void)
{
    const char *missing = redis_server_start();

    if (missing != NULL) {
        unit_add("calls of the script", unit_skip_row, missing);
        return unit_run();
    }
    for (size_t i = 0; i < UNIT_N(lifetimes); i++) {
        unit_add_case("a key lives as long as it tells something", lifetimes[i].words,
                      test_lifetime, &lifetimes[i]);
    }
    for (size_t i = 0; i < UNIT_N(damages); i++) {
        unit_add(apr_psprintf(unit_pool(), "T-27: damage %d", (int)i + 1), test_damage,
                 &damages[i]);
    }
    for (size_t i = 0; i < UNIT_N(crowds); i++) {
        unit_add(crowds[i].name, test_crowd, &crowds[i]);
    }
    unit_add("T-15: a peek and a refusal write nothing", test_refusal, NULL);
    unit_add("P-07: limits of other plans are kept", test_others, NULL);
    unit_add("T-27: any bytes for a state", test_any_state, NULL);
    unit_add("T-27: the short way says what the long way says", test_short_way, NULL);
    unit_add("T-28: the script is flushed", test_flushed, NULL);
    unit_add("S-15 B-29: hosts with other clocks", test_clocks, NULL);
    unit_add("places, taken and given back", test_places, NULL);
    unit_add("C-09: leases", test_leases, NULL);
    unit_add("C-09: random holders", test_holders, NULL);
    return unit_run();
}
