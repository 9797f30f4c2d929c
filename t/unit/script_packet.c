/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Calls of the script as bytes, without a server: what is packed, and that an answer is believed
 * only where it is one.
 */

#include "redis/script.h"
#include "unit.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define WALL INT64_C(1700000000000000)
#define NUMBERS 6 /* of each charge in an answer */
#define ANSWER (8 * (2 + NUMBERS * RLP_LIMITS_MAX))

static const char sha[] = "0123456789abcdef0123456789abcdef01234567";

typedef struct {
    script_call_t call;
    rlp_charge_t charges[RLP_ENTRIES_MAX];
    rlp_charge_t *pointers[RLP_ENTRIES_MAX];
    script_key_t keys[RLP_ENTRIES_MAX];
} ask_t;

static void ask_init(ask_t *ask, const char *words)
{
    const rlp_plan_t *plan = unit_plan(words);

    *ask = (ask_t){ .call = {
                        .charges = ask->pointers, .keys = ask->keys, .n = plan->n, .wall = WALL } };
    for (int i = 0; i < RLP_ENTRIES_MAX; i++) {
        const rlp_limit_t *limit = &plan->limits[i % plan->n];

        rlp_charge_init(&ask->charges[i], "x", 1, rlp_signature("r", NULL, limit), limit);
        ask->pointers[i] = &ask->charges[i];
        ask->keys[i] = (script_key_t){ .bytes = i % 2 ? "rlp:{x}:b" : "rlp:{x}:a", .len = 9 };
    }
}

/* --- answers */

static void answer_put(char *bytes, int index, double number)
{
    uint64_t word;

    memcpy(&word, &number, sizeof(word));
    for (int i = 0; i < 8; i++) {
        bytes[8 * index + i] = (char)(word >> 8 * i);
    }
}

/* An answer that allows all. How long it is. */
static size_t answer_make(char bytes[ANSWER], int n)
{
    answer_put(bytes, 0, 1);
    answer_put(bytes, 1, (double)WALL);
    for (int i = 0; i < NUMBERS * n; i++) {
        answer_put(bytes, 2 + i, 0);
    }
    return 8 * (2 + NUMBERS * (size_t)n);
}

static bool answer_read(const ask_t *ask, const char *bytes, size_t len)
{
    rlp_time_t now;

    return script_unpack(&ask->call, bytes, len, &now);
}

static const struct field {
    const char *what;
    int index;
    double number;
    bool fits;
} fields[] = {
    { "another format", 0, 2, false },
    { "no clock", 1, -1, false },
    { "half a microsecond", 1, .5, false },
    { "not a number", 1, __builtin_nan(""), false },
    { "infinite", 1, __builtin_inf(), false },
    { "judged a second later", 2, 16 * 1000000, true },
    { "judged later than readings lie apart", 2, 16 * 1000001, false },
    { "refused for ever, and judged later", 2, 16 + 3, false },
    { "a verdict below all", 2, -1, false },
    { "spared, where nothing can be", 2, 8, false },
    { "waits for no time", 2, 1, false },
    { "refused for no time", 2, 2, false },
    { "never", 2, 3, true },
    { "damaged", 2, 4, true },
    { "a wait for who is allowed", 3, 1, false },
    { "a retry for who is allowed", 4, 1, false },
    { "next beyond what is exact", 5, 9007199254740994.0, false },
    { "no next", 5, 9007199254740992.0, true },
    { "no reset", 6, 9007199254740992.0, true },
    { "a reset below 0", 6, -1, false },
    { "a reset below what is normal", 6, 5e-324, false },
    { "all units", 7, 5, true },
    { "more units than there are", 7, 6, false },
};

static void test_field(void **state)
{
    const struct field *row = unit_row(state);
    char bytes[ANSWER];
    ask_t ask;

    ask_init(&ask, "rate=5/s");
    const size_t len = answer_make(bytes, 1);

    assert_true(answer_read(&ask, bytes, len));
    answer_put(bytes, row->index, row->number);
    ask.charges[0].decision.reset = 77;
    assert_int_equal(answer_read(&ask, bytes, len), row->fits);
    assert_true(row->fits || ask.charges[0].decision.reset == 77);
}

static void test_length(void **state)
{
    char bytes[ANSWER];
    ask_t ask;

    (void)state;
    ask_init(&ask, "rate=5/s rate=50/min quota=5");
    const size_t len = answer_make(bytes, 3);

    for (size_t i = 0; i < sizeof(bytes); i++) {
        char *exact = malloc(i + 1); /* so that a sanitizer sees what is read behind it */

        memcpy(exact, bytes, i < len ? i : len);
        assert_int_equal(answer_read(&ask, exact, i), i == len);
        free(exact);
    }
}

/* Is it a decision that anything else can rely on? */
static void expect_possible(const rlp_charge_t *charge)
{
    const rlp_decision_t *d = &charge->decision;

    assert_in_range(d->verdict, RLP_ALLOW, RLP_NEVER);
    assert_true(d->wait >= 0 && d->wait <= charge->max_wait);
    assert_true(d->retry >= 0 && (d->retry > 0) == (d->verdict == RLP_DENY));
    assert_true(d->next >= 0 && d->reset >= 0);
    assert_true(d->late == 0 || (d->late <= RLP_CLOCK_SKEW && d->verdict <= RLP_WAIT));
    assert_true(d->remaining >= 0 && d->remaining <= 5);
}

static void test_garbage(void **state)
{
    uint64_t random = unit_seed();
    int read = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        char bytes[ANSWER];
        ask_t ask;

        if (i % 1000 == 0) {
            ask_init(&ask, "rate=5/s quota=5");
        }
        ask.charges[0].max_wait = (rlp_time_t)unit_below(&random, 5);
        ask.call.op = (script_op_t)unit_below(&random, 5);
        const size_t len = answer_make(bytes, 2);

        for (uint64_t n = unit_below(&random, 4); n > 0; n--) {
            if (unit_below(&random, 2)) {
                bytes[unit_below(&random, len)] = (char)unit_random(&random);
            } else {
                answer_put(bytes, 2 + (int)unit_below(&random, 12),
                           (double)unit_below(&random, 64));
            }
        }
        for (int k = 0; k < 2; k++) {
            ask.charges[k].decision = (rlp_decision_t){ .verdict = RLP_ALLOW };
        }
        if (answer_read(&ask, bytes, len)) {
            read++;
            expect_possible(&ask.charges[0]);
            expect_possible(&ask.charges[1]);
        }
    }
    assert_in_range(read, 1000, 150000);
}

/* --- calls */

static const struct refusal {
    const char *words;
    rlp_time_t max_wait;
    const char *expected; /* a part of it; NULL: none */
} refusals[] = {
    { "rate=1/52week burst=100", 0, NULL },
    { "rate=100000/s", INT64_C(86400) * RLP_SECOND, NULL },
    { "rate=100000/s algorithm=fixed-window", INT64_C(3600) * RLP_SECOND, NULL },
    { "rate=1000000000000/s", 0, NULL },
    { "rate=1000000000001/s", 0, "at most 1000000000000 in Redis, got 1000000000001" },
    { "rate=1/s burst=1000000000.001", 0, NULL },
    { "rate=1000000000000/s burst=1000000000000.001", 0, "at most 1000000000000 in Redis" },
    { "quota=1000000000001/day", 0, "at most 1000000000000 in Redis" },
    { "rate=1000000000000/s algorithm=fixed-window", 60 * RLP_SECOND, "a shorter delay" },
    { "rate=1000000000000/s algorithm=stepped-bucket", 60 * RLP_SECOND, "a shorter delay" },
    { "rate=8192/h algorithm=sliding-log", 0, NULL },
    { "concurrent=16384", 0, NULL },
    { "concurrent=16385", 0, "at most 16384 places in Redis, got concurrent=16385" },
};

static void test_refusal(void **state)
{
    static script_packet_t packet;
    const struct refusal *row = unit_row(state);
    ask_t ask;

    ask_init(&ask, row->words);
    ask.charges[0].max_wait = row->max_wait;
    const char *error = script_limit_error(ask.charges[0].limit, row->max_wait, unit_pool());

    assert_int_equal(script_pack(&packet, &ask.call, sha), row->expected == NULL);
    if (row->expected == NULL) {
        assert_null(error);
    } else {
        assert_non_null(error);
        assert_non_null(strstr(error, row->expected));
    }
}

/* An algorithm of somebody else has no script. */
static void test_stranger(void **state)
{
    static script_packet_t packet;
    static const rlp_algorithm_t stranger = { .name = "stranger" };
    ask_t ask;

    (void)state;
    ask_init(&ask, "rate=5/s");
    rlp_limit_t limit = *ask.charges[0].limit;

    limit.algorithm = &stranger;
    ask.charges[0].limit = &limit;
    assert_false(script_pack(&packet, &ask.call, sha));
    assert_string_equal(script_limit_error(&limit, 0, unit_pool()),
                        "expected an algorithm that has a script, got stranger");
}

static void test_packet(void **state)
{
    static script_packet_t packet;
    ask_t ask;
    size_t len;

    (void)state;
    ask_init(&ask, "rate=5/s quota=5/day concurrent=2");
    ask.call.n = RLP_ENTRIES_MAX;
    assert_true(script_pack(&packet, &ask.call, sha));
    assert_int_equal(packet.argc, 6);
    assert_string_equal(packet.argv[0], "EVALSHA");
    assert_ptr_equal(packet.argv[1], sha);
    assert_string_equal(packet.argv[2], "2");
    assert_int_equal(packet.lens[2], 1);
    assert_string_equal(packet.argv[3], "rlp:{x}:a");
    assert_string_equal(packet.argv[4], "rlp:{x}:b");
    assert_true(packet.lens[5] <= SCRIPT_ARGS_MAX);
    script_pack_text(&packet);
    assert_string_equal(packet.argv[0], "EVAL");
    assert_ptr_equal(packet.argv[1], script_text(&len));
    assert_int_equal(packet.lens[1], len);
    ask.call.n = 0;
    assert_false(script_pack(&packet, &ask.call, sha));
    ask.call.n = RLP_ENTRIES_MAX + 1;
    assert_false(script_pack(&packet, &ask.call, sha));
}

/* The largest call there can be stays within its room. */
static void test_room(void **state)
{
    static script_packet_t packet;
    ask_t ask;

    (void)state;
    ask_init(&ask, "rate=5/s");
    ask.call.n = RLP_ENTRIES_MAX;
    for (int i = 0; i < RLP_ENTRIES_MAX; i++) {
        ask.keys[i] = (script_key_t){ .bytes = apr_itoa(unit_pool(), i), .len = i < 10 ? 1 : 2 };
    }
    assert_true(script_pack(&packet, &ask.call, sha));
    assert_int_equal(packet.argc, SCRIPT_ARGC_MAX);
    assert_int_equal(packet.lens[packet.argc - 1], SCRIPT_ARGS_MAX);
    assert_string_equal(packet.argv[2], "64");
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(fields); i++) {
        unit_add_case("an answer", fields[i].what, test_field, &fields[i]);
    }
    for (size_t i = 0; i < UNIT_N(refusals); i++) {
        unit_add_case("a limit in Redis", refusals[i].words, test_refusal, &refusals[i]);
    }
    unit_add("an answer of any length", test_length, NULL);
    unit_add("an answer with any bytes", test_garbage, NULL);
    unit_add("a limit in Redis: an algorithm without a script", test_stranger, NULL);
    unit_add("a call", test_packet, NULL);
    unit_add("a call of 64 charges under 64 keys", test_room, NULL);
    return unit_run();
}
