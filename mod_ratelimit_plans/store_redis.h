/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef STORE_REDIS_H
#define STORE_REDIS_H

/*
 * What the files of the store "redis" share: store_redis_options.c reads what RateLimitStore says,
 * store_redis.c decides by it, store_redis_lease.c has what sync=lease adds, store_redis_orders.c
 * bans and plans for a time.
 */

#include "provider.h"

#include "redis/tls.h"
#include "redis/topology.h"
#include "redis/url.h"

typedef enum { FAR_LOCAL, FAR_OPEN, FAR_CLOSED } failure_t;

/* One store, as it was declared. */
typedef struct {
    const char *name;
    redis_url_t url;
    const char *url_text;    /* NULL: not given */
    const char *password;    /* where it is read from */
    redis_login_t sentinels; /* who asks the Sentinels */
    const char *prefix;
    const char *secret; /* NULL: not given */
    redis_tls_settings_t secure;
    redis_tls_t *tls; /* NULL: the URL asks for none */
    int64_t timeout;
    int64_t connect;
    int64_t recovery;
    int64_t threshold;
    int64_t hosts; /* 0: those that live */
    failure_t failure;
    bool stands_in; /* the store in memory, for some rule at least */
    bool leases;    /* sync=lease */
    bool leased;    /* ... for some rule at least */
    unsigned given; /* options, a bit each */
    void *local;    /* settings of the store that stands in */
} far_settings_t;

/* Bans and plans for all hosts, as all processes of this host share it; all zero at first. */
typedef struct {
    rlp_time_t due; /* when to look again; rlp_clock_monotonic() */
    uint64_t told;  /* of which version was said what is wrong with it, and what; 0: of none */
} far_orders_shared_t;

/* ... and where they are. */
typedef struct {
    far_orders_shared_t *shared;
    redis_endpoint_t *endpoint;
    const far_settings_t *settings;
    server_rec *server;
} far_orders_t;

#pragma GCC visibility push(hidden)

/* --- store_redis_options.c */

/* The words of failure=, in the order of failure_t, ended by NULL. */
extern const char *const far_failures[];

/* As rlp_store_provider_t says. */
extern const char far_options_usage[];
const char *far_configure(void **made, const char *name, const char *const options[], int n,
                          apr_pool_t *pool);
const char *far_limit(void *made, const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool);
const char *far_digest(void *made);
const char *far_terms(void *made, const rlp_terms_t *terms);
const char *far_describe(void *made, apr_pool_t *pool);

/* --- store_redis_lease.c */

/* Reads sync=. NULL, or what was expected. */
const char *far_sync(far_settings_t *settings, const char *value, apr_pool_t *pool);

/* As rlp_store_provider_t says. */
const char *far_doubt(void *made, const rlp_limit_t limits[], int n, bool delays,
                      const rlp_terms_t *terms);

/* The store with leases before the exact one; NULL: no memory. */
rlp_store_t *far_lease_open(rlp_store_t *exact, redis_endpoint_t *endpoint,
                            const far_settings_t *settings, apr_pool_t *pool);

/* Makes ready for a child. */
apr_status_t far_lease_child(rlp_store_t *store, apr_pool_t *pchild);

/* --- store_redis_orders.c */

/* Looks whether bans and plans for all hosts have changed, if it is due and no other process does
   so, and puts them in force here. For a maintenance thread. */
void far_orders_look(const far_orders_t *orders);

/* --- store_redis.c */

/* Where a store in Redis has bans and plans for all hosts. */
const far_orders_t *far_orders(const rlp_store_t *head);

/* Asks a store in Redis one question of another kind, within its timeout=. */
void far_exchange(rlp_store_t *head, redis_call_t *call);

#pragma GCC visibility pop

#endif
