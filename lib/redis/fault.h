/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_FAULT_H
#define REDIS_FAULT_H

/*
 * What can go wrong between a command and its reply, and what follows from it.
 */

#include <apr_errno.h>

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    REDIS_FAULT_NONE,
    /* told by the server */
    REDIS_FAULT_NOSCRIPT, /* it does not know the script yet */
    REDIS_FAULT_MOVED,    /* the slot is elsewhere */
    REDIS_FAULT_ASK,      /* ... for this once */
    REDIS_FAULT_APART,    /* ..., but the keys are not all in one place while it moves */
    REDIS_FAULT_UNSERVED, /* nobody has the slot */
    REDIS_FAULT_AWAY,     /* it loads its data, its script runs on, its cluster is down */
    REDIS_FAULT_READONLY, /* it is a replica by now */
    REDIS_FAULT_MEMORY,   /* it has none left and may not evict */
    REDIS_FAULT_DENIED,   /* password, user or rights are wrong */
    REDIS_FAULT_CROWDED,  /* it has too many clients */
    REDIS_FAULT_ERROR,    /* any other error: of the command or the script */
    /* met on the way */
    REDIS_FAULT_NAME,     /* the host's name is not resolved (yet), or no master is known */
    REDIS_FAULT_CONNECT,  /* refused, unreachable */
    REDIS_FAULT_CLOSED,   /* the connection ended */
    REDIS_FAULT_PROTOCOL, /* not the protocol, or too large a reply */
    REDIS_FAULT_TIMEOUT,  /* no answer by the deadline */
    REDIS_FAULT_BREAKER,  /* not asked: the breaker is open */
    REDIS_FAULT_LOCAL     /* not asked: this process has no memory left */
} redis_fault_t;

/* What to do about it. */
typedef struct {
    const char *text;    /* for a log */
    bool closes;         /* the connection is not used again */
    bool counts;         /* a failure for the breaker */
    bool opens;          /* ... that opens it at once: time does not heal it */
    bool moves;          /* ask again where the server is */
    apr_status_t status; /* for rlp_store_type_t */
} redis_remedy_t;

/* The fault in the text of an error reply, by its first word. */
redis_fault_t redis_fault_of(const char *text, size_t len);

/* What follows from a fault. */
const redis_remedy_t *redis_remedy(redis_fault_t fault);

#endif
