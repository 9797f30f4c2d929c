/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_LEASE_STORE_H
#define REDIS_LEASE_STORE_H

/*
 * The store in Redis with leases: what can be is charged to a lease of this host, the rest in
 * Redis.
 */

#include "redis/lease.h"
#include "redis/store.h"

/* What it is made of. */
typedef struct {
    rlp_store_t *exact;   /* redis_store_create(); its head is taken over */
    lease_table_t *table; /* shared by the processes of this host */
    redis_endpoint_t *endpoint;
    rlp_time_t timeout; /* of one exchange */
    bool usual;         /* charges are leased that do not say whether they are */
} lease_store_settings_t;

/* Makes the store. Lives in the pool; contacts nobody yet. */
rlp_store_t *lease_store_create(const lease_store_settings_t *settings, apr_pool_t *pool);

/* Has what Redis answers noted there, for who stands in when it is away. Before the first
   question. */
void lease_store_note(rlp_store_t *store, redis_denials_t *denials);

/* Is told which leases want to be renewed, by threads that have no time for it. */
typedef void lease_renew_fn(void *baton, uint32_t index);

/* In a process: who is to be told; before it asks. NULL: nobody any more, but who asks just now may
   still tell the one before. */
void lease_store_tell(rlp_store_t *store, lease_renew_fn *renew, void *baton);

/* Renews a lease, if it is due; for a maintenance thread. */
void lease_store_renew(rlp_store_t *store, uint32_t index);

/* Gives idle leases back, a few times a second, whichever process of this host comes first; or all,
   now. For a maintenance thread. Where *stop is no longer 0, it gives up. */
void lease_store_return(rlp_store_t *store, bool all, const volatile unsigned *stop);

#endif
