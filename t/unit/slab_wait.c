/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Updates of two shards, the second of which somebody has: nobody sleeps with the first in its
 * hand. The source of latches is part of this program, so that naps are counted instead of slept.
 */

#include "slab_cells.h"

#include <time.h>

static int counted_nap(const struct timespec *span, struct timespec *left);

#define nanosleep counted_nap
#include "../../lib/latch.c" /* NOLINT(bugprone-suspicious-include) */
#undef nanosleep

#include "store/slab_layout.h"

/* Two latches, of which all that sleep want one; when they are freed, by naps: 0: never. The first
   is taken when the second is freed, where it is to be freed, too. */
static struct {
    latch_t *first;
    latch_t *second;
    int first_freed;
    int second_freed;
    int n;
    int greedy; /* naps with the first in the hand of who sleeps */
} naps;

static latch_t parent(void)
{
    return (latch_t)getppid() << 32;
}

static int counted_nap(const struct timespec *span, struct timespec *left)
{
    (void)span;
    (void)left;
    naps.n++;
    naps.greedy += *naps.first == latch_self;
    if (naps.n == naps.second_freed) {
        latch_free(naps.second);
        *naps.first = naps.first_freed != 0 ? parent() : 0;
    }
    if (naps.n == naps.first_freed) {
        latch_free(naps.first);
    }
    return 0;
}

static void add_one(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    (void)baton;
    for (int i = 0; i < n; i++) {
        uint64_t *units = entries[i]->state;

        ++*units;
        entries[i]->dirty = true;
        entries[i]->expires = now + RLP_SECOND;
        entries[i]->loss = 1;
    }
}

/* One more for each of two keys, the second shard's first; the sum of both counts, or below 0 what
   went wrong. */
static int update(slab_t *slab)
{
    uint64_t states[2][RLP_STATE_MAX / 8];
    rlp_entry_t entries[2];
    rlp_entry_t *pointers[2];

    for (int i = 0; i < 2; i++) {
        entries[i] = (rlp_entry_t){
            .key = { .fingerprint = i == 0 ? UINT64_C(1) << 32 : 7, .signature = 1, .size = 8 },
            .state = states[i]
        };
        pointers[i] = &entries[i];
    }
    const int rv = slab_update(slab, pointers, 2, NOW, add_one, NULL);

    return rv == 0 ? (int)(states[0][0] + states[1][0]) : -rv;
}

typedef struct {
    const char *what;
    latch_t owner; /* of the second; 0: the parent, which lives */
    int second_freed;
    int first_freed;
    int naps;
    int result; /* of update() */
} wait_t;

static const wait_t waits[] = {
    { "who lives keeps it", 0, 0, 0, LATCH_NAPS, -ETIMEDOUT },
    { "it is freed", 0, 5, 0, 5, 2 },
    { "then the other is taken, and freed", 0, 5, 12, 12, 2 },
    { "then the other is taken, and kept", 0, 5, INT32_MAX, 5 + LATCH_NAPS, -ETIMEDOUT },
    { "its owner is dead", (latch_t)INT32_MAX << 32 | 5, 0, 0, LATCH_TRUST, 2 },
};

static void test_wait(void **state)
{
    const wait_t *wait = unit_row(state);
    slab_t slab = slab_new(4 * MB);

    assert_true(slab.shards > 1);
    naps.first = &slab_shard(&slab, 0)->latch;
    naps.second = &slab_shard(&slab, 1)->latch;
    naps.first_freed = wait->first_freed;
    naps.second_freed = wait->second_freed;
    naps.n = naps.greedy = 0;
    *naps.second = wait->owner != 0 ? wait->owner : parent();
    assert_int_equal(update(&slab), wait->result);
    assert_int_equal(naps.greedy, 0);
    assert_int_equal(naps.n, wait->naps);
    assert_true(*naps.first == (wait->first_freed == INT32_MAX ? parent() : 0));
    assert_true(*naps.second == (wait->naps == LATCH_NAPS ? parent() : 0));
    *naps.first = *naps.second = 0;
    assert_int_equal(update(&slab), wait->result > 0 ? 4 : 2);
    slab_free(&slab);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(waits); i++) {
        unit_add(waits[i].what, test_wait, &waits[i]);
    }
    return unit_run();
}
