/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a state keeps of another limit: its mark, and what becomes of it when units are charged or
 * given back.
 */

#include "algorithm/second.h"
#include "unit.h"

/* --- marks */

/* The next number above, or below, that has 26 binary digits and noughts. */
static uint64_t rounded(uint64_t number, bool up)
{
    uint64_t power = 1;

    while (number / power >= UINT64_C(1) << 26) {
        power *= 2;
    }
    return (number / power + (up && number % power != 0)) * power;
}

static void check_mark(int64_t burst, int64_t count)
{
    const uint64_t mark = second_mark(burst, count);

    assert_int_equal(second_burst(mark), rounded((uint64_t)burst, true));
    assert_int_equal(second_count(mark), rounded((uint64_t)count, false));
    assert_int_equal(mark & SECOND_SPARE, 0);
    assert_true(second_sound(mark));
}

/* What a mark tells of a limit is that, or next to it to the client's disadvantage. */
static void test_marks(void **state)
{
    const int64_t bursts = 2 * RLP_UNITS_MAX, counts = RLP_UNITS_MAX / RLP_UNIT;

    (void)state;
    for (int64_t power = 4; power <= bursts; power *= 2) {
        for (int64_t number = power - 3; number <= power + 3; number++) {
            check_mark(number, 3);
            check_mark(7, number < counts ? number : counts);
        }
    }
    check_mark(RLP_UNITS_MAX, counts);
}

/* Limits have the same mark where the digits do not tell them apart. */
static void test_same(void **state)
{
    const int64_t large = INT64_C(1) << 40;
    const int64_t digit = INT64_C(1) << 15;

    (void)state;
    assert_true(second_mark(7, 9) != second_mark(7, 10));
    assert_true(second_mark(7, 9) != second_mark(8, 9));
    assert_true(second_mark(large + 1, 9) == second_mark(large + digit, 9));
    assert_true(second_mark(large + 1, 9) != second_mark(large, 9));
    assert_true(second_mark(7, large) == second_mark(7, large + digit - 1));
    assert_true(second_mark(7, large) != second_mark(7, large + digit));
}

/* Digits in the upper bits of a half, the power of two in the lower six. */
static uint64_t half(uint64_t digits, uint64_t power)
{
    return digits << 6 | power;
}

static void test_sound(void **state)
{
    const uint64_t good = half(7, 0);

    (void)state;
    assert_true(second_sound(good << 32 | good));
    assert_false(second_sound(0));
    assert_false(second_sound(good));
    assert_false(second_sound(good << 32));
    assert_false(second_sound(good << 32 | half(0, 3)));
    assert_false(second_sound(half(0, 3) << 32 | good));
    assert_false(second_sound(good << 32 | good | SECOND_SPARE));
    assert_true(second_sound(good << 32 | half(1, 0)));
    assert_true(second_sound(half(1, 0) << 32 | half(1, 0)));
    /* counts below 2^50, bursts to twice 10^18: no power that a number of 64 bits cannot have */
    assert_true(second_sound(good << 32 | half(1, 31)));
    assert_true(second_sound(good << 32 | half((1 << 26) - 1, 23)));
    assert_false(second_sound(good << 32 | half((1 << 26) - 1, 24)));
    assert_true(second_sound(half(UINT64_C(1999999999999999998) >> 38, 38) << 32 | good));
    assert_false(second_sound(half((UINT64_C(1999999999999999998) >> 38) + 1, 38) << 32 | good));
    assert_false(second_sound(half(1, 39) << 32 | good));
    assert_false(second_sound(half(1, 63) << 32 | good));
    assert_int_equal(second_count(good << 32), 1);
    assert_int_equal(second_burst(half(3, 38) << 32), INT64_C(3) << 38);
    assert_int_equal(second_burst(half(3, 39) << 32), 0);
}

static void test_sound_second(void **state)
{
    const uint64_t mark = second_mark(7000, 3);
    const struct {
        second_t second;
        bool sound;
    } rows[] = {
        { { 0, 0 }, true },
        { { 0, 1 }, false },
        { { SECOND_CUT, 0 }, false },
        { { mark, 0 }, true },
        { { mark | SECOND_CUT, 7 }, true },
        { { mark, -1 }, false },
        { { mark, INT64_C(1) << 62 }, true },
        { { mark, (INT64_C(1) << 62) + 1 }, false },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        assert_int_equal(second_is_sound(&rows[i].second), rows[i].sound);
    }
}

/* --- buckets of credit */

/* Ten a second, up to twenty: in 2 s nothing is used. In credit a unit is a second in microseconds,
   of which the limit earns ten in each. */
#define WORDS "rate=10/s burst=20"
#define AT (1000 * RLP_SECOND)
#define MS (RLP_SECOND / 1000)
#define CREDIT UINT64_C(1000000)

static const rlp_limit_t *limit_of(const char *words)
{
    return &unit_plan(words)->limits[0];
}

static void test_span(void **state)
{
    const uint64_t mark = second_mark(7000, 3);
    const second_wide_t longest = (second_wide_t)SECOND_MAX * 3;

    (void)state;
    assert_int_equal(second_span(mark, 0, true), 0);
    assert_int_equal(second_span(mark, 9, true), 3);
    assert_int_equal(second_span(mark, 10, true), 4);
    assert_int_equal(second_span(mark, 11, false), 3);
    assert_int_equal(second_span(mark, 12, false), 4);
    assert_int_equal(second_span(mark, longest - 1, false), SECOND_MAX - 1);
    assert_int_equal(second_span(mark, longest, false), SECOND_MAX);
    assert_int_equal(second_span(mark, longest * 4, true), SECOND_MAX);
}

/* A state under another limit; times are from AT on. */
typedef struct {
    const char *what;
    const char *second; /* the limit that is second */
    bool cut;
    rlp_time_t full; /* of that */
    uint64_t used;   /* in credit, under rate=5/s burst=8 */
    uint64_t most;
    uint64_t turned; /* under WORDS */
    rlp_time_t before;
    bool before_cut;
} turn_t;

static const turn_t turns[] = {
    { "a new limit", NULL, false, 0, 3 * CREDIT, 4 * CREDIT, 3 * CREDIT, 600 * MS, false },
    { "all of it", NULL, false, 0, 4 * CREDIT, 4 * CREDIT, 4 * CREDIT, 800 * MS, false },
    { "more", NULL, false, 0, 4 * CREDIT + 1, 4 * CREDIT, 4 * CREDIT, 800 * MS + 1, true },
    { "a third", "rate=9/s burst=20", true, 9, CREDIT, 4 * CREDIT, CREDIT, 200 * MS, true },
    { "another third", "rate=10/s burst=21", false, 9, CREDIT, 4 * CREDIT, CREDIT, 200 * MS,
      false },
    { "known", WORDS, false, 700 * MS, CREDIT, 4 * CREDIT, 7 * CREDIT, 200 * MS, false },
    { "known and cut", WORDS, true, 700 * MS, CREDIT, 4 * CREDIT, 7 * CREDIT, 200 * MS, true },
    { "known, unused", WORDS, false, 0, CREDIT, 4 * CREDIT, 0, 200 * MS, false },
    { "known, unused for long", WORDS, false, -900 * MS, 0, 4 * CREDIT, 0, 0, false },
    { "known, beyond all", WORDS, false, SECOND_MAX * 256, 0, 1, INT64_MAX, 0, false },
};

static void test_turn(void **state)
{
    const turn_t *row = unit_row(state);
    const rlp_limit_t *before = limit_of("rate=5/s burst=8");
    second_t second = { 0, 0 };

    if (row->second != NULL) {
        second.mark = limit_of(row->second)->mark | (row->cut ? SECOND_CUT : 0);
        second.full = AT + row->full;
    }
    assert_int_equal(second_turn(&second, before->mark, AT, row->used, row->most, limit_of(WORDS)),
                     row->turned);
    assert_int_equal(second.mark, before->mark | (row->before_cut ? SECOND_CUT : 0));
    assert_int_equal(second.full, AT + row->before);
}

static void test_follow(void **state)
{
    static const struct {
        rlp_time_t full, was, follows;
    } rows[] = {
        { AT, AT - RLP_SECOND, AT },
        { AT, AT + RLP_CLOCK_SKEW, AT },
        { AT, AT + RLP_CLOCK_SKEW + 1, AT - RLP_CLOCK_SKEW - 1 },
        { 5 * RLP_SECOND, AT + 6 * RLP_SECOND, 0 },
        { 6 * RLP_SECOND, AT + 6 * RLP_SECOND, 0 },
        { 7 * RLP_SECOND, AT + 6 * RLP_SECOND, RLP_SECOND },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        second_t second = { 1, rows[i].full };

        second_follow(&second, rows[i].was, AT);
        assert_int_equal(second.full, rows[i].follows);
    }
}

/* Times are from AT on, which is when this happens. */
typedef struct {
    const char *what;
    rlp_time_t full;
    bool cut;
    rlp_time_t turn;
    rlp_units_t units;
    uint64_t more;
    rlp_time_t then; /* full */
    bool then_cut;
} settle_t;

static const settle_t settles[] = {
    { "the first unit", -1 * RLP_SECOND, false, 0, 1000, 0, 100 * MS, false },
    { "the next", 100 * MS, false, 0, 1000, 0, 200 * MS, false },
    { "a part, rounded up", 0, false, 0, 1, 0, 100, false },
    { "the last", 1900 * MS, false, 0, 1000, 0, 2000 * MS, false },
    { "a part too much", 1900 * MS, false, 0, 1001, 0, 2000 * MS, true },
    { "where it is full", 2000 * MS, false, 0, 1000, 0, 2000 * MS, true },
    { "where it holds more", 2000 * MS, false, 0, 1000, CREDIT, 2100 * MS, false },
    { "and no more than that", 2100 * MS, false, 0, 1, CREDIT, 2100 * MS, true },
    { "for a later turn", 2000 * MS, false, 1000 * MS, 1000, 0, 2100 * MS, false },
    { "where later ones have all", 5000 * MS, false, 0, 1000, 0, 5000 * MS, true },
    { "nothing", 500 * MS, false, 0, 0, 0, 500 * MS, false },
    { "nothing to one that was cut", -1 * RLP_SECOND, true, 0, 0, 0, 0, true },
    { "to one that was cut", 500 * MS, true, 0, 1000, 0, 600 * MS, true },
    { "back", 500 * MS, false, 0, -1000, 0, 400 * MS, false },
    { "a part back, rounded down", 500 * MS, false, 0, -1, 0, 500 * MS - 100, false },
    { "more back than is used", 50 * MS, false, 0, -1000, 0, 0, false },
    { "back where nothing is used", -300 * MS, false, 0, -1000, 0, 0, false },
    { "back, charged when it was full", 1500 * MS, false, -500 * MS, -1000, 0, 1500 * MS, false },
    { "back, charged when it was not", 1500 * MS, false, 1 - 500 * MS, -1000, 0, 1400 * MS, false },
    { "back, and it holds more", 1500 * MS, false, -500 * MS, -1000, 10, 1400 * MS, false },
    { "back to one that was cut", 500 * MS, true, 0, -1000, 0, 500 * MS, true },
    { "back at any time", 1500 * MS, true, RLP_TIME_EVER - AT, -1000, 0, 1400 * MS, true },
    { "back long ago", 1500 * MS, false, RLP_TIME_EVER - AT, -1000, 0, 1400 * MS, false },
};

static void test_settle(void **state)
{
    const settle_t *row = unit_row(state);
    const rlp_limit_t *limit = limit_of(WORDS);
    second_t second = { limit->mark | (row->cut ? SECOND_CUT : 0), AT + row->full };

    second_settle(&second, AT, AT + row->turn, row->units, limit, row->more);
    assert_int_equal(second.full - AT, row->then);
    assert_int_equal(second.mark, limit->mark | (row->then_cut ? SECOND_CUT : 0));
}

/* A third of a microsecond is rounded to the client's disadvantage. */
static void test_rounding(void **state)
{
    const rlp_limit_t *limit = limit_of("rate=3/s burst=20");
    second_t second = { limit->mark, AT };

    (void)state;
    second_settle(&second, AT, AT, 1000, limit, 0);
    assert_int_equal(second.full, AT + 333334);
    second_settle(&second, AT, AT, -1000, limit, 0);
    assert_int_equal(second.full, AT + 1);
    second.full = AT + 6666666;
    second_settle(&second, AT, AT, 1000, limit, 0);
    assert_int_equal(second.full, AT + 6666667); /* a third more than it holds */
    assert_int_equal(second.mark, limit->mark | SECOND_CUT);
}

static void test_report(void **state)
{
    static const struct {
        uint64_t mark;
        rlp_time_t full, expires, told;
        uint32_t loss;
        uint64_t more;
        bool most; /* the loss is that of the second limit */
    } rows[] = {
        { 0, 0, 5, 5, 7, 0, false },
        { 1, AT, 5, 5, 7, 0, false },
        { 1, AT + RLP_SECOND, 5, AT + RLP_SECOND, 7, 0, true },
        { 1, AT + RLP_SECOND, AT + RLP_SECOND + 1, AT + RLP_SECOND + 1, UINT32_MAX, 0, false },
        { 1, AT + RLP_SECOND, 5, AT + RLP_SECOND, 7, 20 * CREDIT, true },
    };
    const rlp_limit_t *limit = limit_of(WORDS);

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const second_t second = { rows[i].mark ? limit->mark | SECOND_CUT : 0, rows[i].full };
        const uint64_t all = rows[i].more ? 4 * RLP_SECOND : 2 * RLP_SECOND;
        rlp_decision_t d = { .loss = rows[i].loss, .expires = rows[i].expires };

        second_report(&second, AT, limit, rows[i].more, &d);
        assert_int_equal(d.expires, rows[i].told);
        assert_int_equal(d.loss, rows[i].most ? rlp_loss(RLP_SECOND, all) : rows[i].loss);
    }
}

/* Under another limit its units are a share of this one's. */
static void test_report_other(void **state)
{
    static const struct {
        const char *words;
        rlp_time_t ahead;
        uint64_t more;
        uint32_t loss;
    } rows[] = {
        { "rate=1/s burst=1", RLP_SECOND, 0, RLP_LOSS_FULL / 20 | 1 },
        { "rate=1/s burst=1", RLP_SECOND, 20 * CREDIT, RLP_LOSS_FULL / 40 | 1 },
        { "rate=100/s burst=1000", 50 * MS, 0, RLP_LOSS_FULL / 4 | 1 },
        { "rate=100/s burst=1000", 199 * MS, 0, UINT32_C(4273492459) },
        { "rate=100/s burst=1000", 200 * MS, 0, RLP_LOSS_FULL },
        { "rate=100/s burst=1000", SECOND_MAX, 0, RLP_LOSS_FULL },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const second_t second = { limit_of(rows[i].words)->mark | SECOND_CUT, AT + rows[i].ahead };
        rlp_decision_t d = { .loss = 0 };

        second_report(&second, AT, limit_of(WORDS), rows[i].more, &d);
        assert_int_equal(d.loss, rows[i].loss);
    }
}

/* Before all time, or where what it holds is no whole number of microseconds. */
static void test_report_edges(void **state)
{
    const rlp_limit_t *limit = limit_of("rate=3/s burst=20");
    const second_t none = { 0, 0 }, second = { limit->mark, AT };
    rlp_decision_t d = { .loss = 0 };

    (void)state;
    second_report(&none, -1, limit, 0, &d);
    assert_int_equal(d.expires, 0);
    second_report(&second, AT - 6666666, limit, 0, &d);
    assert_int_equal(d.loss, rlp_loss(19999998, 20000000));
    d.loss = 0;
    second_report(&second, AT - 6666667, limit, 0, &d); /* rounded up to more than there is */
    assert_int_equal(d.loss, RLP_LOSS_FULL);
}

/* --- counts of units */

static const struct {
    rlp_units_t used;
    bool cut;
    rlp_units_t units;
    rlp_time_t charged_at;
    rlp_units_t most, then;
    bool then_cut;
} counts[] = {
    { 0, false, 1000, 0, 5000, 1000, false },
    { 4000, false, 1000, 0, 5000, 5000, false },
    { 4001, false, 1000, 0, 5000, 5000, true },
    { 5000, false, 0, 0, 5000, 5000, false },
    { 5000, false, 1, 0, 5000, 5000, true },
    { 6000, false, 1, 0, 5000, 6000, true }, /* what is reserved stays so */
    { 6000, false, 0, 0, 5000, 6000, true },
    { 1000, true, 1000, 0, 5000, 2000, true },
    { 1000, false, -1000, 0, 5000, 0, false },
    { 1000, false, -1001, 0, 5000, 0, false },
    { 4000, false, -1000, 0, 5000, 3000, false },
    { 5000, false, -1000, 0, 5000, 5000, false }, /* it may have been full */
    { 4000, true, -1000, 0, 5000, 4000, true },
    { 4000, true, -1000, RLP_TIME_EVER - 1, 5000, 4000, true },
    { 4000, true, -1000, RLP_TIME_EVER, 5000, 3000, true },
};

static void test_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(counts); i++) {
        const rlp_op_t op = { .units = counts[i].units, .charged_at = counts[i].charged_at };
        rlp_units_t used = counts[i].used;

        assert_int_equal(second_settle_units(&used, counts[i].cut, &op, counts[i].most),
                         counts[i].then_cut);
        assert_int_equal(used, counts[i].then);
    }
}

static void test_instant(void **state)
{
    const rlp_decision_t d = { .wait = 30 };
    rlp_op_t op = { .now = 500, .charged_at = 7 };

    (void)state;
    assert_int_equal(second_instant(&d, &op), 530);
    op.units = 1;
    assert_int_equal(second_instant(&d, &op), 530);
    op.units = -1;
    assert_int_equal(second_instant(&d, &op), 7);
}

int main(void)
{
    unit_add("marks", test_marks, NULL);
    unit_add("limits of one mark", test_same, NULL);
    unit_add("marks that can be", test_sound, NULL);
    unit_add("second limits that can be", test_sound_second, NULL);
    unit_add("spans", test_span, NULL);
    for (size_t i = 0; i < UNIT_N(turns); i++) {
        unit_add_case("another limit asks", turns[i].what, test_turn, &turns[i]);
    }
    unit_add("a clock steps back", test_follow, NULL);
    for (size_t i = 0; i < UNIT_N(settles); i++) {
        unit_add_case("charged or given back", settles[i].what, test_settle, &settles[i]);
    }
    unit_add("parts of a microsecond", test_rounding, NULL);
    unit_add("what is told", test_report, NULL);
    unit_add("what is told of another limit", test_report_other, NULL);
    unit_add("what is told at the edges", test_report_edges, NULL);
    unit_add("units", test_counts, NULL);
    unit_add("when", test_instant, NULL);
    return unit_run();
}
