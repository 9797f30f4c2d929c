/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "post.h"

#include <apr_base64.h>
#include <apr_network_io.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define POST_PATIENCE (30 * APR_USEC_PER_SEC)
#define POST_ANSWER_MAX ((apr_size_t)64 * 1024 * 1024)
#define POST_PORT 80

/* apr_uri_parse() cuts a port to 16 bits: it would be another one. */
static bool post_port_is_sound(const apr_uri_t *uri)
{
    const long port = uri->port_str != NULL ? strtol(uri->port_str, NULL, 10) : POST_PORT;

    return port >= 1 && port <= UINT16_MAX;
}

/* APR cuts a longer path: it would be another socket. */
static bool post_socket_fits(const post_server_t *server)
{
    return server->socket == NULL ||
           strlen(server->socket) < sizeof(((struct sockaddr_un *)0)->sun_path);
}

/* NULL, or what was expected of the URL. */
static const char *post_parse(apr_uri_t *uri, const post_server_t *server, apr_pool_t *pool)
{
    const char *url = server->url ? server->url : "http://localhost/ratelimit-admin";

    if (strncmp(url, "https://", 8) == 0) {
        return "expected http://: this program has no TLS; give ratelimit-admin a listener on "
               "127.0.0.1, or use --socket=PATH";
    }
    if (apr_uri_parse(pool, url, uri) != APR_SUCCESS || uri->scheme == NULL ||
        strcmp(uri->scheme, "http") != 0 || uri->hostname == NULL || uri->hostname[0] == '\0' ||
        uri->path == NULL) {
        return "expected --url=http://HOST[:PORT]/PATH of ratelimit-admin";
    }
    if (!post_port_is_sound(uri)) {
        return "expected --url= with a port from 1 to 65535 after the host and \":\"";
    }
    if (!post_socket_fits(server)) {
        return "expected --socket=PATH of at most 107 bytes";
    }
    return uri->user != NULL || uri->password != NULL
               ? "expected no name or password in the URL: use --login=NAME and --password=FILE"
               : NULL;
}

static apr_status_t post_try(apr_socket_t **socket, apr_sockaddr_t *address, apr_pool_t *pool)
{
    apr_status_t rv = apr_socket_create(socket, address->family, SOCK_STREAM, 0, pool);

    if (rv == APR_SUCCESS) {
        rv = apr_socket_timeout_set(*socket, POST_PATIENCE);
    }
    return rv == APR_SUCCESS ? apr_socket_connect(*socket, address) : rv;
}

/* To the first of the host's addresses that answers. */
static const char *post_connect(apr_socket_t **socket, const post_server_t *server,
                                const apr_uri_t *uri, apr_pool_t *pool)
{
    apr_sockaddr_t *address = NULL;
    const apr_port_t port = uri->port_str ? uri->port : POST_PORT;
    const char *where = server->socket ? server->socket : uri->hostinfo;
    apr_status_t rv =
        server->socket ? apr_sockaddr_info_get(&address, server->socket, APR_UNIX, 0, 0, pool)
                       : apr_sockaddr_info_get(&address, uri->hostname, APR_UNSPEC, port, 0, pool);
    char reason[120];

    for (; rv == APR_SUCCESS; address = address->next) {
        rv = post_try(socket, address, pool);
        if (rv == APR_SUCCESS) {
            return NULL;
        }
        if (address->next == NULL) {
            break;
        }
        rv = APR_SUCCESS;
    }
    return apr_psprintf(pool, "cannot reach %s: %s", where,
                        apr_strerror(rv, reason, sizeof(reason)));
}

/* In HTTP/1.0 the answer ends with the connection, and comes in one piece. */
static char *post_request(const post_server_t *server, const apr_uri_t *uri, const char *body,
                          apr_pool_t *pool)
{
    const char *login = "";

    if (server->login != NULL) {
        const char *pair =
            apr_pstrcat(pool, server->login, ":", server->password ? server->password : "", NULL);

        char *encoded = apr_palloc(pool, (apr_size_t)apr_base64_encode_len((int)strlen(pair)));

        (void)apr_base64_encode(encoded, pair, (int)strlen(pair));
        login = apr_pstrcat(pool, "Authorization: Basic ", encoded, "\r\n", NULL);
    }
    return apr_psprintf(pool,
                        "POST %s%s%s HTTP/1.0\r\nHost: %s\r\nUser-Agent: rlpctl\r\n%s"
                        "Content-Type: application/json\r\nContent-Length: %" APR_SIZE_T_FMT
                        "\r\n\r\n%s",
                        uri->path, uri->query ? "?" : "", uri->query ? uri->query : "",
                        server->host ? server->host : uri->hostinfo, login, strlen(body), body);
}

static apr_status_t post_send(apr_socket_t *socket, const char *text)
{
    apr_status_t rv = APR_SUCCESS;

    while (*text != '\0' && rv == APR_SUCCESS) {
        apr_size_t len = strlen(text);

        rv = apr_socket_send(socket, text, &len);
        text += len;
    }
    return rv;
}

/* All there is until the end; with a NUL behind it. */
static apr_status_t post_read(apr_socket_t *socket, char **text, apr_size_t *len, apr_pool_t *pool)
{
    apr_size_t room = 65536;
    apr_status_t rv = APR_SUCCESS;

    *len = 0;
    *text = apr_palloc(pool, room);
    while (rv == APR_SUCCESS && *len < POST_ANSWER_MAX) {
        apr_size_t got = room - 1 - *len;

        if (got == 0) {
            char *more = apr_palloc(pool, 2 * room);

            memcpy(more, *text, *len);
            *text = more;
            room *= 2;
            continue;
        }
        rv = apr_socket_recv(socket, *text + *len, &got);
        *len += got;
    }
    (*text)[*len] = '\0';
    return rv == APR_EOF ? APR_SUCCESS : rv;
}

/* Parts head and body. */
static const char *post_take(post_answer_t *answer, const char *text, apr_size_t len)
{
    const char *end = strstr(text, "\r\n\r\n");

    if (strncmp(text, "HTTP/1.", 7) != 0 || end == NULL || len < 13 || text[8] != ' ') {
        return "expected an answer of an HTTP server";
    }
    answer->status = atoi(text + 9);
    answer->body = end + 4;
    answer->len = len - (apr_size_t)(answer->body - text);
    return NULL;
}

static const char *post_exchange(post_answer_t *answer, apr_socket_t *socket, const char *request,
                                 apr_pool_t *pool)
{
    char *text = NULL;
    apr_size_t len = 0;
    char reason[120];
    apr_status_t rv = post_send(socket, request);

    /* who refuses early may hang up before all is sent */
    const apr_status_t got = post_read(socket, &text, &len, pool);

    if (len == 0) {
        rv = rv == APR_SUCCESS ? got : rv;
        return apr_psprintf(pool, "the server did not answer: %s",
                            rv == APR_SUCCESS ? "it hung up"
                                              : apr_strerror(rv, reason, sizeof(reason)));
    }
    return post_take(answer, text, len);
}

const char *post_json(post_answer_t *answer, const post_server_t *server, const char *body,
                      int *unreachable, apr_pool_t *pool)
{
    apr_socket_t *socket = NULL;
    apr_uri_t uri;
    const char *error = post_parse(&uri, server, pool);

    *unreachable = error == NULL;
    if (error == NULL) {
        error = post_connect(&socket, server, &uri, pool);
    }
    if (error == NULL) {
        error = post_exchange(answer, socket, post_request(server, &uri, body, pool), pool);
    }
    if (socket != NULL) {
        apr_socket_close(socket);
    }
    return error;
}
