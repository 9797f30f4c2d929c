/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_LEASE_DRAW_H
#define REDIS_LEASE_DRAW_H

/*
 * One lease: when it draws units from Redis and how many, and what it makes of the answer. For
 * lease.c alone, under the lock.
 */

#include "redis/lease.h"

#define LEASE_PER_BURST 4 /* a lease is at most such a part of the burst */

/* What of a limit matters when nobody asks. */
typedef struct {
    int64_t count;
    rlp_time_t period;
    rlp_units_t burst;
    rlp_time_t drain; /* 0: it renews by windows */
    rlp_time_t earns; /* in this time the burst, bit by bit; 0: all of it, at a window's end */
    rlp_time_t keeps; /* what it earns in this time is not lost, or hardly so, if nobody asks */
} terms_t;

typedef struct {
    uint64_t identity; /* both 0: free */
    uint64_t signature;
    terms_t terms;
    uint64_t id;
    int64_t sequence;  /* of the latest question */
    rlp_time_t claim;  /* somebody asks, until then at the latest; 0: nobody does */
    rlp_units_t units; /* below 0: a debt */
    rlp_units_t spent;
    rlp_units_t reported; /* of it, what Redis may know */
    rlp_units_t granted;  /* latest */
    rlp_units_t half;     /* below, it is to be renewed */
    rlp_time_t ends;
    rlp_time_t asked;
    rlp_time_t used;
    rlp_time_t nudged;
    rlp_time_t ask_after;
    rlp_units_t refused; /* costs as large are refused */
    rlp_time_t refused_until;
    rlp_time_t retry_at; /* RLP_TIME_NEVER */
    rlp_time_t next_at;  /* RLP_TIME_NEVER */
    rlp_time_t pressed_until;
    uint32_t shorts;    /* grants in a row that were less than wanted, soon after each other */
    rlp_units_t demand; /* since gauged */
    rlp_time_t gauged;
    int64_t rate;        /* thousandths a second */
    rlp_units_t central; /* what was left in Redis */
    rlp_time_t full_at;  /* RLP_TIME_NEVER */
    rlp_time_t ahead;    /* of Redis' clock */
    rlp_time_t turns;    /* Redis' clock: the window's end */
    rlp_time_t turned;   /* Redis' clock: since when the lease was asked for in this window */
    uint16_t key_len;
    uint16_t args_len;
    char key[LEASE_KEY_MAX];
    unsigned char args[LEASE_ARGS_MAX];
} lease_t;

static inline int64_t lease_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t lease_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Claims the question for the caller: it tells what was spent, and asks for nothing. */
void lease_claim(lease_t *lease, rlp_time_t now, lease_question_t *question);

/* Claims the question, and asks for what the cost needs and for what is worth having. */
void lease_ask(lease_t *lease, rlp_units_t cost, rlp_time_t now, lease_question_t *question);

/* Takes over what was granted, and when to ask again where there is little. */
void lease_take_over(lease_t *lease, const lease_question_t *question, const lease_answer_t *answer,
                     rlp_time_t now);

#endif
