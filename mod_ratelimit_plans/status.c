/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The handler ratelimit-status: who may see it is said with Require. And the section of
 * mod_status.
 */

#include "status.h"

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_status.h>

#include <apr_lib.h>
#include <apr_optional_hooks.h>
#include <apr_strings.h>

#define STATUS_HANDLER "ratelimit-status"

const status_kind_t status_kinds[STATS_KINDS] = {
    [STATS_ADMITTED] = { "pass", "admitted", "Admitted", "Admitted", "" },
    [STATS_DELAYED] = { "delay", "delayed", "Delayed", "Delayed", "" },
    [STATS_REFUSED] = { "deny", "refused", "Refused", "Refused", " bad" },
    [STATS_WOULD_REFUSE] = { "would-deny", "would_refuse", "WouldRefuse", "Would refuse",
                             " would" },
    [STATS_FAILED] = { "error", "errors", "Errors", "Errors", " bad" },
    [STATS_EXEMPT] = { "exempt", "exempt", "Exempt", "Exempt", "" },
    [STATS_UNIDENTIFIED] = { "unidentified", "unidentified", "Unidentified", "No identity", "" },
};

const char *status_plain(const char *text, apr_pool_t *pool)
{
    char *made = apr_palloc(pool, 3 * strlen(text) + 1);
    char *to = made;

    for (; *text != '\0'; text++) {
        if (*text >= ' ' && *text <= '~') {
            *to++ = *text;
        } else {
            to += apr_snprintf(to, 4, "%%%02X", (unsigned char)*text);
        }
    }
    *to = '\0';
    return made;
}

const char *status_time(rlp_time_t time, apr_pool_t *pool)
{
    apr_time_exp_t parts;

    if (apr_time_exp_gmt(&parts, time) != APR_SUCCESS) {
        return "";
    }
    return apr_psprintf(pool, "%04d-%02d-%02dT%02d:%02d:%02dZ", parts.tm_year + 1900,
                        parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

static status_t *status_make(request_rec *r)
{
    status_t *status = apr_pcalloc(r->pool, sizeof(*status));

    status->r = r;
    status->now = rlp_world->store ? rlp_world->clock->wall() : rlp_clock_wall();
    status->stats = stats_read(r->pool);
    for (int i = 0; i < status->stats->n; i++) {
        for (int k = 0; k < STATS_KINDS; k++) {
            status->totals[k] += status->stats->rows[i].counts[k];
        }
    }
    if (rlp_world->store != NULL) {
        status->look = store_shm_look();
    }
#ifdef RLP_REDIS
    status->n_servers = store_redis_servers(status->servers, r->pool);
#endif
    return status;
}

/* --- the handler */

typedef struct {
    const char *name;
    const char *type;
    void (*write)(const status_t *status);
} status_format_t;

static const status_format_t status_formats[] = {
    { "html", "text/html; charset=utf-8", status_page },
    { "json", "application/json", status_json },
    { "prometheus", "text/plain; version=0.0.4; charset=utf-8", status_metrics },
};

/* The format that the query asks for; NULL: there is none of that name. */
static const status_format_t *status_format(request_rec *r)
{
    const char *query = r->args ? r->args : "";
    const char *given = strncmp(query, "format=", 7) == 0 ? query : strstr(query, "&format=");

    if (given == NULL) {
        return &status_formats[0];
    }
    given = strchr(given, '=') + 1;
    const size_t len = strcspn(given, "&");

    for (size_t i = 0; i < sizeof(status_formats) / sizeof(status_formats[0]); i++) {
        const char *name = status_formats[i].name;

        if (strlen(name) == len && strncmp(name, given, len) == 0) {
            return &status_formats[i];
        }
    }
    return NULL;
}

int status_handler(request_rec *r)
{
    if (strcmp(r->handler, STATUS_HANDLER) != 0) {
        return DECLINED;
    }
    if (r->method_number != M_GET) { /* HEAD is one */
        ap_allow_methods(r, REPLACE_ALLOW, "GET", NULL);
        return HTTP_METHOD_NOT_ALLOWED;
    }
    const status_format_t *format = status_format(r);

    if (format == NULL) {
        return HTTP_BAD_REQUEST;
    }
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    apr_table_setn(r->headers_out, "X-Content-Type-Options", "nosniff");
    ap_set_content_type(r, format->type);
    format->write(status_make(r));
    return OK;
}

/* --- mod_status */

static void status_section_short(const status_t *status)
{
    for (int i = 0; i < STATS_KINDS; i++) {
        ap_rprintf(status->r, "RateLimit%s: %" APR_UINT64_T_FMT "\n", status_kinds[i].name,
                   status->totals[i]);
    }
    ap_rprintf(status->r,
               "RateLimitStoreSlots: %" APR_UINT64_T_FMT "\nRateLimitStoreUsed: %" APR_UINT64_T_FMT
               "\nRateLimitStoreEvictions: %" APR_UINT64_T_FMT "\n",
               status->look.slots, status->look.used, status->look.evicted);
}

static void status_section_long(const status_t *status)
{
    request_rec *r = status->r;

    ap_rputs("<hr />\n<h1>Rate limits</h1>\n<table border=\"0\"><tr><th>Rule</th><th>Plan</th>", r);
    for (int k = 0; k < STATS_KINDS; k++) {
        ap_rprintf(r, "<th>%s</th>", status_kinds[k].title);
    }
    ap_rputs("</tr>\n", r);
    for (int i = 0; i < status->stats->n; i++) {
        const stats_row_t *row = &status->stats->rows[i];

        ap_rprintf(r, "<tr><td>%s</td><td>%s</td>", ap_escape_html(r->pool, row->rule),
                   ap_escape_html(r->pool, row->plan));
        for (int k = 0; k < STATS_KINDS; k++) {
            ap_rprintf(r, "<td>%" APR_UINT64_T_FMT "</td>", row->counts[k]);
        }
        ap_rputs("</tr>\n", r);
    }
    ap_rprintf(r,
               "</table>\n<p>%" APR_UINT64_T_FMT " of %" APR_UINT64_T_FMT
               " places for counters in use, %" APR_UINT64_T_FMT
               " counters given up before their time</p>\n",
               status->look.used, status->look.slots, status->look.evicted);
}

static int status_section(request_rec *r, int flags)
{
    if (rlp_world->store == NULL) {
        return OK;
    }
    const status_t *status = status_make(r);

    if (flags & AP_STATUS_SHORT) {
        status_section_short(status);
    } else {
        status_section_long(status);
    }
    return OK;
}

void status_register(void)
{
    APR_OPTIONAL_HOOK(ap, status_hook, status_section, NULL, NULL, APR_HOOK_MIDDLE);
}
