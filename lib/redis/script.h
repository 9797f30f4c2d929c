/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_SCRIPT_H
#define REDIS_SCRIPT_H

/*
 * The script that decides in Redis: its text, the arguments of a call, what comes back. Pure: no
 * connection, no clock. The formats are in docs/redis-format.md.
 */

#include "redis/script_number.h"
#include "rlp.h"

/* Larger limits cannot be counted there (script_limit_error()). */
#define SCRIPT_COUNT_MAX INT64_C(1000000000000)
#define SCRIPT_PLACES_MAX 16384

#define SCRIPT_LEASE_USUAL (60 * RLP_SECOND) /* of places whose limit says none */

#define SCRIPT_SHA_SIZE 41

/* What is asked: as rlp_op_kind_t, and one more. */
typedef enum {
    SCRIPT_TAKE = RLP_TAKE,
    SCRIPT_PEEK = RLP_PEEK,
    SCRIPT_SETTLE = RLP_SETTLE,
    SCRIPT_RELEASE = RLP_RELEASE,
    SCRIPT_RENEW, /* concurrency: the holder's place for another lease; DENY: it has none */
    SCRIPT_LEASE  /* units ahead: lease_call.h */
} script_op_t;

typedef struct {
    const char *bytes; /* such as "rlp:{user:42}:api" */
    size_t len;
} script_key_t;

/* One call: charges of one identity, all or none. */
typedef struct {
    script_op_t op;
    rlp_charge_t *const *charges; /* their entry.state is not used */
    const script_key_t *keys;     /* of each charge; all in one slot of a cluster */
    int n;                        /* 1 to RLP_ENTRIES_MAX */
    rlp_time_t wall;              /* this host's, to find the calendar's periods */
    rlp_time_t charged_at;        /* SETTLE: by the server's clock (script_unpack()) */
    uint64_t holder;              /* TAKE, RELEASE, RENEW of places: whose; any number not in use */
    const rlp_time_t *clock;      /* tests: in place of the server's; NULL */
} script_call_t;

#define SCRIPT_ARGC_MAX (4 + RLP_ENTRIES_MAX)
#define SCRIPT_ARGS_MAX (40 + RLP_ENTRIES_MAX * 216)

/* A call as the arguments of an EVALSHA; points into itself and at the call's keys. */
typedef struct {
    int argc;
    const char *argv[SCRIPT_ARGC_MAX];
    size_t lens[SCRIPT_ARGC_MAX];
    char keys_n[4];
    size_t args_len;
    unsigned char args[SCRIPT_ARGS_MAX];
} script_packet_t;

/* The text of the script. */
const char *script_text(size_t *len);

/* The name that EVALSHA knows it by. */
void script_sha(char sha[SCRIPT_SHA_SIZE]);

/* Does the script have its algorithm? */
bool script_has(const rlp_limit_t *limit);

/* How long a place under the limit is held without being renewed. */
rlp_time_t script_lease(const rlp_limit_t *limit);

/* NULL if the script can count the limit for requests that wait up to max_wait; else what was
   expected. From the pool. */
const char *script_limit_error(const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool);

/* Makes the call's packet; sha must live as long. False where a limit cannot be counted, or there
   are too few or too many charges. */
bool script_pack(script_packet_t *packet, const script_call_t *call, const char *sha);

/* Makes the EVALSHA an EVAL, for a server that does not know the script. */
void script_pack_text(script_packet_t *packet);

/* Reads the string that answers the call into the decisions and `spared` of its charges; now is the
   server's clock, on whose time line a later charged_at is. False if it is no such answer: then the
   charges are as they were. */
bool script_unpack(const script_call_t *call, const char *bytes, size_t len, rlp_time_t *now);

#endif
