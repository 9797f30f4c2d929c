/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The grammar of limits: what is accepted and how it is understood, what is refused and with which
 * words. Its parts, and plans as a whole, are in grammar_plan.c.
 */

#include "unit.h"

#define DAY (86400 * RLP_SECOND)

/* --- accepted */

typedef struct {
    const char *id;
    const char *words; /* several rates, parted by spaces, that mean the same count and period */
    int64_t count;
    rlp_time_t period;
} rate_t;

static const rate_t rates[] = {
    { "G-01", "rate=5/second rate=5/sec rate=5/s rate=5/seconds rate=5/secs", 5, RLP_SECOND },
    { "G-02", "rate=10/minute rate=10/min rate=10/m rate=10/minutes rate=10/mins", 10,
      60 * RLP_SECOND },
    { "G-03", "rate=100/hour rate=100/h rate=100/hours", 100, 3600 * RLP_SECOND },
    { "G-04", "rate=1000/day rate=1000/d rate=1000/days", 1000, DAY },
    { "G-05", "rate=5/SECOND RATE=5/Sec Rate=5/S", 5, RLP_SECOND },
    { "G-12", "rate=5/2minutes rate=5/120s rate=5/2min rate=5/120000ms", 5, 120 * RLP_SECOND },
    { "G-12", "rate=100/week rate=100/7days rate=100/1weeks", 100, 7 * DAY },
    { "G-12", "rate=30/500ms", 30, RLP_SECOND / 2 },
    { "V-03", "rate=1/2s rate=1/2000ms", 1, 2 * RLP_SECOND },
    { "V-03", "rate=1/2200ms", 1, 2200000 },
    { "V-04", "rate=1/s rate=001/s", 1, RLP_SECOND },
    { "V-04", "rate=4/5s", 4, 5 * RLP_SECOND },
    { "V-01", "rate=100000000/day", 100000000, DAY },
    { "V-03", "rate=1/ms", 1, 1000 },
    { "V-03", "rate=1/3653days", 1, 3653 * DAY },
};

static void test_rate(void **state)
{
    const rate_t *row = unit_row(state);
    const rlp_plan_t *plan = unit_plan(row->words);

    for (int i = 0; i < plan->n; i++) {
        assert_int_equal(plan->limits[i].count, row->count);
        assert_int_equal(plan->limits[i].period, row->period);
        assert_int_equal(plan->limits[i].burst, row->count * RLP_UNIT);
        assert_int_equal(plan->limits[i].initial, row->count * RLP_UNIT);
        assert_int_equal(plan->limits[i].drain, row->period);
        assert_int_equal(plan->limits[i].ordinal, i);
        assert_string_equal(plan->limits[i].algorithm->name, "token-bucket");
    }
}

/* What is said of a limit, and in words. */
typedef struct {
    const char *id;
    const char *words;
    const char *algorithm;
    rlp_units_t burst;
    rlp_units_t initial;
    int64_t q; /* of RateLimit-Policy */
    int64_t w;
    const char *described;
} said_t;

static const said_t said[] = {
    { "V-01", "rate=10/min", "token-bucket", 10000, 10000, 10, 60,
      "10 at once, then 1 every 6 seconds" },
    { "V-01", "rate=1/s burst=2", "token-bucket", 2000, 2000, 2, 2,
      "2 at once, then 1 per second" },
    { "V-01", "rate=7/min burst=2.2", "token-bucket", 2200, 2200, 2, 19,
      "2.200 at once, then 7 per minute" },
    { "V-01", "rate=100/10s burst=.001", "token-bucket", 1, 1, 0, 1,
      "0.001 at once, then 100 every 10 seconds" },
    { "V-06", "rate=1/s burst=2 initial=0", "token-bucket", 2000, 0, 2, 2,
      "2 at once (0 at first), then 1 per second" },
    { "V-06", "rate=1/s burst=2 initial=.5", "token-bucket", 2000, 500, 2, 2,
      "2 at once (0.500 at first), then 1 per second" },
    { "V-06", "rate=1/s burst=2 initial=2", "token-bucket", 2000, 2000, 2, 2,
      "2 at once, then 1 per second" },
    { "V-06", "rate=4/s burst=8 initial=1", "token-bucket", 8000, 1000, 8, 2,
      "8 at once (1 at first), then 4 per second" },
    { "G-14", "rate=2/500ms burst=10 algorithm=stepped-bucket", "stepped-bucket", 10000, 10000, 10,
      3, "10 at once, then 2 more at the end of each period of 500 ms" },
    { "G-14", "rate=1000/day algorithm=STEPPED-BUCKET", "stepped-bucket", 1000000, 1000000, 1000,
      86400, "1 000 at once, then 1 000 more at the end of each day" },
    { "F-01", "rate=1234567/hour algorithm=fixed-window", "fixed-window", INT64_C(1234567000),
      INT64_C(1234567000), 1234567, 3600, "at most 1 234 567 in each hour" },
    { "F-01", "rate=2/90s algorithm=fixed-window", "fixed-window", 2000, 2000, 2, 90,
      "at most 2 in each window of 90 seconds" },
    { "V-12", "quota=1000", "quota", 1000000, 1000000, 1000, 0, "at most 1 000 ever" },
    { "Q-03", "quota=10 initial=3", "quota", 10000, 3000, 10, 0, "at most 10 ever (3 at first)" },
    { "P-09", "quota=0", "quota", 0, 0, 0, 0, "blocked" },
    { "P-09", "quota=0/day", "quota", 0, 0, 0, 0, "blocked" },
    { "Q-07", "quota=1000/day", "quota", 1000000, 1000000, 1000, 86400,
      "at most 1 000 a day (UTC)" },
    { "Q-07", "quota=1000/Days@utc", "quota", 1000000, 1000000, 1000, 86400,
      "at most 1 000 a day (UTC)" },
    { "Q-07", "quota=5/WEEK@LOCAL", "quota", 5000, 5000, 5, 604800,
      "at most 5 a week (local time)" },
    { "Q-07", "quota=5/weeks@UTC", "quota", 5000, 5000, 5, 604800, "at most 5 a week (UTC)" },
    { "Q-07", "QUOTA=7/month", "quota", 7000, 7000, 7, 2592000, "at most 7 a month (UTC)" },
    { "Q-07", "quota=7/years", "quota", 7000, 7000, 7, 31536000, "at most 7 a year (UTC)" },
    { "C-07", "concurrent=5", "concurrency", 5000, 5000, 5, 0, "at most 5 at the same time" },
    { "C-14", "concurrent=1000000", "concurrency", 1000000000, 1000000000, 1000000, 0,
      "at most 1 000 000 at the same time" },
    { "C-07", "concurrent=1 lease=60s", "concurrency", 1000, 1000, 1, 0,
      "at most 1 at the same time" },
};

static void test_said(void **state)
{
    const said_t *row = unit_row(state);
    const rlp_plan_t *plan = unit_plan(row->words);
    const rlp_limit_t *limit = &plan->limits[0];

    assert_int_equal(plan->n, 1);
    assert_string_equal(limit->algorithm->name, row->algorithm);
    assert_int_equal(limit->burst, row->burst);
    assert_int_equal(limit->initial, row->initial);
    assert_int_equal(rlp_limit_quota(limit), row->q);
    assert_int_equal(rlp_limit_window(limit), row->w);
    assert_string_equal(rlp_plan_describe(plan, unit_pool()), row->described);
}

/* --- refused */

typedef struct {
    const char *id;
    const char *words;
    const char *message; /* all of it */
} refused_t;

#define RATE "expected rate=COUNT/PERIOD with a whole number, such as rate=10/min, got "
#define WORD                                                                                      \
    "expected rate=COUNT/PERIOD, quota=COUNT or concurrent=N with burst=, initial=, algorithm=, " \
    "start= or lease= behind it, bandwidth= or then=, got "
#define SPAN "expected a span of time such as 500ms, 10s, 5min, hour, day or 2weeks, got "
#define ZERO                                                                                   \
    "expected a count above 0 (a slower rate takes a longer period, as in rate=4/5s; quota=0 " \
    "blocks), got "
#define NAMES                                                                          \
    "expected algorithm=NAME with one of token-bucket, stepped-bucket, leaky-bucket, " \
    "fixed-window, sliding-window, sliding-log, got "
#define BURST "expected burst=N above 0, with at most three decimals, got "
#define INITIAL "expected initial=N with at most three decimals, got "
#define START \
    "expected start=TIME such as 2026-01-31, 2026-01-31T06:00Z or 2026-01-31T06:00:00+02:00, got "
#define TEN_YEARS "expected a span of at most ten years, got "
#define UNITS                                                   \
    "expected day, week, month or year (for any other period, " \
    "rate=COUNT/PERIOD algorithm=fixed-window), got "
#define PLACES "expected concurrent=N with a whole number from 1 to 1000000, got "
#define SIZE "expected bandwidth=SIZE/s with K, M or G, in whole multiples of 1K and below 2G, got "
#define PLAN                                                                                \
    "expected a name of 1 to 64 letters, digits, \"_\", \".\" or \"-\" that begins with a " \
    "letter, "                                                                              \
    "got "

static const refused_t refused[] = {
    { "G-06", "rate=10 per minute", RATE "\"rate=10\"" },
    { "G-06", "10 per minute", WORD "\"10\"" },
    { "G-06", "rate=10m", RATE "\"rate=10m\"" },
    { "G-06", "rate=minute/10", RATE "\"rate=minute/10\"" },
    { "G-06", "rate=5", RATE "\"rate=5\"" },
    { "G-06", "rate=5/", RATE "\"rate=5/\"" },
    { "G-06", "rate=/s", RATE "\"rate=/s\"" },
    { "G-06", "rate=", RATE "\"rate=\"" },
    { "G-06", "rate=5//s", SPAN "\"/s\" in \"rate=5//s\"" },
    { "G-06", "rate=5/minute/2", SPAN "\"minute/2\" in \"rate=5/minute/2\"" },
    { "G-06", "5/minute", "expected rate=5/minute, got \"5/minute\"" },
    { "G-06", "minute/10", RATE "\"minute/10\"" },
    { "G-06", "/s", RATE "\"/s\"" },
    { "G-06", "5//s", SPAN "\"/s\" in \"5//s\"" },
    { "G-06", "5/minute/2", SPAN "\"minute/2\" in \"5/minute/2\"" },
    { "G-11", "5/fortnight", SPAN "\"fortnight\" in \"5/fortnight\"" },
    { "G-07", "0/s", ZERO "\"0/s\"" },
    { "G-12", "100/week", "expected rate=100/week, got \"100/week\"" },
    { "G-06", "10m", WORD "\"10m\"" },
    { "G-11", "rate=5/month", "expected quota=5/month, got \"rate=5/month\"" },
    { "G-11", "rate=5/Years", "expected quota=5/Years, got \"rate=5/Years\"" },
    { "G-11", "rate=5/day@UTC", "expected quota=5/day@UTC, got \"rate=5/day@UTC\"" },
    { "G-11", "5/month", "expected quota=5/month, got \"5/month\"" },
    { "G-11", "rate=5/month@nowhere", SPAN "\"month@nowhere\" in \"rate=5/month@nowhere\"" },
    { "G-07", "rate=0/s", ZERO "\"rate=0/s\"" },
    { "G-07", "rate=-1/s", RATE "\"rate=-1/s\"" },
    { "G-08", "rate=5.0/s", RATE "\"rate=5.0/s\"" },
    { "G-08", "rate=1e3/s", RATE "\"rate=1e3/s\"" },
    { "G-08", "rate=ten/minute", RATE "\"rate=ten/minute\"" },
    { "G-09", "rate=+5/s", RATE "\"rate=+5/s\"" },
    { "G-09", "rate=1_000/h", RATE "\"rate=1_000/h\"" },
    { "G-09", "rate=\xd9\xa5/s", RATE "\"rate=\xd9\xa5/s\"" },
    { "G-11", "rate=5/fortnight", SPAN "\"fortnight\" in \"rate=5/fortnight\"" },
    { "G-13", "limit=10 window=60", "expected rate=10/60s, got \"limit=10 window=60\"" },
    { "G-13", "limit=ten window=60", RATE "\"limit=ten window=60\"" },
    { "G-13", "limit=1.5 window=60", RATE "\"limit=1.5 window=60\"" },
    { "G-13", "limit=10 window=soon", SPAN "\"soon\" in \"limit=10 window=soon\"" },
    { "G-13", "limit=10 window=0", SPAN "\"0s\" in \"limit=10 window=0\"" },
    { "S-14", "limit=0 window=60", ZERO "\"limit=0 window=60\"" },
    { "S-14", "rate=0/60s algorithm=sliding-log", ZERO "\"rate=0/60s\"" },
    { "G-13", "window=60s limit=10", "expected rate=10/60s, got \"limit=10 window=60s\"" },
    { "V-01", "rate=1000000000000000/s",
      "expected a count of at most 15 digits, got \"rate=1000000000000000/s\"" },
    { "V-01", "quota=1000000000000000/day",
      "expected a count of at most 15 digits, got \"quota=1000000000000000/day\"" },
    { "V-01", "rate=1/s burst=1000000000000000",
      "expected a count of at most 15 digits, got \"burst=1000000000000000\"" },
    { "V-01", "rate=1/s initial=1000000000000000.5",
      "expected a count of at most 15 digits, got \"initial=1000000000000000.5\"" },
    { "V-02", "rate=1/s burst=-1", BURST "\"burst=-1\"" },
    { "V-02", "rate=1/s burst=0", BURST "\"burst=0\"" },
    { "V-02", "rate=1/s burst=0.000", BURST "\"burst=0.000\"" },
    { "V-02", "rate=1/s burst=many", BURST "\"burst=many\"" },
    { "V-02", "rate=1/s burst=", BURST "\"burst=\"" },
    { "V-02", "rate=1/s burst=1.0001", BURST "\"burst=1.0001\"" },
    { "V-02", "rate=1/s burst", WORD "\"burst\" (burst=?)" },
    { "V-02", "burst=5 rate=1/s", "expected rate=COUNT/PERIOD before it, got \"burst=5\"" },
    { "V-03", "rate=1/-1s", SPAN "\"-1s\" in \"rate=1/-1s\"" },
    { "V-03", "rate=1/1.5s", SPAN "\"1.5s\" in \"rate=1/1.5s\"" },
    { "V-03", "rate=1/soon", SPAN "\"soon\" in \"rate=1/soon\"" },
    { "V-03", "rate=1/11years", SPAN "\"11years\" in \"rate=1/11years\"" },
    { "V-03", "rate=1/3654days", TEN_YEARS "\"3654days\" in \"rate=1/3654days\"" },
    { "V-03", "rate=1/999999999999999weeks",
      TEN_YEARS "\"999999999999999weeks\" in \"rate=1/999999999999999weeks\"" },
    { "V-03", "rate=1/9999999999999999s",
      SPAN "\"9999999999999999s\" in \"rate=1/9999999999999999s\"" },
    { "P-10", "rate=1/0s", SPAN "\"0s\" in \"rate=1/0s\"" },
    { "V-04", "rate=.8/s", RATE "\"rate=.8/s\"" },
    { "V-06", "rate=1/s initial=-1", INITIAL "\"initial=-1\"" },
    { "V-06", "rate=1/s initial=some", INITIAL "\"initial=some\"" },
    { "V-06", "rate=1/s initial=1.001",
      "expected an initial= of at most the burst or the quota behind it, got \"rate=1/s\"" },
    { "V-06", "quota=3 initial=4 rate=1/s",
      "expected an initial= of at most the burst or the quota behind it, got \"quota=3\"" },
    { "V-13", "rate=1/s brust=2", WORD "\"brust=2\" (burst=?)" },
    { "V-13", "rate=1/s burst=1 burst=2",
      "expected burst= once behind \"rate=1/s\", got \"burst=2\"" },
    { "V-13", "rate=1/s algorithm=fixed-window algorithm=token-bucket",
      "expected algorithm= once behind \"rate=1/s\", got \"algorithm=token-bucket\"" },
    { "V-13", "rat=1/s", WORD "\"rat=1/s\" (rate=?)" },
    { "V-13", "color=red", WORD "\"color=red\"" },
    { "V-13", "rate=1/s algorithm=token-buckte",
      NAMES "\"algorithm=token-buckte\" (token-bucket?)" },
    { "V-13", "rate=1/s algorithm=magic", NAMES "\"algorithm=magic\"" },
    { "V-13", "rate=1/s algorithm=quota", NAMES "\"algorithm=quota\"" },
    { "V-13", "quota=5 algorithm=token-bucket",
      "expected algorithm= after a rate=, not after a quota=, got \"algorithm=token-bucket\"" },
    { "V-13", "rate=1/s algorithm=fixed-window burst=2",
      "expected no burst= behind \"rate=1/s\": fixed-window has none" },
    { "V-13", "rate=1/s initial=1 algorithm=fixed-window",
      "expected no initial= behind \"rate=1/s\": fixed-window has none" },
    { "V-13", "rate=1/s start=2020-01-01",
      "expected no start= behind \"rate=1/s\": token-bucket has none" },
    { "F-11", "quota=5 start=2020-01-01", "expected no start= behind \"quota=5\": quota has none" },
    { "F-11", "quota=5/day start=2020-01-01",
      "expected no start= behind \"quota=5/day\": quota has none" },
    { "Q-03", "quota=5/day initial=2",
      "expected no initial= behind \"quota=5/day\": only a quota that is never renewed has one" },
    { "V-13", "quota=5/day algorithm=fixed-window",
      "expected algorithm= after a rate=, not after a quota=, got \"algorithm=fixed-window\"" },
    { "V-13", "quota=5 burst=2", "expected no burst= behind \"quota=5\": quota has none" },
    { "Q-05", "quota=-1",
      "expected quota=COUNT with a whole number, 0 to block, got \"quota=-1\"" },
    { "Q-05", "quota=", "expected quota=COUNT with a whole number, 0 to block, got \"quota=\"" },
    { "Q-05", "quota=/day",
      "expected quota=COUNT with a whole number, 0 to block, got \"quota=/day\"" },
    { "Q-05", "quota=5day",
      "expected quota=COUNT with a whole number, 0 to block, got \"quota=5day\"" },
    { "Q-05", "quota=5/", UNITS "\"\" in \"quota=5/\"" },
    { "Q-05", "quota=5/0day", UNITS "\"0day\" in \"quota=5/0day\"" },
    { "Q-05", "quota=10/2days", UNITS "\"2days\" in \"quota=10/2days\"" },
    { "Q-05", "quota=5/fortnight", UNITS "\"fortnight\" in \"quota=5/fortnight\"" },
    { "Q-05", "quota=5/d@UTC", UNITS "\"d@UTC\" in \"quota=5/d@UTC\"" },
    { "Q-05", "quota=5/dayss", UNITS "\"dayss\" in \"quota=5/dayss\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=2999-01-01",
      "expected a start that is not in the future, got \"start=2999-01-01\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=noon", START "\"start=noon\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=2020-01-01T06:00+24:00",
      START "\"start=2020-01-01T06:00+24:00\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=2020-01-01T06:00-99:00",
      START "\"start=2020-01-01T06:00-99:00\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=2020-13-01", START "\"start=2020-13-01\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=2020-02-30", START "\"start=2020-02-30\"" },
    { "F-09", "rate=1/s algorithm=fixed-window start=2020-01-01T00:00:00",
      START "\"start=2020-01-01T00:00:00\"" },
    { "V-16", "rate=1/day burst=36601",
      "expected a burst that is full again within 100 years, got \"rate=1/day\"" },
    { "V-10", "concurrent=2.2", PLACES "\"concurrent=2.2\"" },
    { "V-10", "concurrent=0", PLACES "\"concurrent=0\"" },
    { "V-10", "concurrent=-1", PLACES "\"concurrent=-1\"" },
    { "V-10", "concurrent=", PLACES "\"concurrent=\"" },
    { "V-10", "concurrent=few", PLACES "\"concurrent=few\"" },
    { "C-14", "concurrent=1000001", PLACES "\"concurrent=1000001\"" },
    { "V-10", "concurrent=2 concurrent=3",
      "expected concurrent= once in a plan, got \"concurrent=3\"" },
    { "V-13", "concurrent=2 burst=3",
      "expected no burst= behind \"concurrent=2\": concurrency has none" },
    { "V-13", "concurrent=2 initial=1",
      "expected no initial= behind \"concurrent=2\": concurrency has none" },
    { "V-13", "concurrent=2 algorithm=token-bucket",
      "expected algorithm= after a rate=, not after a concurrent=, got "
      "\"algorithm=token-bucket\"" },
    { "V-13", "rate=1/s algorithm=concurrency", NAMES "\"algorithm=concurrency\"" },
    { "V-13", "lease=60s", "expected concurrent=N before it, got \"lease=60s\"" },
    { "V-13", "concurrent=2 rate=1/s lease=60s",
      "expected concurrent=N before it, got \"lease=60s\"" },
    { "V-13", "concurrent=2 lease=60s lease=61s",
      "expected lease= once behind \"concurrent=2\", got \"lease=61s\"" },
    { "V-13", "concurrent=2 lease=60", SPAN "\"60\" in \"lease=60\"" },
    { "C-09", "concurrent=2 lease=999ms",
      "expected lease=PERIOD of at least 1s, so that it can be renewed, got \"lease=999ms\"" },
    { "V-13", "bandwidth=1M/s",
      "expected a rate=, quota= or concurrent= beside bandwidth=, got none" },
    { "V-13", "rate=1/s bandwidth=1M/s bandwidth=2M/s",
      "expected bandwidth= once in a plan, got \"bandwidth=2M/s\"" },
    { "V-13", "rate=1/s bandwidth=1M", SIZE "\"bandwidth=1M\"" },
    { "V-13", "rate=1/s bandwidth=1M/min", SIZE "\"bandwidth=1M/min\"" },
    { "V-13", "rate=1/s bandwidth=1T/s", SIZE "\"bandwidth=1T/s\"" },
    { "V-13", "rate=1/s bandwidth=1.5M/s", SIZE "\"bandwidth=1.5M/s\"" },
    { "V-13", "rate=1/s bandwidth=M/s", SIZE "\"bandwidth=M/s\"" },
    { "V-13", "rate=1/s bandwidth=0/s", SIZE "\"bandwidth=0/s\"" },
    { "V-13", "rate=1/s bandwidth=1000/s", SIZE "\"bandwidth=1000/s\"" },
    { "V-13", "rate=1/s bandwidth=2G/s", SIZE "\"bandwidth=2G/s\"" },
    { "V-13", "rate=1/s bandwidth=999999999999999G/s", SIZE "\"bandwidth=999999999999999G/s\"" },
    { "V-13", "then=slow", "expected a quota= beside then=, got \"then=slow\"" },
    { "V-13", "rate=1/s then=slow", "expected a quota= beside then=, got \"then=slow\"" },
    { "V-11", "quota=5 then=", PLAN "\"\" in \"then=\"" },
    { "V-11", "quota=5 then=9x", PLAN "\"9x\" in \"then=9x\"" },
    { "V-13", "quota=5 then=a then=b", "expected then= once in a plan, got \"then=b\"" },
    { "V-10", "rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=1/s rate=2/s",
      "expected at most 8 limits in one plan, got \"rate=2/s\"" },
    { "V-11", "", "expected a limit, such as rate=10/min, got none" },
};

static void test_refused(void **state)
{
    const refused_t *row = unit_row(state);
    const rlp_plan_t *plan;
    const char *message = unit_parse(&plan, row->words, NULL);

    assert_non_null(message);
    assert_string_equal(message, row->message);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(rates); i++) {
        unit_add_case(rates[i].id, rates[i].words, test_rate, &rates[i]);
    }
    for (size_t i = 0; i < UNIT_N(said); i++) {
        unit_add_case(said[i].id, said[i].words, test_said, &said[i]);
    }
    for (size_t i = 0; i < UNIT_N(refused); i++) {
        unit_add_case(refused[i].id, refused[i].words, test_refused, &refused[i]);
    }
    return unit_run();
}
