/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef MOD_RATELIMIT_PLANS_H
#define MOD_RATELIMIT_PLANS_H

/*
 * What other httpd modules may plug into mod_ratelimit_plans: providers in httpd's registry, each
 * kind a group with a version of its own. A module calls ap_register_provider(pool, GROUP, NAME,
 * VERSION, &PROVIDER) in its register_hooks function; the order of LoadModule is no matter. What
 * mod_ratelimit_plans has itself is registered by the same call. docs/extending.md has an example
 * of each kind.
 *
 * Functions that are given a cmd_parms or a pool for settings are called while the configuration is
 * read and checked, by one thread. All others may be called by any thread of any child at once.
 */

#include "rlp_store.h"

#include <httpd.h>

#include <http_config.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Algorithms: rate=... algorithm=NAME. The provider is an rlp_algorithm_t, which has a step, takes
   no more than RLP_TAKES_*, and has neither quota nor holds. */
#define RLP_ALGORITHM_GROUP "ratelimit-algorithm"
#define RLP_ALGORITHM_VERSION "1"

/* Stores: RateLimitStore NAME PROVIDER OPTION... */
#define RLP_STORE_GROUP "ratelimit-store"
#define RLP_STORE_VERSION "1"

typedef struct {
    const char *options; /* what may stand behind the provider's name, as messages have it */
    uint32_t state_max;  /* the largest state of one key that it keeps, bytes */
    /* Reads the n options; without the directive, n is 0. What it makes is handed to open().
       NULL, or what was expected and what came. */
    const char *(*configure)(void **settings, const char *name, const char *const options[], int n,
                             apr_pool_t *pool);
    /* Opens the store: in the parent, before it forks, at the start and at each restart. The pool
       is that of the configuration; what is to outlive a restart is remembered by
       ap_retained_data_create(). NULL, or what went wrong. */
    const char *(*open)(rlp_store_t **store, void *settings, const rlp_clock_t *clock,
                        server_rec *server, apr_pool_t *pool);
    /* Makes ready for a child; NULL: there is nothing to be done. */
    apr_status_t (*child)(rlp_store_t *store, apr_pool_t *pchild);
    /* NULL, or why the store cannot count a limit for requests that wait so long at most; its
       concurrency limits are leases. NULL: it counts all, without lease=. */
    const char *(*limit)(void *settings, const rlp_limit_t *limit, rlp_time_t max_wait,
                         apr_pool_t *pool);
    /* NULL, or why the store cannot have identities whose values are digested. NULL: it can. */
    const char *(*digest)(void *settings);
    /* What the store is, in words. NULL: its name does. */
    const char *(*describe)(void *settings, apr_pool_t *pool);
    /* NULL, or what to warn of where a rule counts by these limits; whether its requests wait for
       their turn, and its terms (NULL: the usual). NULL: nothing. */
    const char *(*doubt)(void *settings, const rlp_limit_t limits[], int n, bool delays,
                         const rlp_terms_t *terms);
    /* NULL, or why a rule cannot have such terms, of which at least one is not the usual. NULL:
       the store is on this host, and there is no failure= nor sync= for it. */
    const char *(*terms)(void *settings, const rlp_terms_t *terms);
} rlp_store_provider_t;

/* Identities: RateLimitIdentity NAME=PROVIDER:ARGUMENT. */
#define RLP_IDENTITY_GROUP "ratelimit-identity"
#define RLP_IDENTITY_VERSION "1"

typedef struct {
    const char *argument; /* what stands behind the colon, as messages have it: "FIELD" */
    bool any_case;        /* letters' case is no matter in it */
    bool chosen;          /* a client may write what it likes: a value counts only when a plan map
                             knows it, and is shown as a digest */
    bool authenticated;   /* there is none before authentication: not for phase=early */
    /* Reads the argument, for the name it is declared under. What it makes is handed to value().
       NULL, or what was expected and what came. Without this function the argument itself is handed
       over, and has to be there. */
    const char *(*configure)(void **settings, const char *name, const char *argument,
                             cmd_parms *cmd);
    /* Whom the request is from; NULL or empty for nobody. Lives as long as the request. */
    const char *(*value)(void *settings, request_rec *r);
} rlp_identity_provider_t;

/* Plan sources: RateLimitPlanMap TYPE PROVIDER:ARGUMENT, and PROVIDER=VARIANT:ARGUMENT where the
   provider has variants. */
#define RLP_PLAN_MAP_GROUP "ratelimit-plan-map"
#define RLP_PLAN_MAP_VERSION "1"

/* What stands in the directive. */
typedef struct {
    const char *type;     /* of identity, whose values are looked up */
    const char *variant;  /* NULL: there is none */
    const char *argument; /* what stands behind the colon */
} rlp_plan_map_words_t;

/* Is told how many values have a plan. */
typedef void rlp_plan_map_count_fn(void *baton, const char *plan, uint64_t values);

/* All functions but configure and find may be NULL: there is nothing to be done, or known. */
typedef struct {
    const char *argument; /* what stands behind the colon, as messages have it: "FILE" */
    const char *variant;  /* what stands between = and the colon: "TYPE"; NULL: no variants */
    bool blocks; /* an answer may take its time: a thread of its own asks, the request waits for
                    timeout= at most, answers are kept, and values of more than 1024 bytes are
                    unknown */
    bool text;   /* where it blocks: values that are not UTF-8 are unknown, and not asked for */
    bool kept;   /* answers are kept for ttl=, as they are where it blocks */
    bool common; /* the words of the directive alone decide: what is kept of an answer is for all
                    hosts and types of identity that have the same words */
    bool anew;   /* answers may change within a request, or are had faster than remembered: asked
                    anew for each rule. Else, where nothing is kept, once for each value and
                    request */
    const char *no_ttl;     /* why there is no ttl= where nothing is kept; NULL: since it is asked
                               for each request */
    const char *no_timeout; /* why there is no timeout= where nothing blocks; NULL: the same */
    /* Reads the words. What it makes is handed to the others. NULL, or what was expected and what
       came. */
    const char *(*configure)(void **settings, const rlp_plan_map_words_t *words, cmd_parms *cmd);
    /* What it is called by -D DUMP_RATELIMIT, which else has its name. */
    const char *(*describe)(void *settings);
    /* Opens the source, in the parent, when all of the configuration is read. NULL, or what is
       wrong, without a value in it: it may be a secret. */
    const char *(*open)(void *settings, apr_pool_t *pool);
    /* Tells how many values have which plan, in the parent, when it is open: for the warning of a
       store without room for their quotas. */
    void (*count)(void *settings, rlp_plan_map_count_fn *count, void *baton, apr_pool_t *pool);
    /* Makes ready for a child. */
    apr_status_t (*child)(void *settings, apr_pool_t *pchild);
    /* Looks for what has changed and takes it over: called every second by a thread of the child,
       which no request waits for. Where *stop is no longer 0, it gives up. */
    void (*refresh)(void *settings, volatile apr_uint32_t *stop);
    /* What is there now, as a number: answers that were kept with another are not taken. Called
       before each look at what is kept. */
    uint64_t (*version)(void *settings, apr_pool_t *pool);
    /* The name of the value's plan, which RateLimitPlan declares; NULL or empty for a value that
       is unknown. r is NULL where the source blocks, and the pool ends with the answer. NULL, or
       what has failed, for the log, without the value in it. */
    const char *(*find)(const char **plan, void *settings, const char *value, request_rec *r,
                        apr_pool_t *pool);
} rlp_plan_map_provider_t;

/* Clocks. The one named RLP_CLOCK_NAME that was registered last is asked. */
#define RLP_CLOCK_GROUP "ratelimit-clock"
#define RLP_CLOCK_VERSION "1"
#define RLP_CLOCK_NAME "default"

typedef struct {
    rlp_time_t (*monotonic)(void); /* microseconds, never back, on across restarts of the server */
    rlp_time_t (*wall)(void);      /* microseconds since the epoch */
} rlp_clock_provider_t;

#ifdef __cplusplus
}
#endif

#endif
