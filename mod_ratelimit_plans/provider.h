/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef PROVIDER_H
#define PROVIDER_H

/*
 * What this module looks up in httpd's registry, and what it registers itself.
 */

#include "private.h"

#pragma GCC visibility push(hidden)

/* One kind of provider. */
typedef struct {
    const char *group;
    const char *version;
    const char *noun;            /* for messages */
    const char *const *built_in; /* names, ended by NULL, in the order of messages */
} provider_kind_t;

/* The kinds that directives name. */
extern const provider_kind_t provider_algorithms;
extern const provider_kind_t provider_stores;
extern const provider_kind_t provider_identities;
extern const provider_kind_t provider_plan_maps;

/* Registers all built-in providers. */
void provider_register(apr_pool_t *pool);

/* The names of a kind, ended by NULL: the built-in ones first, then the others by name. */
const char *const *provider_names(const provider_kind_t *kind, apr_pool_t *pool);

/* The provider of that name, in any case of its letters; NULL: there is none. */
const void *provider_find(const provider_kind_t *kind, const char *name, apr_pool_t *pool);

/* What to say of a name that is not there for the version in use, but for another; NULL: for
   none. */
const char *provider_other_version(const provider_kind_t *kind, const char *name, apr_pool_t *pool);

/* "A, B or C" */
const char *provider_list(const char *const names[], apr_pool_t *pool);

/* " (NAME?)" with the sign behind it, for the name that the word is most like; or nothing. */
const char *provider_near(const char *word, const char *const names[], const char *sign,
                          apr_pool_t *pool);

/* What to say of a clock that is not for this version; NULL: there is none. */
const char *provider_clock_refused(apr_pool_t *pool);

/* The algorithms for rlp_plan_source_t. Those of other modules have their answers kept within what
   an answer can be. */
const rlp_algorithm_t *const *algorithm_table(apr_pool_t *pool);

/* Does one of the words name an algorithm that is registered, but not to be used? What to say of
   it, or NULL. */
const char *algorithm_refused(const char *const words[], int n, apr_pool_t *pool);

#define SHM_STATE_MAX 65640 /* rlp_shm_state_max() of every store of shared memory */

/* The store of shared memory, and the one in Redis where it was built with it. */
extern const rlp_store_provider_t store_shm_provider;
extern const rlp_store_provider_t store_redis_provider;

/* The size of such a store, in bytes. */
size_t store_shm_size(const void *settings);

/* The annex of one segment, whose store is rlp_world->annexed; NULL: no store has a segment. */
void *store_shm_annex(void);

/* What there is in that segment; all 0 where there is none. */
rlp_segment_look_t store_shm_look(void);

/* The path of its file. */
const char *store_shm_path(const void *settings, apr_pool_t *pool);

/* What such a store is, in words. */
const char *store_shm_describe(const void *settings, apr_pool_t *pool);

/* The path of the file of counters that stands in for a store in Redis; NULL: none does. */
const char *store_redis_path(const void *settings, apr_pool_t *pool);

/* The sources of identities that stand behind NAME=, in the order of provider_identities. */
extern const rlp_identity_provider_t *const identity_providers[];

/* A hook for fixups: keeps the header fields that the client sent. */
int source_keep_fields(request_rec *r);

/* The header fields that the client sent, whatever RequestHeader has made of them since. */
const apr_table_t *source_fields(const request_rec *r);

/* The sources of plans, in the order of provider_plan_maps. */
extern const rlp_plan_map_provider_t *const plan_map_providers[];

/* A server that the store asks, for a page. */
typedef struct {
    const char *name;
    const char *breaker; /* "closed", "open" or "half-open" */
    int failures;        /* in a row, while closed */
    rlp_time_t wait;     /* until it is asked again; 0 while closed */
    const char *why;     /* what went wrong last; "" for nothing */
} store_server_t;

#define STORE_SERVERS_MAX 32

/* Those of all stores in Redis, each once, at most STORE_SERVERS_MAX; how many. */
int store_redis_servers(store_server_t servers[], apr_pool_t *pool);

#pragma GCC visibility pop

#endif
