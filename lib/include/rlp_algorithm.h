/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RLP_ALGORITHM_H
#define RLP_ALGORITHM_H

/*
 * The contract of an algorithm: a pure function of state, limit and operation. Below this line
 * there is no clock, lock, log, allocation, input or output, key or store.
 */

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Microseconds, on the time line of whoever calls; a store may put its own in place
   (rlp_store.h). */
typedef int64_t rlp_time_t;

/* What a request costs and a limit holds, in thousandths, so that three decimals are exact. */
typedef int64_t rlp_units_t;

/* Counts have 15 digits, as structured fields do, and units three decimals. */
#define RLP_UNITS_MAX (INT64_C(1000000000000000) * RLP_UNIT - 1)

#define RLP_UNIT INT64_C(1000)           /* one request */
#define RLP_SECOND INT64_C(1000000)      /* in rlp_time_t */
#define RLP_TIME_NEVER INT64_MAX         /* "that moment does not come" */
#define RLP_TIME_EVER (INT64_C(1) << 56) /* op.charged_at, or later: nobody knows when it was */
#define RLP_STATE_MAX 40                 /* bytes of state that fit into a slot of one cache line */
#define RLP_LOSS_FULL UINT32_MAX         /* the whole capacity is in use */

typedef struct rlp_algorithm_t rlp_algorithm_t;

/* The edges of calendar periods: n instants of the wall clock in rising order, edges[i] the first
   of period i, edges[i + 1] its end. Before the first edge and after the last, periods have their
   usual length. */
typedef struct {
    const char *zone; /* "UTC", "local", "Europe/Berlin" */
    int n;
    const rlp_time_t *edges; /* microseconds since the epoch */
    rlp_time_t mean;         /* between two edges */
} rlp_calendar_t;

/* One limit, as rlp_plan_parse() makes it; read-only from then on. The ranges are the parser's
   promise: steps rely on them and need no overflow checks of their own. */
typedef struct {
    const rlp_algorithm_t *algorithm;
    int64_t count;       /* whole units per period, 0 to 10^15 - 1; 0 only for a blocked quota */
    rlp_time_t period;   /* 1 ms to 10 years, in whole milliseconds; 0: never renewed */
    rlp_units_t burst;   /* the capacity; above 0 unless count is 0 */
    rlp_units_t initial; /* what a new key may spend at once, 0 to burst */
    rlp_time_t start;  /* windows are aligned to this instant, microseconds since the epoch; 0 where
                          there are none: it is not given */
    int64_t price;     /* credit of a thousandth, where a microsecond earns count: period / 1000 */
    uint64_t capacity; /* credit of the burst; below 2^63 for an algorithm that counts in it */
    rlp_time_t drain;  /* from empty to full again: burst * period / count, rounded up; 0: never */
    uint64_t mark;     /* tells its count and burst from others (algorithm/second.h) */
    unsigned ordinal;  /* among the limits of the plan that are otherwise equal */
    uint32_t state_size;            /* bytes of state of one key, a multiple of 8, above 0 */
    int64_t requests;               /* of one unit, that the burst has room for: 1 to UINT32_MAX */
    rlp_units_t usual;              /* the cost of requests that weigh what `requests` says: one
                                       unit; INT64_MIN if initial is below the burst */
    const rlp_calendar_t *calendar; /* a quota of calendar periods, whose usual length is `period`;
                                       NULL: none */
    rlp_time_t lease;               /* concurrency in Redis; 0: not given */
} rlp_limit_t;

/* Who holds places of concurrency limits: the processes of a server. Each has a number while it
   lives; the epoch of a number is odd while its process lives and rises with its birth and its
   death, so that what a dead process held is told from what its successor holds. */
#define RLP_OWNERS_MAX 1024

typedef struct {
    uint64_t owner[RLP_OWNERS_MAX]; /* process id << 32 | epoch */
} rlp_owners_t;

/* A word of a concurrency state: number << 48 | (epoch mod 2^24) << 24 | places held. 0: free. */
typedef uint64_t rlp_hold_t;

#define RLP_HOLD_MAX ((UINT64_C(1) << 24) - 1) /* places of one owner under one key */

/* A process as it stands in a hold: without places. 0 stands for nobody. */
static inline rlp_hold_t rlp_owner(uint32_t number, uint32_t epoch)
{
    return (rlp_hold_t)number << 48 | (rlp_hold_t)(epoch & 0xffffff) << 24;
}

/* Does the process of this hold live? */
static inline bool rlp_hold_lives(const rlp_owners_t *owners, rlp_hold_t hold)
{
    const uint64_t number = hold >> 48;

    return (hold >> 24 & 1) != 0 && number < RLP_OWNERS_MAX &&
           (__atomic_load_n(&owners->owner[number], __ATOMIC_RELAXED) & 0xffffff) ==
               (hold >> 24 & 0xffffff);
}

typedef enum {
    RLP_TAKE,   /* charge op.units if they fit, at the latest after op.max_wait */
    RLP_PEEK,   /* answer as TAKE would, change nothing */
    RLP_SETTLE, /* correct a charge made at op.charged_at by op.units: below 0 gives back what still
                   counts, above 0 charges more whether it does or not */
    RLP_RELEASE /* concurrency: op.owner gives one place back; others: nothing */
} rlp_op_kind_t;

/* What is asked of a step. */
typedef struct {
    rlp_op_kind_t kind;
    rlp_units_t units;
    rlp_time_t now;  /* monotonic */
    rlp_time_t wall; /* wall clock, for calendars alone; microseconds since the epoch */
    rlp_time_t
        max_wait; /* TAKE and PEEK: how long the request would wait for its turn, 0 or more */
    rlp_time_t charged_at; /* SETTLE: when the charge was made (its turn, if it waited for one), on
                              the same time line as now; from RLP_TIME_EVER on, whenever: units
                              that still count are given back, of the latest charges first */
    rlp_hold_t owner;      /* concurrency: who asks (rlp_owner()) */
    const rlp_owners_t *owners; /* concurrency: who lives */
} rlp_op_t;

typedef enum {
    RLP_ALLOW,
    RLP_WAIT, /* charged, for a turn that comes after decision.wait */
    RLP_DENY, /* not now: decision.retry says when */
    RLP_NEVER /* not ever: cost above the capacity or below 0, a used-up quota without renewal */
} rlp_verdict_t;

/* What a step answers. Times are spans from op.now, except expires. */
typedef struct {
    rlp_verdict_t verdict;
    bool changed;  /* the state wants to be kept; after a refusal only where it had to be healed */
    bool damaged;  /* the state could not have come from this step: judged as a new one */
    uint32_t loss; /* share of the capacity in use, of RLP_LOSS_FULL: what eviction would forget */
    uint32_t late; /* ALLOW, WAIT: so long after op.now it was judged, since another's reading of
                      the clock, which was later, came first (RLP_CLOCK_SKEW); else 0 */
    rlp_time_t wait;    /* WAIT: from then until its turn, at most op.max_wait; else 0 */
    rlp_time_t retry;   /* DENY: the smallest wait after which the same request (with the same
                           max_wait) does not meet this answer; else 0 */
    rlp_time_t next;    /* until one whole unit is usable, 0 if one is now; RLP_TIME_NEVER */
    rlp_time_t reset;   /* until full again, or the end of the window; RLP_TIME_NEVER */
    rlp_time_t expires; /* instant from which the state is as good as a new one; RLP_TIME_NEVER */
    int64_t remaining;  /* whole units usable right now, 0 or more */
    uint32_t reach;     /* changed: bytes of the state, from its beginning, behind which none is; 0:
                           any may be */
} rlp_decision_t;

/* Which of the optional words of a limit an algorithm knows; the parser refuses the others. */
enum { RLP_TAKES_BURST = 1, RLP_TAKES_INITIAL = 2, RLP_TAKES_START = 4 };

/*
 * One algorithm. The step gets the state of one key, state_size bytes aligned to 8, all zero for a
 * key never seen or expired. The state may have been written under another limit of the same
 * signature (another count, burst or initial); where state_size differs with it, a longer state
 * comes cut off, and what lies behind a shorter one may be anything. TAKE with units 0 answers
 * ALLOW and changes nothing. A refusal changes nothing, but may heal a state that a clock stepping
 * back has left in the future. SETTLE clamps between empty and full. Writes the whole decision.
 * Reads no state but its own; may be called again for the same question.
 */
struct rlp_algorithm_t {
    const char *name;    /* as in algorithm=NAME */
    uint32_t state_size; /* bytes; 0: rlp_limit_t.state_size differs from limit to limit */
    uint32_t (*state_size_of)(const rlp_limit_t *limit); /* then: what it is; NULL: known later */
    int64_t count_max; /* of rlp_limit_t.count; 0: no bound of its own */
    unsigned takes;    /* RLP_TAKES_* */
    bool credit;       /* counts in credit (rlp_limit_t.price) */
    bool windowed;     /* renews at the end of a window, not evenly */
    bool lasting; /* what is used stays so until the state expires, or most of that time; else it
                     shrinks evenly */
    bool quota;   /* said with quota=: when used up, another plan may take over (then=) */
    bool holds;   /* counts what is in flight: TAKE takes one place whatever it costs, until
                     RELEASE; the state is an array of rlp_hold_t */
    void (*step)(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                 rlp_decision_t *decision);
};

/* How far two readings of one monotonic clock may lie apart when their requests meet under a lock.
   A state further in the future than one drain and this was left by a clock that has stepped
   back. */
#define RLP_CLOCK_SKEW RLP_SECOND

/* rlp_decision_t.late of what was charged at that instant. */
static inline uint32_t rlp_late(rlp_time_t charged_at, rlp_time_t now)
{
    return charged_at > now && charged_at - now <= RLP_CLOCK_SKEW ? (uint32_t)(charged_at - now)
                                                                  : 0;
}

/* part of whole (above 0) as a share of RLP_LOSS_FULL, at least 1 for a part above 0. */
static inline uint32_t rlp_loss(uint64_t part, uint64_t whole)
{
    if (part >= whole) {
        return RLP_LOSS_FULL;
    }
    if (part == 0) {
        return 0;
    }
    if (whole >> 32) {
        const int over = 32 - __builtin_clzll(whole);

        part >>= over;
        whole >>= over;
    }
    return (uint32_t)(part * RLP_LOSS_FULL / whole) | 1;
}

/* Which calendar period of a limit that has such an instant is in, counted from the first edge. */
static inline int64_t rlp_period_number(const rlp_limit_t *limit, rlp_time_t at)
{
    const rlp_time_t *edges = limit->calendar->edges;
    const int last = limit->calendar->n - 1;

    if (at < edges[0]) {
        return (at - edges[0] + 1) / limit->period - 1;
    }
    if (at >= edges[last]) {
        return last + (at - edges[last]) / limit->period;
    }
    /* periods differ little: where it would be if they did not */
    int i = (int)((at - edges[0]) / limit->calendar->mean);

    i = i < last ? i : last - 1;
    while (edges[i] > at) {
        i--;
    }
    while (edges[i + 1] <= at) {
        i++;
    }
    return i;
}

/* Where a period begins, and the one before it ends. */
static inline rlp_time_t rlp_period_edge(const rlp_limit_t *limit, int64_t number)
{
    const rlp_calendar_t *calendar = limit->calendar;
    const int64_t last = calendar->n - 1;
    const int64_t within = number < 0 ? 0 : number > last ? last : number;

    return calendar->edges[within] + (number - within) * limit->period;
}

/* The built-in algorithms, ended by NULL; the first is the default. */
extern const rlp_algorithm_t *const rlp_algorithms[];

#ifdef __cplusplus
}
#endif

#endif
