/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * No example: whom X-Forwarded-For names is the client, as mod_rpaf has it. It gives the request
 * another text of its address, but writes the address itself into that of the connection. And whom
 * X-Connecting-IP names is, as mod_cloudflare has it: that gives the connection another text, too.
 */

#include <httpd.h>

#include <http_config.h>
#include <http_protocol.h>

#include <apr_network_io.h>
#include <apr_strings.h>

#include <arpa/inet.h>

/* The request is over. */
static apr_status_t forwarded_restore(void *data)
{
    request_rec *r = data;

    r->useragent_ip = r->connection->client_ip;
    (void)inet_pton(AF_INET, r->useragent_ip, &r->useragent_addr->sa.sin.sin_addr);
    return APR_SUCCESS;
}

static int forwarded_read(request_rec *r)
{
    const char *client = apr_table_get(r->headers_in, "X-Forwarded-For");
    const char *connecting = apr_table_get(r->headers_in, "X-Connecting-IP");

    if (connecting != NULL) {
        r->connection->client_ip = apr_pstrdup(r->connection->pool, connecting);
        r->useragent_ip = r->connection->client_ip;
    }
    if (client != NULL && r->useragent_addr->family == APR_INET &&
        inet_pton(AF_INET, client, &r->useragent_addr->sa.sin.sin_addr) == 1) {
        r->useragent_ip = apr_pstrdup(r->pool, client);
        apr_pool_cleanup_register(r->pool, r, forwarded_restore, apr_pool_cleanup_null);
    }
    return DECLINED;
}

static void forwarded_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_post_read_request(forwarded_read, NULL, NULL, APR_HOOK_FIRST);
}

module AP_MODULE_DECLARE_DATA rlp_forwarded_module = {
    STANDARD20_MODULE_STUFF,
    .register_hooks = forwarded_hooks,
};
