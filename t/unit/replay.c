/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Replays: what the two runs say of requests whose moments within a second are not known lies
 * around every arrangement of them; and with moments, the verdicts are those of a server.
 */

#include "unit.h"

#include "replay_window.h"

#include <apr_strings.h>

#include <string.h>

#define BASE INT64_C(1763700000) /* seconds */
#define REQUESTS_MAX 40
#define PLACES 6 /* within a second that are tried */

/* Seconds in which requests come, of one identity, beside a plan. */
typedef struct {
    const char *plan;
    const char *seconds;
    rlp_time_t delay;
} small_t;

static const char *const small_plans[] = {
    "rate=1/s",
    "rate=2/s burst=3",
    "rate=10/s burst=2",
    "rate=1/2s burst=2",
    "rate=3/2s",
    "rate=2/s burst=4 initial=1",
    "rate=2/500ms",
    "rate=4/s algorithm=leaky-bucket burst=3",
    "rate=1/2s algorithm=leaky-bucket burst=3",
    "rate=2/s algorithm=fixed-window",
    "rate=3/1500ms algorithm=fixed-window",
    "rate=2/3s algorithm=fixed-window",
    "rate=2/s algorithm=sliding-window",
    "rate=3/2s algorithm=sliding-window",
    "rate=2/s algorithm=sliding-log",
    "rate=2/1500ms algorithm=sliding-log",
    "rate=3/2s algorithm=sliding-log",
    "rate=2/2s algorithm=stepped-bucket start=2025-01-01T00:00:00Z",
    "rate=1/s burst=2 algorithm=stepped-bucket start=2025-01-01T00:00:00Z",
    "quota=3",
    "quota=4/day",
    "rate=2/s quota=4/day",
    "rate=1/s burst=2 rate=3/2s burst=3",
    "rate=2/s algorithm=sliding-log rate=4/4s",
};

static const char *const small_seconds[] = {
    "0000", "0011", "0112", "01123", "00012", "0123", "00223", "001122", "0001112", "0 5 5 6",
};

static const rlp_time_t small_places[PLACES] = { 0, 100000, 333333, 500000, 750000, 999999 };

static small_t small[UNIT_N(small_plans) * UNIT_N(small_seconds) * 2];

typedef struct {
    int n;
    rlp_time_t at[REQUESTS_MAX];
    rlp_units_t cost[REQUESTS_MAX]; /* where each has its own; else 0 */
} requests_t;

static requests_t small_requests(const char *text)
{
    requests_t requests = { 0 };

    for (; *text; text++) {
        if (*text != ' ') {
            requests.at[requests.n++] = (BASE + *text - '0') * RLP_SECOND;
        }
    }
    return requests;
}

static void replay_make(replay_t *replay, const rlp_plan_t *plan, rlp_time_t delay, int runs,
                        apr_pool_t *pool)
{
    const bool priced = replay->priced;

    memset(replay, 0, sizeof(*replay));
    replay->priced = priced;
    replay->plans = 1;
    replay->plan[0].plan = plan;
    replay->runs = runs;
    replay->tick = runs == 1 ? 1 : RLP_SECOND;
    replay->cost = RLP_UNIT;
    replay->max_wait = delay;
    assert_null(replay_open(replay, pool));
}

/* Replays requests of one identity. */
static void replay_all(replay_t *replay, const requests_t *requests)
{
    for (int i = 0; i < requests->n; i++) {
        const replay_request_t request = { .at = requests->at[i],
                                           .line = (uint64_t)i,
                                           .cost = requests->cost[i] };

        assert_null(replay_add(replay, request, "ip:192.0.2.1", 12));
    }
    replay_finish(replay);
    assert_int_equal(replay->requests, requests->n);
}

/* How many a server refuses of requests at these moments. */
static uint64_t refused_exactly(const rlp_plan_t *plan, rlp_time_t delay,
                                const requests_t *requests, apr_pool_t *pool)
{
    rlp_store_t *store = NULL;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    uint64_t refused = 0;

    assert_int_equal(rlp_memory_create(&store, pool), APR_SUCCESS);
    for (int i = 0; i < plan->n; i++) {
        rlp_charge_init(&charges[i], "one", 3, rlp_signature("test", NULL, &plan->limits[i]),
                        &plan->limits[i]);
        charges[i].max_wait = delay;
        if (plan->limits[i].state_size > RLP_STATE_MAX) {
            charges[i].entry.state = apr_palloc(pool, plan->limits[i].state_size);
        }
    }
    for (int i = 0; i < requests->n; i++) {
        const rlp_question_t question = { .now = requests->at[i], .wall = requests->at[i] };
        rlp_answer_t answer;

        for (int k = 0; k < plan->n && requests->cost[i] > 0; k++) {
            charges[k].cost = requests->cost[i];
        }
        assert_int_equal(rlp_check(store, charges, plan->n, &question, &answer), APR_SUCCESS);
        refused += answer.verdict > RLP_WAIT;
    }
    return refused;
}

/* The next arrangement, in which later requests of a second are at later places or the same; false
   after the last. */
static bool arrange(requests_t *requests, const requests_t *whole, int places[])
{
    int i = requests->n - 1;

    while (i >= 0 && places[i] == PLACES - 1) {
        i--;
    }
    if (i < 0) {
        return false;
    }
    places[i]++;
    for (int k = i + 1; k < requests->n; k++) {
        places[k] = whole->at[k] == whole->at[i] ? places[i] : 0;
    }
    for (int k = 0; k < requests->n; k++) {
        requests->at[k] = whole->at[k] + small_places[places[k]];
    }
    return true;
}

static void test_small(void **state)
{
    const small_t *row = unit_row(state);
    const requests_t whole = small_requests(row->seconds);
    const rlp_plan_t *plan = unit_plan(row->plan);
    requests_t requests = whole;
    int places[REQUESTS_MAX] = { 0 };
    apr_pool_t *pool;
    apr_pool_t *each;
    static replay_t replay;

    assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
    assert_int_equal(apr_pool_create(&each, pool), APR_SUCCESS);
    replay_make(&replay, plan, row->delay, REPLAY_RUNS, pool);
    replay_all(&replay, &whole);
    const uint64_t fewest = replay.plan[0].sums[REPLAY_FEWEST].refused;
    const uint64_t most = replay.plan[0].sums[REPLAY_MOST].refused;

    do {
        const uint64_t refused = refused_exactly(plan, row->delay, &requests, each);

        if (refused < fewest || refused > most) {
            for (int i = 0; i < requests.n; i++) {
                print_message("%d.%06d\n", (int)(requests.at[i] / RLP_SECOND - BASE),
                              (int)(requests.at[i] % RLP_SECOND));
            }
            fail_msg("%s, %s: %d refused, expected %d to %d", row->plan, row->seconds, (int)refused,
                     (int)fewest, (int)most);
        }
        apr_pool_clear(each);
    } while (arrange(&requests, &whole, places));
    apr_pool_destroy(pool);
}

/* A plan of one or two random limits. */
static const char *random_plan(uint64_t *random, apr_pool_t *pool)
{
    static const char *const algorithms[] = { "token-bucket",   "leaky-bucket", "fixed-window",
                                              "sliding-window", "sliding-log",  "stepped-bucket",
                                              "token-bucket" };
    const char *words = "";

    for (uint64_t n = 1 + unit_below(random, 2); n > 0; n--) {
        const uint64_t which = unit_below(random, UNIT_N(algorithms));

        words =
            apr_psprintf(pool, "%s rate=%d/%dms algorithm=%s%s", words,
                         1 + (int)unit_below(random, 12), 100 + (int)unit_below(random, 40) * 100,
                         algorithms[which], which == 5 ? " start=2025-01-01T00:00:00Z" : "");
        if (which != 2 && which != 3 && which != 4) {
            words = apr_psprintf(pool, "%s burst=%d", words, 1 + (int)unit_below(random, 9));
        }
    }
    return words + 1;
}

/* Longer logs at random moments: the truth lies between what whole seconds tell of it. */
static void test_random(void **state)
{
    enum { ROUNDS = 3000 };
    uint64_t random = unit_seed();
    static replay_t replay;
    int apart = 0;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        requests_t truth = { .n = 1 + (int)unit_below(&random, REQUESTS_MAX) };
        const rlp_time_t gap = 1 + (rlp_time_t)unit_below(&random, 900000);
        const rlp_time_t delay = (rlp_time_t)unit_below(&random, 3) * 400000;
        requests_t whole = truth;
        apr_pool_t *pool;

        assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
        const char *words = random_plan(&random, pool);
        const rlp_plan_t *plan = unit_plan(words);

        for (int k = 0; k < truth.n; k++) {
            truth.at[k] = (k ? truth.at[k - 1] : BASE * RLP_SECOND) +
                          (rlp_time_t)unit_below(&random, (uint64_t)gap * 2);
            whole.at[k] = truth.at[k] - truth.at[k] % RLP_SECOND;
        }
        replay_make(&replay, plan, delay, REPLAY_RUNS, pool);
        replay_all(&replay, &whole);
        const replay_sum_t *sums = replay.plan[0].sums;
        const uint64_t refused = refused_exactly(plan, delay, &truth, pool);

        if (replay_bounds(&replay, 0) &&
            (refused < sums[REPLAY_FEWEST].refused || refused > sums[REPLAY_MOST].refused)) {
            fail_msg("%s, %d requests, waiting %d ms: %d refused, expected %d to %d", words,
                     truth.n, (int)(delay / 1000), (int)refused, (int)sums[REPLAY_FEWEST].refused,
                     (int)sums[REPLAY_MOST].refused);
        }
        apart +=
            replay_bounds(&replay, 0) && sums[REPLAY_FEWEST].refused < sums[REPLAY_MOST].refused;
        apr_pool_destroy(pool);
    }
    assert_in_range(apart, ROUNDS / 10, ROUNDS);
}

/* Moments of microseconds, also out of order: the refusals are those of a server that is asked in
   order. */
static void test_exact(void **state)
{
    enum { SEVERAL = 7 };
    uint64_t random = unit_seed();
    static replay_t replay;

    (void)state;
    for (size_t i = 0; i < UNIT_N(small_plans); i++) {
        const rlp_plan_t *plan = unit_plan(small_plans[i]);
        requests_t sorted = { .n = SEVERAL };
        requests_t mixed = { .n = SEVERAL };
        apr_pool_t *pool;

        assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
        for (int k = 0; k < SEVERAL; k++) {
            sorted.at[k] = (k ? sorted.at[k - 1] : BASE * RLP_SECOND) +
                           (rlp_time_t)unit_below(&random, 800000);
        }
        for (int k = 0; k < SEVERAL; k++) {
            mixed.at[k] = sorted.at[(k * 3 + 2) % SEVERAL];
        }
        replay_make(&replay, plan, 0, 1, pool);
        replay_all(&replay, &mixed);
        assert_int_equal(replay.plan[0].sums[0].refused, refused_exactly(plan, 0, &sorted, pool));
        assert_true(replay.sorted > 0);
        assert_int_equal(replay.late, 0);
        assert_int_equal(replay.first, sorted.at[0]);
        assert_int_equal(replay.last, sorted.at[SEVERAL - 1]);
        apr_pool_destroy(pool);
    }
}

/* Requests with costs of their own, of which each is one unit: all is as if they had none. */
static void priced_alike(const small_t *row)
{
    requests_t requests = small_requests(row->seconds);
    static replay_t replays[2];
    apr_pool_t *pool;

    assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
    for (int i = 0; i < requests.n; i++) {
        requests.cost[i] = RLP_UNIT;
    }
    for (int i = 0; i < 2; i++) {
        replays[i].priced = i == 1;
        replay_make(&replays[i], unit_plan(row->plan), row->delay, REPLAY_RUNS, pool);
        replay_all(&replays[i], &requests);
    }
    assert_false(replay_bounds(&replays[1], 0));
    assert_memory_equal(replays[0].plan[0].sums, replays[1].plan[0].sums,
                        sizeof(replays[0].plan[0].sums));
    assert_int_equal(population_at(replays[0].population, 0)->units, RLP_UNIT * requests.n);
    assert_int_equal(population_at(replays[1].population, 0)->units, RLP_UNIT * requests.n);
    apr_pool_destroy(pool);
}

static void test_priced_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(small); i++) {
        priced_alike(&small[i]);
    }
}

/* With microseconds, costs change nothing in how exact it is. */
static void test_priced(void **state)
{
    uint64_t random = unit_seed();
    static replay_t replay = { .priced = true };

    (void)state;
    for (size_t i = 0; i < 10 * UNIT_N(small_plans); i++) {
        const rlp_plan_t *plan = unit_plan(small_plans[i % UNIT_N(small_plans)]);
        requests_t requests = { .n = REQUESTS_MAX };
        apr_pool_t *pool;

        assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
        for (int k = 0; k < requests.n; k++) {
            requests.at[k] = (k ? requests.at[k - 1] : BASE * RLP_SECOND) +
                             (rlp_time_t)unit_below(&random, 1200000);
            requests.cost[k] = 1 + (rlp_units_t)unit_below(&random, 2500);
        }
        replay_make(&replay, plan, 0, 1, pool);
        replay_all(&replay, &requests);
        assert_int_equal(replay.plan[0].sums[0].refused, refused_exactly(plan, 0, &requests, pool));
        assert_true(replay_bounds(&replay, 0));
        apr_pool_destroy(pool);
    }
}

/* Of one second, a dear request is refused and the cheap one behind it is not; what is charged is
   what has passed. */
static void test_priced_mixed(void **state)
{
    const requests_t requests = { .n = 4,
                                  .at = { BASE * RLP_SECOND, BASE * RLP_SECOND, BASE * RLP_SECOND,
                                          (BASE + 5) * RLP_SECOND },
                                  .cost = { 3000, 8000, 7000, 1000 } };
    static replay_t replay = { .priced = true };
    apr_pool_t *pool;

    (void)state;
    assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
    replay_make(&replay, unit_plan("quota=10"), 0, REPLAY_RUNS, pool);
    replay_all(&replay, &requests);
    for (int run = 0; run < REPLAY_RUNS; run++) {
        assert_int_equal(replay.plan[0].sums[run].refused, 2);
    }
    assert_int_equal(population_at(replay.population, 0)->units, 19000);
    apr_pool_destroy(pool);
}

/* A line of yesterday is judged now, and told. */
static void test_late(void **state)
{
    const requests_t requests = { .n = 4,
                                  .at = { BASE * RLP_SECOND, (BASE + 1000) * RLP_SECOND,
                                          (BASE - 86400) * RLP_SECOND,
                                          (BASE + 1000 - REPLAY_WINDOW + 1) * RLP_SECOND } };
    static replay_t replay;
    apr_pool_t *pool;

    (void)state;
    assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
    replay_make(&replay, unit_plan("quota=2"), 0, 1, pool);
    replay_all(&replay, &requests);
    assert_int_equal(replay.late, 1);
    assert_int_equal(replay.sorted, 1);
    assert_int_equal(replay.plan[0].sums[0].refused, 2);
    assert_int_equal(replay.first, BASE * RLP_SECOND);
    apr_pool_destroy(pool);
}

/* One line of next year is judged with its neighbours; but two of the next month are the next
   month, and so is one at the end. */
static void test_ahead(void **state)
{
    static const struct {
        int seconds[5];
        int late;
        int last;
        int refused; /* of one a minute */
    } rows[] = {
        { { 0, 31536000, 70, 140, 210 }, 1, 210, 1 },
        { { 0, 2592000, 2592070, 2592140, 2592210 }, 0, 2592210, 0 },
        { { 0, 70, 140, 210, 31536000 }, 0, 31536000, 0 },
        { { 0, 31536000, 70, 31536000, 140 }, 2, 140, 2 },
        { { 0, 31536000, 0, 0, 86000 }, 1, 86000, 3 },
    };
    static replay_t replay;

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        requests_t requests = { .n = 5 };
        apr_pool_t *pool;

        assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
        for (int k = 0; k < 5; k++) {
            requests.at[k] = (BASE + rows[i].seconds[k]) * RLP_SECOND;
        }
        replay_make(&replay, unit_plan("rate=1/min"), 0, 1, pool);
        replay_all(&replay, &requests);
        assert_int_equal(replay.late, rows[i].late);
        assert_int_equal(replay.last, (BASE + rows[i].last) * RLP_SECOND);
        assert_int_equal(replay.plan[0].sums[0].refused, rows[i].refused);
        apr_pool_destroy(pool);
    }
}

/* Many identities are all found again, each with its own count. */
static void test_many(void **state)
{
    enum { MANY = 100000 };
    static replay_t replay;
    apr_pool_t *pool;

    (void)state;
    assert_int_equal(apr_pool_create(&pool, NULL), APR_SUCCESS);
    replay_make(&replay, unit_plan("quota=2"), 0, 1, pool);
    for (int i = 0; i < 3 * MANY; i++) {
        const replay_request_t request = { .at = BASE * RLP_SECOND + i, .line = (uint64_t)i };
        char name[16];
        const int len = apr_snprintf(name, sizeof(name), "n%d", i % MANY);

        assert_null(replay_add(&replay, request, name, (size_t)len));
    }
    replay_finish(&replay);
    assert_int_equal(population_count(replay.population), MANY);
    assert_int_equal(replay.plan[0].sums[0].refused, MANY);
    assert_int_equal(replay.plan[0].sums[0].identities, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        identity_t *identity = population_at(replay.population, i);

        assert_int_equal(identity->requests, 3);
        assert_int_equal(replay_use(&replay, identity, 0, 0)->refused, 1);
    }
    apr_pool_destroy(pool);
}

int main(void)
{
    size_t n = 0;

    for (size_t i = 0; i < UNIT_N(small_plans); i++) {
        for (size_t k = 0; k < UNIT_N(small_seconds); k++) {
            for (int delay = 0; delay < 2; delay++) {
                small[n] = (small_t){ small_plans[i], small_seconds[k], delay * RLP_SECOND / 2 };
                unit_add_case(apr_psprintf(unit_pool(), "%s%s", small[n].plan,
                                           delay ? ", waiting" : ""),
                              small[n].seconds, test_small, &small[n]);
                n++;
            }
        }
    }
    unit_add("random limits and moments", test_random, NULL);
    unit_add("exact moments, in any order", test_exact, NULL);
    unit_add("whole seconds, costs of their own that are alike", test_priced_alike, NULL);
    unit_add("exact moments, costs of their own", test_priced, NULL);
    unit_add("a second in which some cost more", test_priced_mixed, NULL);
    unit_add("a line that comes too late", test_late, NULL);
    unit_add("a line that is far ahead", test_ahead, NULL);
    unit_add("many identities", test_many, NULL);
    return unit_run();
}
