/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Stand-ins of httpd for a request: a body that is there, an answer that is kept, and an address
 * space without sections.
 */

#include "admin.h"
#include "annex.h"
#include "httpd.h"
#include "stats.h"

#include <ap_provider.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct {
    const char *body;
    apr_size_t body_len;
    char *written;
    apr_size_t len;
} httpd_traffic;

/* --- bodies and answers */

int ap_setup_client_block(request_rec *r, int read_policy)
{
    (void)r;
    (void)read_policy;
    return OK;
}

int ap_should_client_block(request_rec *r)
{
    (void)r;
    return 1;
}

long ap_get_client_block(request_rec *r, char *buffer, apr_size_t bufsiz)
{
    const apr_size_t n = bufsiz < httpd_traffic.body_len ? bufsiz : httpd_traffic.body_len;

    (void)r;
    memcpy(buffer, httpd_traffic.body, n);
    httpd_traffic.body += n;
    httpd_traffic.body_len -= n;
    return (long)n;
}

int ap_rwrite(const void *buf, int nbyte, request_rec *r)
{
    char *written = apr_palloc(r->pool, httpd_traffic.len + (apr_size_t)nbyte + 1);

    if (httpd_traffic.len > 0) {
        memcpy(written, httpd_traffic.written, httpd_traffic.len);
    }
    memcpy(written + httpd_traffic.len, buf, (apr_size_t)nbyte);
    httpd_traffic.written = written;
    httpd_traffic.len += (apr_size_t)nbyte;
    return nbyte;
}

int ap_rvputs(request_rec *r, ...)
{
    va_list texts;

    va_start(texts, r);
    for (const char *text = va_arg(texts, const char *); text; text = va_arg(texts, const char *)) {
        ap_rwrite(text, (int)strlen(text), r);
    }
    va_end(texts);
    return 0;
}

int ap_rprintf(request_rec *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    const char *text = apr_pvsprintf(r->pool, fmt, args);

    va_end(args);
    return ap_rwrite(text, (int)strlen(text), r);
}

void ap_set_content_type(request_rec *r, const char *ct)
{
    r->content_type = ct;
}

void ap_allow_methods(request_rec *r, int reset, ...)
{
    (void)r;
    (void)reset;
}

const char *httpd_written(apr_size_t *len)
{
    *len = httpd_traffic.len;
    return httpd_traffic.written;
}

/* --- who asks */

int ap_some_authn_required(request_rec *r)
{
    (void)r;
    return 1;
}

apr_socket_t *ap_get_conn_socket(conn_rec *c)
{
    (void)c;
    return NULL;
}

const char *ap_run_http_scheme(const request_rec *r)
{
    (void)r;
    return "http";
}

/* --- a request that is made up */

ap_conf_vector_t *ap_create_request_config(apr_pool_t *p)
{
    return apr_pcalloc(p, sizeof(void *));
}

ap_method_list_t *ap_make_method_list(apr_pool_t *p, int nelts)
{
    ap_method_list_t *list = apr_pcalloc(p, sizeof(*list));

    list->method_list = apr_array_make(p, nelts, sizeof(char *));
    return list;
}

void ap_set_sub_req_protocol(request_rec *rnew, const request_rec *r)
{
    rnew->protocol = r->protocol;
    rnew->notes = apr_table_make(rnew->pool, 1);
    rnew->headers_out = apr_table_make(rnew->pool, 1);
    rnew->err_headers_out = apr_table_make(rnew->pool, 1);
}

int ap_run_create_request(request_rec *r)
{
    (void)r;
    return OK;
}

void ap_parse_uri(request_rec *r, const char *uri)
{
    r->unparsed_uri = apr_pstrdup(r->pool, uri);
    if (apr_uri_parse(r->pool, uri, &r->parsed_uri) == APR_SUCCESS) {
        r->args = r->parsed_uri.query;
        r->uri = r->parsed_uri.path ? r->parsed_uri.path : apr_pstrdup(r->pool, "/");
    } else {
        r->uri = apr_pstrdup(r->pool, uri);
    }
}

static int httpd_hex(char c)
{
    return apr_isdigit(c) ? c - '0' : (c & ~0x20) - 'A' + 10;
}

int ap_unescape_url(char *url)
{
    char *to = url;

    for (const char *at = url; *at != '\0'; at++) {
        *to = *at;
        if (*at == '%') {
            if (!apr_isxdigit(at[1]) || !apr_isxdigit(at[2])) {
                return HTTP_BAD_REQUEST;
            }
            *to = (char)(httpd_hex(at[1]) << 4 | httpd_hex(at[2]));
            if (*to == '\0' || *to == '/') {
                return HTTP_NOT_FOUND;
            }
            at += 2;
        }
        to++;
    }
    *to = '\0';
    return OK;
}

int ap_unescape_urlencoded(char *query)
{
    return ap_unescape_url(query);
}

void ap_no2slash(char *name)
{
    (void)name;
}

void ap_getparents(char *name)
{
    (void)name;
}

int ap_location_walk(request_rec *r)
{
    (void)r;
    return OK;
}

int ap_if_walk(request_rec *r)
{
    (void)r;
    return OK;
}

int ap_run_translate_name(request_rec *r)
{
    (void)r;
    return DECLINED;
}

int ap_run_map_to_storage(request_rec *r)
{
    (void)r;
    return DECLINED;
}

int ap_strcasecmp_match(const char *str, const char *expected)
{
    return strcasecmp(str, expected);
}

/* --- what no request here comes to */

char *ap_escape_html2(apr_pool_t *p, const char *s, int toasc)
{
    (void)toasc;
    return apr_pstrdup(p, s);
}

char *ap_os_escape_path(apr_pool_t *p, const char *path, int partial)
{
    (void)partial;
    return apr_pstrdup(p, path);
}

ap_filter_t *ap_add_output_filter(const char *name, void *ctx, request_rec *r, conn_rec *c)
{
    (void)name;
    (void)ctx;
    (void)r;
    (void)c;
    return NULL;
}

ap_filter_rec_t *ap_register_output_filter(const char *name, ap_out_filter_func filter_func,
                                           ap_init_filter_func filter_init, ap_filter_type ftype)
{
    (void)name;
    (void)filter_func;
    (void)filter_init;
    (void)ftype;
    return NULL;
}

void ap_remove_output_filter(ap_filter_t *f)
{
    (void)f;
}

apr_status_t ap_pass_brigade(ap_filter_t *filter, apr_bucket_brigade *bucket)
{
    (void)filter;
    (void)bucket;
    return APR_SUCCESS;
}

apr_status_t ap_fflush(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    (void)filter;
    (void)brigade;
    return APR_SUCCESS;
}

void ap_run_insert_error_filter(request_rec *r)
{
    (void)r;
}

int ap_invoke_handler(request_rec *r)
{
    (void)r;
    return DECLINED;
}

int ap_index_of_response(int status)
{
    (void)status;
    return 0;
}

char *ap_response_code_string(request_rec *r, int error_index); /* private to httpd */
char *ap_response_code_string(request_rec *r, int error_index)
{
    (void)r;
    (void)error_index;
    return NULL;
}

/* --- */

/* As post_config does, but for the stores. */
void httpd_open(const httpd_conf_t *conf, apr_pool_t *pool)
{
    static const char header[] = { 0 };

    rlp_world->clock = ap_lookup_provider(RLP_CLOCK_GROUP, RLP_CLOCK_NAME, RLP_CLOCK_VERSION);
    if (rlp_memory_create(&rlp_world->store, pool) != APR_SUCCESS) {
        abort();
    }
    rlp_world->annex = annex_open();
    memcpy(annex_head(rlp_world->annex, ANNEX_OVERRIDES)->magic, header, sizeof(header));
    rlp_world->annex = annex_open(); /* nobody has ordered anything yet */
    ordered_open(pool);
    stats_open(conf->main);
}

request_rec *httpd_post(const httpd_conf_t *conf, const char *body, apr_size_t len,
                        apr_pool_t *pool)
{
    request_rec *r = apr_pcalloc(pool, sizeof(*r));

    r->pool = pool;
    r->server = conf->main;
    r->per_dir_config = conf->main->lookup_defaults;
    r->request_config = ap_create_request_config(pool);
    r->connection = apr_pcalloc(pool, sizeof(*r->connection));
    r->connection->pool = pool;
    r->connection->conn_config = ap_create_request_config(pool);
    r->connection->base_server = conf->main;
    r->connection->notes = apr_table_make(pool, 1);
    r->headers_in = apr_table_make(pool, 4);
    r->subprocess_env = apr_table_make(pool, 4);
    ap_set_sub_req_protocol(r, r);
    r->method = "POST";
    r->method_number = M_POST;
    r->user = apr_pstrdup(pool, "admin");
    r->uri = apr_pstrdup(pool, "/admin");
    r->useragent_ip = apr_pstrdup(pool, "192.0.2.9");
    if (apr_sockaddr_info_get(&r->useragent_addr, r->useragent_ip, APR_INET, 1, 0, pool) !=
        APR_SUCCESS) {
        abort();
    }
    apr_table_setn(r->headers_in, "Content-Type", "application/json");
    httpd_traffic.body = body;
    httpd_traffic.body_len = len;
    httpd_traffic.written = NULL;
    httpd_traffic.len = 0;
    return r;
}
