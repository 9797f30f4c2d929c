/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/lease_draw.h"

#include <string.h>

__extension__ typedef unsigned __int128 wide_t;

#define LEASE_HOLD (2 * RLP_SECOND)       /* a lease is for so long, of */
#define LEASE_LARGE (256 * RLP_UNIT)      /* so many units at most, */
#define LEASE_LARGE_HOLD (RLP_SECOND / 4) /* or for so long */
#define LEASE_SMALL (64 * RLP_UNIT)       /* up to which leases grow while no rate is known */
#define LEASE_HALF (8 * RLP_UNIT)         /* smaller leases are not renewed before their end */
#define LEASE_GAUGE (RLP_SECOND / 100)    /* rates are measured over so long at least */
#define LEASE_HOLD_OFF \
    (RLP_SECOND / 14) /* between two questions while there is little, at least, */
#define LEASE_HOLD_OFF_MOST (RLP_SECOND / 4) /* and at most, or until */
#define LEASE_ASKED (50 * RLP_UNIT)          /* so many units have been asked for */
#define LEASE_PRESSED \
    (2 * RLP_SECOND)   /* there is little for so long after a refusal or a short grant */
#define LEASE_SHORTS 8 /* short grants in a row are as good as a refusal */
#define LEASE_RECHECK (10 * RLP_SECOND) /* a refusal is believed for so long, */
#define LEASE_RECHECK_OTHERS RLP_SECOND /* or where other hosts may give units back */

static void lease_gauge(lease_t *lease, rlp_time_t now)
{
    const rlp_time_t span = now - lease->gauged;

    if (span < LEASE_GAUGE) {
        return;
    }
    const wide_t measured = (wide_t)(uint64_t)lease->demand * RLP_SECOND / (uint64_t)span;
    const int64_t rate = measured < RLP_UNITS_MAX ? (int64_t)measured : RLP_UNITS_MAX;

    lease->rate = lease->rate == 0 || span > LEASE_HOLD ? rate : (lease->rate + rate) / 2;
    lease->demand = 0;
    lease->gauged = now;
}

/* How many units it should have. */
static rlp_units_t lease_target(const lease_t *lease, rlp_time_t now)
{
    const int64_t seconds = LEASE_HOLD / RLP_SECOND;
    const int64_t large = lease_max(LEASE_LARGE, lease->rate / (RLP_SECOND / LEASE_LARGE_HOLD));
    rlp_units_t target = lease_min(lease->rate * seconds, large);

    if (now - lease->asked < LEASE_LARGE_HOLD) {
        target = lease_max(target, lease_min(2 * lease->granted, LEASE_SMALL));
    }
    return lease_min(target, lease->terms.burst / LEASE_PER_BURST) / RLP_UNIT * RLP_UNIT;
}

void lease_claim(lease_t *lease, rlp_time_t now, lease_question_t *question)
{
    lease->sequence = lease_max(lease->sequence + 1, now);
    lease->claim = now + question->patience;
    lease->reported = lease->spent;
    question->id = lease->id;
    question->sequence = lease->sequence;
    question->spent = lease->spent;
    question->has = lease->units;
    question->need = 0;
    question->want = 0;
    question->cost = 0;
    question->sent = now;
    question->key_len = lease->key_len;
    question->args_len = lease->args_len;
    memcpy(question->key, lease->key, lease->key_len);
    memcpy(question->args, lease->args, lease->args_len);
}

void lease_ask(lease_t *lease, rlp_units_t cost, rlp_time_t now, lease_question_t *question)
{
    const rlp_units_t has = lease_max(lease->units, 0);

    lease_gauge(lease, now);
    lease_claim(lease, now, question);
    question->cost = cost;
    question->need = lease_max(cost - has, 0);
    question->want = lease_max(lease_target(lease, now) - has, question->need);
}

/* --- what comes back */

/* How long not to ask while there is little: where few ask, longer, so that it is worth a question;
   spread, so that hosts do not ask at the same time. */
static rlp_time_t lease_hold_off(const lease_t *lease)
{
    const rlp_time_t worth = lease->rate > 0 ? LEASE_ASKED * RLP_SECOND / lease->rate : 0;
    const rlp_time_t hold_off = lease_max(LEASE_HOLD_OFF, lease_min(worth, LEASE_HOLD_OFF_MOST));
    const rlp_time_t most = lease_min(hold_off, lease->terms.earns > 0 ? lease->terms.keeps : 0);
    const int64_t spread = (int64_t)((lease->id ^ (uint64_t)lease->sequence) % 64);

    return most * (96 + spread) / 128;
}

/* Units that come back while it does not ask. */
static rlp_units_t lease_accrues(const lease_t *lease)
{
    return lease->terms.earns == 0
               ? 0
               : (rlp_units_t)((wide_t)(uint64_t)lease->terms.burst *
                               (uint64_t)lease_hold_off(lease) / (uint64_t)lease->terms.earns);
}

static void lease_note_refusal(lease_t *lease, const lease_question_t *question,
                               const lease_answer_t *answer, rlp_time_t now)
{
    const rlp_decision_t *d = &answer->decision;
    const rlp_time_t recheck = answer->others > 0 ? LEASE_RECHECK_OTHERS : LEASE_RECHECK;

    lease->refused = question->cost;
    lease->retry_at = d->verdict == RLP_NEVER ? RLP_TIME_NEVER : now + d->retry;
    lease->refused_until = lease_min(lease->retry_at, now + recheck);
    lease->pressed_until = now + LEASE_PRESSED;
}

/* Where there is little, it does not ask again at once for what has come back in between. */
static void lease_note_shortage(lease_t *lease, const lease_question_t *question,
                                const lease_answer_t *answer, rlp_time_t now)
{
    const rlp_time_t hold_off = lease_hold_off(lease);
    const bool is_short =
        answer->granted < question->want && lease->central <= 2 * lease_accrues(lease);

    lease->shorts = is_short && question->sent - lease->asked < hold_off ? lease->shorts + 1 : 0;
    if (is_short && (now < lease->pressed_until || lease->shorts >= LEASE_SHORTS)) {
        lease->ask_after = now + hold_off;
        lease->pressed_until = now + LEASE_PRESSED;
    }
}

/* Charges of an earlier window are told by their time; a clock that is set back begins anew. */
static void lease_note_window(lease_t *lease, const lease_answer_t *answer)
{
    const bool turns = answer->now >= lease->turns || answer->now < lease->turned;

    if (lease->terms.drain == 0 && turns) {
        lease->turned = answer->now;
    }
    lease->turns = answer->turns == RLP_TIME_NEVER ? RLP_TIME_NEVER : answer->now + answer->turns;
}

void lease_take_over(lease_t *lease, const lease_question_t *question, const lease_answer_t *answer,
                     rlp_time_t now)
{
    const rlp_decision_t *d = &answer->decision;

    lease->ahead = answer->now - now;
    lease_note_window(lease, answer);
    lease->units = lease_min(lease->units + answer->granted, RLP_UNITS_MAX);
    lease->granted = answer->granted;
    lease->half = lease->units >= LEASE_HALF ? lease->units / 2 : 0;
    lease->ends = question->sent + answer->lasts;
    lease->central = d->remaining * RLP_UNIT;
    lease->next_at = d->next == RLP_TIME_NEVER ? RLP_TIME_NEVER : now + d->next;
    lease->full_at = d->reset == RLP_TIME_NEVER ? RLP_TIME_NEVER : now + d->reset;
    lease->key_len = (uint16_t)question->key_len;
    lease->args_len = (uint16_t)question->args_len;
    memcpy(lease->key, question->key, question->key_len);
    memcpy(lease->args, question->args, question->args_len);
    if (question->need > 0 && d->verdict > RLP_WAIT) {
        lease_note_refusal(lease, question, answer, now);
    }
    lease_note_shortage(lease, question, answer, now);
    lease->asked = question->sent;
}
