/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which plan: text files of "VALUE PLAN" lines, read by the parent and shared with the children by
 * fork.
 */

#include "private.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define MAP_LINE_MAX 8192

/* One line, without its end. NULL, or what was expected. A value may be a secret: no message shows
   it. */
static const char *plan_map_line(plan_map_t *map, char *line, apr_pool_t *pool)
{
    char *rest = NULL;
    const char *value = apr_strtok(line, " \t\r\n", &rest);
    const char *name = value && *value != '#' ? apr_strtok(NULL, " \t\r\n", &rest) : NULL;
    const char *more = name ? apr_strtok(NULL, " \t\r\n", &rest) : NULL;

    if (value == NULL || *value == '#') {
        return NULL;
    }
    if (name == NULL || (more != NULL && *more != '#')) {
        return "expected \"VALUE PLAN\"";
    }
    const plan_t *plan = apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING);

    if (plan == NULL) { /* who swaps the two shows a secret: the word stays out of the message */
        return "expected the name of a plan behind the value";
    }
    if (apr_hash_get(map->plans, value, APR_HASH_KEY_STRING) != NULL) {
        return "expected each value once";
    }
    apr_hash_set(map->plans, apr_pstrdup(pool, value), APR_HASH_KEY_STRING, plan);
    return NULL;
}

static const char *plan_map_lines(plan_map_t *map, apr_file_t *file, apr_pool_t *pool)
{
    char line[MAP_LINE_MAX];
    char reason[120];
    apr_status_t rv;

    for (int n = 1; (rv = apr_file_gets(line, sizeof(line), file)) == APR_SUCCESS; n++) {
        const char *error = strlen(line) == sizeof(line) - 1 ? "expected lines of less than 8 kB"
                                                             : plan_map_line(map, line, pool);
        if (error != NULL) {
            return apr_psprintf(pool, "line %d of %s: %s", n, map->path, error);
        }
    }
    return APR_STATUS_IS_EOF(rv) ? NULL
                                 : apr_psprintf(pool, "cannot read %s: %s", map->path,
                                                apr_strerror(rv, reason, sizeof(reason)));
}

const char *plan_map_load(plan_map_t *map, apr_pool_t *pool)
{
    apr_file_t *file;
    char reason[120];
    const apr_status_t rv =
        apr_file_open(&file, map->path, APR_READ | APR_BUFFERED, APR_OS_DEFAULT, pool);

    map->plans = apr_hash_make(pool);
    if (rv != APR_SUCCESS) {
        return apr_psprintf(pool, "cannot open %s: %s", map->path,
                            apr_strerror(rv, reason, sizeof(reason)));
    }
    const char *error = plan_map_lines(map, file, pool);

    apr_file_close(file);
    return error;
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
