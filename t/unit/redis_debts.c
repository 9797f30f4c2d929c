/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * How a host tells Redis what it has counted in its place, when other things go on meanwhile: the
 * server is slow, charges are given back, some servers stay away. Redis is what the tests say.
 */

#include "redis/local.h"

#include "unit.h"

#include <apr_strings.h>

#include <string.h>

#define TIMEOUT RLP_SECOND
#define BEGIN (86400 * RLP_SECOND)
#define HERD 40 /* debts: more than are told of in a tick */

static redis_denials_t denials;
static redis_local_shared_t shared;
static rlp_store_t *here;
static redis_local_t *local;
static rlp_time_t now;

/* NOLINTBEGIN(bugprone-reserved-identifier): names of the linker's */
rlp_time_t __wrap_rlp_clock_monotonic(void);

rlp_time_t __wrap_rlp_clock_monotonic(void)
{
    return now;
}
/* NOLINTEND(bugprone-reserved-identifier) */

/* Redis, as each test has it. */
typedef apr_status_t hear_fn(const rlp_charge_t *charge);

static hear_fn *hear;

static apr_status_t redis_decide(rlp_store_t *store, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    (void)store;
    (void)question;
    (void)answer;
    assert_int_equal(n, 1);
    assert_int_equal(kind, RLP_SETTLE);
    return hear(charges);
}

static void fresh(hear_fn *redis)
{
    static rlp_store_type_t type;
    static rlp_store_t told;

    now = BEGIN;
    hear = redis;
    memset(&denials, 0, sizeof(denials));
    memset(&shared, 0, sizeof(shared));
    assert_int_equal(redis_denials_init(&denials), APR_SUCCESS);
    assert_int_equal(rlp_memory_create(&here, unit_pool()), APR_SUCCESS);
    type = *here->type;
    type.decide = redis_decide;
    told = *here;
    told.type = &type;
    const redis_local_settings_t settings = { .redis = &told,
                                              .local = here,
                                              .denials = &denials,
                                              .shared = &shared,
                                              .hosts = 1,
                                              .own = { .prefix = "t:", .timeout = TIMEOUT } };

    local = redis_local_create(&settings, unit_pool());
}

static void charge_init(rlp_charge_t *charge, const char *identity)
{
    const rlp_limit_t *limit = &unit_plan("quota=10/year")->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature("api", NULL, limit), limit);
    charge->rule = "api";
}

/* Counts it here. */
static void count_here(rlp_charge_t *charge, rlp_units_t cost)
{
    const rlp_question_t question = { .now = now, .wall = now };
    rlp_answer_t answer;

    charge->cost = cost;
    assert_int_equal(redis_local_decide(local, charge, 1, &question,
                                        cost < 0 ? RLP_SETTLE : RLP_TAKE, &answer),
                     APR_SUCCESS);
}

/* One tick: how long it takes. */
static rlp_time_t tick(void)
{
    const rlp_time_t begin = now;

    shared.away = 0;
    shared.hosts.due = now + REDIS_HOSTS_EVERY; /* that this host lives, it tells another time */
    redis_local_maintain(local);
    return now - begin;
}

/* --- a server that takes its time */

static int heard;

static apr_status_t hear_slowly(const rlp_charge_t *charge)
{
    (void)charge;
    now += TIMEOUT / 2;
    heard++;
    return APR_SUCCESS;
}

/* The same thread renews places, and tells that the host lives. */
static void test_slow(void **state)
{
    (void)state;
    fresh(hear_slowly);
    heard = 0;
    for (int i = 0; i < HERD; i++) {
        rlp_charge_t charge;

        charge_init(&charge, apr_psprintf(unit_pool(), "user:%d", i));
        count_here(&charge, RLP_UNIT);
    }
    for (int i = 1; i <= HERD; i++) {
        assert_true(tick() <= TIMEOUT + TIMEOUT / 2);
    }
    assert_int_equal(heard, HERD);
}

/* --- what is given back while another is told of */

static rlp_charge_t pair[2];
static rlp_units_t told[2];

static apr_status_t hear_pair(const rlp_charge_t *charge)
{
    const int which = charge->entry.key.identity[0] == 'b';

    told[which] = charge->cost;
    if (told[!which] == 0) {
        count_here(&pair[!which], -2 * RLP_UNIT);
    }
    return APR_SUCCESS;
}

static void test_given_back(void **state)
{
    (void)state;
    fresh(hear_pair);
    memset(told, 0, sizeof(told));
    for (int i = 0; i < 2; i++) {
        charge_init(&pair[i], i == 0 ? "a" : "b");
        count_here(&pair[i], 5 * RLP_UNIT);
    }
    (void)tick();
    assert_int_equal(told[0] + told[1], (5 + 3) * RLP_UNIT);
}

/* --- those that stay away */

static bool lone_heard;

static apr_status_t hear_lone(const rlp_charge_t *charge)
{
    lone_heard |= charge->entry.key.signature >> 32 != 0;
    return charge->entry.key.signature >> 32 != 0 ? APR_SUCCESS : APR_EAGAIN;
}

/* They may come to stand in one list, which is that of the upper half: others have their turn. */
static void test_herd(void **state)
{
    rlp_charge_t charge;

    (void)state;
    fresh(hear_lone);
    charge_init(&charge, "");
    lone_heard = false;
    for (uint64_t i = 1; i <= HERD; i++) {
        charge.entry.key.signature = i;
        count_here(&charge, RLP_UNIT);
    }
    charge.entry.key.signature = UINT64_C(1) << 32;
    count_here(&charge, RLP_UNIT);
    for (int i = 0; i < HERD; i++) {
        (void)tick();
    }
    assert_true(lone_heard);
}

int main(void)
{
    unit_add("a slow server keeps a tick for one timeout", test_slow, NULL);
    unit_add("given back while another is told of", test_given_back, NULL);
    unit_add("many that stay away keep nobody waiting", test_herd, NULL);
    return unit_run();
}
