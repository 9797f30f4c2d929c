/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_LEASE_CALL_H
#define REDIS_LEASE_CALL_H

/*
 * A question for a lease as a call of the script, and its answer. Pure, as script.h.
 */

#include "redis/lease.h"
#include "redis/script.h"

#define LEASE_ARGC 6

/* Points into itself and at the question. */
typedef struct {
    const char *argv[LEASE_ARGC];
    size_t lens[LEASE_ARGC];
    unsigned char numbers[64];
} lease_packet_t;

/* Fills in what identifies the counter of a charge in Redis. False: it does not fit, and cannot be
   leased. */
bool lease_identify(lease_question_t *question, rlp_charge_t *charge, const script_key_t *key,
                    rlp_time_t wall);

/* Makes the packet; sha must live as long, and so must the question, whose args get the test's
   clock if there is one (NULL: the server's). */
void lease_pack(lease_packet_t *packet, lease_question_t *question, const char *sha,
                const rlp_time_t *clock);

/* Reads what answers the call. False if it is no such answer. */
bool lease_unpack(lease_answer_t *answer, const lease_question_t *question, const char *bytes,
                  size_t len);

#endif
