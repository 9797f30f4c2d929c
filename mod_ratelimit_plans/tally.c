/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Statistics of a decision. A request counts once for each rule that judged it; one that a rule has
 * refused counts for that rule alone, as the others have not charged it.
 */

#include "stats.h"

/* The charges of one rule under one plan lie together: the end of those that begin at i. */
static int tally_end(const decide_t *d, int i)
{
    const int first = i;

    while (i < d->n && d->rules[i] == d->rules[first] &&
           d->owners[i].variant == d->owners[first].variant) {
        i++;
    }
    return i;
}

static void tally_add(const decide_t *d, int i, stats_kind_t kind)
{
    stats_add(stats_counts(d->rules[i], d->owners[i].variant), kind);
}

void tally_passed(const decide_t *d)
{
    for (int i = 0; i < d->n; i = tally_end(d, i)) {
        if (!d->charges[i].spared) {
            tally_add(d, i, d->delayed && d->rules[i]->delays ? STATS_DELAYED : STATS_ADMITTED);
        }
    }
}

static bool tally_refuses(const decide_t *d, int i, int end)
{
    bool refuses = false;

    for (; i < end; i++) {
        refuses |= !d->charges[i].spared && d->charges[i].decision.verdict > RLP_WAIT;
    }
    return refuses;
}

void tally_refused(const decide_t *d, stats_kind_t kind, int tightest)
{
    bool told = false;

    for (int i = 0; i < d->n; i = tally_end(d, i)) {
        if (tally_refuses(d, i, tally_end(d, i))) {
            tally_add(d, i, kind);
            told = true;
        }
    }
    if (!told) { /* it is but for the wait that it is refused */
        tally_add(d, tightest, kind);
    }
}

/* Which of two plans it would have been was not found out: the first. */
void tally_failed(const decide_t *d)
{
    for (int i = 0; i < d->n; i = tally_end(d, i)) {
        if (d->charges[i].branch != RLP_INSTEAD) {
            tally_add(d, i, STATS_FAILED);
        }
    }
}

/* Of these all charges are spared; of two plans the first counts, as above. */
void tally_unasked(const decide_t *d)
{
    for (int i = 0, end = 0; i < d->n; i = end) {
        bool asked = false;

        for (; end < d->n && d->rules[end] == d->rules[i]; end++) {
            asked |= !d->charges[end].spared;
        }
        if (!asked) {
            tally_add(d, i, STATS_FAILED);
        }
    }
}

void tally_unidentified(const decide_t *d, uint64_t rules)
{
    for (; rules != 0; rules &= rules - 1) {
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, __builtin_ctzll(rules), const rule_t *);

        stats_add(stats_counts(rule, NULL), STATS_UNIDENTIFIED);
    }
}

void tally_exempt(request_rec *r, const dir_conf_t *conf)
{
    for (int i = 0; i < conf->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, i, const rule_t *);

        if (rule_matches(rule, r)) {
            stats_add(stats_counts(rule, NULL), STATS_EXEMPT);
        }
    }
}
