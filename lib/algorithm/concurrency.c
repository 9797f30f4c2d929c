/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Concurrency: at most COUNT places held at the same time, one by each request whatever it costs.
 *
 * Kept is how many places each process holds (rlp_hold_t). What a dead process held counts no more,
 * and neither does a word that names no living process: no state needs to be mended. A place comes
 * free when a request somewhere ends, which nobody can foretell: whoever is refused is told to come
 * back in a second. The step never waits (max_wait is ignored); who would wait for a place asks
 * again.
 */

#include "rlp_algorithm.h"

/* What is found in a state. Its words in use stand first; the first 0 ends them, so that few are
   looked at. */
typedef struct {
    int64_t held; /* by the living */
    int own;      /* index of op.owner's word; -1: none */
    int living;   /* words of the living */
    int end;      /* words in use, those of the dead among them */
} places_t;

static uint64_t place_count(rlp_hold_t hold)
{
    return hold & RLP_HOLD_MAX;
}

/* Does somebody who lives hold places by this word? */
static bool place_held(rlp_hold_t hold, const rlp_op_t *op)
{
    return place_count(hold) > 0 && rlp_hold_lives(op->owners, hold);
}

static places_t place_find(const rlp_hold_t holds[], int n, const rlp_op_t *op)
{
    places_t places = { .own = -1 };

    for (; places.end < n && holds[places.end] != 0; places.end++) {
        const rlp_hold_t hold = holds[places.end];

        if (place_held(hold, op)) {
            places.living++;
            places.held += (int64_t)place_count(hold);
            places.own = hold - place_count(hold) == op->owner ? places.end : places.own;
        }
    }
    return places;
}

/* Can the owner be given one more? Who has no number, or is taken for dead, cannot hold any. */
static bool place_fits(const rlp_hold_t holds[], int n, const places_t *places,
                       const rlp_limit_t *limit, const rlp_op_t *op)
{
    if (places->held >= limit->count || !rlp_hold_lives(op->owners, op->owner)) {
        return false;
    }
    return places->own >= 0 ? place_count(holds[places->own]) < RLP_HOLD_MAX : places->living < n;
}

/* Takes the words of the dead out. */
static void place_bury(rlp_hold_t holds[], places_t *places, const rlp_op_t *op)
{
    int to = 0;

    for (int i = 0; i < places->end; i++) {
        if (place_held(holds[i], op)) {
            places->own = i == places->own ? to : places->own;
            holds[to++] = holds[i];
        }
    }
    while (places->end > to) {
        holds[--places->end] = 0;
    }
}

/* Gives the owner one more. */
static void place_take(rlp_hold_t holds[], places_t *places, const rlp_op_t *op)
{
    if (places->living < places->end) {
        place_bury(holds, places, op);
    }
    if (places->own < 0) {
        places->own = places->end++;
        holds[places->own] = op->owner;
    }
    holds[places->own]++;
    places->held++;
}

/* Takes one off the owner's word; with the last, the last word comes into its place. */
static void place_release(rlp_hold_t holds[], places_t *places)
{
    places->held--;
    holds[places->own]--;
    if (place_count(holds[places->own]) == 0) {
        places->end--;
        holds[places->own] = holds[places->end];
        holds[places->end] = 0;
    }
}

static void place_report(rlp_decision_t *d, const places_t *places, const rlp_limit_t *limit,
                         rlp_time_t now)
{
    d->remaining = places->held < limit->count ? limit->count - places->held : 0;
    d->next = d->remaining > 0 ? 0 : RLP_SECOND;
    d->reset = places->held > 0 ? RLP_SECOND : 0;
    d->loss = rlp_loss((uint64_t)places->held, (uint64_t)limit->count);
    d->expires = places->held > 0 ? RLP_TIME_NEVER : now;
}

static void place_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op, rlp_decision_t *d)
{
    rlp_hold_t *holds = state;
    const int n = (int)(limit->state_size / sizeof(*holds));
    places_t places = place_find(holds, n, op);
    const int before = places.end;

    *d = (rlp_decision_t){ .verdict = RLP_ALLOW };
    if (op->kind == RLP_RELEASE) {
        if (places.own >= 0) {
            place_release(holds, &places);
            d->changed = true;
        }
    } else if (op->kind != RLP_SETTLE && op->units < 0) {
        d->verdict = RLP_NEVER;
    } else if (op->kind != RLP_SETTLE && op->units > 0) {
        if (!place_fits(holds, n, &places, limit, op)) {
            d->verdict = RLP_DENY;
            d->retry = RLP_SECOND;
        } else if (op->kind == RLP_TAKE) {
            place_take(holds, &places, op);
            d->changed = true;
        }
    }
    d->reach = (uint32_t)(places.end > before ? places.end : before) * sizeof(*holds);
    place_report(d, &places, limit, op->now);
}

const rlp_algorithm_t rlp_concurrency = {
    .name = "concurrency",
    .holds = true,
    .step = place_step,
};
