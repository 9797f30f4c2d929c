/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Calls of the script in Redis: what they write and for how long, what comes back, leases, and many
 * who ask at once. What is decided is in script.c; what damage does, in script_states.c.
 */

#include "redis/places.h"
#include "script_ask.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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
    const rlp_time_t begun = rlp_clock_monotonic();
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
    const int64_t passed = (rlp_clock_monotonic() - begun) / 1000 + 1;

    if (left > row->most || left + passed < row->least) {
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

    if (context == NULL || context->err != 0 || !script_pack(&packet, &ask->call, ask_sha)) {
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

/* C-09: whoever renews keeps the place beyond the lease; whoever does not loses it, and has to take
   another. */
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
    assert_int_equal(place(&ask, SCRIPT_RENEW, 1), RLP_DENY);
    assert_int_equal(place(&ask, SCRIPT_RENEW, 2), RLP_DENY);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_RENEW, 1), RLP_DENY);
    assert_int_equal(ask.charges[0].decision.remaining, 1);
}

/* A place that nobody renews ends, even if the server's clock was set back; one of a longer
   lease, in another section, is not mistaken for such a one. */
static void test_places_set_back(void **state)
{
    ask_t ask;
    ask_t other;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=2 lease=10s");
    ask_init(&other, "concurrent=2 lease=3minutes");
    assert_int_equal(place(&ask, SCRIPT_TAKE, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_ALLOW);
    ask.now -= DAY;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_DENY);
    ask.now += 59 * RLP_SECOND;
    assert_int_equal(place(&ask, SCRIPT_RENEW, 2), RLP_ALLOW);
    ask.now += RLP_SECOND;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 4), RLP_DENY);
    ask.now += 10 * RLP_SECOND;
    for (int i = 0; i < 5; i++) {
        other.now = ask.now;
        assert_int_equal(place(&other, i == 0 ? SCRIPT_TAKE : SCRIPT_RENEW, 5), RLP_ALLOW);
        ask.now += 59 * RLP_SECOND;
        assert_int_equal(place(&ask, SCRIPT_TAKE, 6), RLP_ALLOW);
        assert_int_equal(place(&ask, SCRIPT_TAKE, 7), RLP_DENY);
    }
}

/* One of a shorter lease, in another section, comes and goes: the places of a longer one are
   counted until their own end. */
static void test_places_apart(void **state)
{
    ask_t ask;
    ask_t other;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=2 lease=10s");
    ask_init(&other, "concurrent=2 lease=1min");
    assert_int_equal(place(&other, SCRIPT_TAKE, 1), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_ALLOW);
    ask.now += 11 * RLP_SECOND;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 4), RLP_DENY);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, 3), RLP_ALLOW);
    other.now += 59 * RLP_SECOND;
    assert_int_equal(place(&other, SCRIPT_RENEW, 1), RLP_ALLOW);
    ask.now = other.now;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 5), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 6), RLP_DENY);
    ask.now += 10 * RLP_SECOND;
    assert_int_equal(place(&ask, SCRIPT_TAKE, 6), RLP_ALLOW); /* and no longer */
    assert_int_equal(place(&ask, SCRIPT_TAKE, 7), RLP_DENY);
}

/* However long its lease is: who asks under a shorter one cannot tell it from one that a clock
   which was set back has left, so it is renewed as if it had a minute (places.c). */
static void test_places_long(void **state)
{
    ask_t ask;
    ask_t other;
    redis_places_t *places = redis_places_create(unit_pool());

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=2 lease=10s");
    ask_init(&other, "concurrent=2 lease=1h");
    assert_int_equal(place(&other, SCRIPT_TAKE, 1), RLP_ALLOW);
    other.charges[0].holder = 1;
    redis_places_note(places, &other.charges[0], other.now);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_ALLOW);
        assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_DENY);
        ask.now += 3 * RLP_SECOND;
        other.now = ask.now;
        redis_place_t *due = redis_places_due(places, other.now);

        if (due != NULL) {
            assert_int_equal(place(&other, SCRIPT_RENEW, due->holder), RLP_ALLOW);
            redis_places_told(places, due, REDIS_PLACE_KEPT);
        }
    }
}

static const struct no_end {
    const char *name;
    double end;
} no_ends[] = {
    { "no number", NAN },       { "infinity", INFINITY }, { "beyond all clocks", 1e300 },
    { "in a century", 4.9e15 }, { "before time", -1 },
};

/* A place that somebody has put at the end of the list, with an end that no lease has. */
static void test_places_damaged(void **state)
{
    static const unsigned char somebody[8] = { 's', 'o', 'm', 'e', 'b', 'o', 'd', 'y' };
    const struct no_end *row = unit_row(state);
    char value[24 + 2 * 16];
    ask_t ask;

    server_fresh(NULL);
    ask_init(&ask, "concurrent=3");
    assert_int_equal(place(&ask, SCRIPT_TAKE, 1), RLP_ALLOW);
    redisReply *one = redis_server_ask("GET %s", KEY);
    const uint32_t size = 2 * 16;

    assert_int_equal(one->len, 24 + 16);
    memcpy(value, one->str, 24 + 16);
    memcpy(value + 12, &size, sizeof(size));
    memcpy(value + 24 + 16, somebody, sizeof(somebody));
    memcpy(value + 24 + 24, &row->end, sizeof(row->end));
    freeReplyObject(redis_server_ask("SET %s %b PX 60000", KEY, value, sizeof(value)));
    freeReplyObject(one);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(place(&ask, SCRIPT_TAKE, 2), RLP_ALLOW);
        assert_int_equal(place(&ask, SCRIPT_RENEW, 1), RLP_ALLOW);
        ask.now += 20 * RLP_SECOND;
    }
    assert_int_equal(place(&ask, SCRIPT_TAKE, 3), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, 4), RLP_DENY);
}

enum { MANY = 10000, MANY_HEAD = 24, MANY_PLACE = 16 };

/* Holders are random numbers. */
static uint64_t many_holder(uint64_t i)
{
    return i * UINT64_C(0x9E3779B97F4A7C15);
}

/* What is kept for the holder 1, as if all from 1 to n had come with it (docs/redis-format.md). */
static void many_write(size_t n)
{
    redisReply *one = redis_server_ask("GET %s", KEY);
    char *value = malloc(MANY_HEAD + n * MANY_PLACE);
    const uint32_t size = (uint32_t)(n * MANY_PLACE);

    assert_int_equal(one->len, MANY_HEAD + MANY_PLACE);
    memcpy(value, one->str, MANY_HEAD);
    memcpy(value + 12, &size, sizeof(size));
    for (size_t i = 0; i < n; i++) {
        char *at = value + MANY_HEAD + i * MANY_PLACE;
        const uint64_t holder = many_holder(i + 1);

        memcpy(at, &holder, sizeof(holder));
        memcpy(at + 8, one->str + MANY_HEAD + 8, 8);
    }
    freeReplyObject(redis_server_ask("SET %s %b PX 60000", KEY, value, MANY_HEAD + n * MANY_PLACE));
    freeReplyObject(one);
    free(value);
}

/* C-14: no small number is too large for Redis. */
static void test_many_places(void **state)
{
    ask_t ask;

    (void)state;
    server_fresh(state);
    ask_init(&ask, "concurrent=10000");
    assert_int_equal(place(&ask, SCRIPT_TAKE, many_holder(1)), RLP_ALLOW);
    many_write(MANY - 1);
    assert_int_equal(place(&ask, SCRIPT_TAKE, many_holder(MANY)), RLP_ALLOW);
    assert_int_equal(ask.charges[0].decision.remaining, 0);
    assert_int_equal(place(&ask, SCRIPT_TAKE, many_holder(MANY + 1)), RLP_DENY);
    assert_int_equal(place(&ask, SCRIPT_RELEASE, many_holder(MANY / 2)), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, many_holder(MANY + 1)), RLP_ALLOW);
    assert_int_equal(place(&ask, SCRIPT_TAKE, many_holder(MANY + 2)), RLP_DENY);
    assert_int_equal(place(&ask, SCRIPT_RENEW, many_holder(2)), RLP_ALLOW);
    assert_int_equal(ask.charges[0].decision.remaining, 0);
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
        const bool fits = has || op == SCRIPT_RELEASE || (op == SCRIPT_TAKE && held < PLACES);

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
    if (!redis_server_start("calls of the script")) {
        return unit_run();
    }
    for (size_t i = 0; i < UNIT_N(lifetimes); i++) {
        unit_add_case("a key lives as long as it tells something", lifetimes[i].words,
                      test_lifetime, &lifetimes[i]);
    }
    for (size_t i = 0; i < UNIT_N(crowds); i++) {
        unit_add(crowds[i].name, test_crowd, &crowds[i]);
    }
    unit_add("T-15: a peek and a refusal write nothing", test_refusal, NULL);
    unit_add("P-07: limits of other plans are kept", test_others, NULL);
    unit_add("T-28: the script is flushed", test_flushed, NULL);
    unit_add("S-15 B-29: hosts with other clocks", test_clocks, NULL);
    unit_add("places, taken and given back", test_places, NULL);
    unit_add("C-09: leases", test_leases, NULL);
    unit_add("C-09: random holders", test_holders, NULL);
    unit_add("places after a clock was set back", test_places_set_back, NULL);
    unit_add("places of leases of different length", test_places_apart, NULL);
    unit_add("places of very different leases", test_places_long, NULL);
    for (size_t i = 0; i < UNIT_N(no_ends); i++) {
        unit_add_case("a place that does not end", no_ends[i].name, test_places_damaged,
                      &no_ends[i]);
    }
    unit_add("C-14: ten thousand places", test_many_places, NULL);
    return unit_run();
}
