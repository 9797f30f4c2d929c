/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "slab_cells.h"

#include "store/slab_layout.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>

const unsigned char slab_test_key[32] = "0123456789abcdefghijklmnopqrstu";

slab_t slab_new(size_t size)
{
    unsigned char *room = mmap(NULL, size + 2 * (size_t)SLAB_PAGE, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    slab_t slab;

    assert_true(room != MAP_FAILED);
    assert_int_equal(mprotect(room, SLAB_PAGE, PROT_NONE), 0);
    assert_int_equal(mprotect(room + SLAB_PAGE + size, SLAB_PAGE, PROT_NONE), 0);
    slab_format(room + SLAB_PAGE, size, slab_test_key);
    assert_null(slab_attach(&slab, room + SLAB_PAGE, size));
    return slab;
}

void slab_free(const slab_t *slab)
{
    munmap(slab->base - SLAB_PAGE, slab->size + 2 * (size_t)SLAB_PAGE);
}

slab_t slab_rehashed(const slab_t *from, size_t size)
{
    slab_t to = slab_new(size);

    slab_rehash(&to, from, NOW);
    return to;
}

rlp_store_t *slab_store(const slab_t *slab)
{
    const rlp_segment_t segment = { .fd = -1, .memory = slab->base, .size = slab->size };
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, &segment, unit_pool()), APR_SUCCESS);
    return store;
}

/* --- one key at a time */

static void visit_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    visit_t *visit = baton;
    const unsigned char *state = entries[0]->state;

    (void)n;
    (void)now;
    visit->found = state[0];
    visit->whole = true;
    for (uint32_t i = 0; i < entries[0]->key.size; i++) {
        visit->whole &= state[i] == state[0];
    }
    if (visit->keep) {
        memset(entries[0]->state, visit->put, entries[0]->key.size);
        entries[0]->dirty = true;
        entries[0]->expires = visit->cell->expires;
        entries[0]->loss = (float)visit->cell->loss;
        entries[0]->lasting = visit->cell->lasting;
    }
}

int cell_visit(slab_t *slab, visit_t *visit, const cell_t *cell, rlp_time_t now)
{
    uint64_t state[LARGEST / 8];
    rlp_entry_t entry = { .key = { .fingerprint = cell->fingerprint,
                                   .signature = cell->signature,
                                   .size = cell->size },
                          .state = state };
    rlp_entry_t *entries[] = { &entry };

    visit->cell = cell;
    return slab_update(slab, entries, 1, now, visit_update, visit);
}

void cell_put(slab_t *slab, const cell_t *cell, unsigned char value, rlp_time_t now)
{
    visit_t v = { .put = value, .keep = true };

    assert_int_equal(cell_visit(slab, &v, cell, now), 0);
}

unsigned char cell_get(slab_t *slab, const cell_t *cell, rlp_time_t now)
{
    visit_t v = { .keep = false };

    assert_int_equal(cell_visit(slab, &v, cell, now), 0);
    assert_true(v.whole);
    return v.found;
}

void fill_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const fill_t *fill = baton;

    (void)now;
    for (int i = 0; i < n; i++) {
        memset(entries[i]->state, fill->value, entries[i]->key.size);
        entries[i]->dirty = true;
        entries[i]->expires = RLP_TIME_NEVER;
        entries[i]->loss = 1000;
    }
    if (fill->stops) {
        (void)raise(SIGSTOP);
    }
}

/* --- what processes hold */

void hold_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const hold_t *hold = baton;
    rlp_hold_t *words = entries[0]->state;
    const size_t last = entries[0]->key.size / sizeof(rlp_hold_t) - 1;

    (void)n;
    for (size_t i = 0; i <= last; i++) {
        words[i] = i < last ? hold->first : hold->last;
    }
    entries[0]->dirty = true;
    entries[0]->held = true;
    entries[0]->expires = now;
    entries[0]->loss = 0;
    if (hold->stops) {
        (void)raise(SIGSTOP);
    }
}

void hold_find(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    const rlp_hold_t *words = entries[0]->state;
    hold_t *hold = baton;

    (void)n;
    (void)now;
    hold->first = words[0];
    hold->last = words[entries[0]->key.size / sizeof(rlp_hold_t) - 1];
}

void hold_visit(slab_t *slab, const cell_t *cell, rlp_update_fn *fn, hold_t *hold)
{
    uint64_t state[LARGEST / 8];
    rlp_entry_t entry = { .key = { .fingerprint = cell->fingerprint,
                                   .signature = cell->signature,
                                   .size = cell->size },
                          .state = state };
    rlp_entry_t *pointer = &entry;

    assert_int_equal(slab_update(slab, &pointer, 1, NOW, fn, hold), 0);
}

void hold_put(slab_t *slab, const cell_t *cell, rlp_hold_t first, rlp_hold_t last)
{
    hold_t hold = { .first = first, .last = last };

    hold_visit(slab, cell, hold_update, &hold);
}

rlp_hold_t hold_get(slab_t *slab, const cell_t *cell)
{
    hold_t hold;

    hold_visit(slab, cell, hold_find, &hold);
    return hold.first;
}

/* --- identities never seen before */

rlp_answer_t flood_ask(rlp_store_t *store, const rlp_plan_t *plan, const char *name, rlp_time_t now)
{
    const rlp_question_t question = { .now = now };
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_answer_t answer;

    for (int i = 0; i < plan->n; i++) {
        rlp_charge_init(&charges[i], name, strlen(name),
                        rlp_signature("flood", NULL, &plan->limits[i]), &plan->limits[i]);
    }
    assert_int_equal(rlp_check(store, charges, plan->n, &question, &answer), APR_SUCCESS);
    return answer;
}

const char *junk_name(uint64_t number, char name[20])
{
    memcpy(name, "ip:", 3);
    for (int i = 0; i < 16; i++, number >>= 4) {
        name[3 + i] = "0123456789abcdef"[number & 15];
    }
    name[19] = '\0';
    return name;
}
