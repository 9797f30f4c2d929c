/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_LEASE_H
#define REDIS_LEASE_H

/*
 * Units that this host has drawn from Redis ahead, and spends without asking: a table in memory
 * that all its processes share, and when to draw how many. No connection, no clock; what is sent
 * and what comes back are lease_call.h's.
 *
 * Who gets LEASE_ASK, or lease_due(), is the only one that asks for that lease until it calls
 * lease_granted(), or until its claim ends because it was killed.
 */

#include "rlp.h"

#define LEASE_KEY_MAX 208
#define LEASE_ARGS_MAX 256

#define LEASE_SPAN                                                                         \
    (5 * RLP_SECOND)          /* from the sending of a question: then what is left is void \
                               */
#define LEASE_IDLE RLP_SECOND /* unspent for so long: it is given back */

typedef struct lease_table_t lease_table_t;

#define LEASE_TABLE_STEP 512 /* tables have a multiple of so many leases */

/* The memory that a table of so many leases takes, and the table made in it: zeros, aligned to 64,
   shared by all who use it. Before anybody uses it. Who has asked for longer than patience says was
   killed. */
size_t lease_table_size(uint32_t leases);
lease_table_t *lease_table_make(void *memory, uint32_t leases, rlp_time_t patience);

/* Can the charge be made from a lease? Not where places are counted or turns waited for, nor where
   the promise is about single requests (leaky bucket, sliding log), nor where one limit takes over
   for another (then=). */
bool lease_fits(const rlp_charge_t *charge);

/* Can charges of the limit, whatever they cost? */
bool lease_fits_limit(const rlp_limit_t *limit);

/* A charge, as far as leases see it. */
typedef struct {
    uint64_t identity; /* a keyed hash of it */
    uint64_t signature;
    rlp_units_t cost; /* above 0 */
    const rlp_limit_t *limit;
} lease_charge_t;

typedef enum {
    LEASE_SPENT,   /* charged */
    LEASE_REFUSED, /* there is nothing: the decision says until when */
    LEASE_ASK,     /* Redis is to be asked what the question says, by the caller */
    LEASE_WAIT,    /* another asks: try again soon */
    LEASE_NONE     /* no room for this lease: charge it in Redis */
} lease_outcome_t;

/* What Redis is asked. */
typedef struct {
    uint32_t index; /* of the lease in the table */
    uint64_t id;    /* of the lease in Redis */
    int64_t sequence;
    rlp_units_t spent; /* since the lease began */
    rlp_units_t has;   /* below 0: a debt */
    rlp_units_t need;  /* at least, or none */
    rlp_units_t want;
    rlp_units_t cost; /* of the charge that waits for it; 0: none does */
    rlp_time_t sent;
    rlp_time_t patience; /* with whom asks */
    size_t key_len; /* what identifies the counter in Redis, by lease_call.h; 0: to be filled in */
    size_t args_len;
    char key[LEASE_KEY_MAX];
    unsigned char args[LEASE_ARGS_MAX];
} lease_question_t;

/* What Redis answers. */
typedef struct {
    rlp_time_t now; /* Redis' clock */
    rlp_decision_t decision;
    rlp_units_t granted; /* with the debt */
    rlp_time_t lasts;    /* from its sending; 0: a later question has been faster */
    rlp_time_t turns;    /* until its window ends; RLP_TIME_NEVER */
    rlp_units_t others;  /* what other hosts still have */
} lease_answer_t;

typedef struct {
    lease_outcome_t outcome;
    rlp_decision_t decision; /* SPENT and REFUSED */
    uint64_t id;             /* SPENT: which lease paid */
    rlp_time_t charged_at;   /* SPENT: on Redis' clock */
    uint32_t index;
    bool renew; /* SPENT: half of it is gone; lease_due() should see to it */
} lease_result_t;

/* Spends from the lease. With LEASE_ASK the question is filled in, but for key and args. */
void lease_spend(lease_table_t *table, const lease_charge_t *charge, rlp_time_t now,
                 lease_result_t *result, lease_question_t *question);

/* Takes over what Redis has answered, NULL for nothing, and spends from it for the charge that
   waits, if one does. LEASE_WAIT: it has to try again. */
void lease_granted(lease_table_t *table, const lease_question_t *question,
                   const lease_answer_t *answer, rlp_time_t now, lease_result_t *result);

/* As lease_spend() would answer, if the lease knows; else false. */
bool lease_peek(lease_table_t *table, const lease_charge_t *charge, rlp_time_t now,
                rlp_decision_t *decision);

/* Corrects what the lease has paid by the charge's cost, below 0 to give back. False: another lease
   has paid, or it is over; to be corrected in Redis. */
bool lease_settle(lease_table_t *table, const lease_charge_t *charge, uint64_t id,
                  rlp_time_t charged_at, rlp_time_t now);

/* Units have come back in Redis: whoever was refused may ask again at once. */
void lease_reconsider(lease_table_t *table, const lease_charge_t *charge);

/* Is there something to be done for a lease that nobody waits for? Then Redis is to be asked what
   the question says: half of it is gone, it is idle or near its end, or (all) it is to be given
   back anyway. */
bool lease_due(lease_table_t *table, uint32_t index, bool all, rlp_time_t now,
               lease_question_t *question);

/* How many leases there can be. */
uint32_t lease_table_room(const lease_table_t *table);

/* Is it time for somebody of this host to look at all leases? To one who asks it is true. */
bool lease_table_turn(lease_table_t *table, rlp_time_t now);

/* The key of a table's hashes: 16 bytes. */
const unsigned char *lease_table_secret(const lease_table_t *table);

#endif
