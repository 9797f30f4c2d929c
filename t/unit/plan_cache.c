/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is remembered of slow plan maps: for how long, that inventing values pushes nothing out,
 * what one address may ask, and that nobody reads half of an entry.
 */

#include "plan_map.h"
#include "unit.h"

#include <http_config.h>

#include <apr_strings.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KNOWN 10000
#define INVENTED 2000000 /* eight times as many as there is room for */
#define TORN_KEYS 64
#define TORN_ROUNDS 50
#define TTL (60 * RLP_SECOND)

world_t *rlp_world;

static rlp_time_t cache_test_now = 1000 * RLP_SECOND;

static rlp_time_t cache_test_clock(void)
{
    return cache_test_now;
}

/* What httpd keeps across restarts. */
void *ap_retained_data_get(const char *key)
{
    (void)key;
    return NULL;
}

void *ap_retained_data_create(const char *key, apr_size_t size)
{
    static uint64_t room[8];

    (void)key;
    assert_true(size <= sizeof(room));
    return memset(room, 0, sizeof(room));
}

static const rlp_clock_provider_t cache_test_clocks = { .monotonic = cache_test_clock };

/* A world with these plans, in this order. */
static void cache_test_world(const char *const names[], int n)
{
    apr_pool_t *pool = unit_pool();

    rlp_world = apr_pcalloc(pool, sizeof(*rlp_world));
    rlp_world->clock = &cache_test_clocks;
    rlp_world->plan_list = apr_array_make(pool, n, sizeof(plan_t *));
    for (int i = 0; i < n; i++) {
        plan_t *plan = apr_pcalloc(pool, sizeof(*plan));

        plan->limits = apr_pcalloc(pool, sizeof(*plan->limits));
        plan->limits->name = names[i];
        plan->index = i + 1;
        APR_ARRAY_PUSH(rlp_world->plan_list, const plan_t *) = plan;
    }
}

static const plan_t *cache_test_plan(int i)
{
    return APR_ARRAY_IDX(rlp_world->plan_list, i, const plan_t *);
}

static cache_key_t cache_test_key(const cache_t *cache, const char *what, int i)
{
    char value[40];

    (void)snprintf(value, sizeof(value), "%s-%d", what, i);
    return cache_key(cache, cache_source(cache, "source"), value);
}

static cache_t *cache_test_open(void)
{
    static const char *const names[] = { "free", "pro" };

    cache_test_world(names, 2);
    cache_t *cache = cache_open();

    assert_non_null(cache);
    return cache;
}

static void test_remembers(void **state)
{
    static const char *const names[] = { "other", "pro", "free" };
    cache_t *cache = cache_test_open();
    const cache_key_t one = cache_test_key(cache, "value", 1);
    const cache_key_t two = cache_test_key(cache, "value", 2);
    const plan_t *plan = NULL;

    (void)state;
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_NONE);
    cache_put(cache, &one, cache_test_plan(1), TTL);
    cache_put(cache, &two, NULL, TTL);
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_FRESH);
    assert_ptr_equal(plan, cache_test_plan(1));
    assert_int_equal(cache_get(cache, &two, &plan), CACHE_FRESH);
    assert_null(plan);

    cache_test_now += TTL;
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_OLD);
    assert_ptr_equal(plan, cache_test_plan(1));
    assert_int_equal(cache_get(cache, &two, &plan), CACHE_NONE);
    cache_hold(cache, &one, cache_test_plan(1));
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_FRESH);
    cache_test_now += RLP_SECOND;
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_OLD);

    cache_put_failed(cache, &two);
    assert_int_equal(cache_get(cache, &two, &plan), CACHE_FRESH);
    cache_test_now += RLP_SECOND;
    assert_int_equal(cache_get(cache, &two, &plan), CACHE_NONE);

    cache_test_world(names, 3); /* after a restart */
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_OLD);
    assert_string_equal(plan->limits->name, "pro");
    cache_put(cache, &one, NULL, TTL);
    assert_int_equal(cache_get(cache, &one, &plan), CACHE_FRESH);
    assert_null(plan);
    cache_put(cache, &two, cache_test_plan(0), TTL);
    cache_test_world(names + 1, 2); /* without a plan that was there */
    assert_int_equal(cache_get(cache, &two, &plan), CACHE_NONE);
}

/* Each of them is unknown, so that is what would be remembered. */
static void test_keeps_known_values(void **state)
{
    cache_t *cache = cache_test_open();
    const plan_t *plan = NULL;

    (void)state;
    for (int i = 0; i < KNOWN; i++) {
        const cache_key_t key = cache_test_key(cache, "known", i);

        cache_put(cache, &key, cache_test_plan(i % 2), TTL);
    }
    for (int i = 0; i < INVENTED; i++) {
        const cache_key_t key = cache_test_key(cache, "invented", i);

        cache_put(cache, &key, NULL, 10 * TTL);
    }
    for (int i = 0; i < KNOWN; i++) {
        const cache_key_t key = cache_test_key(cache, "known", i);

        assert_int_equal(cache_get(cache, &key, &plan), CACHE_FRESH);
        assert_ptr_equal(plan, cache_test_plan(i % 2));
    }
}

static int cache_test_asks(cache_t *cache, const char *address, int n)
{
    char text[64];
    request_rec r = { .useragent_ip = text };
    int asks = 0;

    apr_cpystrn(text, address, sizeof(text));
    for (int i = 0; i < n; i++) {
        asks += cache_may_ask(cache, &r);
    }
    return asks;
}

static void test_bounds_questions(void **state)
{
    cache_t *cache = cache_test_open();

    (void)state;
    assert_int_equal(cache_test_asks(cache, "192.0.2.1", 100000), 10);
    assert_int_equal(cache_test_asks(cache, "192.0.2.2", 5), 5);
    assert_int_equal(cache_test_asks(cache, "2001:db8::1", 20), 10);
    assert_int_equal(cache_test_asks(cache, "2001:db8::ffff:2", 20), 0);
    assert_int_equal(cache_test_asks(cache, "2001:db8:0:1::1", 20), 10);
    cache_test_now += RLP_SECOND / 10;
    assert_int_equal(cache_test_asks(cache, "192.0.2.1", 100), 1);
    for (int i = 0; i < 100; i++) { /* a second of constant asking */
        cache_test_now += RLP_SECOND / 100;
        (void)cache_test_asks(cache, "192.0.2.3", 1);
    }
    assert_int_equal(cache_test_asks(cache, "192.0.2.3", 100), 0);
    cache_test_now += RLP_SECOND;
    assert_int_equal(cache_test_asks(cache, "192.0.2.1", 100), 10);
}

/* Writes answers of few keys, for ever. */
static void cache_test_write(cache_t *cache)
{
    for (int i = 0;; i = (i * 7 + 1) % TORN_KEYS) {
        const cache_key_t key = cache_test_key(cache, "torn", i);

        cache_put(cache, &key, cache_test_plan(i % 2), TTL + i);
    }
}

static void cache_test_read(cache_t *cache)
{
    const plan_t *plan = NULL;

    for (int i = 0; i < 200 * TORN_KEYS; i++) {
        const cache_key_t key = cache_test_key(cache, "torn", i % TORN_KEYS);

        if (cache_get(cache, &key, &plan) == CACHE_FRESH) {
            assert_ptr_equal(plan, cache_test_plan(i % TORN_KEYS % 2));
        }
    }
}

static void test_is_never_half(void **state)
{
    cache_t *cache = cache_test_open();

    (void)state;
    for (int i = 0; i < TORN_ROUNDS; i++) {
        const pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            (void)alarm(60); /* where the test fails, too */
            cache_test_write(cache);
        }
        cache_test_read(cache);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        cache_test_read(cache);
    }
}

int main(void)
{
    unit_add("answers count as long as they should, and outlive plans", test_remembers, NULL);
    unit_add("two million invented values push no known one out", test_keeps_known_values, NULL);
    unit_add("one address has ten questions a second", test_bounds_questions, NULL);
    unit_add("no reader has half an answer, whoever is killed", test_is_never_half, NULL);
    return unit_run();
}
