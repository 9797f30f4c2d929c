/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The sources of identities that stand behind NAME=: header:, cookie:, env: and expr:.
 */

#include "provider.h"
#include "value.h"

#include <http_protocol.h>

#include <apr_strings.h>

#include <string.h>

#define SOURCE_KEPT "ratelimit_plans_fields"

/* RequestHeader changes the client's fields behind the first decision. Who decides after a redirect
   inside httpd, whose requests have one pool and one table, finds here what the client sent. */
typedef struct {
    const apr_table_t *changed;
    const apr_table_t *sent;
} source_kept_t;

int source_keep_fields(request_rec *r)
{
    if (r->main == NULL && r->prev == NULL) {
        source_kept_t *kept = apr_palloc(r->pool, sizeof(*kept));

        kept->changed = r->headers_in;
        kept->sent = apr_table_copy(r->pool, r->headers_in);
        (void)apr_pool_userdata_setn(kept, SOURCE_KEPT, NULL, r->pool);
    }
    return DECLINED;
}

const apr_table_t *source_fields(const request_rec *r)
{
    void *data = NULL;

    (void)apr_pool_userdata_get(&data, SOURCE_KEPT, r->pool);
    const source_kept_t *kept = data;

    return kept != NULL && kept->changed == r->headers_in ? kept->sent : r->headers_in;
}

/* NULL if a request can have a field or cookie of that name; else nobody would ever be counted. */
static const char *source_check_name(const char *what, const char *name, const char *source,
                                     const char *argument, apr_pool_t *pool)
{
    return *argument != '\0' && *ap_scan_http_token(argument) == '\0'
               ? NULL
               : apr_psprintf(pool, "expected the name of a %s, got \"%s=%s:%s\"", what, name,
                              source, argument);
}

static const char *source_configure_header(void **settings, const char *name, const char *argument,
                                           cmd_parms *cmd)
{
    *settings = apr_pstrdup(cmd->pool, argument);
    return source_check_name("header field", name, "header", argument, cmd->pool);
}

static const char *source_header(void *settings, request_rec *r)
{
    return apr_table_get(source_fields(r), settings);
}

/* A redirect inside httpd renames the variables (REDIRECT_...); whose request it is stays the
   same. */
static const char *source_env(void *settings, request_rec *r)
{
    const char *value = NULL;

    for (; value == NULL && r != NULL; r = r->prev) {
        value = apr_table_get(r->subprocess_env, settings);
    }
    return value;
}

static const char *source_configure_cookie(void **settings, const char *name, const char *argument,
                                           cmd_parms *cmd)
{
    *settings = apr_pstrdup(cmd->pool, argument);
    return source_check_name("cookie", name, "cookie", argument, cmd->pool);
}

static const char *source_cookie(void *settings, request_rec *r)
{
    const char *field = apr_table_get(source_fields(r), "Cookie");
    size_t len = 0;
    const char *value = field ? value_cookie(field, settings, &len) : NULL;

    return value ? apr_pstrmemdup(r->pool, value, len) : NULL;
}

typedef struct {
    const char *name;
    const ap_expr_info_t *expr;
} source_expr_t;

static const char *source_configure_expr(void **settings, const char *name, const char *argument,
                                         cmd_parms *cmd)
{
    source_expr_t *made = apr_pcalloc(cmd->pool, sizeof(*made));

    made->name = name;
    *settings = made;
    return config_expression(&made->expr, cmd, "expr:", argument, AP_EXPR_FLAG_STRING_RESULT);
}

static const char *source_expr(void *settings, request_rec *r)
{
    const source_expr_t *source = settings;
    const char *error = NULL;
    const char *value = ap_expr_str_exec(r, source->expr, &error);

    if (error != NULL) {
        denial_log_expression(r, "identity ", source->name, error);
        return NULL;
    }
    return value;
}

static const rlp_identity_provider_t source_of_header = { .argument = "NAME",
                                                          .any_case = true,
                                                          .chosen = true,
                                                          .configure = source_configure_header,
                                                          .value = source_header };
static const rlp_identity_provider_t source_of_cookie = {
    .argument = "NAME", .chosen = true, .configure = source_configure_cookie, .value = source_cookie
};
static const rlp_identity_provider_t source_of_env = { .argument = "NAME",
                                                       .any_case = true,
                                                       .value = source_env };
static const rlp_identity_provider_t source_of_expr = { .argument = "EXPR",
                                                        .configure = source_configure_expr,
                                                        .value = source_expr };

const rlp_identity_provider_t *const identity_providers[] = { &source_of_header, &source_of_cookie,
                                                              &source_of_env, &source_of_expr };
