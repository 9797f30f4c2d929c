/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The processes that may hold places of concurrency limits. One word each, changed by
 * compare-and-swap: whoever reads it sees process and epoch of the same moment.
 */

#include "rlp_store.h"

#include <errno.h>
#include <signal.h>

static bool owner_lives(uint64_t word)
{
    return (word & 1) != 0;
}

/* The word of a number after the next birth or death; the epoch stays in its half. */
static uint64_t owner_next(uint64_t word, uint32_t pid)
{
    return (uint64_t)pid << 32 | (uint32_t)(word + 1);
}

static bool owner_swap(uint64_t *at, uint64_t word, uint64_t next)
{
    return __atomic_compare_exchange_n(at, &word, next, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

rlp_hold_t rlp_owner_open(rlp_store_t *store, pid_t pid)
{
    for (uint32_t i = 0; i < RLP_OWNERS_MAX; i++) {
        uint64_t *at = &store->owners->owner[i];
        const uint64_t word = __atomic_load_n(at, __ATOMIC_ACQUIRE);
        const uint64_t next = owner_next(word, (uint32_t)pid);

        if (!owner_lives(word) && owner_swap(at, word, next)) {
            return rlp_owner(i, (uint32_t)next);
        }
    }
    return 0;
}

void rlp_owner_close(rlp_store_t *store, pid_t pid)
{
    for (uint32_t i = 0; i < RLP_OWNERS_MAX; i++) {
        uint64_t *at = &store->owners->owner[i];
        const uint64_t word = __atomic_load_n(at, __ATOMIC_ACQUIRE);

        if (owner_lives(word) && word >> 32 == (uint32_t)pid) {
            (void)owner_swap(at, word, owner_next(word, 0));
        }
    }
}

/* 0 and below are no process, but what damage may leave. */
static bool owner_gone(pid_t pid)
{
    return pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH);
}

bool rlp_owner_sweep(rlp_store_t *store)
{
    bool gone = false;

    for (uint32_t i = 0; i < RLP_OWNERS_MAX; i++) {
        uint64_t *at = &store->owners->owner[i];
        const uint64_t word = __atomic_load_n(at, __ATOMIC_ACQUIRE);

        if (owner_lives(word) && owner_gone((pid_t)(word >> 32))) {
            gone |= owner_swap(at, word, owner_next(word, 0));
        }
    }
    return gone;
}
