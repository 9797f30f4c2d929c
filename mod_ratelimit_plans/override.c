/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "override.h"

#include <stdlib.h>
#include <string.h>

#define TAG_NEVER 0
#define TAG_GONE 1
#define TAG_FIRST 2

bool override_attach(override_table_t *overrides, void *annex)
{
    if (annex == NULL || annex_area(annex, ANNEX_OVERRIDES) == NULL) {
        return false;
    }
    overrides->head = (override_head_t *)annex_head(annex, ANNEX_OVERRIDES)->room;
    overrides->area = annex_area(annex, ANNEX_OVERRIDES);
    return true;
}

override_key_t override_key(const rlp_store_t *store, const char *identity, size_t len)
{
    char digest[33];

    rlp_store_digest(store, identity, len, digest);
    digest[16] = '\0';
    override_key_t key = { .fingerprint = rlp_store_fingerprint(store, identity, len),
                           .digest = strtoull(digest, NULL, 16) };

    if (key.fingerprint < TAG_FIRST) { /* the store makes none */
        key.fingerprint = key.digest | TAG_FIRST;
    }
    return key;
}

uint64_t override_plan_hash(const char *name)
{
    uint8_t digest[RLP_DIGEST_SIZE];
    uint64_t hash;

    rlp_digest(digest, name, strlen(name));
    memcpy(&hash, digest, sizeof(hash));
    return hash ? hash : 1;
}

/* --- reading */

static uint64_t override_tag(const override_area_t *area, uint32_t at)
{
    return __atomic_load_n(&area->tags[at], __ATOMIC_ACQUIRE);
}

/* What the entry says for that identity at that moment; false: nothing. */
static bool override_read(const override_entry_t *entry, uint64_t digest, rlp_time_t now,
                          override_t *found)
{
    found->ban = __atomic_load_n(&entry->ban, __ATOMIC_RELAXED);
    found->until = __atomic_load_n(&entry->until, __ATOMIC_RELAXED);
    found->plan = __atomic_load_n(&entry->plan, __ATOMIC_RELAXED);
    found->brought = false;
    if (found->ban <= now) {
        found->ban = 0;
    }
    if (found->until <= now || found->plan == 0) {
        found->until = 0;
        found->plan = 0;
    }
    return __atomic_load_n(&entry->digest, __ATOMIC_RELAXED) == digest &&
           (found->ban != 0 || found->plan != 0);
}

bool override_find(const override_table_t *overrides, const override_key_t *key, rlp_time_t now,
                   override_t *found)
{
    const override_area_t *area = overrides->area;
    uint32_t at = (uint32_t)(key->fingerprint % OVERRIDES_MAX);

    for (int i = 0; i < OVERRIDES_MAX; i++, at = (at + 1) % OVERRIDES_MAX) {
        const uint64_t tag = override_tag(area, at);

        if (tag == TAG_NEVER) {
            return false;
        }
        if (tag != key->fingerprint ||
            !override_read(&area->entries[at], key->digest, now, found)) {
            continue;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (override_tag(area, at) == tag) { /* else it was given to another meanwhile */
            return true;
        }
    }
    return false;
}

/* A bit of a map with one for each entry. */
static bool override_bit(const uint64_t map[], uint32_t at)
{
    return map[at / 64] >> at % 64 & 1;
}

void override_visit(const override_table_t *overrides, rlp_time_t now, override_visit_fn *visit,
                    void *baton)
{
    const override_area_t *area = overrides->area;

    for (uint32_t at = 0; at < OVERRIDES_MAX; at++) {
        const override_entry_t *entry = &area->entries[at];
        const override_key_t key = { .fingerprint = override_tag(area, at),
                                     .digest = __atomic_load_n(&entry->digest, __ATOMIC_RELAXED) };
        char shown[OVERRIDE_SHOWN + 1] = "";
        override_t found;

        if (key.fingerprint >= TAG_FIRST && override_read(entry, key.digest, now, &found)) {
            memcpy(shown, entry->shown, OVERRIDE_SHOWN);
            found.brought = override_bit(overrides->head->brought, at);
            visit(baton, &key, shown, &found);
        }
    }
}

/* --- changing */

static void override_put_tag(override_area_t *area, uint32_t at, uint64_t tag)
{
    __atomic_store_n(&area->tags[at], tag, __ATOMIC_RELEASE);
}

/* Where nobody looks further anyway, what is gone is as good as never used. */
static void override_shorten(override_area_t *area, uint32_t at)
{
    while (override_tag(area, at) == TAG_GONE &&
           override_tag(area, (at + 1) % OVERRIDES_MAX) == TAG_NEVER) {
        override_put_tag(area, at, TAG_NEVER);
        at = (at + OVERRIDES_MAX - 1) % OVERRIDES_MAX;
    }
}

/* When the first of the two ends. */
static rlp_time_t override_end(const override_t *found)
{
    return found->ban != 0 && (found->until == 0 || found->ban < found->until) ? found->ban
                                                                               : found->until;
}

/* Ends what has ended, and counts the rest: a killed process may have left another count. */
static void override_sweep(const override_table_t *overrides, rlp_time_t now)
{
    override_area_t *area = overrides->area;
    rlp_time_t next = RLP_TIME_NEVER;
    uint32_t count = 0;

    for (uint32_t at = OVERRIDES_MAX; at-- > 0;) {
        const override_entry_t *entry = &area->entries[at];
        override_t found;

        if (override_tag(area, at) < TAG_FIRST) {
            override_shorten(area, at);
        } else if (override_read(entry, entry->digest, now, &found)) {
            next = override_end(&found) < next ? override_end(&found) : next;
            count++;
        } else {
            override_put_tag(area, at, TAG_GONE);
            override_shorten(area, at);
        }
    }
    /* where all were used once, nothing ends a search */
    for (uint32_t at = 0; count == 0 && at < OVERRIDES_MAX; at++) {
        override_put_tag(area, at, TAG_NEVER);
    }
    __atomic_store_n(&overrides->head->next, next, __ATOMIC_RELAXED);
    __atomic_store_n(&overrides->head->count, count, __ATOMIC_RELEASE);
}

void override_tidy(const override_table_t *overrides, rlp_time_t now)
{
    override_head_t *head = overrides->head;

    if (now >= __atomic_load_n(&head->next, __ATOMIC_RELAXED) && rlp_latch_claim(&head->latch)) {
        override_sweep(overrides, now);
        rlp_latch_free(&head->latch);
    }
}

/* Where the identity is, or where it can be put; -1: nowhere. */
static int override_place(const override_area_t *area, const override_key_t *key, bool *found)
{
    uint32_t at = (uint32_t)(key->fingerprint % OVERRIDES_MAX);
    int place = -1;

    *found = false;
    for (int i = 0; i < OVERRIDES_MAX; i++, at = (at + 1) % OVERRIDES_MAX) {
        const uint64_t tag = override_tag(area, at);

        if (tag == key->fingerprint && area->entries[at].digest == key->digest) {
            *found = true;
            return (int)at;
        }
        if (tag < TAG_FIRST && place < 0) {
            place = (int)at;
        }
        if (tag == TAG_NEVER) {
            break;
        }
    }
    return place;
}

static void override_write(override_entry_t *entry, const override_key_t *key,
                           const override_t *wanted, const char *shown)
{
    const size_t len = strlen(shown);

    /* who reads any of it for whom it was before finds that the tag is gone */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memset(entry->shown, 0, sizeof(entry->shown));
    memcpy(entry->shown, shown, len < OVERRIDE_SHOWN ? len : OVERRIDE_SHOWN);
    __atomic_store_n(&entry->ban, wanted->ban, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->until, wanted->until, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->plan, wanted->plan, __ATOMIC_RELAXED);
    __atomic_store_n(&entry->digest, key->digest, __ATOMIC_RELAXED);
}

static void override_put_bit(uint64_t map[], uint32_t at, bool set)
{
    const uint64_t bit = (uint64_t)1 << at % 64;

    map[at / 64] = set ? map[at / 64] | bit : map[at / 64] & ~bit;
}

static override_result_t override_set_locked(const override_table_t *overrides,
                                             const override_brought_t *one, bool brought)
{
    const bool ends = one->wanted.ban == 0 && one->wanted.plan == 0;
    bool found;
    const int place = override_place(overrides->area, &one->key, &found);

    if (!found && ends) {
        return OVERRIDE_NONE;
    }
    if (place < 0) {
        return OVERRIDE_FULL;
    }
    override_write(&overrides->area->entries[place], &one->key, &one->wanted, one->shown);
    override_put_bit(overrides->head->brought, (uint32_t)place, brought);
    if (!found) {
        override_put_tag(overrides->area, (uint32_t)place, one->key.fingerprint);
    }
    return OVERRIDE_DONE;
}

/* Something was changed: who has looked before brings nothing, and who looks again reads all if no
   version is known. Under the lock. */
static void override_changed(override_head_t *head, uint64_t version)
{
    __atomic_store_n(&head->version, version, __ATOMIC_RELAXED);
    __atomic_add_fetch(&head->changes, 1, __ATOMIC_RELEASE);
}

static override_result_t override_set_one(const override_table_t *overrides,
                                          const override_brought_t *one, bool brought,
                                          rlp_time_t now)
{
    if (!rlp_latch_take(&overrides->head->latch)) {
        return OVERRIDE_BUSY;
    }
    override_sweep(overrides, now);
    const override_result_t result = override_set_locked(overrides, one, brought);

    override_sweep(overrides, now);
    override_changed(overrides->head, 0);
    rlp_latch_free(&overrides->head->latch);
    return result;
}

override_result_t override_set(const override_table_t *overrides, const override_key_t *key,
                               const override_t *wanted, const char *shown, rlp_time_t now)
{
    return override_set_one(overrides,
                            &(override_brought_t){ .key = *key, .wanted = *wanted, .shown = shown },
                            false, now);
}

override_result_t override_set_brought(const override_table_t *overrides,
                                       const override_brought_t *one, rlp_time_t now)
{
    return override_set_one(overrides, one, true, now);
}

/* --- all of them */

bool override_mark(const override_table_t *overrides, uint64_t source, override_mark_t *mark)
{
    const override_head_t *head = overrides->head;

    /* the count first: what is changed after it is seen by who compares it later */
    mark->changes = __atomic_load_n(&head->changes, __ATOMIC_ACQUIRE);
    mark->source = __atomic_load_n(&head->source, __ATOMIC_RELAXED);
    mark->version = __atomic_load_n(&head->version, __ATOMIC_RELAXED);
    return mark->source == source;
}

/* Ends what was brought before and is not among them. */
static void override_end_others(const override_table_t *overrides, const override_brought_t items[],
                                int n)
{
    override_area_t *area = overrides->area;
    uint64_t stays[OVERRIDES_MAX / 64] = { 0 };

    for (int i = 0; i < n; i++) {
        bool found;
        const int place = override_place(area, &items[i].key, &found);

        if (found) {
            override_put_bit(stays, (uint32_t)place, true);
        }
    }
    for (uint32_t at = 0; at < OVERRIDES_MAX; at++) {
        if (override_bit(overrides->head->brought, at) && !override_bit(stays, at)) {
            __atomic_store_n(&area->entries[at].ban, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&area->entries[at].until, 0, __ATOMIC_RELAXED);
            override_put_bit(overrides->head->brought, at, false);
        }
    }
}

static override_result_t override_bring_locked(const override_table_t *overrides,
                                               const override_brought_t items[], int n,
                                               rlp_time_t now)
{
    override_result_t result = OVERRIDE_DONE;

    override_sweep(overrides, now);
    override_end_others(overrides, items, n);
    override_sweep(overrides, now);
    for (int i = 0; i < n; i++) {
        if (override_set_locked(overrides, &items[i], true) == OVERRIDE_FULL) {
            result = OVERRIDE_FULL;
        }
    }
    override_sweep(overrides, now);
    return result;
}

override_result_t override_bring(const override_table_t *overrides, const override_mark_t *mark,
                                 uint64_t version, const override_brought_t items[], int n,
                                 rlp_time_t now)
{
    override_head_t *head = overrides->head;
    override_result_t result = OVERRIDE_BUSY;

    if (!rlp_latch_take(&head->latch)) {
        return OVERRIDE_BUSY;
    }
    if (head->changes == mark->changes && head->source == mark->source) {
        result = override_bring_locked(overrides, items, n, now);
        override_changed(head, result == OVERRIDE_FULL ? 0 : version);
    }
    rlp_latch_free(&head->latch);
    return result;
}

void override_adopt(const override_table_t *overrides, uint64_t source, rlp_time_t now)
{
    override_head_t *head = overrides->head;

    if (!rlp_latch_take(&head->latch)) {
        return;
    }
    __atomic_store_n(&head->source, source, __ATOMIC_RELAXED);
    if (source == 0) {
        (void)override_bring_locked(overrides, NULL, 0, now);
    }
    override_changed(head, 0);
    rlp_latch_free(&head->latch);
}
