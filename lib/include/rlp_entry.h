/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RLP_ENTRY_H
#define RLP_ENTRY_H

/*
 * What check.c and a store hand to each other: a key, its state, and what became of it.
 */

#include "rlp_algorithm.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RLP_ENTRIES_MAX 64   /* keys of one update */
#define RLP_LOSS_REQUEST 256 /* rlp_entry_t.loss: as much as one request is charged */

/* Which counter. The identity is bytes of the caller's, such as "ip:192.0.2.1"; the signature says
   which limit of which rule (rlp_signature()). Both together name it; the size belongs to the
   signature. */
typedef struct {
    const char *identity;
    size_t identity_len;
    uint64_t signature;
    uint64_t fingerprint; /* 0, or what rlp_store_fingerprint() has said of this identity */
    uint32_t size;        /* of the state, bytes */
} rlp_key_t;

/* One key in an update. The caller sets key and state; the store fills the state, calls the
   function, and keeps what is dirty. */
typedef struct {
    rlp_key_t key;
    void *state;        /* room for key.size bytes, RLP_STATE_MAX at least, aligned to 8 */
    rlp_time_t expires; /* set with dirty: then the key may be forgotten */
    float loss;         /* set with dirty: what forgetting it now would lose, in RLP_LOSS_REQUEST */
    bool lasting; /* set with dirty: the loss stays until the state expires; else it shrinks evenly
                     (rlp_algorithm_t) */
    bool held;    /* set with dirty: the state is an array of rlp_hold_t, and neither expires
                     nor is forgotten while the owner of one lives; then it may be */
    bool dirty;   /* keep the state */
    uint32_t
        reach; /* set with dirty: bytes, from its beginning, that may have been changed; 0: any */
} rlp_entry_t;

/* Judges n loaded states at the instant now of the store's time line and marks what is to be kept.
   Pure: a store may call it again after a lost race. */
typedef void rlp_update_fn(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton);

#ifdef __cplusplus
}
#endif

#endif
