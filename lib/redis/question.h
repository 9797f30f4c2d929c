/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_QUESTION_H
#define REDIS_QUESTION_H

/*
 * Charges on their way to the script in Redis: one call for each identity, all in one exchange.
 */

#include "redis/script.h"
#include "redis/store.h"

/* The charges of one identity or, where its keys are apart, of one key: one call. */
typedef struct {
    script_call_t call;
    rlp_charge_t *charges[RLP_ENTRIES_MAX];
    script_key_t keys[RLP_ENTRIES_MAX];
    script_packet_t packet;
    bool asked;
    redis_fault_t fault;
    apr_status_t status; /* of the answer */
    rlp_time_t now;      /* the server's, of the answer; 0: there was none */
} redis_group_t;

typedef struct {
    const redis_store_settings_t *settings;
    const char *sha; /* of the script */
    redis_group_t *groups[RLP_ENTRIES_MAX];
    int n;
    char *text; /* of the keys */
} redis_question_t;

/* The number of each charge's identity; how many there are. */
int redis_identities(int identity[], const rlp_charge_t charges[], int n);

/* Makes the calls for n charges; whatever comes of it, redis_question_free() is due. */
apr_status_t redis_question_make(redis_question_t *made, rlp_charge_t charges[], int n,
                                 script_op_t op, const rlp_question_t *question);

/* Asks, by the deadline, and reads the answers into the charges. The first error, if there is one;
   which of the groups have an answer, they know. */
apr_status_t redis_question_ask(redis_question_t *made, rlp_time_t deadline);

void redis_question_free(redis_question_t *made);

#endif
