/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The stores of the server, and what rules want of them.
 */

#include "provider.h"

#include <http_log.h>

#include <apr_strings.h>

#include <string.h>
#include <unistd.h>

APLOG_USE_MODULE(ratelimit_plans);

static depot_t *stores_at(int i)
{
    return &APR_ARRAY_IDX(rlp_world->depots, i, depot_t);
}

/* Its index; -1: there is none of that name. */
static int stores_index(const char *name)
{
    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        if (strcmp(stores_at(i)->name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* --- configuration */

void stores_begin(world_t *world)
{
    world->depots = apr_array_make(world->pool, 2, sizeof(depot_t));
    APR_ARRAY_PUSH(world->depots, depot_t) = (depot_t){ .name = "default",
                                                        .provider = world->store_provider,
                                                        .settings = world->store_settings };
}

const char *stores_add(cmd_parms *cmd, const char *name, const rlp_store_provider_t *provider,
                       void *settings)
{
    const depot_t depot = { .name = name,
                            .provider = provider,
                            .settings = settings,
                            .file = cmd->directive->filename,
                            .line = cmd->directive->line_num };

    if (rlp_world->store_name == NULL) {
        rlp_world->store_name = name;
        rlp_world->store_fault = NULL;
        rlp_world->store_provider = provider;
        rlp_world->store_settings = settings;
        *stores_at(0) = depot;
        return NULL;
    }
    if (stores_index(name) >= 0) {
        return apr_psprintf(cmd->pool, "expected a name that no store has yet, got \"%s\"", name);
    }
    APR_ARRAY_PUSH(rlp_world->depots, depot_t) = depot;
    return NULL;
}

/* The file in which the store has counters, if only while Redis is away; NULL: there is none. */
static const char *stores_path(const depot_t *depot, apr_pool_t *pool)
{
    if (depot->provider == &store_shm_provider) {
        return store_shm_path(depot->settings, pool);
    }
#ifdef RLP_REDIS
    if (depot->provider == &store_redis_provider) {
        return store_redis_path(depot->settings, pool);
    }
#endif
    return NULL;
}

/* The first of so many that has the file; NULL: there is none. */
static const depot_t *stores_with(const char *path, int n, apr_pool_t *pool)
{
    for (int i = 0; i < n; i++) {
        const char *own = stores_path(stores_at(i), pool);

        if (own != NULL && strcmp(own, path) == 0) {
            return stores_at(i);
        }
    }
    return NULL;
}

bool stores_have(const char *path, apr_pool_t *pool)
{
    return stores_with(path, rlp_world->depots->nelts, pool) != NULL;
}

const char *stores_check(const depot_t **wrong, apr_pool_t *pool)
{
    for (int i = 1; i < rlp_world->depots->nelts; i++) {
        const char *path = stores_path(stores_at(i), pool);
        const depot_t *twin = path ? stores_with(path, i, pool) : NULL;

        if (twin != NULL) {
            *wrong = stores_at(i);
            return apr_psprintf(pool,
                                "expected a file of its own for the store \"%s\", got that of the "
                                "store \"%s\" on line %d of %s: %s",
                                (*wrong)->name, twin->name, twin->line, twin->file, path);
        }
    }
    return NULL;
}

/* The rule's terms, to be set. */
static rlp_terms_t *stores_terms(rule_t *rule, apr_pool_t *pool)
{
    rlp_terms_t *terms = apr_pcalloc(pool, sizeof(*terms));

    if (rule->terms != NULL) {
        *terms = *rule->terms;
    }
    rule->terms = terms;
    return terms;
}

/* What is counted where is for the server's administrator to say. */
static const char *stores_outside(cmd_parms *cmd, const char *word, const char *value)
{
    return config_is_htaccess(cmd)
               ? apr_psprintf(cmd->pool, "expected no %s in .htaccess, got \"%s%s\"", word, word,
                              value)
               : NULL;
}

const char *stores_rule_store(rule_t *rule, cmd_parms *cmd, const char *value)
{
    const char *error = stores_outside(cmd, "store=", value);

    rule->store_name = value;
    return error ? error : rlp_name_check(config_shown(value, cmd->pool), cmd->pool);
}

const char *stores_rule_failure(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const words[] = { "local", "open", "closed", NULL };
    const int failure = config_word(value, words);

    if (failure < 0) {
        return apr_psprintf(cmd->pool,
                            "expected failure=local, open or closed, got \"failure=%s\"%s", value,
                            config_near_whole(value, words, cmd->pool));
    }
    stores_terms(rule, cmd->pool)->failure = RLP_FAILURE_LOCAL + (rlp_failure_t)failure;
    return stores_outside(cmd, "failure=", value);
}

const char *stores_rule_sync(rule_t *rule, cmd_parms *cmd, const char *value)
{
    static const char *const words[] = { "exact", "lease", NULL };
    const int sync = config_word(value, words);

    if (sync < 0) {
        return apr_psprintf(cmd->pool, "expected sync=exact or lease, got \"sync=%s\"%s", value,
                            config_near_whole(value, words, cmd->pool));
    }
    stores_terms(rule, cmd->pool)->sync = RLP_SYNC_EXACT + (rlp_sync_t)sync;
    return stores_outside(cmd, "sync=", value);
}

static const char *stores_near(const char *name, apr_pool_t *pool)
{
    const int n = rlp_world->depots->nelts;
    const char **names = apr_pcalloc(pool, sizeof(char *) * ((apr_size_t)n + 1));

    for (int i = 0; i < n; i++) {
        names[i] = stores_at(i)->name;
    }
    return config_near_whole(name, names, pool);
}

const char *stores_rule_check(rule_t *rule, apr_pool_t *pool)
{
    if (rule->store_name != NULL) {
        const int i = stores_index(rule->store_name);

        if (i < 0) {
            return apr_psprintf(pool, "expected the name of a store, got \"store=%s\"%s",
                                rule->store_name, stores_near(rule->store_name, pool));
        }
        if (i > 0) {
            stores_terms(rule, pool)->store = i;
        }
    }
    if (rule->terms == NULL ||
        (rule->terms->failure == RLP_FAILURE_USUAL && rule->terms->sync == RLP_SYNC_USUAL)) {
        return NULL;
    }
    const depot_t *depot = stores_of(rule);
    const char *word = rule->terms->failure == RLP_FAILURE_USUAL ? "sync=" : "failure=";

    return depot->provider->terms
               ? depot->provider->terms(depot->settings, rule->terms)
               : apr_psprintf(pool, "expected no %s with the store \"%s\", which is on this host",
                              word, depot->name);
}

const depot_t *stores_of(const rule_t *rule)
{
    return stores_at(rule->terms ? rule->terms->store : 0);
}

const char *stores_rule_describe(const rule_t *rule, apr_pool_t *pool)
{
    static const char *const failures[] = { [RLP_FAILURE_USUAL] = "",
                                            [RLP_FAILURE_LOCAL] = ", failure=local",
                                            [RLP_FAILURE_OPEN] = ", failure=open",
                                            [RLP_FAILURE_CLOSED] = ", failure=closed" };
    static const char *const syncs[] = {
        [RLP_SYNC_USUAL] = "", [RLP_SYNC_EXACT] = ", sync=exact", [RLP_SYNC_LEASE] = ", sync=lease"
    };
    const char *where =
        rule->store_name ? apr_pstrcat(pool, ", in the store ", rule->store_name, NULL) : "";

    return apr_pstrcat(pool, where, rule->terms ? failures[rule->terms->failure] : "",
                       rule->terms ? syncs[rule->terms->sync] : "", NULL);
}

/* One secret is for all stores: the identities of a request are the same in each. */
const char *stores_digest_error(void)
{
    const char *error = NULL;

    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        const depot_t *depot = stores_at(i);

        if (depot->provider->digest == NULL) {
            continue;
        }
        error = depot->provider->digest(depot->settings);
        if (error == NULL) {
            return NULL;
        }
    }
    return error;
}

/* --- opening */

static const char *stores_open_one(depot_t *depot, const rlp_clock_t *clock, server_rec *server,
                                   apr_pool_t *pool)
{
    const char *error = depot->provider->open(&depot->store, depot->settings, clock, server, pool);

    if (error == NULL &&
        (depot->store == NULL || depot->store->owners == NULL || depot->store->secret == NULL)) {
        return "expected a store with owners and secret (rlp_store_t) of its provider";
    }
    return error;
}

/* The secret that other hosts have, too; NULL: there is none. */
static const unsigned char *stores_secret(void)
{
    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        const depot_t *depot = stores_at(i);

        if (depot->provider->digest != NULL && depot->provider->digest(depot->settings) == NULL) {
            return depot->store->secret;
        }
    }
    return NULL;
}

const char *stores_open(server_rec *server, apr_pool_t *pool)
{
    const int n = rlp_world->depots->nelts;
    rlp_store_t **stores = apr_pcalloc(pool, sizeof(rlp_store_t *) * (apr_size_t)n);
    rlp_clock_t clock;

    rlp_clock_read(&clock);
    clock.monotonic = rlp_world->clock->monotonic();
    clock.wall = rlp_world->clock->wall();
    for (int i = 0; i < n; i++) {
        const char *error = stores_open_one(stores_at(i), &clock, server, pool);

        if (error != NULL) {
            return n > 1 ? apr_pstrcat(pool, stores_at(i)->name, ": ", error, NULL) : error;
        }
        stores[i] = stores_at(i)->store;
    }
    rlp_world->store = n > 1 ? rlp_joint_create(stores, n, stores_secret(), pool) : stores[0];
    return NULL;
}

/* --- the children */

static void stores_child_one(depot_t *depot, apr_pool_t *pchild, server_rec *server)
{
    const apr_status_t rv =
        depot->provider->child ? depot->provider->child(depot->store, pchild) : APR_SUCCESS;

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, server,
                     "RLP021: the store is not there for this process");
    }
    depot->owner = rlp_owner_open(depot->store, getpid());
    if (depot->owner == 0 && rlp_owner_sweep(depot->store)) {
        depot->owner = rlp_owner_open(depot->store, getpid());
    }
    if (depot->owner == 0) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, server,
                     "RLP008: more than %d processes: concurrent= refuses the requests of this one",
                     RLP_OWNERS_MAX);
    }
}

void stores_child(apr_pool_t *pchild, server_rec *server)
{
    const int n = rlp_world->depots->nelts;

    for (int i = 0; i < n; i++) {
        stores_child_one(stores_at(i), pchild, server);
        if (n > 1) {
            rlp_joint_owner(rlp_world->store, i, stores_at(i)->owner);
        }
    }
    rlp_world->owner = stores_at(0)->owner;
    rlp_world->living = stores_at(0)->store->owners;
}

void stores_child_gone(pid_t pid)
{
    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        rlp_owner_close(stores_at(i)->store, pid);
    }
}

bool stores_sweep(void)
{
    bool gone = false;

    for (int i = 0; i < rlp_world->depots->nelts; i++) {
        gone |= rlp_owner_sweep(stores_at(i)->store);
    }
    return gone;
}
