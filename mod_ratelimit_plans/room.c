/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Is the store large enough for the quotas of those whom plan maps know? What is counted for a
 * minute is forgotten by itself; what is counted for a month has to have room.
 */

#include "provider.h"

#include <apr_strings.h>

#include <string.h>

#define ROOM_STATE RLP_STATE_MAX /* of a quota: it fits into the smallest slots */
#define ROOM_MEGABYTE ((size_t)1024 * 1024)

/* What the values of a host's maps need under its rules. */
typedef struct {
    apr_hash_t *counts; /* plan_map_t -> values by plan_t.index, of all hosts */
    apr_hash_t *scopes; /* of the rules in it, which share counters */
    apr_uint64_t quotas;
    const char *sum;       /* in words */
    const plan_map_t *map; /* the last that needs some */
} need_t;

static bool room_has_part(const identity_t *identity, const char *type)
{
    bool has = false;

    for (int i = 0; i < identity->n; i++) {
        has |= strcmp(identity->parts[i].name, type) == 0;
    }
    return has;
}

static bool room_has_type(const chain_t *chain, const char *type)
{
    bool has = false;

    for (int i = 0; i < chain->n; i++) {
        has |= room_has_part(&chain->items[i], type);
    }
    return has;
}

/* Does the rule count identities of that type? Chains of deeper sections are not looked at. */
static bool room_counts(const rule_t *rule, const char *type)
{
    const dir_conf_t *outer =
        ap_get_module_config(rule->server->lookup_defaults, &ratelimit_plans_module);
    const chain_t *chain = outer->chain ? outer->chain : rlp_world->default_chain;

    return room_has_type(rule->key ? rule->key : chain, type);
}

/* Counters of quotas that an identity has under a plan, and under what takes over from it. */
static int room_quotas(const variant_t *variant)
{
    int n = 0;

    for (; variant != NULL; variant = variant->then) {
        for (int i = 0; i < variant->plan->n; i++) {
            const rlp_limit_t *limit = &variant->plan->limits[i];

            n += !limit->algorithm->holds && (limit->calendar != NULL || limit->period == 0);
        }
    }
    return n;
}

/* How many values of the map have each plan; a large map is gone through once. */
static const uint32_t *room_values(const need_t *need, const plan_map_t *map, apr_pool_t *pool)
{
    uint32_t *counts = apr_hash_get(need->counts, &map, sizeof(uintptr_t));

    if (counts == NULL) {
        counts = apr_pcalloc(pool, sizeof(*counts) * ((apr_size_t)rlp_world->plan_list->nelts + 1));
        plan_map_count(map, counts, pool);
        apr_hash_set(need->counts, apr_pmemdup(pool, (const void *)&map, sizeof(uintptr_t)),
                     sizeof(uintptr_t), counts);
    }
    return counts;
}

/* Adds what a rule needs for the values of one map. */
static void room_add(need_t *need, const rule_t *rule, const plan_map_t *map, apr_pool_t *pool)
{
    const server_conf_t *conf = server_conf(rule->server);
    const uint32_t *counts = room_values(need, map, pool);
    apr_uint64_t quotas = 0;
    apr_uint64_t values = 0;

    for (int i = 1; i <= rlp_world->plan_list->nelts; i++) {
        const who_t who = { .plan = APR_ARRAY_IDX(rlp_world->plan_list, i - 1, const plan_t *) };
        const int each = counts[i] ? room_quotas(rule_variant(rule, &who, conf, pool)) : 0;

        quotas += (apr_uint64_t)counts[i] * (apr_uint64_t)each;
        values += each ? counts[i] : 0;
    }
    if (quotas == 0) {
        return;
    }
    need->quotas += quotas;
    need->map = map;
    need->sum =
        apr_psprintf(pool,
                     "%s%s%" APR_UINT64_T_FMT " by rule %s for %" APR_UINT64_T_FMT
                     " values of \"%s\"",
                     need->sum, *need->sum ? ", " : "", quotas, rule->name, values, map->type);
}

/* Adds what a rule needs for the values of all maps of its host. */
static void room_add_all(need_t *need, const rule_t *rule, apr_pool_t *pool)
{
    const server_conf_t *conf = server_conf(rule->server);

    for (int i = 0; i < conf->maps->nelts; i++) {
        const plan_map_t *map = APR_ARRAY_IDX(conf->maps, i, const plan_map_t *);

        if (plan_map_of(conf, map->type) == map && room_counts(rule, map->type)) {
            room_add(need, rule, map, pool);
        }
    }
}

/* What a host needs, as far as its rules have been looked at. */
static need_t *room_of(apr_hash_t *needs, const server_rec *server, apr_hash_t *counts,
                       apr_pool_t *pool)
{
    need_t *need = apr_hash_get(needs, &server, sizeof(uintptr_t));

    if (need == NULL) {
        need = apr_palloc(pool, sizeof(*need));
        *need = (need_t){ .counts = counts, .scopes = apr_hash_make(pool), .sum = "" };
        apr_hash_set(needs, apr_pmemdup(pool, (const void *)&server, sizeof(uintptr_t)),
                     sizeof(uintptr_t), need);
    }
    return need;
}

/* The host that needs most: nobody knows how many of the values come to more than one. There may
   be thousands: each rule is looked at once. Rules of one name have the same counters. */
static need_t room_most(const depot_t *depot, apr_hash_t *counts, apr_pool_t *pool)
{
    apr_hash_t *needs = apr_hash_make(pool); /* server_rec -> need_t */
    const need_t none = { .sum = "" };
    const need_t *most = &none;

    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);
        need_t *need = rule->off || stores_of(rule) != depot
                           ? NULL
                           : room_of(needs, rule->server, counts, pool);

        if (need == NULL || apr_hash_get(need->scopes, rule->scope, APR_HASH_KEY_STRING) != NULL) {
            continue;
        }
        apr_hash_set(need->scopes, rule->scope, APR_HASH_KEY_STRING, rule);
        room_add_all(need, rule, pool);
        most = need->quotas > most->quotas ? need : most;
    }
    return *most;
}

/* Which store it is, where there are several. */
static const char *room_name(const depot_t *depot, apr_pool_t *pool)
{
    return rlp_world->depots->nelts > 1 ? apr_psprintf(pool, " \"%s\"", depot->name) : "";
}

/* Of one store in shared memory. */
static const char *room_doubt_of(const depot_t *depot, const plan_map_t **map, apr_hash_t *counts,
                                 apr_pool_t *pool)
{
    const size_t given = store_shm_size(depot->settings);
    const size_t room = rlp_segment_room(given, ROOM_STATE);
    const need_t need = room_most(depot, counts, pool);
    size_t size = given;

    if (need.quotas <= room) {
        return NULL;
    }
    while (rlp_segment_room(size, ROOM_STATE) < need.quotas) {
        size *= 2;
    }
    *map = need.map;
    return apr_psprintf(pool,
                        "the store%s is too small for all quotas: %s; size=%" APR_SIZE_T_FMT
                        "M has room for %" APR_SIZE_T_FMT
                        " counters and forgets some, size=%" APR_SIZE_T_FMT
                        "M has room for %" APR_SIZE_T_FMT,
                        room_name(depot, pool), need.sum, given / ROOM_MEGABYTE, room,
                        (size + ROOM_MEGABYTE - 1) / ROOM_MEGABYTE,
                        rlp_segment_room(size, ROOM_STATE));
}

const char *room_doubt(int *next, const plan_map_t **map, apr_hash_t *counts, apr_pool_t *pool)
{
    const char *doubt = NULL;

    while (*next < rlp_world->depots->nelts && doubt == NULL) {
        const depot_t *depot = &APR_ARRAY_IDX(rlp_world->depots, (*next)++, const depot_t);

        if (depot->provider == &store_shm_provider) {
            doubt = room_doubt_of(depot, map, counts, pool);
        }
    }
    return doubt;
}
