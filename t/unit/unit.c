/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "unit.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define UNIT_WORDS 32
#define UNIT_TESTS 512

static struct {
    size_t n;
    struct CMUnitTest tests[UNIT_TESTS];
} unit_tests;

apr_pool_t *unit_pool(void)
{
    static apr_pool_t *pool;

    if (pool == NULL && (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL))) {
        abort();
    }
    return pool;
}

const char *unit_parse(const rlp_plan_t **plan, const char *text, const rlp_plan_t *base)
{
    const char *words[UNIT_WORDS];
    char *rest = NULL;
    int n = 0;
    rlp_plan_t *made = NULL;

    for (char *word = apr_strtok(apr_pstrdup(unit_pool(), text), " ", &rest); word != NULL;
         word = apr_strtok(NULL, " ", &rest)) {
        assert_in_range(n, 0, UNIT_WORDS - 1);
        words[n++] = word;
    }
    const rlp_plan_source_t source = {
        .name = "test", .words = words, .n = n, .base = base, .wall = apr_time_now()
    };
    const char *error = rlp_plan_parse(&made, &source, unit_pool());

    *plan = made;
    return error;
}

const rlp_plan_t *unit_plan(const char *words)
{
    const rlp_plan_t *plan;
    const char *error = unit_parse(&plan, words, NULL);

    if (error != NULL) {
        fail_msg("%s: %s", words, error);
    }
    return plan;
}

/* splitmix64, by Sebastiano Vigna, public domain */
uint64_t unit_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t unit_below(uint64_t *state, uint64_t bound)
{
    return unit_random(state) % bound;
}

int64_t unit_size(uint64_t *state, unsigned digits)
{
    uint64_t bound = 10;

    for (uint64_t n = unit_below(state, digits); n > 0; n--) {
        bound *= 10;
    }
    return (int64_t)unit_below(state, bound) + 1;
}

rlp_time_t unit_wait(uint64_t *state, rlp_time_t longest)
{
    switch (unit_below(state, 4)) {
    case 0:
        return 0;
    case 1:
        return (rlp_time_t)unit_below(state, (uint64_t)longest + 1);
    default:
        return longest;
    }
}

uint64_t unit_seed(void)
{
    static uint64_t seed;
    const char *given = getenv("RLP_SEED");

    if (seed == 0) {
        seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)rlp_clock_monotonic();
        printf("# RLP_SEED=%" PRIu64 " replays this\n", seed);
    }
    return seed;
}

int unit_steps(void)
{
    static int steps;
    const char *given = getenv("RLP_STEPS");

    if (steps == 0) {
        steps = given != NULL ? atoi(given) : 1000000;
    }
    return steps;
}

void unit_add(const char *name, CMUnitTestFunction run, const void *row)
{
    if (unit_tests.n == UNIT_TESTS) {
        abort();
    }
    unit_tests.tests[unit_tests.n++] = (struct CMUnitTest){
        .name = name, .test_func = run, .initial_state = apr_pmemdup(unit_pool(), &row, sizeof(row))
    };
}

void unit_add_singles(const unit_single_t singles[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unit_add(singles[i].name, singles[i].run, NULL);
    }
}

void unit_add_case(const char *id, const char *what, CMUnitTestFunction run, const void *row)
{
    unit_add(apr_pstrcat(unit_pool(), id, ": ", what, NULL), run, row);
}

const void *unit_row(void **state)
{
    return *(const void **)*state;
}

void unit_skip(const char *why)
{
    printf("# the next one was skipped: %s\n", why);
}

void unit_skip_row(void **state)
{
    unit_skip(unit_row(state));
}

int unit_run(void)
{
    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* who reads along sees each result at once */
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const int failed = _cmocka_run_group_tests("unit", unit_tests.tests, unit_tests.n, NULL, NULL);

    apr_terminate(); /* what the pool's cleanups free is no leak */
    return failed;
}
