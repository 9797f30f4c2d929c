/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/ledger.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide_t;

#define LEDGER_LISTS 1024

struct redis_ledger_t {
    pthread_mutex_t mutex; /* of all */
    int n;
    int next; /* the list that is taken from */
    redis_debt_t *lists[LEDGER_LISTS];
};

rlp_units_t redis_part(rlp_units_t units, int64_t part, int64_t whole)
{
    return (rlp_units_t)((wide_t)units * (wide_t)part / (wide_t)whole);
}

rlp_units_t redis_left(const rlp_limit_t *limit, rlp_units_t units, rlp_time_t age,
                       rlp_time_t reset)
{
    if (age <= 0 || reset == RLP_TIME_NEVER) {
        return units;
    }
    if (age >= reset) {
        return 0;
    }
    if (limit->algorithm->windowed || limit->algorithm->quota) {
        return units;
    }
    return redis_part(units, reset - age, reset);
}

void redis_debt_free(redis_debt_t *debt)
{
    free(debt->subject);
    free(debt);
}

static apr_status_t ledger_destroy(void *data)
{
    redis_ledger_t *ledger = data;

    for (int i = 0; i < LEDGER_LISTS; i++) {
        while (ledger->lists[i] != NULL) {
            redis_debt_t *next = ledger->lists[i]->next;

            redis_debt_free(ledger->lists[i]);
            ledger->lists[i] = next;
        }
    }
    pthread_mutex_destroy(&ledger->mutex);
    return APR_SUCCESS;
}

redis_ledger_t *redis_ledger_create(apr_pool_t *pool)
{
    redis_ledger_t *ledger = apr_pcalloc(pool, sizeof(*ledger));

    if (pthread_mutex_init(&ledger->mutex, NULL) != 0) {
        return NULL;
    }
    apr_pool_cleanup_register(pool, ledger, ledger_destroy, apr_pool_cleanup_null);
    return ledger;
}

/* FNV-1a: no client gets far with collisions among so few. */
static unsigned ledger_list(const rlp_charge_t *charge)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ charge->entry.key.signature;

    for (size_t i = 0; i < charge->entry.key.identity_len; i++) {
        hash = (hash ^ (unsigned char)charge->entry.key.identity[i]) * UINT64_C(0x100000001b3);
    }
    return (unsigned)(hash >> 32) % LEDGER_LISTS;
}

static redis_debt_t *ledger_make(const rlp_charge_t *charge, uint64_t outage)
{
    redis_debt_t *debt = malloc(sizeof(*debt));
    redis_subject_t *subject = redis_subject_copy(charge);

    if (debt == NULL || subject == NULL) {
        free(debt);
        free(subject);
        return NULL;
    }
    *debt = (redis_debt_t){ .subject = subject, .outage = outage };
    return debt;
}

/* The one of a charge, made where there is none and more is charged. */
static redis_debt_t *ledger_find(redis_ledger_t *ledger, const rlp_charge_t *charge, bool makes,
                                 uint64_t outage)
{
    redis_debt_t **list = &ledger->lists[ledger_list(charge)];
    redis_debt_t *debt = *list;

    while (debt != NULL && !(debt->outage == outage && redis_subject_is(debt->subject, charge))) {
        debt = debt->next;
    }
    if (debt != NULL || !makes || ledger->n >= REDIS_LEDGER_MAX) {
        return debt;
    }
    debt = ledger_make(charge, outage);
    if (debt != NULL) {
        debt->next = *list;
        *list = debt;
        ledger->n++;
    }
    return debt;
}

void redis_ledger_note(redis_ledger_t *ledger, const rlp_charge_t *charge, rlp_units_t units,
                       uint64_t outage, rlp_time_t now)
{
    pthread_mutex_lock(&ledger->mutex);
    redis_debt_t *debt = ledger_find(ledger, charge, units > 0, outage);

    if (debt != NULL) {
        const rlp_units_t left =
            redis_left(&debt->subject->limit, debt->units, now - debt->at, debt->reset);
        const rlp_units_t most = debt->subject->limit.burst;

        debt->units = units > most - left ? most : left + units;
        debt->units = debt->units < 0 ? 0 : debt->units;
        debt->reset = charge->decision.reset;
        debt->at = now;
    }
    pthread_mutex_unlock(&ledger->mutex);
}

redis_debt_t *redis_ledger_take(redis_ledger_t *ledger)
{
    redis_debt_t *debt = NULL;

    pthread_mutex_lock(&ledger->mutex);
    while (debt == NULL && ledger->n > 0) {
        redis_debt_t **list = &ledger->lists[ledger->next];

        ledger->next = (ledger->next + 1) % LEDGER_LISTS;
        debt = *list;
        if (debt != NULL) {
            *list = debt->next;
            ledger->n--;
        }
    }
    pthread_mutex_unlock(&ledger->mutex);
    return debt;
}

/* Behind the others of its list: they have their turn first. */
void redis_ledger_put(redis_ledger_t *ledger, redis_debt_t *debt)
{
    rlp_charge_t charge;

    redis_subject_charge(&charge, debt->subject);
    redis_debt_t **last = &ledger->lists[ledger_list(&charge)];

    debt->next = NULL;
    pthread_mutex_lock(&ledger->mutex);
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = debt;
    ledger->n++;
    pthread_mutex_unlock(&ledger->mutex);
}

int redis_ledger_size(redis_ledger_t *ledger)
{
    pthread_mutex_lock(&ledger->mutex);
    const int n = ledger->n;

    pthread_mutex_unlock(&ledger->mutex);
    return n;
}
