/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef SCRIPT_ASK_H
#define SCRIPT_ASK_H

/*
 * One call of the script in Redis after the other.
 */

#include "redis/script.h"
#include "redis_server.h"
#include "unit.h"

#define NOW INT64_C(1700000000000000)
#define DAY (INT64_C(86400) * RLP_SECOND)
#define KEY "rlp:{user:42}:api"

/* The script that is asked. */
extern char ask_sha[SCRIPT_SHA_SIZE];

/* A call for the limits of one plan under one key. */
typedef struct {
    script_call_t call;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_charge_t *pointers[RLP_LIMITS_MAX];
    script_key_t keys[RLP_LIMITS_MAX];
    rlp_time_t now;    /* the server's clock, unless 0 */
    rlp_time_t answer; /* the clock that the answer tells */
} ask_t;

/* Makes it. */
void ask_init(ask_t *ask, const char *words);

/* Packs it for the script. */
void ask_pack(ask_t *ask, script_packet_t *packet);

/* The server's reply, to be freed. */
redisReply *ask_reply(redisContext *context, const script_packet_t *packet);

/* Asks; the first limit's decision. */
rlp_decision_t ask_for(ask_t *ask, script_op_t op);

/* What a command answers, which is an integer. */
int64_t server_integer(const char *command);

/* An empty server that knows the script. */
int server_fresh(void **state);

#endif
