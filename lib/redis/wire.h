/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_WIRE_H
#define REDIS_WIRE_H

/*
 * One socket to one server, with hiredis' reader and formatter. Each wait has an absolute deadline
 * on the monotonic clock; one thread at a time.
 */

#include "redis/fault.h"
#include "redis/tls.h"
#include "redis/url.h"

#include "rlp_algorithm.h"

#include <hiredis.h>

#include <sys/socket.h>
#include <sys/uio.h>

#define REDIS_ADDRESSES_MAX 8
#define REDIS_HOST_MAX 256
#define REDIS_REPLY_MAX (1 << 20)    /* bytes of one reply */
#define REDIS_ELEMENTS_MAX (1 << 16) /* of one array */

/* What a name stands for. */
typedef struct {
    struct {
        struct sockaddr_storage at;
        socklen_t len;
    } address[REDIS_ADDRESSES_MAX];
    int n;
    int first;                 /* the one that answered last */
    char host[REDIS_HOST_MAX]; /* the name; "" of a path */
} redis_addresses_t;

/* Resolves the address; without `names` only what needs no question: numbers and paths. false:
   nothing found, and the addresses are as they were. A host too long for DNS is not found. */
bool redis_addresses_find(redis_addresses_t *addresses, const redis_address_t *address, bool names);

/* Are they the same, in any order? */
bool redis_addresses_equal(const redis_addresses_t *a, const redis_addresses_t *b);

/* What makes replies: hiredis' own, and the same with bounded arrays. */
typedef struct {
    const redisReplyObjectFunctions *usual;
    redisReplyObjectFunctions ours;
} redis_functions_t;

typedef struct {
    int fd;                 /* -1: closed */
    redis_tls_link_t *link; /* has the socket and the reader; NULL: no TLS */
    redisReader *reader;
    redis_functions_t *functions; /* the reader's */
    size_t unread;                /* bytes received of replies that are not whole yet */
} redis_wire_t;

/* Connects to one of the addresses, the one that answered last first; the time left is shared among
   those not yet tried. */
redis_fault_t redis_wire_open(redis_wire_t *wire, redis_addresses_t *addresses,
                              rlp_time_t deadline);

/* Goes on by TLS with the host. `why`, of size bytes, says in words what failed. */
redis_fault_t redis_wire_secure(redis_wire_t *wire, const redis_tls_t *tls, const char *host,
                                rlp_time_t deadline, char *why, size_t size);

/* What has failed, in words. */
void redis_wire_why(const redis_wire_t *wire, redis_fault_t fault, char *why, size_t size);

/* Does nothing to a closed one. */
void redis_wire_close(redis_wire_t *wire);

/* Is it still as it was left: open, and with nothing that came uncalled for? */
bool redis_wire_idle(const redis_wire_t *wire);

/* Sends n buffers, which are changed. */
redis_fault_t redis_wire_send(redis_wire_t *wire, struct iovec buffers[], int n,
                              rlp_time_t deadline);

/* The next reply, which the caller frees. */
redis_fault_t redis_wire_receive(redis_wire_t *wire, redisReply **reply, rlp_time_t deadline);

/* Formats and sends one command. */
redis_fault_t redis_wire_command(redis_wire_t *wire, int argc, const char **argv,
                                 rlp_time_t deadline);

#endif
