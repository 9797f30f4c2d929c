/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Sliding log: at most COUNT in any PERIOD, exactly, at the instants at which requests are served.
 *
 * Kept is a ring of entries, one for each request whatever it costs, in the order of service. The
 * header knows what is in use, so that a step reads the header and the oldest entries and writes
 * the header and one entry, as a rule. Entries may lie in the future: requests that wait for their
 * turn. No later request has its turn before them, so what has gone by the newest turn may be
 * dropped.
 */

#include "rlp_algorithm.h"

#define LOG_COUNT_MAX 8192

/* An entry: thousandths << 40 | the low bits of its time. */
#define LOG_TIME_BITS 40
#define LOG_TIME_MASK ((UINT64_C(1) << LOG_TIME_BITS) - 1)

#define LOG_MOVED_MAX 512  /* entries, in one step */
#define LOG_LOOKED_MAX 128 /* for one that has been given back, at each end */

/* No ages of more ticks than this, so that low bits suffice. */
#define LOG_PERIOD_MAX (INT64_C(1) << (LOG_TIME_BITS - 1))

/* How far ahead a turn may be reserved: bounds what a damaged state can lock out. */
#define LOG_AHEAD_MAX (86400 * RLP_SECOND)

#define LOG_CLOCK_MAX (INT64_C(1) << 61)

_Static_assert((LOG_COUNT_MAX * RLP_UNIT) >> (64 - LOG_TIME_BITS) == 0,
               "an entry may hold all there is");

typedef struct {
    uint32_t head; /* index of the oldest entry */
    uint32_t n;
    uint32_t capacity; /* entries, COUNT of the limit that wrote it; 0: a new key */
    uint32_t used;     /* thousandths in all entries */
    rlp_time_t last;   /* the time of the newest entry, in full */
    rlp_time_t at;     /* when it was last written: tells a turn in the future from a clock that
                          stepped back */
} head_t;

_Static_assert(sizeof(head_t) % 8 == 0, "entries are aligned");

/* A state as it is to be judged: the ring is written by log_push() alone. */
typedef struct {
    head_t head;
    uint64_t *ring;
    uint64_t only;  /* takes the place of a ring whose entries are lost */
    rlp_time_t now; /* at which it is judged */
    unsigned shift; /* log_shift() */
    const rlp_limit_t *limit;
} log_t;

static uint32_t log_size(const rlp_limit_t *limit)
{
    return (uint32_t)sizeof(head_t) + 8 * (uint32_t)limit->count;
}

/* A tick is 1 << this many microseconds: the smallest in which the period is short enough. */
static unsigned log_shift(const rlp_limit_t *limit)
{
    unsigned shift = 0;

    while (LOG_PERIOD_MAX << shift < limit->period) {
        shift++;
    }
    return shift;
}

/* Rounded up: an entry may count for too long, never for too short a time. */
static int64_t log_ticks(rlp_time_t at, unsigned shift)
{
    return at > 0 ? ((at - 1) >> shift) + 1 : 0;
}

/* --- the ring */

static uint64_t *log_entry(const log_t *log, uint32_t i)
{
    const uint32_t at = log->head.head + i;

    return &log->ring[at < log->head.capacity ? at : at - log->head.capacity];
}

static uint32_t log_units(uint64_t entry)
{
    return (uint32_t)(entry >> LOG_TIME_BITS);
}

static uint64_t log_pack(rlp_units_t units, int64_t ticks)
{
    return (uint64_t)units << LOG_TIME_BITS | ((uint64_t)ticks & LOG_TIME_MASK);
}

/* Ticks, in full. */
static int64_t log_time(const log_t *log, uint64_t entry)
{
    const int64_t last = log_ticks(log->head.last, log->shift);

    return last - (int64_t)(((uint64_t)last - entry) & LOG_TIME_MASK);
}

/* From then on an entry of that time does not count. */
static rlp_time_t log_gone(const log_t *log, int64_t ticks)
{
    return (rlp_time_t)((uint64_t)ticks << log->shift) + log->limit->period;
}

/* From then on no entry does. */
static rlp_time_t log_end(const log_t *log)
{
    return log_gone(log, log_ticks(log->head.last, log->shift));
}

/* Everything known becomes one entry at the time of the newest. */
static void log_collapse(log_t *log)
{
    const uint32_t burst = (uint32_t)log->limit->burst;
    head_t *head = &log->head;

    head->used = head->used < burst ? head->used : burst;
    head->head = 0;
    head->n = 1;
    head->capacity = (uint32_t)log->limit->count;
    log->only = log_pack(head->used, log_ticks(head->last, log->shift));
    log->ring = &log->only;
}

/* Forgets what has gone by an instant at which, or after which, all further requests are served. */
static void log_drop(log_t *log, rlp_time_t at)
{
    head_t *head = &log->head;

    if (head->n > 0 && log_end(log) <= at) {
        head->n = head->used = 0;
    }
    while (head->n > 0 && log_gone(log, log_time(log, *log_entry(log, 0))) <= at) {
        const uint32_t units = log_units(*log_entry(log, 0));

        head->used -= units < head->used ? units : head->used;
        head->head = head->head + 1 < head->capacity ? head->head + 1 : 0;
        head->n--;
    }
}

/* Makes a ring written for fewer entries one of this limit: its part up to the old end moves to the
   new end. Where that is long it stays narrow for now, since a store does not keep so many changes
   at once; as the oldest entries go, it gets shorter. */
static void log_widen(log_t *log, uint64_t *ring)
{
    head_t *head = &log->head;
    const uint32_t more = (uint32_t)log->limit->count - head->capacity;
    const bool wraps = head->head + head->n > head->capacity;

    if (wraps && head->capacity - head->head > LOG_MOVED_MAX) {
        return;
    }
    if (more > 0 && wraps) {
        for (uint32_t i = head->capacity; i-- > head->head;) {
            ring[i + more] = ring[i];
        }
        head->head += more;
    }
    head->capacity += more;
}

/* Closes the gap that an entry leaves, by the fewer of those before it and behind it. */
static void log_remove(log_t *log, uint32_t i)
{
    head_t *head = &log->head;

    head->n--;
    if (i > head->n / 2) {
        for (; i < head->n; i++) {
            *log_entry(log, i) = *log_entry(log, i + 1);
        }
        return;
    }
    for (; i > 0; i--) {
        *log_entry(log, i) = *log_entry(log, i - 1);
    }
    head->head = head->head + 1 < head->capacity ? head->head + 1 : 0;
}

/* Where the ring is full, one of the oldest or of the newest goes that has been given back. */
static void log_make_room(log_t *log)
{
    const uint32_t n = log->head.n;

    for (uint32_t i = 0; i < LOG_LOOKED_MAX && 2 * i < n && log->head.n == n; i++) {
        if (log_units(*log_entry(log, i)) == 0) {
            log_remove(log, i);
        } else if (log_units(*log_entry(log, n - 1 - i)) == 0) {
            log_remove(log, n - 1 - i);
        }
    }
}

/* Charges at a time not before the newest entry's. Where there is no room, and where the newest
   entry is empty, that one takes it: what it has is not found any more by the time at which it was
   charged. */
static void log_push(log_t *log, uint64_t *ring, rlp_units_t units, rlp_time_t at)
{
    const int64_t ticks = log_ticks(at, log->shift);
    head_t *head = &log->head;

    if (log->ring == &log->only) {
        ring[0] = log->only;
        log->ring = ring;
    }
    log_widen(log, ring);
    const uint32_t newest = head->n > 0 ? log_units(*log_entry(log, head->n - 1)) : 0;
    if (head->n == head->capacity && newest > 0) {
        log_make_room(log);
    }
    const bool merges = head->n == head->capacity || (head->n > 0 && newest == 0);

    head->n += !merges;
    *log_entry(log, head->n - 1) = log_pack(units + (merges ? newest : 0), ticks);
    head->used += (uint32_t)units;
    head->last = at;
}

/* --- the state */

static bool log_sound(const head_t *head, const log_t *log)
{
    if (head->capacity == 0) {
        return (head->head | head->n | head->used | (uint64_t)head->last | (uint64_t)head->at) == 0;
    }
    if (head->capacity > LOG_COUNT_MAX || head->head >= head->capacity ||
        head->n > head->capacity || head->used > LOG_COUNT_MAX * RLP_UNIT ||
        (head->n == 0 && head->used > 0) || head->at < 0 || head->at > LOG_CLOCK_MAX ||
        head->last < 0 || head->last > head->at + LOG_AHEAD_MAX) {
        return false;
    }
    if (head->n == 0 || head->capacity > log->limit->count) {
        return true;
    }
    const uint32_t newest = head->head + head->n - 1;
    const uint64_t entry = log->ring[newest < head->capacity ? newest : newest - head->capacity];

    return ((entry ^ (uint64_t)log_ticks(head->last, log->shift)) & LOG_TIME_MASK) == 0;
}

/* The state at the instant now. True if a clock that stepped back had left it ahead: then all of it
   counts from now on, turns in the future as far ahead as they were. */
static bool log_open(log_t *log, const head_t *kept, rlp_time_t now)
{
    head_t *head = &log->head;
    const bool ahead = kept->at - now > RLP_CLOCK_SKEW;

    *head = *kept;
    log->now = head->at > now ? head->at : now;
    if (ahead) {
        const rlp_time_t turns = head->last - head->at;

        log->now = now;
        head->last = now + (turns > 0 ? turns : 0);
    }
    if (head->n > 0 &&
        (ahead || head->capacity > log->limit->count || head->used > log->limit->burst)) {
        log_collapse(log);
    } else if (head->n == 0) {
        head->head = 0;
        head->capacity = (uint32_t)log->limit->count;
    }
    log_drop(log, log->now);
    return ahead;
}

/* The first instant at which a new entry would not come before the newest. */
static rlp_time_t log_order(const log_t *log)
{
    return log->head.n > 0 && log->head.last > log->now ? log->head.last : log->now;
}

/* The first instant at which the units fit if nobody else asks. */
static rlp_time_t log_turn(const log_t *log, rlp_units_t units)
{
    rlp_units_t excess = log->head.used + units - log->limit->burst;
    const rlp_time_t order = log_order(log);
    rlp_time_t gone = order;

    for (uint32_t i = 0; excess > 0 && i < log->head.n; i++) {
        const uint64_t entry = *log_entry(log, i);

        gone = log_gone(log, log_time(log, entry));
        excess -= log_units(entry);
    }
    return gone > order ? gone : order;
}

static void log_report(rlp_decision_t *d, const log_t *log, rlp_time_t now)
{
    const head_t *head = &log->head;

    if (log_order(log) == log->now && head->used < log->limit->burst) {
        d->remaining = (log->limit->burst - head->used) / RLP_UNIT;
    }
    d->next = d->remaining > 0 ? 0 : log_turn(log, RLP_UNIT) - now;
    d->expires = head->n > 0 ? log_end(log) : now;
    d->reset = d->expires - now;
    d->loss = rlp_loss(head->used, (uint64_t)log->limit->burst);
}

/* Takes units off the entries of that time, the latest first, as far as they have them. */
static bool log_refund(log_t *log, rlp_units_t units, int64_t ticks)
{
    const uint32_t used = log->head.used;

    for (uint32_t i = log->head.n; units > 0 && i-- > 0;) {
        uint64_t *entry = log_entry(log, i);
        const int64_t time = log_time(log, *entry);

        if (time < ticks) {
            break;
        }
        if (time == ticks) {
            rlp_units_t back = log_units(*entry);

            back = back < units ? back : units;
            back = back < log->head.used ? back : log->head.used;
            *entry -= log_pack(back, 0);
            log->head.used -= (uint32_t)back;
            units -= back;
        }
    }
    return log->head.used != used;
}

/* The same whenever they were charged. Those that have none left become one, since a store does not
   keep so many changes at once; it has the newest's place in the order of turns, which ends with
   the last of the units. */
static bool log_refund_any(log_t *log, rlp_units_t units)
{
    head_t *head = &log->head;
    uint32_t n = head->n;

    if (units >= head->used) {
        head->n = head->used = 0;
        return n > 0;
    }
    head->used -= (uint32_t)units;
    while (n > 0 && log_units(*log_entry(log, n - 1)) <= units) {
        units -= log_units(*log_entry(log, --n));
    }
    if (n > 0) {
        *log_entry(log, n - 1) -= log_pack(units, 0);
    }
    if (n < head->n) {
        *log_entry(log, n) = log_pack(0, log_ticks(head->last, log->shift));
        head->n = n + 1;
    }
    return true;
}

static bool log_settle(log_t *log, uint64_t *ring, const rlp_op_t *op)
{
    const rlp_units_t room = log->limit->burst - log->head.used;
    const rlp_units_t units = op->units < room ? op->units : room;
    const int64_t ticks = log_ticks(op->charged_at, log->shift);

    if (op->units < 0) {
        return op->charged_at < RLP_TIME_EVER ? log_refund(log, -op->units, ticks)
                                              : log_refund_any(log, -op->units);
    }
    if (units == 0) {
        return false;
    }
    log_push(log, ring, units, log_order(log));
    return true;
}

/* The same of a larger limit's log, whose entries there is no room for here: they have become one,
   of which nothing is cut off, or who asks under both limits would have it back. */
static bool log_settle_larger(log_t *log, const head_t *kept, const rlp_op_t *op)
{
    const int64_t most = (int64_t)kept->capacity * RLP_UNIT;
    const int64_t sum = (int64_t)kept->used + op->units;
    const int64_t used = sum < 0 ? 0 : sum < most ? sum : most;
    head_t *head = &log->head;

    if (used == kept->used || (op->units < 0 && op->charged_at < RLP_TIME_EVER &&
                               log_gone(log, log_ticks(op->charged_at, log->shift)) <= log->now)) {
        return false;
    }
    head->last = op->units > 0 ? log_order(log) : head->last;
    head->n = used > 0;
    head->capacity = kept->capacity;
    head->used = (uint32_t)used;
    log->only = log_pack(used, log_ticks(head->last, log->shift));
    return true;
}

/* Gives the request its turn, or refuses it; false if refused. */
static bool log_take(log_t *log, uint64_t *ring, rlp_decision_t *d, const rlp_op_t *op)
{
    const rlp_time_t patience = op->max_wait < LOG_AHEAD_MAX ? op->max_wait : LOG_AHEAD_MAX;
    const rlp_time_t turn = log_turn(log, op->units);

    if (turn > log->now && turn - op->now > patience) {
        d->verdict = RLP_DENY;
        d->retry = turn - patience - op->now;
        return false;
    }
    if (turn > log->now) {
        d->verdict = RLP_WAIT;
        d->wait = turn - op->now;
    } else {
        d->late = rlp_late(turn, op->now);
    }
    if (op->kind == RLP_TAKE) {
        log_drop(log, turn);
        log_push(log, ring, op->units, turn);
    }
    return true;
}

/* Writes what was judged. */
static void log_keep(log_t *log, head_t *kept, uint64_t *ring)
{
    if (log->ring == &log->only) {
        ring[0] = log->only;
    }
    *kept = log->head;
    kept->at = log->now;
}

static void log_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    head_t *kept = state;
    uint64_t *ring = (uint64_t *)state + sizeof(head_t) / 8;
    log_t log = { .ring = ring, .shift = log_shift(limit), .limit = limit };

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (!log_sound(kept, &log)) {
        *kept = (head_t){ 0 };
        d->damaged = true;
    }
    const bool healed = log_open(&log, kept, op->now);

    if (op->kind == RLP_SETTLE) {
        d->changed = kept->capacity > limit->count && log.head.n > 0
                         ? log_settle_larger(&log, kept, op)
                         : log_settle(&log, ring, op);
    } else if (op->units < 0 || op->units > limit->burst) {
        d->verdict = RLP_NEVER;
    } else if (op->units > 0) {
        const bool taken = log_take(&log, ring, d, op);

        d->changed = op->kind == RLP_TAKE && (taken || healed);
    }
    if (d->changed) {
        log_keep(&log, kept, ring);
        /* what a larger limit has used beyond this one is kept, and not told */
        log.head.used = log.head.used < limit->burst ? log.head.used : (uint32_t)limit->burst;
    }
    log_report(d, &log, op->now);
}

const rlp_algorithm_t rlp_sliding_log = {
    .name = "sliding-log",
    .state_size_of = log_size,
    .count_max = LOG_COUNT_MAX,
    .lasting = true,
    .step = log_step,
};
