/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * SetHandler ratelimit-quota: what the caller may still do. It tells of nobody else, and is never
 * charged.
 */

#include "admin.h"
#include "decide.h"
#include "provider.h"

#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>

#include <apr_strings.h>

APLOG_USE_MODULE(ratelimit_plans);

const char quota_handler_name[] = "ratelimit-quota";

/* The path of ?path=, "/" without; NULL: it is none. */
static const char *quota_path(request_rec *r)
{
    static const char name[] = "path=";
    char *rest = NULL;
    char *path = NULL;

    for (char *pair = r->args ? apr_strtok(apr_pstrdup(r->pool, r->args), "&", &rest) : NULL; pair;
         pair = apr_strtok(NULL, "&", &rest)) {
        if (path != NULL || strncmp(pair, name, sizeof(name) - 1) != 0) {
            return NULL;
        }
        path = pair + sizeof(name) - 1;
    }
    if (path == NULL) {
        return "/";
    }
    return ap_unescape_urlencoded(path) == OK && *path == '/' ? path : NULL;
}

/* The limits of the rules that refuse; whose they are. */
static const char *quota_limits(json_out_t *out, request_rec *made, const dir_conf_t *conf)
{
    const uint64_t rules = probe_rules(made, conf);
    const uint64_t apart = choose_apart(conf, rules);
    const char *identity = NULL;

    for (uint64_t bits = rules & ~apart; bits != 0; bits &= bits - 1) {
        const probe_rule_t told = probe_limits(out, made, conf, __builtin_ctzll(bits));

        identity = identity == NULL ? told.identity : identity;
    }
    return identity;
}

static int quota_tell(request_rec *r, request_rec *made)
{
    const dir_conf_t *conf = ap_get_module_config(made->per_dir_config, &ratelimit_plans_module);
    const bool exempt = conf->exempts != NULL && exempt_matches(conf->exempts, made);
    probe_answer_t told = { .action = NULL };
    json_out_t out = json_out(r->pool);

    if (!exempt) {
        told = probe_ask(made, conf);
    }
    json_open(&out, NULL, '{');
    json_string(&out, "path", made->uri);
    json_bool(&out, "exempt", exempt);
    if (told.banned > 0) {
        json_number(&out, "banned", rlp_seconds(told.banned));
    } else {
        json_string(&out, "banned", NULL);
    }
    json_open(&out, "limits", '[');
    const char *identity = exempt ? NULL : quota_limits(&out, made, conf);

    json_close(&out, ']');
    json_string(&out, "identity", identity);
    json_close(&out, '}');
    /* as an ErrorDocument, with the status of the error */
    return admin_answer(r, r->status, "application/json", &out);
}

/* The caller asks for himself: his address, his name, what he sends. */
int quota_handler(request_rec *r)
{
    const char *path = quota_path(r);
    int status = OK;

    if (r->method_number != M_GET) {
        apr_table_setn(r->err_headers_out, "Allow", "GET, HEAD");
        return admin_problem(r, HTTP_METHOD_NOT_ALLOWED, "expected GET or HEAD");
    }
    if (path == NULL) {
        return admin_problem(r, HTTP_BAD_REQUEST,
                             "expected no arguments or ?path=/PATH, with %XX for what is no plain "
                             "sign");
    }
    const probe_t probe = { .method = "GET",
                            .path = ap_os_escape_path(r->pool, path, 1),
                            .host = r->server,
                            .user = r->user,
                            .headers = apr_table_copy(r->pool, source_fields(r)),
                            .env = apr_table_copy(r->pool, r->subprocess_env) };
    request_rec *made = probe_request(&status, r, &probe);

    if (status == HTTP_BAD_REQUEST || made == NULL) {
        return admin_problem(r, HTTP_BAD_REQUEST, "expected a path that a request could have");
    }
    return quota_tell(r, made);
}
