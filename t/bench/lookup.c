/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * lookup FILE: nanoseconds to look a value up in the table of a text map, and among the remembered
 * answers of slow maps. FILE has lines of 32 hexadecimal digits from 1 up, and the plan "free".
 */

#include "plan_map.h"

#include <http_config.h>

#include <apr_general.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOOKUP_N 1000000
#define LOOKUP_CACHED 100000

world_t *rlp_world;

static const rlp_clock_provider_t lookup_clock = { .monotonic = rlp_clock_monotonic };

/* What httpd keeps across restarts. */
void *ap_retained_data_get(const char *key)
{
    (void)key;
    return NULL;
}

void *ap_retained_data_create(const char *key, apr_size_t size)
{
    (void)key;
    return calloc(1, size);
}

static plan_t *lookup_world(apr_pool_t *pool)
{
    plan_t *plan = apr_pcalloc(pool, sizeof(*plan));

    rlp_world = apr_pcalloc(pool, sizeof(*rlp_world));
    rlp_world->clock = &lookup_clock;
    rlp_world->plans = apr_hash_make(pool);
    rlp_world->plan_list = apr_array_make(pool, 1, sizeof(plan_t *));
    plan->limits = apr_pcalloc(pool, sizeof(*plan->limits));
    plan->limits->name = "free";
    plan->index = 1;
    apr_hash_set(rlp_world->plans, "free", APR_HASH_KEY_STRING, plan);
    APR_ARRAY_PUSH(rlp_world->plan_list, const plan_t *) = plan;
    return plan;
}

/* A value of so many, one after the other far from each other. */
static void lookup_value(char value[33], int i, int n)
{
    (void)snprintf(value, 33, "%032x", (unsigned)((int64_t)i * 7919 % n) + 1);
}

/* Nanoseconds to make such a value and nothing more. */
static double lookup_floor(int n)
{
    char value[33];
    const rlp_time_t begin = rlp_clock_monotonic();

    for (int i = 0; i < LOOKUP_N; i++) {
        lookup_value(value, i, n);
        __asm__ volatile("" : : "r"(value) : "memory");
    }
    return (double)(rlp_clock_monotonic() - begin) * 1000.0 / LOOKUP_N;
}

static double lookup_txt(const txt_t *txt, int *found)
{
    char value[33];
    const rlp_time_t begin = rlp_clock_monotonic();

    for (int i = 0; i < LOOKUP_N; i++) {
        lookup_value(value, i, LOOKUP_N);
        *found += txt_find(txt, value) != NULL;
    }
    return (double)(rlp_clock_monotonic() - begin) * 1000.0 / LOOKUP_N;
}

static double lookup_cache(cache_t *cache, const plan_t *plan, int *found)
{
    const plan_t *known = NULL;
    char value[33];
    rlp_time_t begin = 0;

    for (int i = 0; i < LOOKUP_CACHED + LOOKUP_N; i++) {
        lookup_value(value, i, LOOKUP_CACHED);
        const cache_key_t key = cache_key(cache, 1, value);

        if (i < LOOKUP_CACHED) {
            cache_put(cache, &key, plan, 3600 * RLP_SECOND);
            begin = rlp_clock_monotonic();
        } else {
            *found += cache_get(cache, &key, &known) == CACHE_FRESH;
        }
    }
    return (double)(rlp_clock_monotonic() - begin) * 1000.0 / LOOKUP_N;
}

int main(int argc, char *argv[])
{
    const txt_t *txt = NULL;
    cache_t *cache = NULL;
    file_mark_t mark;
    apr_pool_t *pool;
    int found[2] = { 0 };

    if (argc != 2 || apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&pool, NULL) != APR_SUCCESS || (cache = cache_open()) == NULL) {
        fputs("usage: lookup FILE\n", stderr);
        return 1;
    }
    const plan_t *plan = lookup_world(pool);
    const txt_request_t request = { .path = argv[1], .fd = memfd_create("lookup", 0) };
    const char *error = txt_read(&txt, &mark, &request, pool);

    if (error != NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    const double floor = lookup_floor(LOOKUP_N);
    const double in_txt = lookup_txt(txt, &found[0]);
    const double in_cache = lookup_cache(cache, plan, &found[1]);

    printf("{\"txt_ns\":%.0f,\"txt_found\":%d,\"cache_ns\":%.0f,\"cache_found\":%d,\"table_mb\":%."
           "1f}\n",
           in_txt - floor, found[0], in_cache - floor, found[1], (double)txt_size(txt) / 1048576);
    return 0;
}
