/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * URLs of Redis. What could be a part of a mistyped password is never shown.
 */

#include "redis/url.h"

#include "redis/tls.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define URL_NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define URL_V6_CHARS "ABCDEFabcdef0123456789:."
#define URL_SECRET_MAX 1024

typedef struct {
    const char *prefix;
    redis_kind_t kind;
    bool tls;
    bool socket;
    int port;
} url_scheme_t;

static const url_scheme_t url_schemes[] = {
    { .prefix = "redis://", .kind = REDIS_ALONE, .port = 6379 },
    { .prefix = "rediss://", .kind = REDIS_ALONE, .port = 6379, .tls = true },
    { .prefix = "unix://", .kind = REDIS_ALONE, .socket = true },
    { .prefix = "redis-sentinel://", .kind = REDIS_SENTINEL, .port = 26379 },
    { .prefix = "rediss-sentinel://", .kind = REDIS_SENTINEL, .port = 26379, .tls = true },
    { .prefix = "redis-cluster://", .kind = REDIS_CLUSTER, .port = 6379 },
    { .prefix = "rediss-cluster://", .kind = REDIS_CLUSTER, .port = 6379, .tls = true },
};

static const url_scheme_t *url_scheme(const char *text)
{
    for (size_t i = 0; i < sizeof(url_schemes) / sizeof(url_schemes[0]); i++) {
        if (strncmp(text, url_schemes[i].prefix, strlen(url_schemes[i].prefix)) == 0) {
            return &url_schemes[i];
        }
    }
    return NULL;
}

static int url_hex(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c == '\0' ? NULL : strchr(digits, apr_tolower(c));

    return at == NULL ? -1 : (int)(at - digits);
}

/* The byte that %XX stands for; 0: no two digits, or a NUL. */
static int url_byte(const char *text)
{
    const int high = url_hex(text[1]);
    const int low = high < 0 ? -1 : url_hex(text[2]);

    return low < 0 ? 0 : high * 16 + low;
}

/* Without its %XX, or NULL: one stands for nothing. */
static char *url_decode(const char *text, apr_pool_t *pool)
{
    char *decoded = apr_pstrdup(pool, text);
    char *to = decoded;

    for (; *text != '\0'; text++) {
        const bool escaped = *text == '%';

        *to = *text;
        if (escaped) {
            *to = (char)url_byte(text);
        }
        if (*to++ == '\0') {
            return NULL;
        }
        text += escaped ? 2 : 0;
    }
    *to = '\0';
    return decoded;
}

/* A number without sign or leading spaces, from least to most; -1: none. */
static long url_number(const char *text, long least, long most)
{
    const size_t len = strspn(text, "0123456789");

    if (len == 0 || len > 6 || text[len] != '\0') {
        return -1;
    }
    const long number = strtol(text, NULL, 10);

    return number < least || number > most ? -1 : number;
}

static const char *url_parse_login(redis_login_t *login, char *text, apr_pool_t *pool)
{
    char *colon = strchr(text, ':');

    if (strchr(text, '@') != NULL) {
        return "expected \"@\" in a user name or a password as %40";
    }
    if (colon != NULL) {
        *colon++ = '\0';
        login->password = url_decode(colon, pool);
    }
    if (*text != '\0') {
        login->user = url_decode(text, pool);
    }
    if ((colon != NULL && login->password == NULL) || (*text != '\0' && login->user == NULL)) {
        return "expected two hexadecimal digits, not 00, after each \"%\" of the user name and the "
               "password";
    }
    if (colon != NULL ? *login->password == '\0' : login->user == NULL) {
        return "expected USER, USER:PASSWORD or :PASSWORD before \"@\"";
    }
    return NULL;
}

/* What follows the host: nothing, or a port. */
static const char *url_parse_port(redis_address_t *address, const char *text, int usual)
{
    const long port = *text == ':' ? url_number(text + 1, 1, 65535) : -1;

    if (*text != '\0' && port < 0) {
        return "expected a port from 1 to 65535 after the host and \":\"";
    }
    address->port = (uint16_t)(port < 0 ? usual : port);
    return NULL;
}

static const char *url_parse_host(redis_address_t *address, char *text, int usual, apr_pool_t *pool)
{
    const bool v6 = *text == '[';
    char *host = v6 ? text + 1 : text;
    const size_t len = strspn(host, v6 ? URL_V6_CHARS : URL_NAME_CHARS);
    const char *rest = host + len;

    if (len == 0 || (v6 && *rest++ != ']') || (*rest != '\0' && *rest != ':')) {
        return "expected a host name, an IPv4 address or an IPv6 address in brackets";
    }
    address->host = apr_pstrndup(pool, host, len);
    return url_parse_port(address, rest, usual);
}

static const char *url_parse_hosts(redis_url_t *url, char *text, int usual, apr_pool_t *pool)
{
    const bool many = url->kind != REDIS_ALONE;

    for (char *next = text; next != NULL;) {
        char *host = next;

        next = strchr(host, ',');
        if (next != NULL) {
            *next++ = '\0';
        }
        if (next != NULL && (!many || url->n + 1 == REDIS_HOSTS_MAX)) {
            return many ? "expected at most 16 hosts"
                        : "expected one host (several: redis-sentinel:// or redis-cluster://)";
        }
        const char *error = url_parse_host(&url->addresses[url->n++], host, usual, pool);

        if (error != NULL) {
            return error;
        }
    }
    return NULL;
}

static const char *url_parse_db(redis_url_t *url, const char *text)
{
    const long db = *text == '\0' ? 0 : url_number(text, 0, REDIS_DB_MAX);

    if (db < 0) {
        return "expected the number of a database, 0 to 65535, after the last \"/\"";
    }
    url->db = (int)db;
    return NULL;
}

/* /MASTER or /MASTER/DB */
static const char *url_parse_master(redis_url_t *url, const char *path, apr_pool_t *pool)
{
    const char *name = *path == '/' ? path + 1 : path;
    const size_t len = strspn(name, URL_NAME_CHARS);

    if (len == 0 || (name[len] != '\0' && name[len] != '/')) {
        return "expected the name of the master after the Sentinels: "
               "redis-sentinel://HOST,HOST/MASTER";
    }
    url->master = apr_pstrndup(pool, name, len);
    return url_parse_db(url, name[len] == '/' ? name + len + 1 : name + len);
}

/* /PATH or /PATH?db=N */
static const char *url_parse_socket(redis_url_t *url, char *path, apr_pool_t *pool)
{
    char *query = strchr(path, '?');

    if (query != NULL) {
        *query++ = '\0';
        if (strncmp(query, "db=", 3) != 0 || query[3] == '\0') {
            return "expected nothing but db=NUMBER after \"?\"";
        }
    }
    url->addresses[0].path = url_decode(path, pool);
    url->n = 1;
    if (url->addresses[0].path == NULL || path[0] != '/' || path[1] == '\0' ||
        strlen(url->addresses[0].path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return "expected unix:///PATH, the path of a socket of at most 107 bytes";
    }
    return query == NULL ? NULL : url_parse_db(url, query + 3);
}

static const char *url_parse_path(redis_url_t *url, const char *path, apr_pool_t *pool)
{
    if (url->kind == REDIS_SENTINEL) {
        return url_parse_master(url, path, pool);
    }
    path += *path == '/';
    if (url->kind == REDIS_CLUSTER && *path != '\0') {
        return "expected no database after redis-cluster://HOST: a cluster has one only";
    }
    return url_parse_db(url, path);
}

static const char *url_parse_rest(redis_url_t *url, const url_scheme_t *scheme, char *text,
                                  apr_pool_t *pool)
{
    char *path = text + strcspn(text, "/");
    char *authority = apr_pstrmemdup(pool, text, (apr_size_t)(path - text));
    char *at = strrchr(authority, '@');
    const char *error = NULL;

    if (strchr(path, '@') != NULL) {
        return "expected \"/\" and \"@\" in a user name, a password or a path as %2F and %40";
    }
    if (at != NULL) {
        *at = '\0';
        error = url_parse_login(&url->login, authority, pool);
        authority = at + 1;
    }
    if (error != NULL) {
        return error;
    }
    if (scheme->socket) {
        return *authority == '\0' ? url_parse_socket(url, path, pool)
                                  : "expected unix:///PATH, with three slashes";
    }
    error = url_parse_hosts(url, authority, scheme->port, pool);
    return error != NULL ? error : url_parse_path(url, path, pool);
}

const char *redis_url_parse(redis_url_t *url, const char *text, const char *password,
                            apr_pool_t *pool)
{
    const url_scheme_t *scheme = url_scheme(text);

    if (scheme == NULL) {
        return "expected redis://, rediss://, unix://, redis-sentinel://, rediss-sentinel://, "
               "redis-cluster:// or rediss-cluster://";
    }
    if (scheme->tls && redis_tls_missing() != NULL) {
        return redis_tls_missing();
    }
    *url = (redis_url_t){ .kind = scheme->kind, .tls = scheme->tls };
    const char *error =
        url_parse_rest(url, scheme, apr_pstrdup(pool, text + strlen(scheme->prefix)), pool);

    if (error == NULL && password != NULL) {
        error = url->login.password == NULL
                    ? redis_secret_read(&url->login.password, password, pool)
                    : "expected one password: in the URL or in password=";
    }
    if (error == NULL && url->login.user != NULL && url->login.password == NULL) {
        error = "expected a password for the user: USER:PASSWORD@ or password=";
    }
    return error;
}

/* As url_decode() reads it back. */
static const char *url_encode(const char *text, const char *plain, apr_pool_t *pool)
{
    static const char digits[] = "0123456789ABCDEF";
    char *coded = apr_palloc(pool, 3 * strlen(text) + 1);
    char *to = coded;

    for (; *text != '\0'; text++) {
        const unsigned char byte = (unsigned char)*text;

        if (strchr(plain, byte) != NULL) {
            *to++ = *text;
        } else {
            *to++ = '%';
            *to++ = digits[byte >> 4];
            *to++ = digits[byte & 15];
        }
    }
    *to = '\0';
    return coded;
}

static const char *url_print_hosts(const redis_url_t *url, apr_pool_t *pool)
{
    const char *text = "";

    for (int i = 0; i < url->n; i++) {
        const redis_address_t *at = &url->addresses[i];
        const bool v6 = strchr(at->host, ':') != NULL;

        text = apr_psprintf(pool, "%s%s%s%s%s:%u", text, i > 0 ? "," : "", v6 ? "[" : "", at->host,
                            v6 ? "]" : "", (unsigned)at->port);
    }
    return text;
}

const char *redis_url_print(const redis_url_t *url, apr_pool_t *pool)
{
    const char *user = url->login.user == NULL
                           ? ""
                           : apr_pstrcat(pool, url_encode(url->login.user, URL_NAME_CHARS, pool),
                                         "@", (char *)NULL);

    if (url->addresses[0].path != NULL) {
        return apr_psprintf(pool, "unix://%s%s?db=%d", user,
                            url_encode(url->addresses[0].path, URL_NAME_CHARS "/", pool), url->db);
    }
    const char *redis = url->tls ? "rediss" : "redis";
    const char *hosts = url_print_hosts(url, pool);

    if (url->kind == REDIS_CLUSTER) {
        return apr_psprintf(pool, "%s-cluster://%s%s", redis, user, hosts);
    }
    if (url->kind == REDIS_SENTINEL) {
        return apr_psprintf(pool, "%s-sentinel://%s%s/%s/%d", redis, user, hosts, url->master,
                            url->db);
    }
    return apr_psprintf(pool, "%s://%s%s/%d", redis, user, hosts, url->db);
}

static const char *url_read_file(const char **secret, const char *path, apr_pool_t *pool)
{
    char line[URL_SECRET_MAX + 2];
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        const int error = errno;

        return apr_psprintf(pool, "expected a file that can be read, got \"%s\": %s", path,
                            strerror(error));
    }
    if (fgets(line, sizeof(line), file) == NULL) {
        line[0] = '\0';
    }
    fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    if (*line == '\0' || strlen(line) > URL_SECRET_MAX) {
        return apr_psprintf(pool, "expected 1 to %d bytes in the first line of \"%s\"",
                            URL_SECRET_MAX, path);
    }
    *secret = apr_pstrdup(pool, line);
    return NULL;
}

const char *redis_secret_read(const char **secret, const char *source, apr_pool_t *pool)
{
    if (strncmp(source, "file:", 5) == 0) {
        return url_read_file(secret, source + 5, pool);
    }
    if (strncmp(source, "env:", 4) != 0) {
        return "expected file:PATH or env:NAME"; /* and not what came: it may be the secret */
    }
    const char *value = getenv(source + 4);

    if (value == NULL || *value == '\0') {
        return apr_psprintf(pool, "expected the environment to have \"%s\"", source + 4);
    }
    *secret = apr_pstrdup(pool, value);
    return NULL;
}
