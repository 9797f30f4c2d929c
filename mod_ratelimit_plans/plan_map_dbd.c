/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plans in a database, through mod_dbd.
 */

#include "plan_map.h"

#include <http_config.h>

#include <apr_dbd.h>
#include <apr_lib.h>
#include <apr_optional.h>
#include <apr_strings.h>

#include <mod_dbd.h> /* which needs apr_dbd.h before it */

#include <string.h>

typedef struct {
    const char *statement;
    const char *label;  /* what mod_dbd has it by, */
    server_rec *server; /* and whose databases */
    APR_OPTIONAL_FN_TYPE(ap_dbd_open) * open;
    APR_OPTIONAL_FN_TYPE(ap_dbd_close) * close;
} dbd_t;

/* --- the directive */

/* How many "%s" there are; -1 if there is something else behind a "%". */
static int dbd_places(const char *statement)
{
    int n = 0;

    for (const char *at = strchr(statement, '%'); at != NULL; at = strchr(at + 2, '%')) {
        if (at[1] != 's' && at[1] != '%') {
            return -1;
        }
        n += at[1] == 's';
    }
    return n;
}

static const char *dbd_configure(void **settings, const rlp_plan_map_words_t *words, cmd_parms *cmd)
{
    APR_OPTIONAL_FN_TYPE(ap_dbd_prepare) *prepare = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_prepare);
    const char *statement = words->argument;
    dbd_t *source = apr_pcalloc(cmd->pool, sizeof(*source));

    if (dbd_places(statement) != 1) {
        return apr_psprintf(cmd->pool,
                            "expected one %%s in the statement, where the value goes, as in "
                            "\"dbd:SELECT plan FROM customers WHERE key = %%s\", got \"dbd:%s\"",
                            config_shown(statement, cmd->pool));
    }
    if (strpbrk(statement, "'\"") != NULL && strstr(statement, "'%s'") != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected %%s without quotes, since the database gets the value apart "
                            "from the statement, got \"dbd:%s\"",
                            statement);
    }
    if (prepare == NULL) {
        return "expected mod_dbd for a map by dbd: load it before, with LoadModule dbd_module";
    }
    source->label = apr_psprintf(cmd->pool, "ratelimit_plan_map_%d", rlp_world->maps->nelts);
    source->statement = statement;
    source->server = cmd->server;
    source->open = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_open);
    source->close = APR_RETRIEVE_OPTIONAL_FN(ap_dbd_close);
    *settings = source;
    prepare(cmd->server, statement, source->label);
    return NULL;
}

static const char *dbd_describe(void *settings)
{
    (void)settings;
    return "a database";
}

/* Is mod_dbd told of a database? */
static const char *dbd_check(void *settings, apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    return config_is_said("DBDriver")
               ? NULL
               : "expected DBDriver and DBDParams, which tell mod_dbd of the database, beside a "
                 "map by dbd:";
}

/* --- asking */

/* The first column of the first row, empty for none. All rows are read, or the connection is not
   free again. */
static const char *dbd_row(const ap_dbd_t *dbd, apr_dbd_results_t *results, apr_pool_t *pool)
{
    const char *name = NULL;
    apr_dbd_row_t *row = NULL;

    while (apr_dbd_get_row(dbd->driver, pool, results, &row, -1) == 0) {
        const char *entry = apr_dbd_get_entry(dbd->driver, row, 0);

        if (name == NULL) {
            name = entry ? apr_pstrdup(pool, entry) : "";
        }
    }
    return name ? name : "";
}

static const char *dbd_select(const ap_dbd_t *dbd, apr_dbd_prepared_t *statement, const char *value,
                              apr_pool_t *pool)
{
    const char *values[] = { value };
    apr_dbd_results_t *results = NULL;

    /* "random": the driver for PostgreSQL else does not come back where there is no row */
    return apr_dbd_pselect(dbd->driver, pool, dbd->handle, &results, statement, 1, 1, values) == 0
               ? dbd_row(dbd, results, pool)
               : NULL;
}

/* mod_dbd makes a connection to PostgreSQL anew when it is lost, but not its statements. */
static const char *dbd_select_anew(const ap_dbd_t *dbd, const dbd_t *source, const char *value,
                                   apr_pool_t *pool)
{
    apr_dbd_prepared_t *statement = NULL;

    return strcmp(apr_dbd_name(dbd->driver), "pgsql") == 0 &&
                   apr_dbd_check_conn(dbd->driver, pool, dbd->handle) == APR_SUCCESS &&
                   apr_dbd_prepare(dbd->driver, pool, dbd->handle, source->statement, NULL,
                                   &statement) == 0
               ? dbd_select(dbd, statement, value, pool)
               : NULL;
}

static const char *dbd_find(const char **plan, void *settings, const char *value, request_rec *r,
                            apr_pool_t *pool)
{
    const dbd_t *source = settings;
    ap_dbd_t *dbd = source->open(pool, source->server);

    (void)r;
    if (dbd == NULL) {
        return "there is no connection to the database";
    }
    apr_dbd_prepared_t *statement = apr_hash_get(dbd->prepared, source->label, APR_HASH_KEY_STRING);
    const char *name = statement ? dbd_select(dbd, statement, value, pool) : NULL;

    if (name == NULL) {
        name = dbd_select_anew(dbd, source, value, pool);
    }
    source->close(source->server, dbd);
    *plan = name;
    /* the database's own words may have the value in them */
    return name ? NULL : "the database does not answer the statement; its own log says why";
}

const rlp_plan_map_provider_t dbd_provider = {
    .argument = "SQL",
    .blocks = true,
    .text = true,
    .configure = dbd_configure,
    .describe = dbd_describe,
    .open = dbd_check,
    .find = dbd_find,
};
