/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef STATE_H
#define STATE_H

/*
 * Copying of states, which every decision does.
 */

#include "rlp_entry.h"

#include <string.h>

/* There is room for RLP_STATE_MAX bytes in any state: so many are copied of a smaller one, in the
   words they are written in. The processor forwards a store to a load of the same word, but not to
   a wider one. */
__attribute__((always_inline)) static inline void state_copy(uint64_t *to, const uint64_t *from,
                                                             uint32_t size)
{
    if (size > RLP_STATE_MAX) {
        memcpy(to, from, size);
        return;
    }
    /* what lies behind a smaller state means nothing */
    to[0] = from[0]; /* NOLINT(clang-analyzer-core.uninitialized.Assign) */
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
    to[4] = from[4];
    _Static_assert(RLP_STATE_MAX == 5 * sizeof(uint64_t), "all of them");
}

#endif
