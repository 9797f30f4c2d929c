/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * All identities of a replay: records that stay where they are, and a table of open addressing that
 * finds them. Memory that is given back is reused by the system, not by the pool.
 */

#include "population.h"

#include <apr_general.h>
#include <apr_siphash.h>

#include <stdlib.h>
#include <string.h>

#define POPULATION_CHUNK 4096u /* records */
#define POPULATION_CHUNKS 262144u
#define POPULATION_FIRST 65536u /* places */

typedef struct {
    uint32_t tag;
    uint32_t number; /* from 1; 0: free */
} place_t;

struct population_t {
    unsigned char key[APR_SIPHASH_KSIZE];
    size_t record; /* bytes */
    uint32_t n;
    uint32_t mask;
    place_t *places;
    char **chunks;
    apr_pool_t *pool;
};

static apr_status_t population_free(void *data)
{
    population_t *population = data;

    free(population->places);
    return APR_SUCCESS;
}

population_t *population_create(size_t extra, apr_pool_t *pool)
{
    population_t *population = apr_pcalloc(pool, sizeof(*population));

    population->record = sizeof(identity_t) + (extra + 7) / 8 * 8;
    population->mask = POPULATION_FIRST - 1;
    population->places = calloc(POPULATION_FIRST, sizeof(*population->places));
    population->chunks = apr_pcalloc(pool, POPULATION_CHUNKS * sizeof(*population->chunks));
    population->pool = pool;
    apr_pool_cleanup_register(pool, population, population_free, apr_pool_cleanup_null);
    if (population->places == NULL ||
        apr_generate_random_bytes(population->key, sizeof(population->key)) != APR_SUCCESS) {
        return NULL;
    }
    return population;
}

uint32_t population_count(const population_t *population)
{
    return population->n;
}

identity_t *population_at(const population_t *population, uint32_t number)
{
    char *chunk = population->chunks[number / POPULATION_CHUNK];

    return (identity_t *)(void *)(chunk + number % POPULATION_CHUNK * population->record);
}

/* Twice as many places. */
static void population_grow(population_t *population)
{
    const uint32_t mask = population->mask * 2 + 1;
    place_t *places = calloc((size_t)mask + 1, sizeof(*places));

    if (places == NULL) {
        return; /* it goes on more slowly, until it is full */
    }
    for (uint32_t i = 0; i <= population->mask; i++) {
        const place_t *place = &population->places[i];

        if (place->number == 0) {
            continue;
        }
        uint32_t at = place->tag & mask;

        while (places[at].number != 0) {
            at = (at + 1) & mask;
        }
        places[at] = *place;
    }
    free(population->places);
    population->places = places;
    population->mask = mask;
}

static uint32_t population_add(population_t *population, place_t *place, const char *name,
                               size_t len)
{
    const uint32_t number = population->n;
    char **chunk = &population->chunks[number / POPULATION_CHUNK];

    if (number / POPULATION_CHUNK >= POPULATION_CHUNKS || number == population->mask) {
        place->number = 0;
        return UINT32_MAX;
    }
    if (*chunk == NULL) {
        *chunk = apr_pcalloc(population->pool, POPULATION_CHUNK * population->record);
    }
    identity_t *identity = population_at(population, number);

    char *room = len <= sizeof(identity->room) ? identity->room : apr_palloc(population->pool, len);

    memcpy(room, name, len);
    identity->name = room;
    identity->len = (uint32_t)len;
    place->number = ++population->n;
    if (population->n > population->mask / 2) {
        population_grow(population);
    }
    return number;
}

uint32_t population_find(population_t *population, const char *name, size_t len)
{
    const uint32_t tag = (uint32_t)apr_siphash24(name, len, population->key);

    for (uint32_t i = tag & population->mask;; i = (i + 1) & population->mask) {
        place_t *place = &population->places[i];

        if (place->number == 0) {
            place->tag = tag;
            return population_add(population, place, name, len);
        }
        if (place->tag != tag) {
            continue;
        }
        const identity_t *known = population_at(population, place->number - 1);

        if (known->len == len && memcmp(known->name, name, len) == 0) {
            return place->number - 1;
        }
    }
}
