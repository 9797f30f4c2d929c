/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab: whatever becomes of many keys in few sets, by updates of one key or several, of any
 * size, that count, are too large or are rolled back, by time, by orders to forget and by another
 * size: no key has two slots, each is found where it lies, and has its last state or none. Its
 * source is part of this program, since this is about what lies in the memory.
 */

#include "slab_cells.h"

#include "store/slab.c" /* NOLINT(bugprone-suspicious-include) */

#define ACTS 6000
#define LOOK_EACH 50 /* acts */
#define KEYS 400     /* of each class more than its sets here have slots */
#define SETS 3       /* pairs of them, of each class that has so many */
#define TOGETHER 9

/* States of one line, of many, and of those that have but one set. */
static const uint32_t sizes[] = { 24, 40, 200, 1000, 4072, 16360, 65640 };

typedef struct {
    slab_t slab;
    uint64_t random;
    rlp_time_t now;
    unsigned char last[KEYS]; /* what the state of each was made of; 0: forgotten, or never */
} scene_t;

/* All of one shard, each with a fingerprint of its own. */
static rlp_key_t key_of(int i)
{
    const uint64_t hash = (uint64_t)(i % SETS) * UINT64_C(0x9e3779b97f4a7c15);

    return (rlp_key_t){ .fingerprint = UINT64_C(0x123456789abcdef0) + (uint64_t)i,
                        .signature = (UINT64_C(0x123456789abcdef0) + (uint64_t)i) ^ hash,
                        .size = sizes[(size_t)i % UNIT_N(sizes)] };
}

/* --- acts */

/* Some keys whose states have mostly one size. */
typedef struct {
    scene_t *scene;
    int n;
    int keys[TOGETHER];
    bool dirty[TOGETHER];
    unsigned char put;
    rlp_entry_t entries[TOGETHER];
    rlp_entry_t *pointers[TOGETHER];
} act_t;

static void act_begin(act_t *act, scene_t *scene)
{
    static uint64_t states[TOGETHER][LARGEST / 8];
    const int first = (int)unit_below(&scene->random, KEYS);

    *act = (act_t){ .scene = scene,
                    .n = 1 + (int)unit_below(&scene->random, TOGETHER),
                    .put = (unsigned char)(1 + unit_below(&scene->random, 255)) };
    for (int i = 0; i < act->n; i++) {
        act->keys[i] = (first + i * (int)UNIT_N(sizes)) % KEYS;
        act->entries[i] = (rlp_entry_t){ .key = key_of(act->keys[i]), .state = states[i] };
        act->pointers[i] = &act->entries[i];
    }
}

/* An update (rlp_update_fn). */
static void act_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    act_t *act = baton;
    uint64_t *random = &act->scene->random;

    for (int i = 0; i < n; i++) {
        const unsigned char *state = entries[i]->state;
        const unsigned char last = act->scene->last[act->keys[i]];

        assert_true(state[0] == 0 || state[0] == last);
        assert_int_equal(state[entries[i]->key.size - 1], state[0]);
        memset(entries[i]->state, act->put, entries[i]->key.size);
        act->dirty[i] = unit_below(random, 8) > 0;
        entries[i]->dirty = act->dirty[i];
        entries[i]->expires = now + (rlp_time_t)unit_below(random, 60 * RLP_SECOND);
        entries[i]->loss = (float)(uint32_t)unit_random(random);
        entries[i]->lasting = unit_below(random, 2) == 0;
        entries[i]->held = false;
        entries[i]->reach = 0;
    }
}

static void act_count(scene_t *scene)
{
    act_t act;

    act_begin(&act, scene);
    const int rv = slab_update(&scene->slab, act.pointers, act.n, scene->now, act_update, &act);

    assert_true(rv == 0 || rv == EINVAL); /* too many lines */
    for (int i = 0; rv == 0 && i < act.n; i++) {
        scene->last[act.keys[i]] = act.dirty[i] ? act.put : scene->last[act.keys[i]];
    }
}

/* All is written, and its process dies before it counts. */
static void act_die(scene_t *scene)
{
    const slab_t *slab = &scene->slab;
    place_t places[TOGETHER] = { { .slot = NULL } };
    act_t act;

    act_begin(&act, scene);
    assert_true(slab_locate(slab, act.pointers, places, act.n) > 0);
    for (int i = 0; i < act.n; i++) {
        places[i].slot = slab_find(slab, &places[i], &act.entries[i].key);
        slab_load(&act.entries[i], &places[i], scene->now);
    }
    act_update(act.pointers, act.n, scene->now, &act);
    if (slab_changes(act.pointers, places, act.n, scene->now) <= SLAB_UNDO_LINES) {
        slab_keep(slab, act.pointers, places, act.n, scene->now);
        slab_roll_back(slab, places[0].shard);
    }
}

static void act_forget(scene_t *scene)
{
    const int i = (int)unit_below(&scene->random, KEYS);

    assert_in_range(slab_forget(&scene->slab, key_of(i).fingerprint), 0, 1);
    scene->last[i] = 0;
}

static void act_resize(scene_t *scene)
{
    slab_t other = slab_new(scene->slab.size == MB ? 4 * MB : MB);

    slab_rehash(&other, &scene->slab, scene->now);
    slab_free(&scene->slab);
    scene->slab = other;
}

/* --- what is there then */

static uint32_t look_at_class(const slab_t *slab, int size_class)
{
    const uint32_t size = slab_classes[size_class].size;
    const size_t n =
        (size_t)slab->shards * slab->classes[size_class].sets * slab->classes[size_class].ways;
    uint32_t used = 0;

    for (size_t i = 0; i < n; i++) {
        slot_t *slot = (slot_t *)(void *)(slab->base + slab->classes[size_class].offset + size * i);
        const rlp_key_t key = { .fingerprint = slot->fingerprint,
                                .signature = slot->signature,
                                .size = size - (uint32_t)SLAB_SLOT_HEAD };
        place_t place = { .slot = NULL };

        if (slot->fingerprint == 0) {
            continue;
        }
        assert_true(slab_place(slab, &key, &place));
        assert_ptr_equal(slab_find(slab, &place, &key), slot); /* not another one */
        used++;
    }
    return used;
}

static void test_keys(void **state)
{
    scene_t scene = { .slab = slab_new(MB), .random = unit_seed(), .now = NOW };
    uint32_t most[SLAB_CLASSES] = { 0 };

    (void)state;
    for (int i = 0; i < ACTS; i++) {
        const uint64_t what = unit_below(&scene.random, 100);

        scene.now += (rlp_time_t)unit_below(&scene.random, RLP_SECOND);
        if (what < 70) {
            act_count(&scene);
        } else if (what < 85) {
            act_die(&scene);
        } else if (what < 99) {
            act_forget(&scene);
        } else {
            act_resize(&scene);
        }
        for (int k = 0; i % LOOK_EACH == 0 && k < SLAB_CLASSES; k++) {
            const uint32_t used = look_at_class(&scene.slab, k);

            most[k] = used > most[k] ? used : most[k];
        }
    }
    assert_true(most[0] > SETS * SLAB_WAYS); /* second sets were needed */
    assert_true(most[1] > SETS * SLAB_WAYS);
    slab_free(&scene.slab);
}

int main(void)
{
    static const unit_single_t singles[] = {
        { "no key has two slots", test_keys },
    };

    unit_add_singles(singles, UNIT_N(singles));
    return unit_run();
}
