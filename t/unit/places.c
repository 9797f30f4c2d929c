/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which of the places that a process has in Redis are to be renewed, and when.
 */

#include "redis/places.h"

#include "unit.h"

#define THIRD RLP_SECOND

static rlp_charge_t place_of(uint64_t holder, const char *rule)
{
    const rlp_limit_t *limit = &unit_plan("concurrent=2 lease=3s")->limits[0];
    rlp_charge_t charge;

    rlp_charge_init(&charge, "user:1", 6, rlp_signature(rule, NULL, limit), limit);
    charge.rule = rule;
    charge.holder = holder;
    return charge;
}

static redis_places_t *places;
static rlp_charge_t charge;

/* None, but one that the charge has got. */
static void places_fresh(void)
{
    places = redis_places_create(unit_pool());
    charge = place_of(7, "api");
    redis_places_note(places, &charge, 0);
}

static bool places_none(void)
{
    return redis_places_due(places, INT64_MAX / 2) == NULL;
}

/* C-09: after each third of the lease, until it is given back. */
static void test_due(void **state)
{
    (void)state;
    places_fresh();
    for (int i = 1; i <= 5; i++) {
        assert_null(redis_places_due(places, i * THIRD - 1));
        redis_place_t *place = redis_places_due(places, i * THIRD);

        assert_int_equal(place->holder, 7);
        assert_memory_equal(place->subject->bytes, "user:1", 6);
        assert_string_equal(place->subject->rule, "api");
        assert_null(redis_places_due(places, i * THIRD));
        redis_places_told(places, place, REDIS_PLACE_KEPT);
    }
    redis_places_forget(places, &charge);
    assert_true(places_none());
}

/* A long lease is renewed as often as one of a minute. */
static void test_due_long(void **state)
{
    const rlp_limit_t *limit = &unit_plan("concurrent=2 lease=1h")->limits[0];

    (void)state;
    places = redis_places_create(unit_pool());
    charge = place_of(7, "api");
    charge.limit = limit;
    redis_places_note(places, &charge, 0);
    for (rlp_time_t i = 1; i <= 3; i++) {
        assert_null(redis_places_due(places, i * 20 * RLP_SECOND - 1));
        redis_place_t *place = redis_places_due(places, i * 20 * RLP_SECOND);

        assert_non_null(place);
        redis_places_told(places, place, REDIS_PLACE_KEPT);
    }
}

/* One that Redis does not know any more is not asked for again. */
static void test_lost(void **state)
{
    (void)state;
    places_fresh();
    redis_places_told(places, redis_places_due(places, THIRD), REDIS_PLACE_LOST);
    assert_true(places_none());
    redis_places_forget(places, &charge);
    assert_true(places_none());
}

/* Of which Redis says nothing, it is asked again long before the next third; but first of others,
   which may be with another server. */
static void test_unknown(void **state)
{
    rlp_charge_t other = place_of(9, "site");

    (void)state;
    places_fresh();
    redis_places_note(places, &other, THIRD / 16);
    for (rlp_time_t now = THIRD + THIRD / 16; now < 2 * THIRD; now += THIRD / 8) {
        uint64_t holders = 0;

        for (int i = 0; i < 2; i++) {
            redis_place_t *place = redis_places_due(places, now);

            holders += place->holder;
            redis_places_told(places, place, REDIS_PLACE_UNKNOWN);
        }
        assert_int_equal(holders, 7 + 9);
        assert_null(redis_places_due(places, now + THIRD / 8 - 1));
    }
    redis_place_t *place = redis_places_due(places, 2 * THIRD + THIRD / 16);

    redis_places_told(places, place, REDIS_PLACE_KEPT);
    assert_ptr_not_equal(redis_places_due(places, 3 * THIRD), place);
    assert_null(redis_places_due(places, 3 * THIRD));
}

/* The request ends while Redis is asked: what is asked about stays until then. */
static void test_given_back(void **state)
{
    (void)state;
    places_fresh();
    redis_place_t *place = redis_places_due(places, THIRD);

    redis_places_forget(places, &charge);
    assert_int_equal(place->holder, 7);
    assert_true(places_none());
    redis_places_told(places, place, REDIS_PLACE_KEPT);
    assert_true(places_none());
}

/* A request may have places of several rules, and another one of the same. */
static void test_apart(void **state)
{
    enum { N = 300 };
    int due = 0;

    (void)state;
    places = redis_places_create(unit_pool());
    for (uint64_t i = 0; i < N; i++) {
        charge = place_of(i / 2, i % 2 ? "api" : "site");
        redis_places_note(places, &charge, (rlp_time_t)i);
    }
    for (uint64_t i = 0; i < N; i += 3) {
        charge = place_of(i / 2, i % 2 ? "api" : "site");
        redis_places_forget(places, &charge);
        redis_places_forget(places, &charge);
    }
    for (redis_place_t *place; (place = redis_places_due(places, THIRD + N / 2)) != NULL; due++) {
        redis_places_told(places, place, due % 2 ? REDIS_PLACE_KEPT : REDIS_PLACE_LOST);
    }
    assert_int_equal(due, N / 2 / 3 * 2);
    for (; redis_places_due(places, INT64_MAX / 2) != NULL; due++) { /* nobody tells of these */
    }
    assert_int_equal(due, N / 2 / 3 * 2 + N / 3 * 2 - N / 2 / 3);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "C-09: a place is renewed", test_due },
        { "C-09: one of a long lease, too", test_due_long },
        { "one that is lost", test_lost },
        { "C-09: one of which nothing is heard", test_unknown },
        { "one that is given back meanwhile", test_given_back },
        { "places of their own", test_apart },
    };

    unit_add_singles(singles, UNIT_N(singles));
    return unit_run();
}
