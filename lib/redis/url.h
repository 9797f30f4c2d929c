/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_URL_H
#define REDIS_URL_H

/*
 * Where Redis is: the URL of a store, read when configured.
 */

#include <apr_pools.h>

#include <stdbool.h>
#include <stdint.h>

/* Redis Cluster answers for one database only; others have a small number of them. */
#define REDIS_DB_MAX 65535
#define REDIS_HOSTS_MAX 16

typedef enum { REDIS_ALONE, REDIS_SENTINEL, REDIS_CLUSTER } redis_kind_t;

/* One server, as it was named. */
typedef struct {
    const char *host; /* a name or an address without brackets; NULL: a UNIX socket */
    uint16_t port;
    const char *path; /* of the socket; NULL: host and port */
} redis_address_t;

/* Who asks. */
typedef struct {
    const char *user;     /* NULL: the server's default */
    const char *password; /* NULL: none is asked for */
} redis_login_t;

typedef struct {
    redis_kind_t kind;
    bool tls; /* to all servers, and to the Sentinels */
    redis_address_t
        addresses[REDIS_HOSTS_MAX]; /* the server, the Sentinels, or some of a cluster */
    int n;
    const char *master; /* what the Sentinels call it; NULL elsewhere */
    int db;
    redis_login_t login;     /* of the servers */
    redis_login_t sentinels; /* theirs, which the caller sets; no URL has it */
} redis_url_t;

/* Parses redis://, unix://, redis-sentinel:// or redis-cluster://, and rediss for redis. The
   password stands in the URL or is read from `password` (redis_secret_read()); NULL: no such
   source. NULL on success, or what was expected; never with a password in it. */
const char *redis_url_parse(redis_url_t *url, const char *text, const char *password,
                            apr_pool_t *pool);

/* The URL in full, defaults too, without the password. */
const char *redis_url_print(const redis_url_t *url, apr_pool_t *pool);

/* Reads file:PATH (its first line) or env:NAME. NULL, or what was expected. */
const char *redis_secret_read(const char **secret, const char *source, apr_pool_t *pool);

#endif
