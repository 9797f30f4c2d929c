/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * sync=lease of the store "redis": the memory of this host's leases, and the thread of a child that
 * renews them and gives them back.
 */

#include "store_redis.h"

#include "plan_map.h"
#include "redis/lease_store.h"

#include <apr_shm.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

#include <string.h>

#define FAR_LEASES (16 * LEASE_TABLE_STEP)
#define FAR_ALIGNMENT 64
#define FAR_RENEWALS 64 /* that wait; later requests ask again for those beyond */
#define FAR_LEASE_EVERY (APR_USEC_PER_SEC / 4)
#define FAR_LEASE_PATIENCE APR_USEC_PER_SEC /* for what is given back at the end */
#define FAR_LEASE_NAP (FAR_LEASE_PATIENCE / 1000)

static const char *const far_syncs[] = { "exact", "lease", NULL };

/* --- configuration */

const char *far_sync(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    const int sync = config_word(value, far_syncs);

    if (sync < 0) {
        return apr_psprintf(pool, "expected sync=exact or lease, got \"sync=%s\"%s", value,
                            config_near_whole(value, far_syncs, pool));
    }
    settings->leases = sync > 0;
    return NULL;
}

const char *far_doubt(void *made, const rlp_limit_t limits[], int n, bool delays,
                      const rlp_terms_t *terms)
{
    const far_settings_t *settings = made;
    const bool usual = terms == NULL || terms->sync == RLP_SYNC_USUAL;
    int fit = 0;

    if (n == 0 || !(usual ? settings->leases : terms->sync == RLP_SYNC_LEASE)) {
        return NULL;
    }
    if (delays) {
        return "sync=lease has no effect here: its requests wait for their turn, so each takes a "
               "round trip to Redis";
    }
    for (int i = 0; i < n; i++) {
        fit += lease_fits_limit(&limits[i]);
    }
    return fit > 0 ? NULL
                   : "sync=lease has no effect here: none of the limits can be leased, so each "
                     "request takes a round trip to Redis";
}

/* --- the memory */

static lease_table_t *far_lease_table(const far_settings_t *settings, apr_pool_t *pool)
{
    const apr_size_t size = lease_table_size(FAR_LEASES);
    apr_shm_t *shm;

    if (apr_shm_create(&shm, size + FAR_ALIGNMENT, NULL, pool) != APR_SUCCESS) {
        return NULL;
    }
    char *base = apr_shm_baseaddr_get(shm);

    base += (FAR_ALIGNMENT - (uintptr_t)base % FAR_ALIGNMENT) % FAR_ALIGNMENT;
    return lease_table_make(memset(base, 0, size), FAR_LEASES, settings->timeout);
}

rlp_store_t *far_lease_open(rlp_store_t *exact, redis_endpoint_t *endpoint,
                            const far_settings_t *settings, apr_pool_t *pool)
{
    const lease_store_settings_t made = { .exact = exact,
                                          .table = far_lease_table(settings, pool),
                                          .endpoint = endpoint,
                                          .timeout = settings->timeout,
                                          .usual = settings->leases };

    return made.table != NULL ? lease_store_create(&made, pool) : NULL;
}

/* --- the thread of a child */

typedef struct {
    rlp_store_t *store;
    apr_thread_t *thread;
    apr_thread_mutex_t *mutex; /* of what follows */
    apr_thread_cond_t *cond;
    uint32_t renewals[FAR_RENEWALS];
    int n;
    bool stop;
    bool done;
    volatile unsigned hurry; /* it stops at once */
} renewer_t;

/* Of a request's thread. */
static void renewer_add(void *baton, uint32_t index)
{
    renewer_t *renewer = baton;

    apr_thread_mutex_lock(renewer->mutex);
    if (renewer->n < FAR_RENEWALS) {
        renewer->renewals[renewer->n++] = index;
        apr_thread_cond_signal(renewer->cond);
    }
    apr_thread_mutex_unlock(renewer->mutex);
}

/* Sees to what is there; the mutex is held before and after. */
static void renewer_work(renewer_t *renewer)
{
    uint32_t renewals[FAR_RENEWALS];
    const int n = renewer->n;

    memcpy(renewals, renewer->renewals, sizeof(renewals));
    renewer->n = 0;
    apr_thread_mutex_unlock(renewer->mutex);
    for (int i = 0; i < n; i++) {
        lease_store_renew(renewer->store, renewals[i]);
    }
    lease_store_return(renewer->store, false, &renewer->hurry);
    apr_thread_mutex_lock(renewer->mutex);
}

static void *APR_THREAD_FUNC renewer_run(apr_thread_t *thread, void *data)
{
    renewer_t *renewer = data;

    (void)thread;
    apr_thread_mutex_lock(renewer->mutex);
    while (!renewer->stop) {
        if (renewer->n == 0) {
            apr_thread_cond_timedwait(renewer->cond, renewer->mutex, FAR_LEASE_EVERY);
        }
        renewer_work(renewer);
    }
    apr_thread_mutex_unlock(renewer->mutex);
    lease_store_return(renewer->store, true, &renewer->hurry);
    apr_thread_mutex_lock(renewer->mutex);
    renewer->done = true;
    apr_thread_cond_broadcast(renewer->cond);
    apr_thread_mutex_unlock(renewer->mutex);
    return NULL;
}

/* The mutex is held. */
static void renewer_await(renewer_t *renewer)
{
    apr_status_t rv = APR_SUCCESS;

    while (!renewer->done && rv == APR_SUCCESS) {
        rv = apr_thread_cond_timedwait(renewer->cond, renewer->mutex, FAR_LEASE_PATIENCE);
    }
}

/* False: this is a signal's handler, in the midst of what has the mutex. */
static bool renewer_lock(const renewer_t *renewer)
{
    apr_status_t rv = apr_thread_mutex_trylock(renewer->mutex);

    for (apr_time_t slept = 0; rv != APR_SUCCESS && slept < FAR_LEASE_PATIENCE;
         slept += FAR_LEASE_NAP) {
        apr_sleep(FAR_LEASE_NAP);
        rv = apr_thread_mutex_trylock(renewer->mutex);
    }
    return rv == APR_SUCCESS;
}

/* All leases go back, whoever else of this host may still use them: they draw others. Under prefork
   this may run in the midst of anything: it does not wait for ever. */
static apr_status_t renewer_stop(void *data)
{
    renewer_t *renewer = data;
    apr_status_t rv;

    lease_store_tell(renewer->store, NULL, NULL);
    if (!renewer_lock(renewer)) {
        return APR_SUCCESS;
    }
    renewer->stop = true;
    apr_thread_cond_broadcast(renewer->cond);
    renewer_await(renewer);
    renewer->hurry = 1;
    renewer_await(renewer);
    const bool done = renewer->done;

    apr_thread_mutex_unlock(renewer->mutex);
    if (done) {
        apr_thread_join(&rv, renewer->thread);
    }
    return APR_SUCCESS;
}

apr_status_t far_lease_child(rlp_store_t *store, apr_pool_t *pchild)
{
    renewer_t *renewer = apr_pcalloc(pchild, sizeof(*renewer));

    renewer->store = store;
    apr_status_t rv = apr_thread_mutex_create(&renewer->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);

    if (rv == APR_SUCCESS) {
        rv = apr_thread_cond_create(&renewer->cond, pchild);
    }
    if (rv == APR_SUCCESS) {
        rv = plan_map_thread(&renewer->thread, renewer_run, renewer, pchild);
    }
    if (rv == APR_SUCCESS) {
        lease_store_tell(store, renewer_add, renewer);
        apr_pool_pre_cleanup_register(pchild, renewer, renewer_stop);
    }
    return rv;
}
