/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/places.h"

#include "redis/script.h"

#include <pthread.h>
#include <stdlib.h>

#define PLACE_PAUSE_MAX (20 * RLP_SECOND)
#define PLACE_AGAIN \
    8 /* a part of the pause, after which Redis is asked again that did not answer */

/* No more than a process has requests in flight: each can look through all. */
struct redis_places_t {
    pthread_mutex_t mutex; /* of all */
    redis_place_t *first;
};

static void place_free(redis_place_t *place)
{
    free(place->subject);
    free(place);
}

static apr_status_t places_destroy(void *data)
{
    redis_places_t *places = data;

    for (redis_place_t *place = places->first, *next; place != NULL; place = next) {
        next = place->next;
        place_free(place);
    }
    pthread_mutex_destroy(&places->mutex);
    return APR_SUCCESS;
}

redis_places_t *redis_places_create(apr_pool_t *pool)
{
    redis_places_t *places = apr_pcalloc(pool, sizeof(*places));

    *places = (redis_places_t){ .mutex = PTHREAD_MUTEX_INITIALIZER };
    apr_pool_cleanup_register(pool, places, places_destroy, apr_pool_cleanup_null);
    return places;
}

/* Until it is renewed: a third of its lease, but never so long that a minute would not do, since
   who asks under a limit with a shorter lease leaves it no more (script/concurrency.lua). */
static rlp_time_t place_pause(const rlp_limit_t *limit)
{
    const rlp_time_t third = script_lease(limit) / 3;

    return third < PLACE_PAUSE_MAX ? third : PLACE_PAUSE_MAX;
}

void redis_places_note(redis_places_t *places, const rlp_charge_t *charge, rlp_time_t now)
{
    redis_place_t *place = malloc(sizeof(*place));
    redis_subject_t *subject = redis_subject_copy(charge);

    if (place == NULL || subject == NULL) {
        free(place);
        free(subject);
        return;
    }
    *place = (redis_place_t){ .subject = subject,
                              .holder = charge->holder,
                              .due = now + place_pause(charge->limit) };
    pthread_mutex_lock(&places->mutex);
    place->next = places->first;
    places->first = place;
    pthread_mutex_unlock(&places->mutex);
}

static void place_remove(redis_places_t *places, redis_place_t *place)
{
    redis_place_t **link = &places->first;

    while (*link != place) {
        link = &(*link)->next;
    }
    *link = place->next;
    place_free(place);
}

void redis_places_forget(redis_places_t *places, const rlp_charge_t *charge)
{
    pthread_mutex_lock(&places->mutex);
    redis_place_t *place = places->first;

    while (place != NULL &&
           !(place->holder == charge->holder && redis_subject_is(place->subject, charge))) {
        place = place->next;
    }
    if (place != NULL && place->asked) {
        place->gone = true;
    } else if (place != NULL) {
        place_remove(places, place);
    }
    pthread_mutex_unlock(&places->mutex);
}

/* The one that has waited longest: where one server of several is away, others get their turn. */
redis_place_t *redis_places_due(redis_places_t *places, rlp_time_t now)
{
    redis_place_t *due = NULL;

    pthread_mutex_lock(&places->mutex);
    for (redis_place_t *place = places->first; place != NULL; place = place->next) {
        if (!place->asked && place->due <= (due != NULL ? due->due - 1 : now)) {
            due = place;
        }
    }
    if (due != NULL) {
        const rlp_time_t pause = place_pause(&due->subject->limit);

        due->asked = true;
        due->due = now + pause;
        due->again = now + pause / PLACE_AGAIN;
    }
    pthread_mutex_unlock(&places->mutex);
    return due;
}

void redis_places_told(redis_places_t *places, redis_place_t *place, redis_place_told_t told)
{
    pthread_mutex_lock(&places->mutex);
    place->asked = false;
    if (told == REDIS_PLACE_UNKNOWN) {
        place->due = place->again;
    }
    if (place->gone || told == REDIS_PLACE_LOST) {
        place_remove(places, place);
    }
    pthread_mutex_unlock(&places->mutex);
}
