/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RLP_H
#define RLP_H

/*
 * libratelimit_plans: limits, plans and the one question asked of them.
 */

#include "rlp_store.h"

#include <apr_pools.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RLP_VERSION "0.1.0"
#define RLP_LIMITS_MAX 8 /* of one plan */

/* A named set of limits; all must admit. Read-only once parsed. */
typedef struct {
    const char *name;
    const char *then; /* the plan that takes over when a quota is used up (then=); NULL: none */
    int64_t
        bandwidth; /* bytes a second of each response (bandwidth=), a multiple of 1024; 0: none */
    int n;
    rlp_limit_t limits[RLP_LIMITS_MAX];
} rlp_plan_t;

/* What a plan is made from. */
typedef struct {
    const char *name;
    const char *const *words; /* such as rate=10/min burst=20 (docs/directives.md, "Limits") */
    int n;
    const rlp_algorithm_t *const *algorithms; /* what algorithm= may name, ended by NULL, the first
                                                 without it; NULL: rlp_algorithms */
    const rlp_plan_t *base; /* NULL, or limits to inherit: one of the same signature is replaced */
    rlp_time_t wall;        /* the time of day, to refuse a start in the future */
    rlp_time_t since;       /* calendars are tabled from here to 20 years after wall */
    apr_pool_t *tables;     /* the only calendars there are: those made in this pool, by a parse of
                               a plan; NULL: they are made, in the plan's pool */
} rlp_plan_source_t;

/* Parses a plan. NULL on success, or what was expected and what came. All from the pool, and what
   is inherited from the base's. Without tables, a calendar in another zone than UTC changes TZ for
   a moment: for a start with a single thread. */
const char *rlp_plan_parse(rlp_plan_t **plan, const rlp_plan_source_t *source, apr_pool_t *pool);

/* How many processes may hold places at the same time, for the concurrency limits of the plan: 1 to
   RLP_OWNERS_MAX, the same for all that share a store. Before the first question; RLP_OWNERS_USUAL
   otherwise. */
#define RLP_OWNERS_USUAL 29
void rlp_plan_owners(rlp_plan_t *plan, int owners);

/* Is it a word of a limit, by what stands before its "="? */
bool rlp_limit_word(const char *word);

/* The plan in words: "10 at once, then 10 per minute; at most 1 000 a day". From the pool. */
const char *rlp_plan_describe(const rlp_plan_t *plan, apr_pool_t *pool);

/* NULL if it may name a rule, a plan or a store ([A-Za-z][A-Za-z0-9_.-]{0,63}), else what was
   expected. */
const char *rlp_name_check(const char *name, apr_pool_t *pool);

/* Parses a span of time such as 250ms, 10s, 5min or day, from 1 ms to 10 years. NULL, or what was
   expected. */
const char *rlp_duration_parse(rlp_time_t *duration, const char *text, apr_pool_t *pool);

/* Parses units with up to three decimals, 0 to 10^15 - 1. NULL, or what was expected. */
const char *rlp_units_parse(rlp_units_t *units, const char *text, apr_pool_t *pool);

/* The known word (list ended by NULL) most like the one given, or NULL when none is near. */
const char *rlp_nearest(const char *word, const char *const known[]);

/* The signature of a counter: scope is the rule's name with its scope, plan is NULL or the plan's
   name where each plan has counters of its own. The same in every process, on every host, after
   every restart. */
uint64_t rlp_signature(const char *scope, const char *plan, const rlp_limit_t *limit);

/* The "q" of RateLimit-Policy: whole units at once. */
int64_t rlp_limit_quota(const rlp_limit_t *limit);

/* The "w" of RateLimit-Policy: seconds, 1 or more, to earn them all; 0 for none. */
int64_t rlp_limit_window(const rlp_limit_t *limit);

/* The "t" of RateLimit: with nothing left the seconds to the next unit, else the seconds within
   which no more than the rest can be used; -1 for none. */
int64_t rlp_limit_effective(const rlp_limit_t *limit, const rlp_decision_t *decision);

/* Makes it one host's share of a limit that so many hosts have: of each number its part, rounded
   down, one unit at least. */
void rlp_limit_share(rlp_limit_t *limit, int64_t hosts);

/* Is decision a, of its limit, told before b? The refusing one, then the one with the smallest
   rest, then the one with the longest time. */
bool rlp_decision_tighter(const rlp_limit_t *a_limit, const rlp_decision_t *a,
                          const rlp_limit_t *b_limit, const rlp_decision_t *b);

/* Which of the limits in one question count: those of an identity's plan, or those of the plan that
   takes over when a quota of the first is used up. */
typedef enum {
    RLP_ALWAYS, /* no other plan would take over */
    RLP_FIRST,  /* unless a quota among those of this branch and of this rule lacks the units */
    RLP_INSTEAD /* then these */
} rlp_branch_t;

/* One limit of one identity in a question. The caller sets the first part (rlp_charge_init() and
   what it leaves at its default), the library the second. */
typedef struct rlp_charge_t {
    rlp_entry_t entry;
    const rlp_limit_t *limit;
    rlp_units_t cost; /* of the request; RLP_UNIT. 0 is free and writes nothing; below 0 is refused.
                         rlp_settle(): the correction, below 0 to give back */
    rlp_time_t max_wait; /* how long it would wait for its turn; 0 */
    rlp_branch_t branch; /* RLP_ALWAYS */
    int group;           /* of RLP_FIRST and RLP_INSTEAD: which belong together; 0 to 63 */
    rlp_time_t waited;   /* rlp_settle(): how long after now it was charged (rlp_waited()); 0 */
    const char *rule;    /* its name with its scope, for a store that shows it; NULL */
    const rlp_terms_t *terms; /* NULL: the first store, and as it says */
    rlp_decision_t decision;
    bool spared;           /* of the branch that does not count: neither asked nor charged */
    bool taken;            /* while it is decided: charged, not only looked at */
    rlp_entry_t *counter;  /* its own entry, or that of the charge it shares a counter with */
    rlp_time_t counted_at; /* by a store that decides by itself: when, on its clock, or
                              RLP_TIME_EVER; 0: not there */
    uint64_t holder;       /* and who holds the place */
    uint64_t room[RLP_STATE_MAX / 8];
} rlp_charge_t;

/* What is asked for all of them together. */
typedef struct rlp_question_t {
    rlp_time_t now;        /* the caller's monotonic clock, read once per request; 0 or later */
    rlp_time_t wall;       /* the wall clock, for calendars */
    rlp_hold_t owner;      /* for concurrency limits: this process (rlp_owner_open()) */
    rlp_time_t charged_at; /* rlp_settle(): rlp_store_time() of the charge; or RLP_TIME_EVER */
} rlp_question_t;

/* The answer for all of them together. */
typedef struct rlp_answer_t {
    rlp_verdict_t verdict;
    int tightest;     /* index: one that refuses, then the smallest rest, then the longest wait */
    rlp_time_t wait;  /* WAIT: all have their turn after this */
    rlp_time_t retry; /* DENY: after this all would pass */
    bool damaged;     /* at least one state was no state and was judged as new */
    bool unasked;     /* some could not be asked, are spared, and pass uncounted */
    bool told;        /* after a failure: the store has seen to logging it */
    bool refuses;     /* after a failure: nobody is to pass */
} rlp_answer_t;

/* Prepares one charge; identity must live as long as the charge is used. A state above
   RLP_STATE_MAX bytes (limit->state_size) needs room of the caller's in entry.state. */
static inline void rlp_charge_init(rlp_charge_t *charge, const char *identity, size_t identity_len,
                                   uint64_t signature, const rlp_limit_t *limit)
{
    charge->entry.key.identity = identity;
    charge->entry.key.identity_len = identity_len;
    charge->entry.key.signature = signature;
    charge->entry.key.fingerprint = 0;
    charge->entry.key.size = limit->state_size;
    charge->entry.state = charge->room;
    charge->limit = limit;
    charge->cost = RLP_UNIT;
    charge->max_wait = 0;
    charge->branch = RLP_ALWAYS;
    charge->group = 0;
    charge->waited = 0;
    charge->rule = NULL;
    charge->terms = NULL;
    charge->counted_at = 0;
}

/* What a later rlp_settle() of the charge is told as waited. */
static inline rlp_time_t rlp_waited(const rlp_charge_t *charge)
{
    return charge->decision.wait + charge->decision.late;
}

/* Charges their costs to all n (1 to RLP_ENTRIES_MAX) that count or, if one refuses, to none.
   Allocates nothing. Charges of one identity with equal signatures (in two branches) are one
   counter. A status other than APR_SUCCESS: the store could not be asked, and nothing was
   charged. */
apr_status_t rlp_check(rlp_store_t *store, rlp_charge_t charges[], int n,
                       const rlp_question_t *question, rlp_answer_t *answer);

/* As rlp_check() would answer, without charging anything. */
apr_status_t rlp_peek(rlp_store_t *store, rlp_charge_t charges[], int n,
                      const rlp_question_t *question, rlp_answer_t *answer);

/* Corrects the charges of all n, of which none is spared, by their costs: never above full, never
   below empty; nothing is given back where the window of the charge is over. Concurrency limits
   stay as they are. */
apr_status_t rlp_settle(rlp_store_t *store, rlp_charge_t charges[], int n,
                        const rlp_question_t *question, rlp_answer_t *answer);

/* Gives back the place that rlp_check() took under each of the concurrency limits among the n. Each
   place once. */
apr_status_t rlp_release(rlp_store_t *store, rlp_charge_t charges[], int n,
                         const rlp_question_t *question, rlp_answer_t *answer);

/* An instant of the caller's monotonic clock on the store's time line. */
rlp_time_t rlp_store_time(const rlp_store_t *store, rlp_time_t now);

/* What the store makes of an identity (rlp_store_type_t); may be kept as long as the store lives
   and set as charge->entry.key.fingerprint after rlp_charge_init(). */
uint64_t rlp_store_fingerprint(const rlp_store_t *store, const char *identity, size_t identity_len);

/* A keyed digest of a secret (by the store's), 32 hexadecimal digits and a NUL: stands for the
   value of an API key wherever it would be shown or stored. */
void rlp_store_digest(const rlp_store_t *store, const char *secret, size_t len, char digest[33]);

/* A span as Retry-After says it: whole seconds, rounded up, 1 or more. */
int64_t rlp_seconds(rlp_time_t span);

/* The SHA-256 of the data: what "sha256:HEX" in a plan map is compared with. */
#define RLP_DIGEST_SIZE 32
void rlp_digest(uint8_t digest[RLP_DIGEST_SIZE], const void *data, size_t len);

/* Reads the clocks: the one place that does. */
void rlp_clock_read(rlp_clock_t *clock);

/* Each clock alone, for each request. */
rlp_time_t rlp_clock_monotonic(void);
rlp_time_t rlp_clock_wall(void);

#ifdef __cplusplus
}
#endif

#endif
