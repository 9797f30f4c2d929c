/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef POPULATION_H
#define POPULATION_H

/*
 * All identities of a replay, each with what the replay keeps of it.
 */

#include <apr_pools.h>

#include <stddef.h>
#include <stdint.h>

/* One identity; what the replay keeps of it lies behind. */
typedef struct {
    const char *name;
    uint32_t len;
    uint32_t pending; /* requests of the moment that is being replayed */
    uint64_t requests;
    uint64_t units; /* thousandths; UINT64_MAX: no fewer */
    char room[24];  /* of a short name, so that it is met together with the record */
} identity_t;

typedef struct population_t population_t;

/* Makes an empty one; extra bytes, at first 0, lie behind each identity. NULL if it cannot be
   made. */
population_t *population_create(size_t extra, apr_pool_t *pool);

/* The number of the identity of this name, which is new or known; UINT32_MAX: there are too
   many. */
uint32_t population_find(population_t *population, const char *name, size_t len);

/* How many there are: their numbers begin at 0. */
uint32_t population_count(const population_t *population);

/* The identity of a number. It stays where it is. */
identity_t *population_at(const population_t *population, uint32_t number);

#endif
