/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What slow sources have answered, for all children. Entries are written without a lock: each
 * carries its data mixed into its key, so one that is half written, by whoever was killed in the
 * midst of it, is found by nobody. Answers to values that no source knows have entries of their
 * own: inventing values pushes nothing else out.
 */

#include "plan_map.h"
#include "retained.h"

#include <apr_general.h>
#include <apr_siphash.h>

#include <arpa/inet.h>
#include <string.h>

#define CACHE_RETAINED "mod_ratelimit_plans answers 1"
#define CACHE_SETS 32768 /* a power of two */
#define CACHE_WAYS 8
#define CACHE_KNOWN 6      /* of the ways; the rest is for values that are unknown */
#define CACHE_ASKERS 65536 /* a power of two */
#define CACHE_ASKS 10      /* of one address, in a second */
#define CACHE_HOLD 1000    /* ms that others wait before they ask the same again */
#define CACHE_KEY_SIZE APR_SIPHASH_KSIZE
#define CACHE_INDEX UINT64_C(0xffff)
#define CACHE_MIX UINT64_C(0x9e3779b97f4a7c15)

typedef struct {
    uint64_t high; /* the digest's halves, each with the data mixed in */
    uint64_t low;
    uint64_t plan;  /* digest of its name, and its index in the last 16 bits; 0: unknown */
    uint64_t until; /* ms */
} cache_entry_t;

_Static_assert(sizeof(cache_entry_t) == 32, "two entries share a cache line");

/* In memory that outlives restarts: plain data. */
struct cache_t {
    unsigned char key[CACHE_KEY_SIZE];
    uint64_t askers[CACHE_ASKERS]; /* microsecond from which an address has not asked too often */
    cache_entry_t sets[CACHE_SETS][CACHE_WAYS];
};

/* --- making it */

static apr_status_t cache_begin(void *memory)
{
    cache_t *cache = memory;

    return apr_generate_random_bytes(cache->key, sizeof(cache->key));
}

cache_t *cache_open(void)
{
    return retained_memory(CACHE_RETAINED, sizeof(cache_t), cache_begin);
}

/* --- keys */

static uint64_t cache_hash(const cache_t *cache, const void *data, size_t len, uint64_t tweak)
{
    unsigned char key[CACHE_KEY_SIZE];

    memcpy(key, cache->key, sizeof(key));
    for (size_t i = 0; i < sizeof(tweak); i++) {
        key[i] ^= (unsigned char)(tweak >> 8 * i);
    }
    return apr_siphash24(data, len, key);
}

uint64_t cache_source(const cache_t *cache, const char *text)
{
    return cache_hash(cache, text, strlen(text), 0);
}

cache_key_t cache_key(const cache_t *cache, uint64_t source, const char *value)
{
    const size_t len = strlen(value);

    return (cache_key_t){ .high = cache_hash(cache, value, len, source),
                          .low = cache_hash(cache, value, len, ~source) };
}

/* The digest is the same in each generation; the index says where to look first. */
static uint64_t cache_plan(const cache_t *cache, const plan_t *plan)
{
    const char *name = plan ? plan->limits->name : "";

    return plan ? (cache_hash(cache, name, strlen(name), 1) & ~CACHE_INDEX) |
                      ((uint64_t)plan->index & CACHE_INDEX)
                : 0;
}

static const plan_t *cache_named(const cache_t *cache, uint64_t named)
{
    const apr_array_header_t *plans = rlp_world->plan_list;
    const int likely = (int)(named & CACHE_INDEX) - 1;

    for (int i = -1; i < plans->nelts; i++) {
        const int at = i < 0 ? likely : i;
        const plan_t *plan =
            at >= 0 && at < plans->nelts ? APR_ARRAY_IDX(plans, at, const plan_t *) : NULL;

        if (plan != NULL && ((cache_plan(cache, plan) ^ named) & ~CACHE_INDEX) == 0) {
            return plan;
        }
    }
    return NULL;
}

/* --- entries */

static uint64_t cache_now(void)
{
    return (uint64_t)(rlp_world->clock->monotonic() / (RLP_SECOND / 1000));
}

/* The data of the key's own entry; false: that is somebody else's. */
static bool cache_read(const cache_entry_t *at, const cache_key_t *key, cache_entry_t *entry)
{
    entry->plan = __atomic_load_n(&at->plan, __ATOMIC_RELAXED);
    entry->until = __atomic_load_n(&at->until, __ATOMIC_RELAXED);
    entry->high = __atomic_load_n(&at->high, __ATOMIC_RELAXED) ^ entry->plan;
    entry->low = __atomic_load_n(&at->low, __ATOMIC_RELAXED) ^ entry->until * CACHE_MIX;
    return entry->high == (key->high ^ entry->until) && entry->low == (key->low ^ entry->plan);
}

static void cache_write(cache_entry_t *at, const cache_key_t *key, uint64_t plan, uint64_t until)
{
    __atomic_store_n(&at->plan, plan, __ATOMIC_RELAXED);
    __atomic_store_n(&at->until, until, __ATOMIC_RELAXED);
    __atomic_store_n(&at->high, key->high ^ until ^ plan, __ATOMIC_RELAXED);
    __atomic_store_n(&at->low, key->low ^ plan ^ until * CACHE_MIX, __ATOMIC_RELAXED);
}

static cache_entry_t *cache_set(cache_t *cache, const cache_key_t *key)
{
    return cache->sets[key->high % CACHE_SETS];
}

/* The place for an answer, among those of its kind: its own, or what is out of date first. */
static cache_entry_t *cache_place(cache_t *cache, const cache_key_t *key, bool known)
{
    cache_entry_t *set = cache_set(cache, key);
    cache_entry_t *oldest = &set[known ? 0 : CACHE_KNOWN];
    const int end = known ? CACHE_KNOWN : CACHE_WAYS;
    cache_entry_t entry;

    for (int i = known ? 0 : CACHE_KNOWN; i < end; i++) {
        if (cache_read(&set[i], key, &entry)) {
            return &set[i];
        }
        if (__atomic_load_n(&set[i].until, __ATOMIC_RELAXED) <
            __atomic_load_n(&oldest->until, __ATOMIC_RELAXED)) {
            oldest = &set[i];
        }
    }
    return oldest;
}

cache_found_t cache_get(cache_t *cache, const cache_key_t *key, const plan_t **plan)
{
    cache_entry_t *set = cache_set(cache, key);
    cache_entry_t entry;
    int i = 0;

    while (i < CACHE_WAYS && !cache_read(&set[i], key, &entry)) {
        i++;
    }
    *plan = NULL;
    if (i == CACHE_WAYS) {
        return CACHE_NONE;
    }
    const bool fresh = entry.until > cache_now();

    if (i < CACHE_KNOWN) {
        *plan = cache_named(cache, entry.plan);
        if (*plan == NULL) { /* it was a plan before a restart */
            return CACHE_NONE;
        }
        return fresh ? CACHE_FRESH : CACHE_OLD;
    }
    return fresh ? CACHE_FRESH : CACHE_NONE;
}

void cache_hold(cache_t *cache, const cache_key_t *key, const plan_t *plan)
{
    cache_write(cache_place(cache, key, true), key, cache_plan(cache, plan),
                cache_now() + CACHE_HOLD);
}

void cache_put(cache_t *cache, const cache_key_t *key, const plan_t *plan, rlp_time_t ttl)
{
    const uint64_t until = cache_now() + (uint64_t)(ttl / (RLP_SECOND / 1000));
    cache_entry_t entry;

    if (plan == NULL) { /* it may have been known */
        cache_entry_t *known = cache_place(cache, key, true);

        if (cache_read(known, key, &entry)) {
            cache_write(known, &(cache_key_t){ .high = 0 }, 0, 0);
        }
    }
    cache_write(cache_place(cache, key, plan != NULL), key, cache_plan(cache, plan), until);
}

void cache_put_failed(cache_t *cache, const cache_key_t *key)
{
    cache_write(cache_place(cache, key, false), key, 0, cache_now() + CACHE_HOLD);
}

/* --- who asks */

/* Addresses of one /64 are one client's. */
static uint64_t cache_asker(const cache_t *cache, const request_rec *r)
{
    unsigned char address[sizeof(struct in6_addr)];
    const char *text = r->useragent_ip;

    return inet_pton(AF_INET6, text, address) == 1
               ? cache_hash(cache, address, sizeof(address) / 2, 2)
               : cache_hash(cache, text, strlen(text), 3);
}

bool cache_may_ask(cache_t *cache, const request_rec *r)
{
    uint64_t *asker = &cache->askers[cache_asker(cache, r) % CACHE_ASKERS];
    const uint64_t now = (uint64_t)rlp_world->clock->monotonic();
    uint64_t from = __atomic_load_n(asker, __ATOMIC_RELAXED);
    uint64_t next;

    do {
        next = (from > now ? from : now) + (uint64_t)RLP_SECOND / CACHE_ASKS;
        if (next > now + (uint64_t)RLP_SECOND) {
            return false;
        }
    } while (
        !__atomic_compare_exchange_n(asker, &from, next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return true;
}
