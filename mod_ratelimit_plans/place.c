/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where our header fields stand: beside those of a backend or of a file, and behind redirects and
 * errors.
 */

#include "private.h"

#include <util_filter.h>

#include <apr_strings.h>

#include <string.h>

#define PLACE_FILTER "RATELIMIT_FIELDS"

/* --- the fields of a backend */

static bool place_is_field(const char *name)
{
    return ap_cstr_casecmpn(name, "RateLimit", 9) == 0 ||
           ap_cstr_casecmpn(name, "X-RateLimit", 11) == 0;
}

/* The backend's part of a field that httpd merged behind ours ("ours, theirs"), or NULL. */
static const char *place_theirs(const char *merged, const char *ours)
{
    const size_t len = strlen(ours);

    return strncmp(merged, ours, len) == 0 && strncmp(merged + len, ", ", 2) == 0 ? merged + len + 2
                                                                                  : NULL;
}

static const char *place_ours(const char *const fields[], const char *name)
{
    for (int i = 0; i < RLP_FIELDS_N; i++) {
        if (ap_cstr_casecmp(name, respond_names[i]) == 0) {
            return fields[i];
        }
    }
    return NULL;
}

/* Takes every such field out of a table; into theirs goes what the backend has said. fields are
   ours, where the table has them too; else NULL. */
static void place_take_out(apr_table_t *from, const char *const fields[], apr_table_t *theirs,
                           apr_pool_t *pool)
{
    const apr_array_header_t *all = apr_table_elts(apr_table_copy(pool, from));

    for (int i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *field = &APR_ARRAY_IDX(all, i, const apr_table_entry_t);

        if (!place_is_field(field->key)) {
            continue;
        }
        const char *ours = fields ? place_ours(fields, field->key) : NULL;
        const char *value = ours ? place_theirs(field->val, ours) : field->val;

        apr_table_unset(from, field->key);
        if (value != NULL) {
            apr_table_setn(theirs, field->key, value);
        }
    }
}

/* The script of an ErrorDocument does not know when its client may come again. */
static void place_retry(request_rec *r, const verdict_t *verdict)
{
    apr_table_unset(r->headers_out, "Retry-After");
    apr_table_unset(r->err_headers_out, "Retry-After");
    if (verdict->retry > 0) {
        refuse_retry(r, verdict->retry);
    }
}

/* A backend that refuses by itself is believed; else our fields stand alone. A later phase may have
   decided more since the filter was added. */
static apr_status_t place_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r;
    const verdict_t *verdict = request_verdict_so_far(r);
    apr_table_t *theirs = apr_table_make(r->pool, 5);

    place_take_out(r->headers_out, NULL, theirs, r->pool);
    place_take_out(r->err_headers_out, verdict->fields, theirs, r->pool);
    if (verdict->denied) {
        place_retry(r, verdict);
    }
    if (r->status == HTTP_TOO_MANY_REQUESTS && !verdict->denied) {
        r->headers_out = apr_table_overlay(r->pool, r->headers_out, theirs);
    } else if (verdict->fields != NULL) {
        respond_send(r, verdict->fields);
    }
    ap_remove_output_filter(filter);
    return ap_pass_brigade(filter->next, brigade);
}

void place_register_filter(void)
{
    /* before mod_headers, whenever it is added */
    ap_register_output_filter(PLACE_FILTER, place_filter, NULL, AP_FTYPE_RESOURCE);
}

/* AddType may name a handler, too. */
static bool place_is_typed(const request_rec *r)
{
    return r->content_type != NULL && (strncmp(r->content_type, "application/x-httpd-", 20) == 0 ||
                                       strcmp(r->content_type, "httpd/send-as-is") == 0);
}

/* Is the filter there? Content negotiation drops those that were added before it. */
static bool place_is_guarded(const request_rec *r)
{
    const ap_filter_t *filter = r->output_filters;

    while (filter != NULL && filter->frec->filter_func.out_func != place_filter) {
        filter = filter->next;
    }
    return filter != NULL;
}

/* Static files have no fields of their own; whatever has a handler may. */
void place_guard(request_rec *r, const verdict_t *verdict)
{
    if ((verdict->fields == NULL && !verdict->denied) ||
        (r->handler == NULL && r->proxyreq == PROXYREQ_NONE && !place_is_typed(r)) ||
        place_is_guarded(r)) {
        return;
    }
    ap_add_output_filter(PLACE_FILTER, NULL, r, r->connection);
}

/* --- the fields of a file

   httpd has two tables of fields for a response: those that errors and redirects keep, where ours
   belong, and those that they drop. Merging both is a fifth of what our fields cost. */

/* Does httpd itself answer, and not a handler that may have fields of its own? What is a handler's
   name for most is a type without its parameters. */
static bool place_is_plain(const request_rec *r)
{
    return *r->handler == '\0' || (r->content_type != NULL && !place_is_typed(r) &&
                                   (r->handler == r->content_type ||
                                    strncmp(r->handler, r->content_type, strlen(r->handler)) == 0));
}

/* Will httpd send a file, and no filter of another module see the fields? By now each has put its
   filter there: the one for a backend's fields is one, and that of mod_headers, whose "always"
   means the usual place. */
static bool place_is_file(const request_rec *r)
{
    return r->output_filters == r->proto_output_filters && r->finfo.filetype == APR_REG;
}

/* Do our fields stand alone? After a redirect the one table is that of the request before, too. */
static bool place_is_alone(const request_rec *r, const verdict_t *verdict)
{
    int n = 0;

    for (int i = 0; i < RLP_FIELDS_N; i++) {
        n += verdict->fields[i] != NULL;
    }
    return r->prev == NULL && apr_is_empty_table(r->headers_out) &&
           apr_table_elts(r->err_headers_out)->nelts == n;
}

static void place_swap(request_rec *r)
{
    apr_table_t *const fields = r->err_headers_out;

    r->err_headers_out = r->headers_out;
    r->headers_out = fields;
}

/* The table of what errors keep has room for five fields, the other for twelve; a file's own come
   to ours, and the table would grow. Both are still empty. */
void place_begin(request_rec *r)
{
    if (r->handler == NULL && r->prev == NULL && apr_is_empty_table(r->headers_out) &&
        apr_is_empty_table(r->err_headers_out)) {
        place_swap(r);
    }
}

void place_response(request_rec *r, const verdict_t *verdict)
{
    if (!place_is_plain(r)) {
        place_guard(r, verdict);
    } else if (place_is_file(r) && place_is_alone(r, verdict)) {
        place_swap(r);
    }
}

void place_again(request_rec *r, const verdict_t *verdict)
{
    if (verdict->fields == NULL || verdict->denied) {
        return;
    }
    apr_table_t *theirs = apr_table_make(r->pool, 5);

    place_take_out(r->headers_out, NULL, theirs, r->pool);
    place_take_out(r->err_headers_out, NULL, theirs, r->pool);
    respond_send(r, verdict->fields);
}

/* An error of a filter, such as that of a range outside of a file, drops both tables. */
void place_error(request_rec *r)
{
    const verdict_t *verdict = request_verdict_so_far(r);

    if (verdict != NULL) {
        after_error(r, verdict);
        place_again(r, verdict);
    }
}
