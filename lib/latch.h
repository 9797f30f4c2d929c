/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef LATCH_H
#define LATCH_H

/*
 * A lock in memory that processes share, whose owner may be killed at any instruction. It is held
 * for dozens of nanoseconds, under no system call and by no thread twice, and taking and freeing it
 * takes a tenth of the instructions of a robust mutex: who waits, not who takes, finds out whether
 * the owner lives.
 */

#include "rlp_store.h"

#include <errno.h>

/* Its owner's name: process << 32 | when that began, in the kernel's ticks, as far as /proc says
   so; 0: it is free. */
typedef rlp_latch_t latch_t;

/* This process's name; LATCH_FORKED or below: to be found out. */
extern latch_t latch_self __attribute__((visibility("hidden")));

#define LATCH_FORKED 1 /* since a fork; a process has no such name, which would be number 0 */

/* latch_take() where the latch is not simply free. */
int latch_wait(latch_t *latch);

/* latch_try() where the latch is not simply free. */
int latch_watch(latch_t *latch);

/* Takes what is free; false: it is not, or who asks does not know its own name yet. */
__attribute__((always_inline)) static inline bool latch_grab(latch_t *latch)
{
    const latch_t self = __atomic_load_n(&latch_self, __ATOMIC_RELAXED);
    latch_t nobody = 0;

    return self > LATCH_FORKED && __atomic_compare_exchange_n(latch, &nobody, self, false,
                                                              __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* 0: it is taken. EOWNERDEAD: it is taken, from a process that is dead and may have left anything
   half done. ETIMEDOUT: it is not; for two seconds it was held by a process that lives, which has
   been stopped. */
static inline int latch_take(latch_t *latch)
{
    return latch_grab(latch) ? 0 : latch_wait(latch);
}

/* For who has another: sleeps not, since those who wait for that one would wait for both. 0: it is
   taken. EBUSY: it is not; somebody has it, for much longer than it is held. */
static inline int latch_try(latch_t *latch)
{
    return latch_grab(latch) ? 0 : latch_watch(latch);
}

/* For who must not sleep at all. 0: it is taken. EOWNERDEAD: it is taken from a process that is
   dead. EBUSY: it is not; somebody who lives has it. */
int latch_claim(latch_t *latch);

/* By its owner. */
static inline void latch_free(latch_t *latch)
{
    __atomic_store_n(latch, 0, __ATOMIC_RELEASE);
}

#endif
