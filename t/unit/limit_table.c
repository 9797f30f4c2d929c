/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is worked out from limits: their derived numbers, a host's share of them, the times that
 * clients are told; and the grammar at the borders of its numbers.
 */

#include "unit.h"

#include "algorithm/algorithms.h"

#include <apr_strings.h>

#include <string.h>

#define S RLP_SECOND

/* --- accepted up to here, refused from there on */

static const struct border {
    const char *id;
    const char *taken;
    const char *refused;
    const char *message;
} borders[] = {
    { "V-01", "rate=999999999999999/s algorithm=fixed-window", "rate=1000000000000000/s",
      "expected a count of at most 15 digits, got \"rate=1000000000000000/s\"" },
    { "V-10", "concurrent=1000000", "concurrent=1000001",
      "expected concurrent=N with a whole number from 1 to 1000000, got \"concurrent=1000001\"" },
    { "V-10", "concurrent=1", "concurrent=0",
      "expected concurrent=N with a whole number from 1 to 1000000, got \"concurrent=0\"" },
    { "V-16", "rate=1/day burst=36600", "rate=1/day burst=36600.001",
      "expected a burst that is full again within 100 years, got \"rate=1/day\"" },
    { "V-16", "rate=1/s burst=3162240000", "rate=1/s burst=3162240000.001",
      "expected a burst that is full again within 100 years, got \"rate=1/s\"" },
    { "V-16", "rate=100000/week burst=15250284.452", "rate=100000/week burst=15250284.453",
      "expected a burst of at most 15250284 with this period and token-bucket, got "
      "\"rate=100000/week\"" },
    { "V-16", "rate=1000000/3577ms burst=2578521676503.991",
      "rate=1000000/3577ms burst=2578521676503.992",
      "expected a burst of at most 2578521676503 with this period and token-bucket, got "
      "\"rate=1000000/3577ms\"" },
    { "V-06", "rate=1/s burst=2 initial=2", "rate=1/s burst=2 initial=2.001",
      "expected an initial= of at most the burst or the quota behind it, got \"rate=1/s\"" },
    { "V-02", "rate=1/s burst=.001", "rate=1/s burst=.000",
      "expected burst=N above 0, with at most three decimals, got \"burst=.000\"" },
    { "V-13", "rate=8192/s algorithm=sliding-log", "rate=8193/s algorithm=sliding-log",
      "expected sliding-log with COUNT of at most 8192, got \"rate=8193/s\"" },
    { "V-13", "rate=1/s bandwidth=2147482624/s", "rate=1/s bandwidth=2147483648/s",
      "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
      "\"bandwidth=2147483648/s\"" },
    { "V-13", "rate=1/s bandwidth=1K/s", "rate=1/s bandwidth=0K/s",
      "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
      "\"bandwidth=0K/s\"" },
    { "V-13", "rate=1/s bandwidth=2097151K/s", "rate=1/s bandwidth=2097152K/s",
      "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
      "\"bandwidth=2097152K/s\"" },
    { "V-13", "rate=1/s bandwidth=1024/s", "rate=1/s bandwidth=1/s",
      "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
      "\"bandwidth=1/s\"" },
    { "V-13", "rate=1/s", "rate=1/s bandwidth=/s",
      "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
      "\"bandwidth=/s\"" },
    { "V-13", "rate=1/s", "rate=1/s bandwidth=",
      "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
      "\"bandwidth=\"" },
    { "V-13", "rate=1/s burst=2 initial=1", "rate=1/s burst=2 initial=1 algorithm=fixed-window",
      "expected no burst= behind \"rate=1/s\": fixed-window has none" },
    { "V-13", "rate=1/s start=2020-01-01 algorithm=fixed-window",
      "rate=1/s initial=1 start=2020-01-01 algorithm=fixed-window",
      "expected no initial= behind \"rate=1/s\": fixed-window has none" },
    { "V-13", "rate=1/s initial=1 burst=2", "rate=1/s initial=1 start=2020-01-01",
      "expected no start= behind \"rate=1/s\": token-bucket has none" },
    { "V-13", "rate=1/s algorithm=fixed-window start=2020-01-01",
      "rate=1/s start=2020-01-01 initial=1 burst=2",
      "expected no start= behind \"rate=1/s\": token-bucket has none" },
    { "V-13", "concurrent=2 lease=1s", "rate=1/s concurrent=2 rate=1/s concurrent=2",
      "expected concurrent= once in a plan, got \"concurrent=2\"" },
    { "V-13", "rate=1/s then=a quota=1", "quota=1 then=a rate=1/s then=a",
      "expected then= once in a plan, got \"then=a\"" },
    { "V-13", "rate=1/s burst=2 rate=1/s burst=3", "rate=1/s burst=2 rate=1/s burst=3 burst=3",
      "expected burst= once behind \"rate=1/s\", got \"burst=3\"" },
    { "V-13", "rate=1/s burst=2 initial=1", "rate=1/s burst=2 initial=1 burst=3",
      "expected burst= once behind \"rate=1/s\", got \"burst=3\"" },
    { "V-13", "rate=1/s", "rate=1/s limit=10 windo=60",
      "expected rate=COUNT/PERIOD, quota=COUNT or concurrent=N with burst=, initial=, algorithm=, "
      "start= or lease= behind it, bandwidth= or then=, got \"limit=10\"" },
    { "V-13", "rate=1/s", "rate=1/s a/b=c",
      "expected rate=COUNT/PERIOD, quota=COUNT or concurrent=N with burst=, initial=, algorithm=, "
      "start= or lease= behind it, bandwidth= or then=, got \"a/b=c\"" },
    { "V-13", "rate=1/s", "rate=1/s lease",
      "expected rate=COUNT/PERIOD, quota=COUNT or concurrent=N with burst=, initial=, algorithm=, "
      "start= or lease= behind it, bandwidth= or then=, got \"lease\" (lease=?)" },
};

static void test_border(void **state)
{
    const struct border *row = unit_row(state);
    const rlp_plan_t *plan;
    const char *error = unit_parse(&plan, row->taken, NULL);

    assert_string_equal(error != NULL ? error : "", "");
    error = unit_parse(&plan, row->refused, NULL);
    assert_string_equal(error != NULL ? error : "taken", row->message);
}

/* A blank is no letter, and is not multiplied by one. */
static void test_blank(void **state)
{
    static const char *const words[] = { "rate=1/s", "bandwidth=16777216 /s" };
    const rlp_plan_source_t source = { .name = "test", .words = words, .n = 2 };
    rlp_plan_t *plan;

    (void)state;
    assert_string_equal(rlp_plan_parse(&plan, &source, unit_pool()),
                        "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and "
                        "below 2G, got \"bandwidth=16777216 /s\"");
}

/* --- derived */

static void test_derived(void **state)
{
    const rlp_plan_t *plan = unit_plan("rate=3/10s burst=5 quota=7 quota=0/day rate=7/min");
    const rlp_limit_t *rate = &plan->limits[0];

    (void)state;
    assert_int_equal(rate->price, 10000);
    assert_int_equal(rate->capacity, UINT64_C(50000000));
    assert_int_equal(rate->drain, 16666667); /* rounded up */
    assert_int_equal(plan->limits[3].drain, 60 * S);
    assert_int_equal(plan->limits[1].drain, 0);
    assert_int_equal(plan->limits[1].price, 0);
    assert_int_equal(plan->limits[2].drain, 0);
    assert_int_equal(rlp_limit_window(&unit_plan("rate=1000000/s burst=1")->limits[0]), 1);
    assert_int_equal(rate->requests, 5);
    assert_int_equal(plan->limits[1].requests, 7);
    assert_int_equal(plan->limits[2].requests, 1); /* none passes */
    assert_int_equal(unit_plan("rate=1/s burst=2.9")->limits[0].requests, 2);
    assert_int_equal(unit_plan("rate=1/s burst=0.9")->limits[0].requests, 1);
    assert_int_equal(unit_plan("quota=4294967294")->limits[0].requests, UINT32_MAX - 1);
    assert_int_equal(unit_plan("quota=4294967296")->limits[0].requests, UINT32_MAX);
    assert_int_equal(rate->state_size, 40);
    assert_int_equal(unit_plan("concurrent=3")->limits[0].state_size, 8 * RLP_OWNERS_USUAL);
    assert_int_equal(unit_plan("rate=3/s algorithm=sliding-log")->limits[0].state_size, 56);
    assert_int_equal(unit_plan("rate=1/s initial=1 burst=3")->limits[0].initial, RLP_UNIT);
    assert_int_equal(unit_plan("rate=1/s bandwidth=3M/s")->bandwidth, 3 * 1024 * 1024);
    assert_int_equal(unit_plan("rate=1/s bandwidth=3k/S")->bandwidth, 3 * 1024);
    assert_int_equal(unit_plan("rate=1/s bandwidth=1g/s")->bandwidth, 1024 * 1024 * 1024);
    assert_int_equal(unit_plan("rate=1/s bandwidth=2048/s")->bandwidth, 2048);
    assert_int_equal(unit_plan("rate=1/s")->bandwidth, 0);
}

/* Limits that are alike but for one thing; the ordinal counts those that are alike. */
static void test_ordinals(void **state)
{
    static const struct {
        const char *words;
        unsigned ordinals[4];
    } rows[] = {
        { "rate=1/s rate=2/s rate=3/min rate=3/s burst=9", { 0, 1, 0, 2 } },
        { "rate=1/s rate=1/s algorithm=leaky-bucket rate=1/s algorithm=leaky-bucket quota=1",
          { 0, 0, 1, 0 } },
        { "quota=1/day quota=2/day@utc quota=3/day@local quota=4/week", { 0, 1, 0, 0 } },
        { "rate=1/s algorithm=fixed-window rate=1/s algorithm=fixed-window start=2020-01-01 "
          "rate=2/s algorithm=fixed-window start=2020-01-01 quota=1",
          { 0, 0, 1, 0 } },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const rlp_plan_t *plan = unit_plan(rows[i].words);

        assert_int_equal(plan->n, 4);
        for (int k = 0; k < 4; k++) {
            assert_int_equal(plan->limits[k].ordinal, rows[i].ordinals[k]);
        }
    }
}

/* --- one host's share */

static void test_share(void **state)
{
    static const struct {
        const char *words;
        int64_t hosts;
        int64_t count;
        rlp_units_t burst;
        rlp_units_t initial;
        rlp_time_t drain;
    } rows[] = {
        { "rate=10/s burst=20", 1, 10, 20000, 20000, 2 * S },
        { "rate=10/s burst=.5", 1, 10, 500, 500, 50000 },
        { "rate=10/s burst=20", 0, 10, 20000, 20000, 2 * S },
        { "rate=10/s burst=20", 2, 5, 10000, 10000, 2 * S },
        { "rate=10/s burst=20", 3, 3, 6666, 6666, 2222000 },
        { "rate=10/s burst=20", 10, 1, 2000, 2000, 2 * S },
        { "rate=10/s burst=20", 20, 1, 1000, 1000, S },
        { "rate=10/s burst=20", 99, 1, 1000, 1000, S },
        { "rate=10/s burst=20 initial=9", 3, 3, 6666, 3000, 2222000 },
        { "rate=10/s burst=20 initial=0", 3, 3, 6666, 0, 2222000 },
        { "rate=7/3s burst=7", 2, 3, 3500, 3500, 3500000 },
        { "rate=9/s burst=9.5", 4, 2, 2375, 2375, 1187500 },
        { "rate=9/7ms burst=10", 3, 3, 3333, 3333, 7777 },
        { "quota=9", 4, 2, 2250, 2250, 0 },
        { "quota=0", 4, 0, 0, 0, 0 },
        { "concurrent=9", 4, 2, 2250, 2250, 0 },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        rlp_limit_t limit = unit_plan(rows[i].words)->limits[0];

        rlp_limit_share(&limit, rows[i].hosts);
        if (limit.count != rows[i].count || limit.burst != rows[i].burst ||
            limit.initial != rows[i].initial || limit.drain != rows[i].drain) {
            fail_msg("%s for %d: %d, %d, %d, %d", rows[i].words, (int)rows[i].hosts,
                     (int)limit.count, (int)limit.burst, (int)limit.initial, (int)limit.drain);
        }
        assert_int_equal(limit.capacity, (uint64_t)limit.burst * (uint64_t)limit.price);
        assert_int_equal(limit.requests, limit.burst < RLP_UNIT ? 1 : limit.burst / RLP_UNIT);
    }
}

/* --- what clients are told */

static void test_seconds(void **state)
{
    static const struct {
        rlp_time_t span;
        int64_t seconds;
    } rows[] = { { -5, 1 },    { 0, 1 },         { 1, 1 },           { S, 1 },      { S + 1, 2 },
                 { 2 * S, 2 }, { 2 * S + 1, 3 }, { 60 * S - 1, 60 }, { 60 * S, 60 } };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        assert_int_equal(rlp_seconds(rows[i].span), rows[i].seconds);
    }
}

/* The "t" of RateLimit. */
static const struct effective {
    const char *name;
    const char *words;
    int64_t remaining;
    rlp_time_t next;
    rlp_time_t reset;
    int64_t seconds;
} effectives[] = {
    { "nothing left: to the next unit", "rate=5/min", 0, 3 * S + 1, 60 * S, 4 },
    { "nothing left, and never", "quota=5", 0, RLP_TIME_NEVER, 9 * S, -1 },
    { "nothing left of a window", "rate=5/min algorithm=fixed-window", 0, 7 * S, 99 * S, 7 },
    { "the pace of the rate", "rate=5/min", 2, 0, 36 * S, 24 },
    { "one left", "rate=5/min", 1, 9 * S, 48 * S, 12 },
    { "rounded up", "rate=7/10s", 2, 0, S, 3 },
    { "a microsecond over", "rate=999999/s", 1000000, 0, S, 2 },
    { "as even as can be", "rate=999999/s", 999999, 0, S, 1 },
    { "as much as can be", "rate=999999999999999/ms burst=999999999999999.999",
      INT64_C(999999999999999), 0, S, 1 },
    { "the end of the window", "rate=5/min algorithm=fixed-window", 3, 0, 42 * S, 42 },
    { "a whole window", "rate=5/min algorithm=fixed-window", 3, 0, 60 * S, 60 },
    { "the end of this one, not of what it leaves", "rate=5/min algorithm=sliding-window", 3, 0,
      60 * S + 1, 1 },
    { "nor of what it leaves, rounded up", "rate=5/min algorithm=sliding-window", 3, 0, 61 * S + 1,
      2 },
    { "nor of two", "rate=5/min algorithm=sliding-window", 3, 0, 135 * S, 15 },
    { "a whole window where nothing is used", "rate=5/min algorithm=sliding-window", 5, 0, 0, 60 },
    { "nor of two whole ones", "rate=5/min algorithm=sliding-window", 3, 0, 120 * S, 60 },
    { "a day of the calendar may be longer", "quota=5/day", 3, 0, 90000 * S, 90000 },
    { "units that stay", "quota=5", 3, 0, RLP_TIME_NEVER, -1 },
    { "places have no rate", "concurrent=5", 3, 0, S, -1 },
    { "no place is left", "concurrent=5", 0, S, S, 1 },
};

static void test_effective(void **state)
{
    const struct effective *row = unit_row(state);
    const rlp_decision_t d = { .remaining = row->remaining,
                               .next = row->next,
                               .reset = row->reset };

    assert_int_equal(rlp_limit_effective(&unit_plan(row->words)->limits[0], &d), row->seconds);
}

/* Beyond 64 bits the sum is exact, too: a unit more than so many whole seconds. */
static void test_effective_wide(void **state)
{
    rlp_limit_t limit = unit_plan("rate=7/s")->limits[0];
    rlp_decision_t d = { .remaining = INT64_C(7000000001) };

    (void)state;
    limit.period = INT64_C(7000000001);
    assert_int_equal(rlp_limit_effective(&limit, &d), INT64_C(7000000002001));
    limit.period = d.remaining = INT64_C(7000000000);
    assert_int_equal(rlp_limit_effective(&limit, &d), INT64_C(7000000000000));
}

/* F-09: a start is not in the future; this moment is none. */
static void test_start(void **state)
{
    static const char *const words[] = { "rate=1/s", "algorithm=fixed-window",
                                         "start=2020-01-01T00:00:10Z" };
    rlp_plan_source_t source = { .name = "start", .words = words, .n = 3 };
    rlp_plan_t *plan;

    (void)state;
    source.wall = INT64_C(1577836810) * S;
    assert_null(rlp_plan_parse(&plan, &source, unit_pool()));
    assert_int_equal(plan->limits[0].start, source.wall);
    source.wall -= 1;
    assert_string_equal(rlp_plan_parse(&plan, &source, unit_pool()),
                        "expected a start that is not in the future, got "
                        "\"start=2020-01-01T00:00:10Z\"");
}

/* --- a table of algorithms of the caller's */

static void test_algorithms(void **state)
{
    static const rlp_algorithm_t *const own[] = { &rlp_leaky_bucket, &rlp_fixed_window, NULL };
    static const char *const words[] = { "rate=1/s", "algorithm=token-bucket" };
    const rlp_plan_source_t source = { .name = "own", .words = words, .n = 2, .algorithms = own };
    const rlp_plan_source_t first = { .name = "own", .words = words, .n = 1, .algorithms = own };
    rlp_plan_t *plan;

    (void)state;
    assert_null(rlp_plan_parse(&plan, &first, unit_pool()));
    assert_ptr_equal(plan->limits[0].algorithm, &rlp_leaky_bucket);
    assert_string_equal(rlp_plan_parse(&plan, &source, unit_pool()),
                        "expected algorithm=NAME with one of leaky-bucket, fixed-window, got "
                        "\"algorithm=token-bucket\" (leaky-bucket?)");
    static const rlp_algorithm_t single = { .name = "single", .state_size = 8, .count_max = 1 };
    static const rlp_algorithm_t *const singles[] = { &single, NULL };
    static const char *const rates[] = { "rate=1/s", "rate=2/s" };
    rlp_plan_source_t one = { .name = "one", .words = rates, .n = 1, .algorithms = singles };

    assert_null(rlp_plan_parse(&plan, &one, unit_pool()));
    one.words = rates + 1;
    assert_string_equal(rlp_plan_parse(&plan, &one, unit_pool()),
                        "expected single with COUNT of at most 1, got \"rate=2/s\"");
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(borders); i++) {
        unit_add_case(borders[i].id, borders[i].refused, test_border, &borders[i]);
    }
    unit_add("V-13: a size with a blank", test_blank, NULL);
    unit_add("what is worked out", test_derived, NULL);
    unit_add("V-14: limits that are alike", test_ordinals, NULL);
    unit_add("one host's share", test_share, NULL);
    unit_add("H-18: whole seconds", test_seconds, NULL);
    for (size_t i = 0; i < UNIT_N(effectives); i++) {
        unit_add_case("t", effectives[i].name, test_effective, &effectives[i]);
    }
    unit_add("t: beyond 64 bits", test_effective_wide, NULL);
    unit_add("F-09: a start of now", test_start, NULL);
    unit_add("algorithms of the caller's", test_algorithms, NULL);
    return unit_run();
}
