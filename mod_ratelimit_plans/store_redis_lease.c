/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * sync=lease of the store "redis": the memory of this host's leases, and the thread of a child that
 * renews them and gives them back.
 */

#include "store_redis.h"

#include "redis/lease_store.h"
#include "thread.h"

#include <apr_shm.h>
#include <apr_strings.h>

#include <string.h>

#define FAR_LEASES (16 * LEASE_TABLE_STEP)
#define FAR_ALIGNMENT 64
#define FAR_RENEWALS 64 /* that wait; later requests ask again for those beyond */
#define FAR_LEASE_EVERY (APR_USEC_PER_SEC / 4)
#define FAR_LEASE_PATIENCE APR_USEC_PER_SEC /* for what is given back at the end */

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

/* Its thread's mutex is that of the renewals. */
typedef struct {
    rlp_store_t *store;
    uint32_t renewals[FAR_RENEWALS];
    int n;
    volatile unsigned hurry; /* it stops at once */
} renewer_t;

/* Of a request's thread; of one that was about to when it ended, after that, too. */
static void renewer_add(void *baton, uint32_t index)
{
    thread_t *thread = baton;
    renewer_t *renewer = thread->data;

    pthread_mutex_lock(&thread->mutex);
    if (renewer->n < FAR_RENEWALS) {
        renewer->renewals[renewer->n++] = index;
        pthread_cond_signal(&thread->cond);
    }
    pthread_mutex_unlock(&thread->mutex);
}

/* Waits until there is something to see to, or it is time to look, and takes it; false: it is to
   end. */
static bool renewer_take(thread_t *thread, uint32_t renewals[FAR_RENEWALS], int *n)
{
    renewer_t *renewer = thread->data;

    pthread_mutex_lock(&thread->mutex);
    if (renewer->n == 0 && !thread_is_stopped(thread)) {
        (void)thread_await(&thread->cond, &thread->mutex, FAR_LEASE_EVERY);
    }
    memcpy(renewals, renewer->renewals, sizeof(renewer->renewals));
    *n = renewer->n;
    renewer->n = 0;
    pthread_mutex_unlock(&thread->mutex);
    return !thread_is_stopped(thread);
}

static void renewer_run(thread_t *thread, void *data)
{
    renewer_t *renewer = data;
    uint32_t renewals[FAR_RENEWALS];
    int n;

    while (renewer_take(thread, renewals, &n)) {
        for (int i = 0; i < n; i++) {
            lease_store_renew(renewer->store, renewals[i]);
        }
        lease_store_return(renewer->store, false, &renewer->hurry);
    }
    lease_store_return(renewer->store, true, &renewer->hurry);
}

/* All leases go back, whoever else of this host may still use them: they draw others. */
static apr_status_t renewer_stop(void *data)
{
    thread_t *thread = data;
    renewer_t *renewer = thread->data;

    lease_store_tell(renewer->store, NULL, NULL);
    bool done = thread_stop(thread, FAR_LEASE_PATIENCE);

    if (!done) {
        renewer->hurry = 1;
        done = thread_stop(thread, FAR_LEASE_PATIENCE);
    }
    thread_leave(thread, done);
    return APR_SUCCESS;
}

apr_status_t far_lease_child(rlp_store_t *store, apr_pool_t *pchild)
{
    const renewer_t renewer = { .store = store };
    thread_t *thread;
    const apr_status_t rv = thread_begin(&thread, renewer_run, &renewer, sizeof(renewer));

    if (rv == APR_SUCCESS) {
        lease_store_tell(store, renewer_add, thread);
        thread_end_with(pchild, thread, renewer_stop);
    }
    return rv;
}
