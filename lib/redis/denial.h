/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef REDIS_DENIAL_H
#define REDIS_DENIAL_H

/*
 * What Redis said last of each limit, in memory that all processes of a host share: until the time
 * that it named, a refusal needs no round trip. Without locks: an entry that two write at once, or
 * that somebody has damaged, is none.
 */

#include "rlp.h"

#define REDIS_DENIALS 65536 /* limits of identities that are remembered */
#define REDIS_DENIAL_WAYS 4 /* a set has all limits of a counter among its entries */
#define REDIS_DENIAL_WORDS 8

/* How long what was said is believed, at least and at most, between them three times as long as the
   limit takes for a unit: others may have given something back since. Who comes ten times as often
   as a limit admits is refused thirty times before Redis is asked again. */
#define REDIS_DENIAL_BELIEVED RLP_SECOND
#define REDIS_DENIAL_BELIEVED_MAX (30 * RLP_SECOND)
#define REDIS_DENIAL_BELIEVED_UNITS 3

typedef struct {
    uint64_t words[REDIS_DENIAL_WORDS]; /* the first seals the others */
} redis_denial_t;

/* When something was given back to a counter of a set. */
typedef struct {
    rlp_time_t answered; /* by then all that is asked has seen it */
    rlp_time_t server;   /* what it says later has seen it, too */
} redis_refund_t;

/* In shared memory. */
typedef struct {
    unsigned char key[2][16]; /* of the fingerprints */
    redis_denial_t entries[REDIS_DENIALS];
    rlp_time_t asked_until[REDIS_DENIALS]; /* somebody asks about the entry now; 0: nobody does */
    redis_refund_t refunds[REDIS_DENIALS / REDIS_DENIAL_WAYS];
    rlp_time_t since; /* what was said before refuses nobody */
} redis_denials_t;

/* When an answer was given. */
typedef struct {
    rlp_time_t asked;  /* rlp_clock_monotonic(), as is now below */
    rlp_time_t lag;    /* from then to the answer */
    rlp_time_t server; /* on the server's clock: an older answer takes no newer one's place */
    bool away;         /* it still cannot charge: the level stays the same one */
} redis_told_t;

/* A limit as it was when Redis spoke of it last. */
typedef struct {
    rlp_time_t age;
    rlp_time_t server; /* the server's time of it, another for each answer, unless it is away */
    rlp_time_t reset;  /* until full again, or the end of the window; RLP_TIME_NEVER */
    int64_t remaining; /* whole units */
} redis_level_t;

/* Makes it ready, in memory that is all zero. */
apr_status_t redis_denials_init(redis_denials_t *denials);

/* From now on what was said before refuses nobody any more; levels stay. */
void redis_denials_doubt(redis_denials_t *denials, rlp_time_t now);

/* Is the request refused for sure? Then its decisions and the answer are those that Redis would
   give. Nothing is remembered where denials is NULL. Refusals for want of a place are never
   sure. */
bool redis_denials_refuse(const redis_denials_t *denials, rlp_charge_t charges[], int n,
                          rlp_time_t now, rlp_answer_t *answer);

/* When a refusal has ended, one request asks what is there now, and those that come meanwhile wait
   for its answer, until the end (less than a second away) at most. True: there is one, or should
   be, and the memory is to be looked at again. Otherwise the caller asks, and afterwards says so of
   *asking. */
bool redis_denials_await(redis_denials_t *denials, const rlp_charge_t charges[], int n,
                         rlp_time_t end, rlp_time_t **asking);

/* It has been asked, with whatever outcome. NULL: nobody waits for it. */
void redis_denials_asked(rlp_time_t *asking);

/* Remembers what Redis decided about charges, of any question. Where something was given back, no
   refusal under another limit of the counter is believed that may be from before. */
void redis_denials_learn(redis_denials_t *denials, rlp_charge_t *const charges[], int n,
                         const redis_told_t *told);

/* What was said last of a charge's limit, however long ago. False: nothing is known. */
bool redis_denials_level(const redis_denials_t *denials, const rlp_charge_t *charge, rlp_time_t now,
                         redis_level_t *level);

#endif
