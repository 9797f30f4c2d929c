/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_CTL_H
#define REDIS_CTL_H

/*
 * A Redis in the hands of rlpctl: who waits for it has patience.
 */

#include "option.h"
#include "redis/key.h"
#include "redis/store.h"
#include "rlp.h"

/* A store, and how it is asked. */
typedef struct redis_ctl_t {
    rlp_store_t *store;
    redis_endpoint_t *endpoint;
    const char *prefix;
    bool cluster;
    char told[REDIS_WHY_MAX]; /* what a script was answered with last; "": no error yet */
    redis_breaker_t breaker;
    rlp_owners_t owners;
    unsigned char secret[RLP_STORE_SECRET];
} redis_ctl_t;

/* Prepares the one at the place's URL; contacts nobody yet. The password is file:PATH or env:NAME.
   NULL, or what was expected. */
const char *redis_ctl_open(redis_ctl_t **made, const option_place_t *place, apr_pool_t *pool);

/* The store there, by the server's clock or by the question's. */
void redis_ctl_make_store(redis_ctl_t *ctl, bool told_time, apr_pool_t *pool);

/* The key of a charge there, with a NUL behind it. */
script_key_t redis_ctl_key(const redis_ctl_t *ctl, const rlp_charge_t *charge, apr_pool_t *pool);

/* What went wrong last, of the servers there are. */
const char *redis_ctl_why(const redis_ctl_t *ctl, redis_fault_t fault, apr_pool_t *pool);

/* Asks n commands (1 to REDIS_CALLS_MAX) until their servers are found. An error reply of a command
   is a reply. The replies are the caller's, even those beside what went wrong, where the others are
   NULL; NULL, or what went wrong. */
const char *redis_ctl_ask(redis_ctl_t *ctl, redis_call_t calls[], int n, apr_pool_t *pool);

/* One command with a key alone. */
const char *redis_ctl_ask_key(redis_ctl_t *ctl, redisReply **reply, const char *command,
                              const script_key_t *key, apr_pool_t *pool);

/* Frees what n calls have brought. */
void redis_ctl_free(redis_call_t calls[], int n);

/* The servers that have keys: of each, by some key that it has; n, at most REDIS_NODES_MAX. text
   tells one state of a cluster from another. */
typedef struct {
    int n;
    script_key_t keys[REDIS_NODES_MAX]; /* of no bytes: there is one server */
    const char *text;
} redis_masters_t;

/* Finds them. NULL, or what went wrong. */
const char *redis_ctl_masters(redis_ctl_t *ctl, redis_masters_t *masters, apr_pool_t *pool);

/* Takes n keys (1 or more) that one of them has. NULL, or what went wrong. */
typedef const char *redis_keys_fn(void *baton, const script_key_t keys[], int n, apr_pool_t *pool);

/* Shows all keys that the pattern matches; one may be shown twice. NULL, or what went wrong. */
const char *redis_ctl_scan(redis_ctl_t *ctl, const char *pattern, redis_keys_fn *take, void *baton,
                           apr_pool_t *pool);

/* A pattern that matches what begins with prefix and the text, each as it stands. */
const char *redis_ctl_pattern(const char *prefix, const char *text, apr_pool_t *pool);

/* What went wrong in the server's own words; NULL: the reply is no error. */
const char *redis_ctl_error(const redisReply *reply, apr_pool_t *pool);

#endif
