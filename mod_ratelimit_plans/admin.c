/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * SetHandler ratelimit-admin: people ask in JSON and are answered in JSON. Who may, what no page of
 * a browser can bring about, and the line in the log for each change.
 */

#include "admin.h"

#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>

#include <apr_strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define ADMIN_BODY_MAX ((apr_size_t)65536)

const char admin_handler_name[] = "ratelimit-admin";

/* What can be asked for, and the members that go with it. */
static const struct {
    const char *name;
    const char *(*run)(admin_t *admin);
    const char *members[8]; /* besides "action" */
} admin_actions[] = {
    { "get", admin_get, { "identity", "secret", "rule", "plan" } },
    { "reset", admin_reset, { "identity", "secret", "rule" } },
    { "grant", admin_grant, { "identity", "secret", "rule", "plan", "units" } },
    { "ban", admin_ban, { "identity", "secret", "for", "until" } },
    { "unban", admin_unban, { "identity", "secret" } },
    { "set-plan", admin_set_plan, { "identity", "secret", "plan", "for", "until" } },
    { "overrides", admin_list, { NULL } },
    { "plans", admin_plans, { NULL } },
    { "top", admin_top, { NULL } },
    { "explain", admin_explain, { "url", "method", "ip", "user", "headers", "env" } },
};

#define ADMIN_ACTIONS (sizeof(admin_actions) / sizeof(admin_actions[0]))

/* --- answers */

int admin_answer(request_rec *r, int status, const char *type, json_out_t *out)
{
    r->status = status;
    apr_table_setn(r->err_headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->err_headers_out, "X-Content-Type-Options", "nosniff");
    ap_set_content_type(r, type);
    ap_rwrite(out->text, (int)out->len, r);
    ap_rputs("\n", r);
    return OK;
}

int admin_problem(request_rec *r, int status, const char *detail)
{
    json_out_t out = json_out(r->pool);
    const char *line = ap_get_status_line(status);

    json_open(&out, NULL, '{');
    json_string(&out, "title", strchr(line, ' ') ? strchr(line, ' ') + 1 : line);
    json_number(&out, "status", status);
    json_string(&out, "detail", detail);
    json_close(&out, '}');
    if (apr_table_get(r->headers_in, "Content-Length") != NULL ||
        apr_table_get(r->headers_in, "Transfer-Encoding") != NULL) {
        r->connection->keepalive = AP_CONN_CLOSE; /* nobody waits for the rest of a body */
    }
    return admin_answer(r, status, "application/problem+json", &out);
}

/* --- who may */

static bool admin_is_loopback(const apr_sockaddr_t *address)
{
    if (address->family == APR_INET) {
        return ntohl(address->sa.sin.sin_addr.s_addr) >> 24 == 127;
    }
#if APR_HAVE_IPV6
    if (address->family == APR_INET6) {
        const struct in6_addr *six = &address->sa.sin6.sin6_addr;

        return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
    }
#endif
    return false;
}

/* Proxies say so; one on this machine speaks for anybody. */
static bool admin_is_forwarded(const request_rec *r)
{
    static const char *const fields[] = { "Forwarded", "X-Forwarded-For", "X-Real-IP", "Via" };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (apr_table_get(r->headers_in, fields[i]) != NULL) {
            return true;
        }
    }
    return !admin_is_loopback(r->useragent_addr);
}

/* The peer is that of the socket, whatever other modules have made of the address. */
bool admin_is_local(request_rec *r)
{
    conn_rec *connection = r->connection->master ? r->connection->master : r->connection;
    apr_socket_t *socket = ap_get_conn_socket(connection);
    apr_sockaddr_t *peer = NULL;

    return socket != NULL && apr_socket_addr_get(&peer, APR_REMOTE, socket) == APR_SUCCESS &&
           admin_is_loopback(peer) && !admin_is_forwarded(r);
}

/* Had a .htaccess a say here? Whoever writes one could let himself in. */
static bool admin_has_htaccess(const request_rec *r)
{
    const struct htaccess_result *found = r->htaccess;

    while (found != NULL && found->htaccess == NULL) {
        found = found->next;
    }
    return found != NULL;
}

/* Would the configuration let nobody in without a user? httpd answers by the user there is. */
static bool admin_demands_user(request_rec *r)
{
    char *user = r->user;

    r->user = NULL;
    const bool demands = ap_some_authn_required(r);

    r->user = user;
    return demands;
}

/* Why nobody may, or who asks may not; NULL: he may. */
static const char *admin_refused(request_rec *r, bool *authenticated)
{
    *authenticated = r->user != NULL && admin_demands_user(r);
    if (admin_has_htaccess(r)) {
        return "a .htaccess applies to this path; map it to a directory with AllowOverride None";
    }
    return *authenticated || admin_is_local(r)
               ? NULL
               : "expected a user whom the configuration demands (Require), or a peer on the "
                 "loopback address that speaks for itself";
}

/* A page of a browser sends Origin with each POST; forms cannot send the fields that are demanded,
   nor can scripts of other sites without asking first. */
static const char *admin_foreign(request_rec *r, bool authenticated)
{
    const char *origin = apr_table_get(r->headers_in, "Origin");
    const char *host = apr_table_get(r->headers_in, "Host");
    const char *site = apr_table_get(r->headers_in, "Sec-Fetch-Site");

    if (site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0) {
        return "expected no request of another site (Sec-Fetch-Site)";
    }
    if (origin == NULL) {
        return NULL;
    }
    if (authenticated && host != NULL &&
        ap_cstr_casecmp(origin, apr_pstrcat(r->pool, ap_http_scheme(r), "://", host, NULL)) == 0) {
        return NULL;
    }
    return "expected no Origin, or for a user that of this site";
}

static bool admin_is_marked(const request_rec *r)
{
    static const char json[] = "application/json";
    const char *type = apr_table_get(r->headers_in, "Content-Type");
    const size_t len = sizeof(json) - 1;

    return apr_table_get(r->headers_in, "X-RateLimit-Admin") != NULL ||
           (type != NULL && ap_cstr_casecmpn(type, json, len) == 0 &&
            strchr("; \t", type[len]) != NULL);
}

static int admin_forbid(request_rec *r, const char *why)
{
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r, "RLP071: ratelimit-admin refuses a request: %s",
                  why);
    return admin_problem(r, HTTP_FORBIDDEN, why);
}

/* --- what is asked */

/* Reads the body. OK, or a status. */
static int admin_read(request_rec *r, char **body, apr_size_t *len)
{
    int status = ap_setup_client_block(r, REQUEST_CHUNKED_DECHUNK);
    long got = 0;

    *body = apr_palloc(r->pool, ADMIN_BODY_MAX + 1);
    *len = 0;
    if (status != OK || !ap_should_client_block(r)) {
        return status;
    }
    while (*len <= ADMIN_BODY_MAX &&
           (got = ap_get_client_block(r, *body + *len, ADMIN_BODY_MAX + 1 - *len)) > 0) {
        *len += (apr_size_t)got;
    }
    if (*len > ADMIN_BODY_MAX) {
        return HTTP_REQUEST_ENTITY_TOO_LARGE;
    }
    return got < 0 ? HTTP_BAD_REQUEST : OK;
}

/* The index of the action, or -1 with *error. */
static int admin_find(const admin_t *admin, const char **error)
{
    const char *names[ADMIN_ACTIONS + 1] = { NULL };
    const char *name = admin_text(admin, "action", error);
    const char *list = "";

    for (size_t i = 0; i < ADMIN_ACTIONS; i++) {
        names[i] = admin_actions[i].name;
        if (name != NULL && strcmp(name, names[i]) == 0) {
            return (int)i;
        }
        list = apr_pstrcat(admin->r->pool, list,
                           i == 0                  ? ""
                           : i + 1 < ADMIN_ACTIONS ? ", "
                                                   : " or ",
                           names[i], NULL);
    }
    if (*error == NULL) {
        *error = name == NULL
                     ? apr_psprintf(admin->r->pool, "expected \"action\": %s", list)
                     : apr_psprintf(admin->r->pool, "expected \"action\": %s, got \"%s\"%s", list,
                                    name, config_near_whole(name, names, admin->r->pool));
    }
    return -1;
}

static bool admin_knows(const char *const members[], const char *name)
{
    bool knows = strcmp(name, "action") == 0;

    for (int i = 0; members[i] != NULL; i++) {
        knows |= strcmp(name, members[i]) == 0;
    }
    return knows;
}

/* What was misspelt would else be left out. */
static const char *admin_unknown(const admin_t *admin, int action)
{
    const char *const *members = admin_actions[action].members;

    for (int i = 0; i < admin->ask->items->nelts; i++) {
        const char *name = APR_ARRAY_IDX(admin->ask->items, i, const json_t).name;

        if (!admin_knows(members, name)) {
            return apr_psprintf(admin->r->pool, "expected no member \"%s\" with the action %s%s",
                                name, admin_actions[action].name,
                                config_near_whole(name, members, admin->r->pool));
        }
    }
    return NULL;
}

static void admin_audit(const admin_t *admin)
{
    const request_rec *r = admin->r;

    if (admin->audit != NULL) {
        ap_log_rerror(APLOG_MARK, APLOG_NOTICE, 0, r, "RLP072: ratelimit-admin: %s: %s",
                      r->user ? r->user : "a local process", admin->audit);
    }
}

static int admin_act(admin_t *admin)
{
    const char *error = NULL;
    const int action = admin_find(admin, &error);

    if (action >= 0) {
        error = admin_unknown(admin, action);
    }
    if (error == NULL) {
        json_open(&admin->out, NULL, '{');
        json_string(&admin->out, "action", admin_actions[action].name);
        error = admin_actions[action].run(admin);
        json_close(&admin->out, '}');
    }
    admin_audit(admin);
    return error ? admin_problem(admin->r, admin->status, error)
                 : admin_answer(admin->r, HTTP_OK, "application/json", &admin->out);
}

static int admin_run(request_rec *r)
{
    admin_t admin = { .r = r, .out = json_out(r->pool), .status = HTTP_BAD_REQUEST };
    apr_size_t len = 0;
    char *body = NULL;
    const int status = admin_read(r, &body, &len);

    if (status != OK) {
        return admin_problem(r, status,
                             status == HTTP_REQUEST_ENTITY_TOO_LARGE
                                 ? "expected a body of 65536 bytes at most"
                                 : "expected a body that can be read");
    }
    const char *error = json_parse(&admin.ask, body, len, r->pool);

    if (error == NULL && admin.ask->kind != JSON_OBJECT) {
        error = "expected an object of JSON, such as {\"action\":\"plans\"}";
    }
    if (error != NULL) {
        return admin_problem(r, HTTP_BAD_REQUEST, error);
    }
    return rlp_world->store ? admin_act(&admin)
                            : admin_problem(r, HTTP_SERVICE_UNAVAILABLE,
                                            "expected a server with rules or a store: it has none");
}

int admin_handler(request_rec *r)
{
    bool authenticated = false;

    if (r->method_number != M_POST) {
        apr_table_setn(r->err_headers_out, "Allow", "POST");
        return admin_problem(r, HTTP_METHOD_NOT_ALLOWED, "expected POST");
    }
    const char *why = admin_refused(r, &authenticated);

    if (why == NULL) {
        why = admin_foreign(r, authenticated);
    }
    if (why != NULL) {
        return admin_forbid(r, why);
    }
    return admin_is_marked(r)
               ? admin_run(r)
               : admin_problem(r, HTTP_UNSUPPORTED_MEDIA_TYPE,
                               "expected Content-Type: application/json, or the header field "
                               "X-RateLimit-Admin: 1");
}
