/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the script in Redis makes of states that it finds: of damaged ones, and by its short way.
 */

#include "script_ask.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    memcpy(ask_sha, checksum, sizeof(ask_sha));
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
    memcpy(usual, ask_sha, sizeof(usual));
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

int main(void)
{
    if (!redis_server_start("states in Redis")) {
        return unit_run();
    }
    for (size_t i = 0; i < UNIT_N(damages); i++) {
        unit_add(apr_psprintf(unit_pool(), "T-27: damage %d", (int)i + 1), test_damage,
                 &damages[i]);
    }
    unit_add("T-27: any bytes for a state", test_any_state, NULL);
    unit_add("T-27: the short way says what the long way says", test_short_way, NULL);
    return unit_run();
}
