/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The answer to a refused request: its status, Retry-After, and its body.
 */

#include "private.h"

#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_core.h>
#include <util_filter.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

const char refuse_handler_name[] = "ratelimit-refusal";

/* The quality of a media type in a member of Accept, in thousandths; -1 if the member is of another
   type. */
static int refuse_quality(const char *member, const char *type)
{
    const size_t len = strlen(type);
    const char *q = NULL;

    if (ap_cstr_casecmpn(member, type, len) != 0 ||
        (member[len] != '\0' && member[len] != ';' && !apr_isspace(member[len]))) {
        return -1;
    }
    for (q = strchr(member, ';'); q != NULL; q = strchr(q, ';')) {
        q += 1 + strspn(q + 1, " \t");
        if ((*q == 'q' || *q == 'Q') && q[1] == '=') {
            const double quality = strtod(q + 2, NULL);
            return quality >= 0 && quality <= 1 ? (int)(quality * 1000) : 0;
        }
    }
    return 1000;
}

#define REFUSE_TYPES 3

/* The best quality of each of these types in Accept, in thousandths; -1: it is not named. */
static void refuse_qualities(int qualities[], const char *const types[], const char *accept,
                             apr_pool_t *pool)
{
    char *rest = NULL;

    for (int i = 0; i < REFUSE_TYPES; i++) {
        qualities[i] = -1;
    }
    for (char *member = apr_strtok(apr_pstrdup(pool, accept), ",", &rest); member;
         member = apr_strtok(NULL, ",", &rest)) {
        member += strspn(member, " \t");
        for (int i = 0; i < REFUSE_TYPES; i++) {
            const int quality = refuse_quality(member, types[i]);

            qualities[i] = quality > qualities[i] ? quality : qualities[i];
        }
    }
}

/* Does the client name JSON in Accept, and like it no less than HTML, which may go by the name of
   something wider? */
static bool refuse_wants_json(request_rec *r)
{
    static const char *const json_types[] = { "application/json", "application/problem+json",
                                              "application/*" };
    static const char *const html_types[] = { "text/html", "text/*", "*/*" };
    const char *accept = apr_table_get(r->headers_in, "Accept");
    int json[REFUSE_TYPES];
    int html[REFUSE_TYPES];
    int best = 0;
    int named = 0;

    if (accept == NULL || ap_strcasestr(accept, "application/") == NULL) {
        return false;
    }
    refuse_qualities(json, json_types, accept, r->pool);
    refuse_qualities(html, html_types, accept, r->pool);
    for (int i = 0; i < REFUSE_TYPES; i++) {
        best = json[i] > best ? json[i] : best;
    }
    while (named < REFUSE_TYPES - 1 && html[named] < 0) {
        named++;
    }
    return best > 0 && best >= html[named];
}

/* httpd reads the body of a refused request before it answers; a client that never sends it would
   hold the worker. A connection that is to be closed is not read from, and an ErrorDocument that is
   a script is not to wait for a body either. */
static void refuse_drop_body(request_rec *r)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");

    if (r->connection->master == NULL && r->proto_num < HTTP_VERSION(2, 0) &&
        ((length != NULL && strcmp(length, "0") != 0) ||
         apr_table_get(r->headers_in, "Transfer-Encoding") != NULL)) {
        r->connection->keepalive = AP_CONN_CLOSE;
        apr_table_unset(r->headers_in, "Content-Length");
        apr_table_unset(r->headers_in, "Transfer-Encoding");
    }
}

/* As httpd's own pages of errors (ap_send_error_response()), this has no filters and fields of what
   was asked for, such as those that say how long it may be kept, but those for errors. */
static void refuse_start_over(request_rec *r)
{
    apr_table_t *dropped = r->headers_out;

    while (r->output_filters != NULL && r->output_filters->frec->ftype < AP_FTYPE_PROTOCOL) {
        r->output_filters = r->output_filters->next;
    }
    ap_run_insert_error_filter(r); /* mod_cache may put what it has in the place of this */
    r->headers_out = r->err_headers_out;
    r->err_headers_out = dropped;
    apr_table_clear(dropped);
}

/* problem+json of RFC 9457, with the type and the member that the header fields' draft defines.
   Names of plans and rules need no escapes. */
int refuse_write_json(request_rec *r, const verdict_t *verdict)
{
    const char *separator = "";

    r->status = verdict->status;
    refuse_start_over(r);
    r->content_encoding = NULL; /* of the file that was asked for, as its language */
    r->content_languages = NULL;
    ap_set_content_type(r, "application/problem+json");
    ap_rprintf(r,
               "{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\","
               "\"title\":\"Request cannot be satisfied as assigned quota has been exceeded\","
               "\"status\":%d,\"detail\":\"Rate limit exceeded\"",
               verdict->status);
    if (verdict->retry > 0) {
        ap_rprintf(r, ",\"retry_after\":%" APR_INT64_T_FMT, rlp_seconds(verdict->retry));
    }
    ap_rputs(",\"violated-policies\":[", r);
    for (int i = 0; i < verdict->n; i++) {
        const outcome_t *outcome = &verdict->outcomes[i];

        if (outcome->decision.verdict > RLP_WAIT) {
            ap_rprintf(r, "%s\"%s\"", separator, respond_label(verdict, outcome)->name);
            separator = ",";
        }
    }
    ap_rputs("]}\n", r);
    return OK;
}

void refuse_retry(request_rec *r, rlp_time_t span)
{
    apr_table_setn(r->err_headers_out, "Retry-After", respond_number(rlp_seconds(span), r->pool));
}

/* mod_cache throws out what it has of a page when asking for it anew ends in an error, and any
   client may demand that (max-age=0). A refusal says nothing of the page. */
static void refuse_keep_cached(const request_rec *r)
{
    ap_filter_t *filter = r->output_filters;

    while (filter != NULL && strcmp(filter->frec->name, "cache_remove_url") != 0) {
        filter = filter->next;
    }
    if (filter != NULL) {
        ap_remove_output_filter(filter);
    }
}

int refuse_request(request_rec *r, int status)
{
    apr_table_setn(r->err_headers_out, "Cache-Control", "no-store");
    refuse_drop_body(r);
    refuse_keep_cached(r);
    return status;
}

int refuse_limited(request_rec *r, verdict_t *verdict, const dir_conf_t *conf, bool in_handler)
{
    verdict->status = conf->deny_status == RLP_UNSET ? HTTP_TOO_MANY_REQUESTS : conf->deny_status;
    if (verdict->retry > 0) {
        refuse_retry(r, verdict->retry);
    }
    refuse_request(r, verdict->status);
    if (ap_response_code_string(r, ap_index_of_response(verdict->status)) != NULL ||
        !refuse_wants_json(r)) {
        return verdict->status;
    }
    if (in_handler) {
        return refuse_write_json(r, verdict);
    }
    /* not through ap_die(), whose text is always HTML; and now, before another fixup such as
       mod_dir's gives the request to somebody else */
    r->handler = refuse_handler_name;
    const int rv = ap_invoke_handler(r);

    return rv == OK ? DONE : rv;
}
