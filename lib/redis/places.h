/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_PLACES_H
#define REDIS_PLACES_H

/*
 * The places that the requests of one process have in Redis. There each is a lease, which is to be
 * renewed while the request lasts. Threads may share it; the process takes it along when it dies,
 * and then the leases end.
 */

#include "redis/subject.h"

#include <apr_pools.h>

typedef struct redis_places_t redis_places_t;

/* One place. */
typedef struct redis_place_t {
    struct redis_place_t *next;
    redis_subject_t *subject;
    uint64_t holder;
    rlp_time_t due;   /* when it is to be renewed, */
    rlp_time_t again; /* and when, if Redis does not answer */
    bool asked;       /* it is being renewed, */
    bool gone;        /* and not there any more when that is done */
} redis_place_t;

/* What Redis says of a place that is to be renewed. */
typedef enum {
    REDIS_PLACE_KEPT,
    REDIS_PLACE_LOST,   /* it is not there any more */
    REDIS_PLACE_UNKNOWN /* nothing */
} redis_place_told_t;

/* An empty one, for this process or for its children, each its own. Lives in the pool. */
redis_places_t *redis_places_create(apr_pool_t *pool);

/* Notes the place that a charge has just got, at the time now: it is due when a third of its lease
   is over, or 20 seconds are. Without memory for it, it is not renewed. */
void redis_places_note(redis_places_t *places, const rlp_charge_t *charge, rlp_time_t now);

/* Forgets it, as it is given back. */
void redis_places_forget(redis_places_t *places, const rlp_charge_t *charge);

/* The one that is due for longest, and the next time after as long again; NULL: none. Redis is to
   be asked about it, and redis_places_told() to be called then. */
redis_place_t *redis_places_due(redis_places_t *places, rlp_time_t now);

/* One that is lost is forgotten; of which nothing is known, Redis is to be asked again soon. */
void redis_places_told(redis_places_t *places, redis_place_t *place, redis_place_told_t told);

#endif
