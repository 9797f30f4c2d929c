/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plans by an expression, whose text is the name of one.
 */

#include "plan_map.h"

#include <http_log.h>

#include <apr_strings.h>

APLOG_USE_MODULE(ratelimit_plans);

typedef struct {
    const char *type; /* of identity, for the log */
    const ap_expr_info_t *expr;
} expr_t;

static const char *expr_configure(void **settings, const rlp_plan_map_words_t *words,
                                  cmd_parms *cmd)
{
    expr_t *made = apr_pcalloc(cmd->pool, sizeof(*made));

    made->type = words->type;
    *settings = made;
    return config_expression(&made->expr, cmd, "expr:", words->argument,
                             AP_EXPR_FLAG_STRING_RESULT);
}

static const char *expr_describe(void *settings)
{
    (void)settings;
    return "an expression";
}

static void expr_log(const expr_t *source, const request_rec *r, int level, const char *text)
{
    if (denial_tells(r, apr_pstrcat(r->pool, "map ", source->type, NULL))) {
        ap_log_rerror(APLOG_MARK, level, 0, r, "RLP014: plan map of %s: %s", source->type, text);
    }
}

/* What is wrong is said here, for the request: the word may come from the client. */
static const char *expr_find(const char **plan, void *settings, const char *value, request_rec *r,
                             apr_pool_t *pool)
{
    const expr_t *source = settings;
    const char *error = NULL;
    const char *name = ap_expr_str_exec(r, source->expr, &error);

    (void)value;
    (void)pool;
    *plan = NULL;
    if (error != NULL) {
        expr_log(source, r, APLOG_ERR, error);
    } else if (apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING) != NULL) {
        *plan = name;
    } else if (*name != '\0') {
        expr_log(source, r, APLOG_INFO, "the expression names no plan");
    }
    return NULL;
}

const rlp_plan_map_provider_t expr_provider = {
    .argument = "EXPR",
    .anew = true,
    .no_ttl = "the expression is evaluated for each request",
    .no_timeout = "the expression is evaluated for each request",
    .configure = expr_configure,
    .describe = expr_describe,
    .find = expr_find,
};
