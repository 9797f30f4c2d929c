/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which plan: maps from the values of identities to plans. The parent reads them and shares them
 * with the children by fork; a child reads what changes later.
 */

#include "plan_map.h"

#include <apr_strings.h>

#include <string.h>

struct plan_map_state_t {
    txt_t *txt;
    file_mark_t seen; /* the version that was looked at last, good or not */
};

static apr_status_t plan_map_end(void *data)
{
    plan_map_state_t *state = data;

    if (state->txt != NULL) {
        txt_free(state->txt);
        state->txt = NULL;
    }
    return APR_SUCCESS;
}

const char *plan_map_load(plan_map_t *map, apr_pool_t *pool)
{
    map->state = apr_pcalloc(pool, sizeof(*map->state));
    apr_pool_cleanup_register(pool, map->state, plan_map_end, apr_pool_cleanup_null);
    return txt_read(&map->state->txt, &map->state->seen, map->path, pool);
}

const plan_map_t *plan_map_of(const server_conf_t *server, const char *type)
{
    for (int i = server->maps->nelts - 1; i >= 0; i--) {
        const plan_map_t *map = APR_ARRAY_IDX(server->maps, i, const plan_map_t *);

        if (strcmp(map->type, type) == 0) {
            return map;
        }
    }
    return NULL;
}

const plan_t *plan_map_find(const plan_map_t *map, const char *value, request_rec *r)
{
    (void)r;
    return txt_find(map->state->txt, value);
}

void plan_map_count(const plan_map_t *map, uint32_t counts[])
{
    txt_count(map->state->txt, counts);
}
