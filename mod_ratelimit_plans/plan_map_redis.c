/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plans in Redis: by GET of a key or HGET of a field, over the connections of a store there.
 */

#include "plan_map.h"
#include "store_redis.h"

#include <apr_escape.h>
#include <apr_strings.h>

#include <string.h>

typedef struct {
    const char *store;    /* its name; NULL: the first in Redis */
    const char *key;      /* patterns */
    const char *field;    /* of a hash; NULL: the key is a string */
    const depot_t *depot; /* found when all is read */
} redis_map_t;

/* --- the directive */

/* How many places for the value there are; -1 if there is something else behind a "%". */
static int map_places(const char *pattern)
{
    int n = 0;

    for (const char *at = strchr(pattern, '%'); at != NULL; at = strchr(at + 2, '%')) {
        if (at[1] != 's' && at[1] != 'h' && at[1] != '%') {
            return -1;
        }
        n += at[1] != '%';
    }
    return n;
}

static const char *map_configure(void **settings, const rlp_plan_map_words_t *words, cmd_parms *cmd)
{
    redis_map_t *map = apr_pcalloc(cmd->pool, sizeof(*map));
    char *rest = NULL;

    *settings = map;
    map->store = words->variant;
    map->key = apr_strtok(apr_pstrdup(cmd->pool, words->argument), " ", &rest);
    map->field = map->key ? apr_strtok(NULL, " ", &rest) : NULL;
    const int places = map->key ? map_places(map->key) : -1;
    const int more = map->field ? map_places(map->field) : 0;

    if (places < 0 || more < 0 || places + more == 0 ||
        (map->field != NULL && apr_strtok(NULL, " ", &rest) != NULL)) {
        return apr_psprintf(cmd->pool,
                            "expected a key with %%s where the value goes, or %%h for its digest, "
                            "as in \"redis:plan:%%s\", or a hash and a field, as in "
                            "\"redis:plans %%s\", got \"redis:%s\"",
                            config_shown(words->argument, cmd->pool));
    }
    return words->variant ? rlp_name_check(words->variant, cmd->pool) : NULL;
}

static const char *map_describe(void *settings)
{
    return ((const redis_map_t *)settings)->field ? "a hash in Redis" : "keys in Redis";
}

/* Finds its store. */
static const char *map_open(void *settings, apr_pool_t *pool)
{
    redis_map_t *map = settings;

    for (int i = 0; i < rlp_world->depots->nelts && map->depot == NULL; i++) {
        const depot_t *depot = &APR_ARRAY_IDX(rlp_world->depots, i, const depot_t);

        if (depot->provider == &store_redis_provider &&
            (map->store == NULL || strcmp(map->store, depot->name) == 0)) {
            map->depot = depot;
        }
    }
    if (map->depot != NULL) {
        return NULL;
    }
    return map->store
               ? apr_psprintf(pool, "expected the name of a store in Redis, got \"redis=%s:\"",
                              map->store)
               : "expected a RateLimitStore of the type redis, which a map by redis: asks";
}

/* --- asking */

/* The pattern with the value in its places. */
static const char *map_fill(const char *pattern, const char *value, apr_pool_t *pool)
{
    uint8_t digest[RLP_DIGEST_SIZE];
    const char *text = "";
    const char *at = strchr(pattern, '%');

    for (; at != NULL; pattern = at + 2, at = strchr(pattern, '%')) {
        const char *put = at[1] == 's' ? value : "%";

        if (at[1] == 'h') {
            rlp_digest(digest, value, strlen(value));
            put = apr_pescape_hex(pool, digest, sizeof(digest), 0);
        }
        text = apr_pstrcat(pool, text, apr_pstrmemdup(pool, pattern, (apr_size_t)(at - pattern)),
                           put, NULL);
    }
    return apr_pstrcat(pool, text, pattern, NULL);
}

/* The plan in a reply; NULL, or what has failed. */
static const char *map_read(const char **plan, const redis_call_t *call, apr_pool_t *pool)
{
    char why[REDIS_WHY_MAX];

    if (call->fault != REDIS_FAULT_NONE && call->reply != NULL) {
        redis_reply_why(call->reply, why);
        return apr_pstrcat(pool, "Redis: ", why, NULL);
    }
    if (call->fault != REDIS_FAULT_NONE) {
        return apr_pstrcat(pool, "Redis: ", redis_remedy(call->fault)->text, NULL);
    }
    if (call->reply->type != REDIS_REPLY_STRING && call->reply->type != REDIS_REPLY_NIL) {
        return "Redis: neither a text nor nothing";
    }
    *plan = call->reply->type == REDIS_REPLY_STRING
                ? apr_pstrmemdup(pool, call->reply->str, (apr_size_t)call->reply->len)
                : NULL;
    return NULL;
}

static const char *map_find(const char **plan, void *settings, const char *value, request_rec *r,
                            apr_pool_t *pool)
{
    const redis_map_t *map = settings;
    const char *argv[] = { map->field ? "HGET" : "GET", map_fill(map->key, value, pool),
                           map->field ? map_fill(map->field, value, pool) : "" };
    const size_t lens[] = { strlen(argv[0]), strlen(argv[1]), strlen(argv[2]) };
    redis_call_t call = { .key = argv[1],
                          .key_len = lens[1],
                          .argc = map->field ? 3 : 2,
                          .argv = argv,
                          .argv_len = lens };

    (void)r;
    far_exchange(map->depot->store, &call);
    const char *error = map_read(plan, &call, pool);

    freeReplyObject(call.reply);
    return error;
}

const rlp_plan_map_provider_t redis_map_provider = {
    .argument = "KEY",
    .variant = "STORE",
    .kept = true,
    .common = true,
    .no_timeout = "the timeout= of its store is for it, too",
    .configure = map_configure,
    .describe = map_describe,
    .open = map_open,
    .find = map_find,
};
