/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What tools carry out of a segment and into another one.
 */

#include "rlp_store.h"
#include "slab.h"

#include <string.h>

/* --- out */

typedef struct {
    rlp_counter_fn *visit;
    void *baton;
} carry_t;

static bool carry_show(void *baton, const slab_counter_t *slot)
{
    const carry_t *carry = baton;
    const rlp_counter_t counter = { .fingerprint = slot->fingerprint,
                                    .signature = slot->signature,
                                    .size = slot->size,
                                    .expires = slot->expires,
                                    .loss = slot->loss,
                                    .lasting = slot->lasting,
                                    .state = slot->state };

    return carry->visit(carry->baton, &counter);
}

apr_status_t rlp_segment_visit(const rlp_segment_t *segment, rlp_time_t now, rlp_counter_fn *visit,
                               void *baton, apr_pool_t *pool)
{
    carry_t carry = { .visit = visit, .baton = baton };
    slab_t slab;

    if (slab_attach(&slab, segment->memory, segment->size) != NULL) {
        return APR_EINVAL;
    }
    return slab_visit(&slab, now + slab_base(&slab)->offset, apr_palloc(pool, slab_visit_room()),
                      carry_show, &carry);
}

apr_status_t rlp_segment_origin(const rlp_segment_t *segment, rlp_origin_t *origin)
{
    slab_t slab;

    if (slab_attach(&slab, segment->memory, segment->size) != NULL) {
        return APR_EINVAL;
    }
    memcpy(origin->key, slab_key(&slab), sizeof(origin->key));
    origin->offset = slab_base(&slab)->offset;
    return APR_SUCCESS;
}

/* --- in */

/* One counter on its way. */
typedef struct {
    const rlp_counter_t *counter;
    bool writes;   /* where there is none */
    bool replaces; /* where there is one, too */
    bool there;
} put_t;

/* A state of zeros is that of a new key. */
static bool put_is_zero(const uint64_t *words, size_t n)
{
    while (n > 0 && words[n - 1] == 0) {
        n--;
    }
    return n == 0;
}

static void put_judge(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    rlp_entry_t *entry = entries[0];
    put_t *put = baton;

    (void)n;
    (void)now;
    put->there = !put_is_zero(entry->state, entry->key.size / sizeof(uint64_t));
    if (put->there ? put->replaces : put->writes) {
        memcpy(entry->state, put->counter->state, entry->key.size);
        entry->expires = put->counter->expires;
        entry->loss = (float)put->counter->loss;
        entry->lasting = put->counter->lasting;
        entry->held = false;
        entry->reach = 0;
        entry->dirty = true;
    }
}

/* Ends what is there, however many lines it has. */
static void put_end(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    (void)n;
    (void)now;
    (void)baton;
    entries[0]->expires = 0;
    entries[0]->loss = 0;
    entries[0]->lasting = false;
    entries[0]->held = false;
    entries[0]->reach = sizeof(uint64_t);
    entries[0]->dirty = true;
}

bool rlp_counter_sound(const rlp_counter_t *counter)
{
    return counter->fingerprint != 0 && slab_fits(counter->size);
}

rlp_put_t rlp_segment_put(const rlp_segment_t *segment, const rlp_counter_t *counter, bool replaces,
                          rlp_time_t now, apr_pool_t *pool)
{
    rlp_entry_t entry = { .key = { .fingerprint = counter->fingerprint,
                                   .signature = counter->signature,
                                   .size = counter->size } };
    rlp_entry_t *entries[] = { &entry };
    put_t put = { .counter = counter, .writes = true, .replaces = replaces };
    slab_t slab;

    if (!rlp_counter_sound(counter) || slab_attach(&slab, segment->memory, segment->size) != NULL) {
        return RLP_PUT_FAILED;
    }
    now += slab_base(&slab)->offset;
    if (counter->expires <= now) {
        return RLP_PUT_OVER;
    }
    entry.state = apr_palloc(pool, counter->size);
    int rv = slab_update(&slab, entries, 1, now, put_judge, &put);

    if (rv != 0 && replaces) { /* more lines differ than can be undone */
        (void)slab_update(&slab, entries, 1, now, put_end, NULL);
        rv = slab_update(&slab, entries, 1, now, put_judge, &put);
    }
    if (rv != 0 || (put.there && !replaces)) {
        return rv != 0 ? RLP_PUT_FAILED : RLP_PUT_KEPT;
    }
    put.writes = put.replaces = false;
    rv = slab_update(&slab, entries, 1, now, put_judge, &put);
    return rv == 0 && put.there ? RLP_PUT_DONE : RLP_PUT_CROWDED;
}

apr_status_t rlp_segment_adopt(const rlp_segment_t *segment, const rlp_origin_t *origin,
                               const rlp_clock_t *clock)
{
    slab_t slab;

    if (slab_attach(&slab, segment->memory, segment->size) != NULL) {
        return APR_EINVAL;
    }
    slab_base_t *base = slab_base(&slab);

    slab_format(segment->memory, segment->size, origin->key);
    base->offset = origin->offset;
    base->wall_offset = clock->wall - (clock->monotonic + origin->offset);
    memcpy(base->boot_id, clock->boot_id, sizeof(base->boot_id));
    return APR_SUCCESS;
}
