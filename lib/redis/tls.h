/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_TLS_H
#define REDIS_TLS_H

/*
 * TLS to Redis, where hiredis was built with it (HAVE_REDIS_TLS); elsewhere redis_tls_create() says
 * that there is none. Programs ignore SIGPIPE.
 */

#include "redis/fault.h"

#include <apr_pools.h>
#include <hiredis.h>

#include <sys/uio.h>

/* Files are PEM. */
typedef struct {
    const char *ca;   /* who signs servers' certificates; NULL: whom the system trusts */
    const char *cert; /* ours; NULL: none */
    const char *key;  /* of it; NULL: it is in the same file */
    const char *name; /* a host name or an address that servers' certificates must be for; NULL: the
                         one by which each is spoken to */
} redis_tls_settings_t;

/* What all connections share. Read-only. */
typedef struct redis_tls_t redis_tls_t;

/* The part of one connection; one thread at a time. */
typedef struct redis_tls_link_t redis_tls_link_t;

/* NULL where there is TLS; else what is expected of a URL. */
const char *redis_tls_missing(void);

/* Reads the files. Lives in the pool. NULL, or what was expected. */
const char *redis_tls_create(redis_tls_t **tls, const redis_tls_settings_t *settings,
                             apr_pool_t *pool);

/* Begins on a connected socket, which it makes non-blocking and closes with itself; *link is NULL
   if it has not begun, and the socket stays. host is whom it leads to, a name or an address. `why`,
   of size bytes, says in words what failed. */
redis_fault_t redis_tls_open(redis_tls_link_t **link, const redis_tls_t *tls, const char *host,
                             int fd, char *why, size_t size);

/* Frees it, with its reader. */
void redis_tls_close(redis_tls_link_t *link);

/* One step of the handshake. *events: what poll() is to wait for before the next; 0: it is over. */
redis_fault_t redis_tls_shake(redis_tls_link_t *link, short *events, char *why, size_t size);

/* What redis_tls_read() feeds. */
redisReader *redis_tls_reader(redis_tls_link_t *link);

/* Feeds what there is, without waiting: n bytes; 0: none yet. */
redis_fault_t redis_tls_read(redis_tls_link_t *link, size_t *n);

/* Why it cannot be read or written any more, in OpenSSL's words: with TLS 1.3 it is not the
   handshake that refuses our certificate. NULL: it has none. */
const char *redis_tls_reason(const redis_tls_link_t *link);

/* Takes n buffers over, to be sent by redis_tls_write(). */
redis_fault_t redis_tls_append(redis_tls_link_t *link, const struct iovec buffers[], int n);

/* Sends what the socket takes; *done: all of it. */
redis_fault_t redis_tls_write(redis_tls_link_t *link, bool *done);

#endif
