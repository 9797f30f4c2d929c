/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The bounds that docs/operations.md promises for hosts that share one Redis, in simulated time
 * (t/bench/hosts.c): the real leases, denials, breakers and algorithms, and a Redis that is slow,
 * away, forgetful, or loses what is sent.
 */

#include "../bench/hosts_world.h"

#include "unit.h"

#include <inttypes.h>

#define SEEDS 8

typedef struct {
    const char *name;
    const char *words;
    world_settings_t world;
    int above; /* what passes above the limit, in bursts of a key for each outage, at most */
    int due;   /* of what one counter would have admitted, at least so many thousandths pass: of
                  all seeds together, since when breakers open is chance */
    int trips; /* for each request, in thousandths, at most */
} row_t;

/* clang-format off */
static const row_t rows[] = {
    { "exact", "rate=10/s", { .hosts = 20, .keys = 10000, .rate = 20000, .seconds = 2 },
      .due = 999, .trips = 1000 },
    { "leases", "rate=10/s", { .leases = true, .hosts = 20, .keys = 10000, .rate = 20000, .seconds = 2 },
      .due = 985, .trips = 1000 },
    { "leases of keys seldom asked for on each host", "rate=10/s",
      { .leases = true, .hosts = 100, .keys = 1000, .rate = 3000, .seconds = 5 }, .due = 985, .trips = 1000 },
    { "leases, three hosts just over the limit", "rate=1000/s",
      { .leases = true, .hosts = 3, .keys = 1, .rate = 1200, .seconds = 20 }, .due = 970, .trips = 25 },
    { "leases, far over the limit", "rate=1000/s",
      { .leases = true, .hosts = 10, .keys = 1, .rate = 20000, .seconds = 10 }, .due = 970, .trips = 20 },
    { "leases of a sliding window", "rate=1000/s algorithm=sliding-window",
      { .leases = true, .hosts = 3, .keys = 1, .rate = 1200, .seconds = 20 }, .due = 950, .trips = 150 },
    { "leases of a window", "rate=5000/5s algorithm=fixed-window",
      { .leases = true, .hosts = 3, .keys = 1, .rate = 1200, .seconds = 20 }, .due = 980, .trips = 30 },
    { "leases, hosts asked unevenly", "rate=1000/s",
      { .leases = true, .hosts = 8, .keys = 4, .rate = 8000, .skew = 1, .seconds = 10 }, .due = 960, .trips = 60 },
    { "exact, answers get lost", "rate=100/s",
      { .hosts = 4, .keys = 100, .rate = 2000, .seconds = 10, .lost = 20000 }, .due = 800, .trips = 1000 },
    { "leases, answers get lost", "rate=100/s",
      { .leases = true, .hosts = 4, .keys = 100, .rate = 2000, .seconds = 10, .lost = 20000 }, .due = 850, .trips = 600 },
    { "exact, Redis is away", "rate=100/s",
      { .hosts = 4, .keys = 100, .rate = 2000, .seconds = 20, .away = 500000, .every = 5000000 }, .due = 500, .trips = 1000 },
    { "leases, Redis is away", "rate=100/s burst=1000",
      { .leases = true, .hosts = 4, .keys = 10, .rate = 2000, .seconds = 20, .away = 500000, .every = 5000000 }, .due = 550, .trips = 600 },
    { "exact, Redis forgets", "rate=100/min",
      { .hosts = 4, .keys = 100, .rate = 2000, .seconds = 20, .away = 500000, .every = 5000000, .forgets = true },
      .above = 1, .due = 500, .trips = 1000 },
    { "leases, Redis forgets", "rate=100/min",
      { .leases = true, .hosts = 4, .keys = 100, .rate = 2000, .seconds = 20, .away = 500000, .every = 5000000, .forgets = true },
      .above = 1, .due = 500, .trips = 600 },
    { "leases, Redis is slow", "rate=100/s",
      { .leases = true, .hosts = 10, .keys = 100, .rate = 5000, .seconds = 5, .latency = 5000, .jitter = 5000 }, .due = 850, .trips = 600 },
    { "exact, Redis has too much to do", "rate=100/s",
      { .hosts = 10, .keys = 1000, .rate = 20000, .seconds = 4, .service = 100 }, .due = 20, .trips = 1000 },
};
/* clang-format on */

/* What a row does not say is usual. */
static world_settings_t settings_of(const row_t *row, uint64_t seed)
{
    world_settings_t settings = row->world;

    settings.limit = &unit_plan(row->words)->limits[0];
    settings.exponent = 1;
    settings.seed = seed;
    settings.latency = settings.latency ? settings.latency : 100;
    settings.jitter = settings.jitter ? settings.jitter : 100;
    settings.service = settings.service ? settings.service : 12;
    settings.timeout = 30000;
    return settings;
}

static world_result_t bounds_of(const row_t *row, uint64_t seed)
{
    const world_settings_t settings = settings_of(row, seed);
    const world_result_t result = world_run(&settings, unit_pool());
    const uint64_t burst = (uint64_t)(settings.limit->burst / RLP_UNIT);
    const uint64_t decided = result.admitted + result.refused + result.unasked;

    print_message("# %" PRIu64 " of %" PRIu64 " due, %" PRIu64 " above (%" PRIu64
                  " of one key), %" PRIu64 " trips for %" PRIu64 " requests, %" PRIu64
                  " without an answer\n",
                  result.admitted, result.due, result.above, result.worst, result.trips,
                  result.requests, result.unasked);
    assert_true(result.worst <= (uint64_t)row->above * burst * result.outages);
    assert_true((result.above > 0) == (row->above > 0));
    assert_true(result.trips * 1000 <= result.requests * (uint64_t)row->trips);
    assert_true(decided <= result.requests && result.requests - decided < result.requests / 20);
    assert_true(result.refused > 0);
    return result;
}

static void test_bounds(void **state)
{
    const row_t *row = unit_row(state);
    uint64_t admitted = 0;
    uint64_t due = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        const world_result_t result = bounds_of(row, seed);

        admitted += result.admitted;
        due += result.due;
    }
    assert_true(admitted * 1000 >= due * (uint64_t)row->due);
}

/* A seed decides all that happens. */
static void test_replayed(void **state)
{
    const world_settings_t one = settings_of(&rows[9], 1);
    const world_settings_t other = settings_of(&rows[9], 2);
    const uint64_t digest = world_run(&one, unit_pool()).digest;

    (void)state;
    assert_true(world_run(&one, unit_pool()).digest == digest);
    assert_false(world_run(&other, unit_pool()).digest == digest);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        unit_add_case("hosts that share a Redis", rows[i].name, test_bounds, &rows[i]);
    }
    unit_add("a seed replays a simulation", test_replayed, NULL);
    return unit_run();
}
