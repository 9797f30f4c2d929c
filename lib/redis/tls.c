/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/tls.h"

#ifdef HAVE_REDIS_TLS

#include <apr_strings.h>

#include <fcntl.h>
#include <hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>

struct redis_tls_t {
    SSL_CTX *context;
    const char *name; /* NULL: each server's own */
};

struct redis_tls_link_t {
    redisContext *context;
    SSL *ssl;           /* the context's */
    const char *reason; /* OpenSSL's, for its end; NULL: it has none */
};

const char *redis_tls_missing(void)
{
    return NULL;
}

static apr_status_t tls_cleanup(void *data)
{
    SSL_CTX_free(data);
    return APR_SUCCESS;
}

/* "expected ..., got ...: the reason that OpenSSL has" */
static const char *tls_expected(const char *what, const char *got, apr_pool_t *pool)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return apr_psprintf(pool, "expected %s, got \"%s\"%s%s", what, got, reason == NULL ? "" : ": ",
                        reason == NULL ? "" : reason);
}

static const char *tls_trust(SSL_CTX *context, const redis_tls_settings_t *settings,
                             apr_pool_t *pool)
{
    if (settings->ca == NULL) {
        return SSL_CTX_set_default_verify_paths(context) == 1
                   ? NULL
                   : "expected tls-ca=FILE: the system has no certificates to trust";
    }
    return SSL_CTX_load_verify_locations(context, settings->ca, NULL) == 1
               ? NULL
               : tls_expected("a file of certificates in tls-ca=", settings->ca, pool);
}

/* Nobody sits at the terminal of a server. */
static int tls_passphrase(char *text, int size, int writes, void *data)
{
    (void)text;
    (void)size;
    (void)writes;
    (void)data;
    return -1;
}

static const char *tls_identify(SSL_CTX *context, const redis_tls_settings_t *settings,
                                apr_pool_t *pool)
{
    const char *key = settings->key != NULL ? settings->key : settings->cert;

    if (settings->cert == NULL) {
        return settings->key == NULL ? NULL : "expected tls-cert=FILE with tls-key=";
    }
    SSL_CTX_set_default_passwd_cb(context, tls_passphrase);
    if (SSL_CTX_use_certificate_chain_file(context, settings->cert) != 1) {
        return tls_expected("a certificate in tls-cert=", settings->cert, pool);
    }
    return SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1
               ? NULL
               : tls_expected("the key of tls-cert= without a passphrase", key, pool);
}

const char *redis_tls_create(redis_tls_t **tls, const redis_tls_settings_t *settings,
                             apr_pool_t *pool)
{
    redis_tls_t *made = apr_pcalloc(pool, sizeof(*made));

    made->name = apr_pstrdup(pool, settings->name);
    made->context = SSL_CTX_new(TLS_client_method());
    if (made->context == NULL ||
        SSL_CTX_set_min_proto_version(made->context, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(made->context);
        return "expected OpenSSL to have TLS 1.2";
    }
    apr_pool_cleanup_register(pool, made->context, tls_cleanup, apr_pool_cleanup_null);
    SSL_CTX_set_verify(made->context, SSL_VERIFY_PEER, NULL);
    const char *error = tls_trust(made->context, settings, pool);

    if (error == NULL) {
        error = tls_identify(made->context, settings, pool);
    }
    *tls = made;
    return error;
}

/* The server must be who it is taken for: hiredis checks no more than who signed for it. */
static bool tls_expect(SSL *ssl, const char *name)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);

    if (address != NULL) {
        ASN1_OCTET_STRING_free(address);
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    }
    /* which only reads it */
    return SSL_set1_host(ssl, name) == 1 &&
           SSL_set_tlsext_host_name(ssl, (char *)(uintptr_t)name) == 1;
}

/* What ended the handshake. */
static redis_fault_t tls_failed(const SSL *ssl, char *why, size_t size)
{
    const long verified = SSL_get_verify_result(ssl);
    const char *reason = verified != X509_V_OK ? X509_verify_cert_error_string(verified)
                                               : ERR_reason_error_string(ERR_peek_last_error());

    apr_snprintf(why, size, "TLS: %s", reason == NULL ? "the server hung up" : reason);
    ERR_clear_error();
    return verified != X509_V_OK ? REDIS_FAULT_DENIED : REDIS_FAULT_CONNECT;
}

static bool tls_prepare(redis_tls_link_t *link, const redis_tls_t *tls, const char *host, int fd)
{
    const redisOptions options = { .type = REDIS_CONN_USERFD,
                                   .options = REDIS_OPT_NONBLOCK,
                                   .endpoint.fd = fd };
    const int flags = fcntl(fd, F_GETFL);

    link->context = redisConnectWithOptions(&options);
    link->ssl = SSL_new(tls->context);
    return link->context != NULL && link->context->err == 0 && link->ssl != NULL && flags >= 0 &&
           fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           tls_expect(link->ssl, tls->name ? tls->name : host);
}

redis_fault_t redis_tls_open(redis_tls_link_t **link, const redis_tls_t *tls, const char *host,
                             int fd, char *why, size_t size)
{
    redis_tls_link_t *made = calloc(1, sizeof(*made));
    redis_fault_t fault = REDIS_FAULT_LOCAL;

    *link = NULL;
    if (made == NULL) {
        return fault;
    }
    ERR_clear_error();
    if (tls_prepare(made, tls, host, fd)) {
        /* it takes the first step, or fails at a quick answer */
        fault = redisInitiateSSL(made->context, made->ssl) == REDIS_OK
                    ? REDIS_FAULT_NONE
                    : tls_failed(made->ssl, why, size);
    }
    if (fault == REDIS_FAULT_NONE) {
        *link = made;
        return fault;
    }
    SSL_free(made->ssl);
    if (made->context != NULL) {
        (void)redisFreeKeepFd(made->context);
    }
    free(made);
    return fault;
}

void redis_tls_close(redis_tls_link_t *link)
{
    ERR_clear_error();
    redisFree(link->context);
    free(link);
}

redis_fault_t redis_tls_shake(redis_tls_link_t *link, short *events, char *why, size_t size)
{
    ERR_clear_error();
    const int rv = SSL_do_handshake(link->ssl);
    const int error = rv == 1 ? SSL_ERROR_NONE : SSL_get_error(link->ssl, rv);

    *events = 0;
    if (error == SSL_ERROR_WANT_READ) {
        *events = POLLIN;
    } else if (error == SSL_ERROR_WANT_WRITE) {
        *events = POLLOUT;
    }
    return rv == 1 || *events != 0 ? REDIS_FAULT_NONE : tls_failed(link->ssl, why, size);
}

redisReader *redis_tls_reader(redis_tls_link_t *link)
{
    return link->context->reader;
}

static redis_fault_t tls_ended(redis_tls_link_t *link)
{
    link->reason = ERR_reason_error_string(ERR_peek_last_error());
    ERR_clear_error();
    return REDIS_FAULT_CLOSED;
}

const char *redis_tls_reason(const redis_tls_link_t *link)
{
    return link->reason;
}

redis_fault_t redis_tls_read(redis_tls_link_t *link, size_t *n)
{
    const size_t before = link->context->reader->len;

    ERR_clear_error();
    if (redisBufferRead(link->context) != REDIS_OK) {
        return tls_ended(link);
    }
    *n = link->context->reader->len - before;
    return REDIS_FAULT_NONE;
}

redis_fault_t redis_tls_append(redis_tls_link_t *link, const struct iovec buffers[], int n)
{
    for (int i = 0; i < n; i++) {
        if (redisAppendFormattedCommand(link->context, buffers[i].iov_base, buffers[i].iov_len) !=
            REDIS_OK) {
            return REDIS_FAULT_LOCAL;
        }
    }
    return REDIS_FAULT_NONE;
}

redis_fault_t redis_tls_write(redis_tls_link_t *link, bool *done)
{
    int all = 0;
    char byte;

    ERR_clear_error();
    if (redisBufferWrite(link->context, &all) != REDIS_OK) {
        (void)SSL_peek(link->ssl, &byte, 1); /* what the server said before it hung up */
        return tls_ended(link);
    }
    *done = all != 0;
    return REDIS_FAULT_NONE;
}

#else

const char *redis_tls_missing(void)
{
    return "expected no rediss://: this build has no TLS for Redis";
}

const char *redis_tls_create(redis_tls_t **tls, const redis_tls_settings_t *settings,
                             apr_pool_t *pool)
{
    (void)settings;
    (void)pool;
    *tls = NULL;
    return redis_tls_missing();
}

redis_fault_t redis_tls_open(redis_tls_link_t **link, const redis_tls_t *tls, const char *host,
                             int fd, char *why, size_t size)
{
    (void)tls;
    (void)host;
    (void)fd;
    (void)why;
    (void)size;
    *link = NULL;
    return REDIS_FAULT_LOCAL;
}

void redis_tls_close(redis_tls_link_t *link)
{
    (void)link;
}

redis_fault_t redis_tls_shake(redis_tls_link_t *link, short *events, char *why, size_t size)
{
    (void)link;
    (void)events;
    (void)why;
    (void)size;
    return REDIS_FAULT_LOCAL;
}

redisReader *redis_tls_reader(redis_tls_link_t *link)
{
    (void)link;
    return NULL;
}

const char *redis_tls_reason(const redis_tls_link_t *link)
{
    (void)link;
    return NULL;
}

redis_fault_t redis_tls_read(redis_tls_link_t *link, size_t *n)
{
    (void)link;
    *n = 0;
    return REDIS_FAULT_LOCAL;
}

redis_fault_t redis_tls_append(redis_tls_link_t *link, const struct iovec buffers[], int n)
{
    (void)link;
    (void)buffers;
    (void)n;
    return REDIS_FAULT_LOCAL;
}

redis_fault_t redis_tls_write(redis_tls_link_t *link, bool *done)
{
    (void)link;
    *done = false;
    return REDIS_FAULT_LOCAL;
}

#endif
