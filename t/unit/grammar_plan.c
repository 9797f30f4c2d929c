/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the grammar of limits is made of (spans of time, units, names, words), and what a plan is as
 * a whole: what it inherits, and which counters are the same.
 */

#include "unit.h"

#include <apr_strings.h>

#include <string.h>

#define DAY (86400 * RLP_SECOND)

/* --- the small readers */

typedef struct {
    const char *text;
    int64_t value; /* -1: refused */
} reading_t;

static const reading_t durations[] = {
    { "ms", 1000 },
    { "250ms", 250000 },
    { "s", RLP_SECOND },
    { "10S", 10 * RLP_SECOND },
    { "day", DAY },
    { "2weeks", 14 * DAY },
    { "01h", 3600 * RLP_SECOND },
    { "", -1 },
    { "10", -1 },
    { "0ms", -1 },
    { "msec", -1 },
    { "hs", -1 },
    { "10 s", -1 },
    { "s10", -1 },
    { "month", -1 },
    { "99999999999999999999s", -1 },
};

static void test_durations(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(durations); i++) {
        rlp_time_t duration = -1;
        const char *error = rlp_duration_parse(&duration, durations[i].text, unit_pool());

        assert_int_equal(error == NULL ? duration : -1, durations[i].value);
    }
}

static const reading_t units[] = {
    { "0", 0 },
    { "1", 1000 },
    { ".5", 500 },
    { "0.001", 1 },
    { "2.25", 2250 },
    { "007", 7000 },
    { "", -1 },
    { ".", -1 },
    { "1.", -1 },
    { "1.0000", -1 },
    { "-1", -1 },
    { "+1", -1 },
    { "1e3", -1 },
    { "1 ", -1 },
    { "0x1", -1 },
    { "1000000000000000", -1 },
    { "999999999999999.999", INT64_C(999999999999999999) },
};

static void test_units(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(units); i++) {
        rlp_units_t value = -1;
        const char *error = rlp_units_parse(&value, units[i].text, unit_pool());

        assert_int_equal(error == NULL ? value : -1, units[i].value);
    }
}

static void test_names(void **state)
{
    static const char *const good[] = { "a", "Free", "pro-2.5_x" };
    static const char *const bad[] = { "", "1a", "-a", "a b", "a/b", "a:b", "a\n", "\xc3\xa9" };
    char longest[66] = { 0 };

    (void)state;
    memset(longest, 'x', 65);
    assert_non_null(rlp_name_check(longest, unit_pool()));
    longest[64] = '\0';
    assert_null(rlp_name_check(longest, unit_pool()));
    for (size_t i = 0; i < UNIT_N(good); i++) {
        assert_null(rlp_name_check(good[i], unit_pool()));
    }
    for (size_t i = 0; i < UNIT_N(bad); i++) {
        assert_non_null(strstr(rlp_name_check(bad[i], unit_pool()), bad[i]));
    }
}

static void test_nearest(void **state)
{
    static const char *const known[] = { "free", "pro", "enterprise", NULL };
    static const struct {
        const char *word;
        const char *nearest;
    } rows[] = {
        { "fre", "free" }, { "PRO", "pro" },          { "enterprize", "enterprise" },
        { "porn", "pro" }, { "unlimited", NULL },     { "", NULL },
        { "pro", NULL },   { "Enter", "enterprise" }, { "en", NULL },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const char *nearest = rlp_nearest(rows[i].word, known);

        if (rows[i].nearest == NULL) {
            assert_null(nearest);
        } else {
            assert_non_null(nearest);
            assert_string_equal(nearest, rows[i].nearest);
        }
    }
}

static void test_words(void **state)
{
    static const struct {
        const char *word;
        bool limit;
    } rows[] = {
        { "rate=10/min", true },    { "RATE=", true },        { "quota=5", true },
        { "lease=60s", true },      { "concurrent=2", true }, { "then=slow", true },
        { "Bandwidth=1M/s", true }, { "then", false },        { "rate", false },
        { "rates=", false },        { "key=ip", false },      { "", false },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        assert_int_equal(rlp_limit_word(rows[i].word), rows[i].limit);
    }
}

/* --- plans */

/* like=: a limit of the same signature replaces, the others stay. */
static void test_like(void **state)
{
    const rlp_plan_t *base = unit_plan("rate=10/min rate=1/s burst=5 quota=1000");
    const rlp_plan_t *plan;
    static const struct {
        const char *words;
        const char *described;
    } rows[] = {
        { "rate=100/min", "100 at once, then 100 per minute; 5 at once, then 1 per second; "
                          "at most 1 000 ever" },
        { "quota=0", "blocked; 10 at once, then 1 every 6 seconds; 5 at once, then 1 per second" },
        { "rate=7/h", "7 at once, then 7 per hour; 10 at once, then 1 every 6 seconds; "
                      "5 at once, then 1 per second; at most 1 000 ever" },
        { "", "10 at once, then 1 every 6 seconds; 5 at once, then 1 per second; "
              "at most 1 000 ever" },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        assert_null(unit_parse(&plan, rows[i].words, base));
        assert_string_equal(rlp_plan_describe(plan, unit_pool()), rows[i].described);
    }
    base = unit_plan("rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s");
    assert_string_equal(unit_parse(&plan, "rate=1/h", base),
                        "expected at most 8 limits in one plan, with those of \"test\"");
}

/* What is said of the whole plan is inherited like a limit. */
static void test_like_whole(void **state)
{
    const rlp_plan_t *base =
        unit_plan("bandwidth=512k/s concurrent=3 lease=2min then=slow quota=9/day");
    static const struct {
        const char *words;
        int64_t bandwidth;
        const char *then;
        const char *described;
    } rows[] = {
        { "", 524288, "slow",
          "at most 3 at the same time; at most 9 a day (UTC); beyond the quota as slow; "
          "512 KiB per second for each response" },
        { "then=slower concurrent=5 quota=8/day@utc bandwidth=2097151K/s", INT64_C(2147482624),
          "slower",
          "at most 5 at the same time; at most 8 a day (UTC); beyond the quota as slower; "
          "2 097 151 KiB per second for each response" },
        { "quota=8/day@local bandwidth=1024/s", 1024, "slow",
          "at most 8 a day (local time); at most 3 at the same time; at most 9 a day (UTC); "
          "beyond the quota as slow; 1 KiB per second for each response" },
        { "rate=1/s bandwidth=1G/s burst=2", 1073741824, "slow",
          "2 at once, then 1 per second; at most 3 at the same time; at most 9 a day (UTC); "
          "beyond the quota as slow; 1 048 576 KiB per second for each response" },
    };

    (void)state;
    assert_int_equal(base->limits[0].lease, 120 * RLP_SECOND);
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const rlp_plan_t *plan;

        assert_null(unit_parse(&plan, rows[i].words, base));
        assert_int_equal(plan->bandwidth, rows[i].bandwidth);
        assert_string_equal(plan->then, rows[i].then);
        assert_string_equal(rlp_plan_describe(plan, unit_pool()), rows[i].described);
    }
    assert_null(unit_plan("rate=1/s")->then);
    assert_int_equal(unit_plan("rate=1/s")->bandwidth, 0);
}

/* C-14: one word of state for each process that may hold places. */
static void test_owners(void **state)
{
    const rlp_plan_t *plan = unit_plan("rate=1/s concurrent=10000");
    rlp_plan_t copy = *plan;

    (void)state;
    assert_int_equal(plan->limits[1].state_size, RLP_OWNERS_USUAL * sizeof(rlp_hold_t));
    rlp_plan_owners(&copy, 400);
    assert_int_equal(copy.limits[0].state_size, plan->limits[0].state_size);
    assert_int_equal(copy.limits[1].state_size, 400 * sizeof(rlp_hold_t));
}

static void test_start(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {
        { "2026-01-31", 1769817600 },
        { "2026-01-31T06:00Z", 1769839200 },
        { "2026-01-31T06:00:00+02:00", 1769832000 },
        { "2026-01-31T06:00:07-0130", 1769844607 },
        { "1969-12-31", -86400 },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const char *words =
            apr_pstrcat(unit_pool(), "rate=5/min algorithm=fixed-window start=", rows[i].text,
                        NULL);

        assert_int_equal(unit_plan(words)->limits[0].start, rows[i].seconds * RLP_SECOND);
    }
}

/* The signature of the first limit, and of the last, of these words. */
static uint64_t signature(const char *scope, const char *plan, const char *words, bool last)
{
    const rlp_plan_t *parsed = unit_plan(words);

    return rlp_signature(scope, plan, &parsed->limits[last ? parsed->n - 1 : 0]);
}

static void test_signature(void **state)
{
    const uint64_t own = signature("api", NULL, "rate=10/min", false);
    static const struct {
        const char *scope;
        const char *plan;
        const char *words;
        bool last;
        bool same;
    } rows[] = {
        { "api", NULL, "rate=100/min burst=200 initial=3", false, true }, /* P-06 carry */
        { "api", NULL, "rate=10/h rate=10/min", true, true },
        { "api", NULL, "rate=10/min rate=20/min", true, false }, /* sustained and peak */
        { "api", NULL, "rate=10/h", false, false },
        { "api", NULL, "rate=10/min algorithm=fixed-window", false, false },
        { "api", "pro", "rate=10/min", false, false }, /* P-07 reset */
        { "apis", NULL, "rate=10/min", false, false },
        { "api@host", NULL, "rate=10/min", false, false },
        { "api", NULL, "concurrent=10", false, false },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const uint64_t other = signature(rows[i].scope, rows[i].plan, rows[i].words, rows[i].last);

        assert_int_equal(other == own, rows[i].same);
    }
    /* the same on every host and after every upgrade */
    assert_true(own == UINT64_C(0xc46352429614ade5));
}

/* Kinds of counters: those of one line are one, those of different lines are not. */
static void test_signature_kinds(void **state)
{
    static const char *const kinds[][2] = {
        { "quota=5", "quota=6 initial=1" },
        { "quota=5/day", "quota=6/days@utc" },
        { "quota=5/day@local", "quota=6/day@LOCAL" },
        { "quota=5/week", "quota=6/week" },
        { "quota=5/week@local", "quota=6/week@local" },
        { "quota=5/month", "quota=6/month" },
        { "quota=5/year", "quota=6/year" },
        { "concurrent=5", "concurrent=6 lease=1s" },
        { "rate=5/day algorithm=fixed-window", "rate=6/24h algorithm=fixed-window" },
        { "rate=5/h algorithm=fixed-window",
          "rate=6/h algorithm=fixed-window start=1970-01-01T01:00+01:00" },
        { "rate=5/h algorithm=stepped-bucket", "rate=6/h algorithm=stepped-bucket" },
        { "rate=5/h algorithm=stepped-bucket start=1970-01-01",
          "rate=6/h algorithm=stepped-bucket start=1970-01-01T01:00+01:00" },
    };
    uint64_t of[UNIT_N(kinds)];

    (void)state;
    for (size_t i = 0; i < UNIT_N(kinds); i++) {
        of[i] = signature("api", NULL, kinds[i][0], false);
        assert_true(of[i] == signature("api", NULL, kinds[i][1], false));
        for (size_t k = 0; k < i; k++) {
            assert_true(of[i] != of[k]);
        }
    }
    /* two of one plan that are otherwise equal */
    assert_true(signature("api", NULL, "quota=5/day quota=6/day", true) != of[1]);
    assert_true(signature("api", NULL, "quota=5/day@local quota=6/day", true) == of[1]);
}

/* A table of the caller's is all that algorithm= knows, and its first is the default. */
static void test_table(void **state)
{
    static const rlp_algorithm_t strange = { .name = "strange", .state_size = 16 };
    const rlp_algorithm_t *const table[] = { &strange, rlp_algorithms[0], NULL };
    const char *words[] = { "rate=5/min", "rate=10/h", "algorithm=Token-Bucket", "rate=1/s",
                            "algorithm=strangr" };
    rlp_plan_source_t source = { .name = "test", .words = words, .n = 3, .algorithms = table };
    rlp_plan_t *plan = NULL;

    (void)state;
    assert_null(rlp_plan_parse(&plan, &source, unit_pool()));
    assert_ptr_equal(plan->limits[0].algorithm, &strange);
    assert_int_equal(plan->limits[0].state_size, 16);
    assert_ptr_equal(plan->limits[1].algorithm, rlp_algorithms[0]);
    assert_string_equal(rlp_plan_describe(plan, unit_pool()),
                        "5 each minute, burst 5, as strange counts; 10 at once, then 1 every 6 "
                        "minutes");
    source.n = 5;
    assert_string_equal(rlp_plan_parse(&plan, &source, unit_pool()),
                        "expected algorithm=NAME with one of strange, token-bucket, got "
                        "\"algorithm=strangr\" (strange?)");
}

int main(void)
{
    unit_add("V-03: spans of time", test_durations, NULL);
    unit_add("V-01: units with three decimals", test_units, NULL);
    unit_add("V-11: names", test_names, NULL);
    unit_add("V-13: the nearest word", test_nearest, NULL);
    unit_add("V-13: words of limits", test_words, NULL);
    unit_add("V-13: a table of algorithms", test_table, NULL);
    unit_add("P-06: like= inherits", test_like, NULL);
    unit_add("P-06: like= inherits bandwidth= and then=", test_like_whole, NULL);
    unit_add("C-14: owners", test_owners, NULL);
    unit_add("F-10: start=", test_start, NULL);
    unit_add("P-06 P-07: the signature of a counter", test_signature, NULL);
    unit_add("P-06 F-10: the signatures of kinds", test_signature_kinds, NULL);
    return unit_run();
}
