/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "rlp_store.h"

#include <apr_general.h>
#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include <string.h>

typedef struct {
    rlp_store_t head;
    apr_pool_t *pool;
    apr_hash_t *states; /* signature and identity, as bytes -> memory_state_t */
    apr_thread_mutex_t *mutex;
    rlp_owners_t owners;
    unsigned char secret[RLP_STORE_SECRET];
} memory_t;

typedef struct {
    rlp_time_t expires;
    uint32_t size;
    uint64_t bytes[]; /* size of them */
} memory_state_t;

/* The key as bytes: the signature has a fixed length, so no two keys give the same. */
static char *memory_key(const rlp_key_t *key, apr_size_t *len, apr_pool_t *pool)
{
    char *bytes = apr_palloc(pool, sizeof(key->signature) + key->identity_len);

    memcpy(bytes, &key->signature, sizeof(key->signature));
    memcpy(bytes + sizeof(key->signature), key->identity, key->identity_len);
    *len = sizeof(key->signature) + key->identity_len;
    return bytes;
}

static void memory_load(rlp_entry_t *entry, const memory_state_t *kept, rlp_time_t now)
{
    entry->dirty = false;
    memset(entry->state, 0, entry->key.size);
    if (kept != NULL && kept->expires > now) {
        memcpy(entry->state, kept->bytes,
               kept->size < entry->key.size ? kept->size : entry->key.size);
    }
}

static void memory_keep(memory_t *memory, const rlp_entry_t *entry, const char *key, apr_size_t len)
{
    memory_state_t *kept = apr_hash_get(memory->states, key, (apr_ssize_t)len);

    if (kept == NULL || kept->size < entry->key.size) {
        kept = apr_palloc(memory->pool, sizeof(*kept) + entry->key.size);
        apr_hash_set(memory->states, apr_pmemdup(memory->pool, key, len), (apr_ssize_t)len, kept);
    }
    kept->expires = entry->held ? RLP_TIME_NEVER : entry->expires;
    kept->size = entry->key.size;
    memcpy(kept->bytes, entry->state, entry->key.size);
}

static apr_status_t memory_update(rlp_store_t *store, rlp_entry_t *entries[], int n, rlp_time_t now,
                                  rlp_update_fn *fn, void *baton)
{
    memory_t *memory = (memory_t *)store;
    apr_pool_t *scratch;
    char *keys[RLP_ENTRIES_MAX];
    apr_size_t lens[RLP_ENTRIES_MAX];

    if (n < 1 || n > RLP_ENTRIES_MAX) {
        return APR_EINVAL;
    }
    apr_thread_mutex_lock(memory->mutex);
    apr_pool_create(&scratch, memory->pool);
    for (int i = 0; i < n; i++) {
        keys[i] = memory_key(&entries[i]->key, &lens[i], scratch);
        memory_load(entries[i], apr_hash_get(memory->states, keys[i], (apr_ssize_t)lens[i]), now);
    }
    fn(entries, n, now, baton);
    for (int i = 0; i < n; i++) {
        if (entries[i]->dirty) {
            memory_keep(memory, entries[i], keys[i], lens[i]);
        }
    }
    apr_pool_destroy(scratch);
    apr_thread_mutex_unlock(memory->mutex);
    return APR_SUCCESS;
}

static rlp_time_t memory_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

/* Compares whole keys and needs none. */
static uint64_t memory_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    (void)store;
    (void)identity;
    (void)len;
    return 0;
}

static const rlp_store_type_t memory_type = {
    .name = "memory",
    .update = memory_update,
    .time = memory_time,
    .fingerprint = memory_fingerprint,
};

apr_status_t rlp_memory_create(rlp_store_t **store, apr_pool_t *pool)
{
    memory_t *memory = apr_pcalloc(pool, sizeof(*memory));

    memory->head.type = &memory_type;
    memory->head.owners = &memory->owners;
    memory->head.secret = memory->secret;
    memory->pool = pool;
    memory->states = apr_hash_make(pool);
    *store = &memory->head;
    const apr_status_t rv = apr_generate_random_bytes(memory->secret, sizeof(memory->secret));

    if (rv != APR_SUCCESS) {
        return rv;
    }
    return apr_thread_mutex_create(&memory->mutex, APR_THREAD_MUTEX_DEFAULT, pool);
}
