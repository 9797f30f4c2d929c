/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Who is refused most, where several take note of it at the same moment: none gets into the other's
 * entry, and none who read his clock just before a minute or an hour was over turns it back.
 */

#include "stats.h"
#include "unit.h"

#include <apr_strings.h>

#include <string.h>

world_t *rlp_world;

module AP_MODULE_DECLARE_DATA ratelimit_plans_module;

/* What of httpd and of the module stats.c needs. */
static server_conf_t stats_test_conf = { .key_plain = 1 };

void *(ap_get_module_config)(const ap_conf_vector_t *config, const module *m)
{
    (void)config;
    (void)m;
    return &stats_test_conf;
}

static rlp_time_t stats_test_now;

rlp_time_t annex_now(void)
{
    return stats_test_now;
}

const char *identity_logged(const char *identity, bool plain, apr_pool_t *pool)
{
    (void)plain;
    return apr_pstrdup(pool, identity);
}

static rlp_time_t stats_test_clock(void)
{
    return stats_test_now;
}

static const rlp_clock_provider_t stats_test_clocks = { .monotonic = stats_test_clock,
                                                        .wall = stats_test_clock };

/* --- a world whose annex is empty */

/* As in a segment, it begins with a line. */
static _Alignas(stats_area_t) unsigned char stats_test_annex[RLP_ANNEX_SIZE];

static stats_area_t *stats_test_begin(void)
{
    apr_pool_t *pool = unit_pool();

    stats_test_now = 1000 * (rlp_time_t)STATS_HOUR;
    rlp_world = apr_pcalloc(pool, sizeof(*rlp_world));
    rlp_world->clock = &stats_test_clocks;
    rlp_world->annex = memset(stats_test_annex, 0, sizeof(stats_test_annex));
    assert_int_equal(rlp_memory_create(&rlp_world->store, pool), APR_SUCCESS);
    annex_begin(rlp_world->annex, ANNEX_STATISTICS);
    stats_open(NULL);
    return annex_area(rlp_world->annex, ANNEX_STATISTICS);
}

/* The rule refuses somebody. */
static void stats_test_refuse(const char *who)
{
    const rule_t rule = { .scope = "api" };
    outcome_t outcome = { .rule = &rule };
    const verdict_t verdict = { .identity = who, .n = 1, .outcomes = &outcome };

    stats_note(&verdict, &stats_test_conf, unit_pool());
}

static uint64_t stats_test_refused(const char *who)
{
    const stats_t *stats = stats_read(unit_pool());

    for (int i = 0; i < stats->n_top; i++) {
        if (strcmp(stats->top[i].identity, who) == 0) {
            return stats->top[i].refused;
        }
    }
    return 0;
}

/* The lock of the set in which somebody is, who has been refused. */
static uint64_t *stats_test_lock(stats_area_t *area, const char *who)
{
    for (int i = 0; i < STATS_TOP; i++) {
        if (strcmp(stats_top_at(area, i)->identity, who) == 0) {
            return &area->sets[i / STATS_WAYS].lock;
        }
    }
    fail_msg("%s is nowhere", who);
    return NULL;
}

/* --- the lock */

static void test_lock(void **state)
{
    static const struct {
        int64_t taken; /* microseconds ago */
        bool kept;
    } cases[] = {
        { 1, true },         { 0, true },          { -1, true },       { -999999, true },
        { 999999, true },    { 1000000, true },    { 1000001, false }, { -1000001, false },
        { 60000000, false }, { -60000000, false },
    };
    stats_area_t *area = stats_test_begin();

    (void)state;
    stats_test_refuse("ip:192.0.2.1");
    uint64_t *lock = stats_test_lock(area, "ip:192.0.2.1");

    assert_true(*lock == 0);
    for (size_t i = 0; i < UNIT_N(cases); i++) {
        const uint64_t refused = stats_test_refused("ip:192.0.2.1");
        const uint64_t dropped = area->dropped;
        const uint64_t taken = (uint64_t)(stats_test_now - cases[i].taken);

        *lock = taken;
        stats_test_refuse("ip:192.0.2.1");
        assert_true(stats_test_refused("ip:192.0.2.1") == refused + !cases[i].kept);
        assert_true(area->dropped == dropped + cases[i].kept);
        assert_true(*lock == (cases[i].kept ? taken : 0));
    }
}

/* --- minutes and hours */

/* Counts of two hours; who comes late by one hour changes nothing of that. */
static void test_hour(void **state)
{
    (void)stats_test_begin();
    (void)state;
    for (int i = 0; i < 5; i++) {
        stats_test_refuse("ip:192.0.2.1");
    }
    stats_test_now += (rlp_time_t)STATS_HOUR;
    stats_test_refuse("ip:192.0.2.1");
    assert_true(stats_test_refused("ip:192.0.2.1") == 6);
    stats_test_now -= 1;
    stats_test_refuse("ip:192.0.2.1");
    stats_test_now += 1;
    assert_true(stats_test_refused("ip:192.0.2.1") == 7);
    stats_test_now += (rlp_time_t)STATS_HOUR;
    assert_true(stats_test_refused("ip:192.0.2.1") == 2);
    stats_test_now += (rlp_time_t)STATS_HOUR;
    assert_true(stats_test_refused("ip:192.0.2.1") == 0);
}

/* So does who comes late by a minute; a moment that is no time of this clock is not kept. */
static void test_minute(void **state)
{
    stats_area_t *area = stats_test_begin();
    rule_t rule = { .scope = "api" };
    uint64_t *counts = stats_counts(&rule, NULL);

    (void)state;
    for (int i = 0; i < 5; i++) {
        stats_add(counts, STATS_ADMITTED);
    }
    stats_test_now += STATS_MINUTE;
    stats_tick();
    stats_test_now -= 1;
    stats_tick();
    stats_test_now += 1;
    stats_add(counts, STATS_ADMITTED);
    const stats_t *stats = stats_read(unit_pool());

    assert_int_equal(stats->n, 1);
    assert_int_equal(stats->rows[0].minutes[0][STATS_MINUTES - 2], 5);
    assert_int_equal(stats->rows[0].minutes[0][STATS_MINUTES - 1], 1);
    area->minute = UINT64_MAX / 2;
    stats_tick();
    assert_true(area->minute == (uint64_t)(stats_test_now / STATS_MINUTE));
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "who has the lock keeps it for a second, by whichever clock", test_lock },
        { "an hour is not turned back", test_hour },
        { "nor is a minute", test_minute },
    };

    unit_add_singles(singles, UNIT_N(singles));
    return unit_run();
}
