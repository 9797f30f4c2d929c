/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/places.h"

#include "redis/script.h"

#include <pthread.h>
#include <stdlib.h>

#define PLACES_LISTS 64

struct redis_places_t {
    pthread_mutex_t mutex; /* of all */
    int n;
    int first; /* the list that is looked through next */
    redis_place_t *lists[PLACES_LISTS];
};

static void place_free(redis_place_t *place)
{
    free(place->subject);
    free(place);
}

static apr_status_t places_destroy(void *data)
{
    redis_places_t *places = data;

    for (int i = 0; i < PLACES_LISTS; i++) {
        while (places->lists[i] != NULL) {
            redis_place_t *next = places->lists[i]->next;

            place_free(places->lists[i]);
            places->lists[i] = next;
        }
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

/* Holders are random. */
static redis_place_t **places_list(redis_places_t *places, uint64_t holder)
{
    return &places->lists[holder / 2 % PLACES_LISTS];
}

static rlp_time_t place_third(const rlp_limit_t *limit)
{
    return script_lease(limit) / 3;
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
                              .due = now + place_third(charge->limit) };
    pthread_mutex_lock(&places->mutex);
    redis_place_t **list = places_list(places, charge->holder);

    place->next = *list;
    *list = place;
    places->n++;
    pthread_mutex_unlock(&places->mutex);
}

/* Takes it out of its list. */
static void place_remove(redis_places_t *places, redis_place_t *place)
{
    redis_place_t **link = places_list(places, place->holder);

    while (*link != place) {
        link = &(*link)->next;
    }
    *link = place->next;
    places->n--;
    place_free(place);
}

void redis_places_forget(redis_places_t *places, const rlp_charge_t *charge)
{
    pthread_mutex_lock(&places->mutex);
    redis_place_t *place = *places_list(places, charge->holder);

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

redis_place_t *redis_places_due(redis_places_t *places, rlp_time_t now)
{
    redis_place_t *place = NULL;

    pthread_mutex_lock(&places->mutex);
    for (int i = 0; place == NULL && places->n > 0 && i < PLACES_LISTS; i++) {
        place = places->lists[places->first];
        while (place != NULL && (place->due > now || place->asked)) {
            place = place->next;
        }
        if (place == NULL) {
            places->first = (places->first + 1) % PLACES_LISTS;
        }
    }
    if (place != NULL) {
        place->asked = true;
        place->due = now + place_third(&place->subject->limit);
    }
    pthread_mutex_unlock(&places->mutex);
    return place;
}

void redis_places_told(redis_places_t *places, redis_place_t *place, bool there)
{
    pthread_mutex_lock(&places->mutex);
    place->asked = false;
    if (place->gone || !there) {
        place_remove(places, place);
    }
    pthread_mutex_unlock(&places->mutex);
}

int redis_places_size(redis_places_t *places)
{
    pthread_mutex_lock(&places->mutex);
    const int n = places->n;

    pthread_mutex_unlock(&places->mutex);
    return n;
}
