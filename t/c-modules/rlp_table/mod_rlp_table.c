/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A store: RateLimitStore NAME table [slots=N]. Counters in memory that the children share, without
 * a file: for a server that may not write anywhere. They live until the server stops. A full table
 * forgets the counter that would end first among those of a bucket.
 */

#include "mod_ratelimit_plans.h"

#include <ap_provider.h>

#include <apr_general.h>
#include <apr_siphash.h>
#include <apr_strings.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define TABLE_STATE_MAX 512 /* bytes */
#define TABLE_WAYS 8        /* slots that a key may be in */
#define TABLE_RETAINED "mod_rlp_table 1"

typedef struct {
    uint64_t fingerprint; /* of the identity */
    uint64_t signature;
    rlp_time_t expires; /* 0: free */
    uint32_t size;
    uint32_t held; /* 1: holds places, which end with their processes and not before */
    uint64_t state[TABLE_STATE_MAX / 8];
} slot_t;

/* What the processes share. */
typedef struct {
    pthread_mutex_t mutex;
    uint32_t writes; /* 1: whoever has the mutex is about to change slots */
    uint64_t buckets;
    rlp_owners_t owners;
    unsigned char key[2 * APR_SIPHASH_KSIZE];
    slot_t slots[];
} shared_t;

typedef struct {
    rlp_store_t head;
    shared_t *shared;
} table_t;

/* What outlives a restart, while this file is unloaded and loaded again. */
typedef struct {
    shared_t *shared;
} retained_t;

/* Whoever ended while writing may have left half a state: then all is forgotten. */
static apr_status_t table_lock(shared_t *shared)
{
    const int rv = pthread_mutex_lock(&shared->mutex);

    if (rv != EOWNERDEAD) {
        return rv;
    }
    if (shared->writes) {
        memset(shared->slots, 0, shared->buckets * TABLE_WAYS * sizeof(slot_t));
        shared->writes = 0;
    }
    return pthread_mutex_consistent(&shared->mutex);
}

static uint64_t table_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    const uint64_t fingerprint =
        apr_siphash24(identity, len, ((const table_t *)store)->shared->key);

    return fingerprint ? fingerprint : 1; /* 0 is "not known" */
}

static slot_t *table_bucket(shared_t *shared, uint64_t fingerprint, uint64_t signature)
{
    return &shared->slots[(fingerprint ^ signature) % shared->buckets * TABLE_WAYS];
}

/* The slot of the key; NULL: there is none. */
static slot_t *table_find(shared_t *shared, const rlp_key_t *key)
{
    slot_t *bucket = table_bucket(shared, key->fingerprint, key->signature);

    for (int i = 0; i < TABLE_WAYS; i++) {
        if (bucket[i].expires != 0 && bucket[i].fingerprint == key->fingerprint &&
            bucket[i].signature == key->signature) {
            return &bucket[i];
        }
    }
    return NULL;
}

static void table_load(shared_t *shared, rlp_entry_t *entry, rlp_time_t now)
{
    const slot_t *slot = table_find(shared, &entry->key);

    entry->dirty = false;
    memset(entry->state, 0, entry->key.size);
    if (slot != NULL && (slot->held || slot->expires > now)) {
        memcpy(entry->state, slot->state,
               slot->size < entry->key.size ? slot->size : entry->key.size);
    }
}

/* Does a living process hold a place there? */
static bool table_is_held(const shared_t *shared, const slot_t *slot)
{
    for (uint32_t i = 0; slot->held && i < slot->size / 8; i++) {
        if ((slot->state[i] & RLP_HOLD_MAX) != 0 &&
            rlp_hold_lives(&shared->owners, slot->state[i])) {
            return true;
        }
    }
    return false;
}

/* A slot for a new key; NULL: places are held in all that it could have, so it is not counted. */
static slot_t *table_victim(shared_t *shared, const rlp_key_t *key)
{
    slot_t *bucket = table_bucket(shared, key->fingerprint, key->signature);
    slot_t *victim = NULL;

    for (int i = 0; i < TABLE_WAYS; i++) {
        if (!table_is_held(shared, &bucket[i]) &&
            (victim == NULL || bucket[i].expires < victim->expires)) {
            victim = &bucket[i];
        }
    }
    return victim;
}

static void table_keep(shared_t *shared, const rlp_entry_t *entry)
{
    slot_t *slot = table_find(shared, &entry->key);

    if (slot == NULL) {
        slot = table_victim(shared, &entry->key);
    }
    if (slot == NULL) {
        return;
    }
    slot->fingerprint = entry->key.fingerprint;
    slot->signature = entry->key.signature;
    slot->expires = entry->expires > 0 ? entry->expires : 1;
    slot->size = entry->key.size;
    slot->held = entry->held;
    memcpy(slot->state, entry->state, entry->key.size);
}

static apr_status_t table_update(rlp_store_t *store, rlp_entry_t *entries[], int n, rlp_time_t now,
                                 rlp_update_fn *fn, void *baton)
{
    shared_t *shared = ((table_t *)store)->shared;

    for (int i = 0; i < n; i++) {
        rlp_key_t *key = &entries[i]->key;

        if (key->size > TABLE_STATE_MAX) {
            return APR_EINVAL;
        }
        if (key->fingerprint == 0) {
            key->fingerprint = table_fingerprint(store, key->identity, key->identity_len);
        }
    }
    const apr_status_t rv = table_lock(shared);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    for (int i = 0; i < n; i++) {
        table_load(shared, entries[i], now);
    }
    fn(entries, n, now, baton);
    __atomic_store_n(&shared->writes, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < n; i++) {
        if (entries[i]->dirty) {
            table_keep(shared, entries[i]);
        }
    }
    __atomic_store_n(&shared->writes, 0, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&shared->mutex);
    return APR_SUCCESS;
}

/* It lives no longer than the boot of the machine: the caller's time line is its own. */
static rlp_time_t table_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

static const rlp_store_type_t table_type = {
    .name = "table", .update = table_update, .time = table_time, .fingerprint = table_fingerprint
};

static const char *table_configure(void **settings, const char *name, const char *const options[],
                                   int n, apr_pool_t *pool)
{
    apr_int64_t *slots = apr_palloc(pool, sizeof(*slots));

    (void)name;
    *slots = 8192;
    *settings = slots;
    for (int i = 0; i < n; i++) {
        char *end = NULL;
        const bool known = ap_cstr_casecmpn(options[i], "slots=", 6) == 0;

        *slots = known ? apr_strtoi64(options[i] + 6, &end, 10) : 0;
        if (*slots < TABLE_WAYS || *slots > 1000000 || *end != '\0') {
            return apr_psprintf(pool, "expected slots=N from 8 to 1000000, got \"%s\"", options[i]);
        }
    }
    return NULL;
}

static apr_status_t table_make(shared_t **made, uint64_t buckets)
{
    const size_t size = sizeof(shared_t) + buckets * TABLE_WAYS * sizeof(slot_t);
    shared_t *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;

    if (shared == MAP_FAILED) {
        return APR_ENOMEM;
    }
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    shared->buckets = buckets;
    *made = shared;
    return apr_generate_random_bytes(shared->key, sizeof(shared->key));
}

static const char *table_open(rlp_store_t **store, void *settings, const rlp_clock_t *clock,
                              server_rec *server, apr_pool_t *pool)
{
    const apr_int64_t slots = *(const apr_int64_t *)settings;
    retained_t *retained = ap_retained_data_get(TABLE_RETAINED);
    table_t *table = apr_pcalloc(pool, sizeof(*table));

    (void)clock;
    (void)server;
    if (retained == NULL) {
        retained = ap_retained_data_create(TABLE_RETAINED, sizeof(*retained));
    }
    if (retained->shared == NULL &&
        table_make(&retained->shared, (uint64_t)slots / TABLE_WAYS) != APR_SUCCESS) {
        return "no memory for the table, or no random bytes";
    }
    table->shared = retained->shared;
    table->head.type = &table_type;
    table->head.owners = &table->shared->owners;
    table->head.secret = table->shared->key + APR_SIPHASH_KSIZE;
    *store = &table->head;
    return NULL;
}

static const rlp_store_provider_t table = { .options = "[slots=N]",
                                            .state_max = TABLE_STATE_MAX,
                                            .configure = table_configure,
                                            .open = table_open };

static void table_hooks(apr_pool_t *pool)
{
    ap_register_provider(pool, RLP_STORE_GROUP, "table", RLP_STORE_VERSION, &table);
}

module AP_MODULE_DECLARE_DATA rlp_table_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = table_hooks,
};
