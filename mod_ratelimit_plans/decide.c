/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the store says of a request, and what comes of that. Most requests pass and have nothing to
 * tell; for them this file allocates nothing.
 */

#include "decide.h"
#include "stats.h"

#include <http_log.h>
#include <http_request.h>

#include <apr_atomic.h>
#include <apr_strings.h>

APLOG_USE_MODULE(ratelimit_plans);

void decide_log_damage(const request_rec *r)
{
    if (apr_atomic_inc32(&rlp_world->damage_logged) == 0) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "RLP002: a counter in the store was damaged and began anew (said once a "
                      "process)");
    }
}

/* Does anybody read the variables? */
DECIDE_INLINE bool decide_is_read(const decide_t *d)
{
    return d->verdict->action[0] != 'p' || d->conf->env_always == 1;
}

static const char *decide_identity(const decide_t *d, int i)
{
    const rlp_key_t *key = &d->charges[i].entry.key;

    return apr_pstrmemdup(d->r->pool, key->identity, key->identity_len);
}

static bool decide_has(const dir_conf_t *conf, const rule_t *rule)
{
    for (int i = 0; i < conf->rules->nelts; i++) {
        if (APR_ARRAY_IDX(conf->rules, i, const rule_t *) == rule) {
            return true;
        }
    }
    return false;
}

/* Whom a rule counts that was judged before authentication or an internal redirect, where nobody
   has read it then. */
static const char *decide_whom_before(const decide_t *d, const rule_t *rule)
{
    const verdict_t *verdict = d->before;
    who_t who;

    while (verdict != NULL && !decide_has(verdict->conf, rule)) {
        verdict = verdict->before;
    }
    if (verdict == NULL) {
        return NULL;
    }
    identity_find(&who, decide_chain(rule, verdict->conf), d->r, d->server);
    return who.found ? apr_pstrmemdup(d->r->pool, who.text, who.len) : NULL;
}

/* Whom the rule counts that the variables tell of: one judged now, or before. */
static const char *decide_whom(const decide_t *d, int tightest)
{
    const verdict_t *verdict = d->verdict;
    const rule_t *rule = verdict->n > 0 ? verdict->outcomes[0].rule : d->rules[tightest];
    const char *whom = verdict->identity;

    for (int i = 0; i < d->n; i++) {
        if (d->rules[i] == rule) {
            return decide_identity(d, i);
        }
    }
    whom = whom != NULL ? whom : decide_whom_before(d, rule);
    return whom != NULL ? whom : decide_identity(d, tightest);
}

DECIDE_INLINE void decide_set_outcome(outcome_t *outcome, const decide_t *d, int i)
{
    outcome->rule = d->rules[i];
    outcome->variant = d->owners[i].variant;
    outcome->limit = d->owners[i].limit;
    outcome->untold = d->conf->fields == FIELDS_OFF;
    outcome->decision = d->charges[i].decision;
}

/* Keeps what header fields and variables will tell of the charges. */
DECIDE_INLINE void decide_remember(decide_t *d, int tightest)
{
    verdict_t *verdict = d->verdict;

    for (int i = 0; i < d->n; i++) {
        if (!d->charges[i].spared) {
            decide_set_outcome(&verdict->outcomes[verdict->n++], d, i);
        }
    }
    if (verdict->n > 1) {
        respond_sort(verdict);
    }
    if (decide_is_read(d) || verdict->identity != NULL) {
        verdict->identity = decide_whom(d, tightest);
    }
}

/* As many lines as requests would fill the disk. */
static void decide_failed(const request_rec *r, const rlp_answer_t *answer, apr_status_t rv)
{
    if (!answer->told && denial_tells(r, "RLP004")) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, r,
                      "RLP004: the store failed, the request passes uncounted");
    }
}

/* The store could not be asked. */
static void decide_unasked(decide_t *d, apr_status_t rv, const rlp_answer_t *answer)
{
    d->verdict->action = "error";
    decide_failed(d->r, answer, rv);
    tally_failed(d);
    if (answer->refuses) {
        d->refuse = HTTP_SERVICE_UNAVAILABLE;
        d->verdict->retry = answer->retry > 0 ? answer->retry : RLP_SECOND;
    }
}

/* What there is to do for charges that were made, beyond the usual. */
static void decide_admit(decide_t *d, rlp_time_t now)
{
    for (int i = 0; i < d->n; i++) {
        const int64_t bandwidth = d->owners[i].variant->plan->bandwidth;
        int64_t *least = &d->verdict->bandwidth;

        if (!d->charges[i].spared && bandwidth > 0 && (*least == 0 || bandwidth < *least)) {
            *least = bandwidth;
        }
    }
    after_remember(d->verdict, d->r, d->charges, d->rules, d->n, now);
}

DECIDE_INLINE rlp_question_t decide_question(const decide_t *d)
{
    return (rlp_question_t){ .now = rlp_world->clock->monotonic(),
                             .wall = d->dated ? rlp_world->clock->wall() : 0,
                             .owner = rlp_world->owner };
}

/* Asks the store about the charges: all are made, or none and the request is refused. */
DECIDE_INLINE void decide_ask(decide_t *d)
{
    if (d->asked != NULL && d->asked->rv != APR_SUCCESS) {
        decide_unasked(d, d->asked->rv, &d->asked->answer);
        return;
    }
    rlp_question_t question = decide_question(d);
    rlp_answer_t answer;

    answer.retry = 0;
    const apr_status_t rv =
        d->waits ? wait_for_turn(d, &question, &answer) : wait_check(d, &question, &answer);

    if (rv != APR_SUCCESS) {
        decide_unasked(d, rv, &answer);
        return;
    }
    if (answer.unasked) {
        d->verdict->action = "error";
        if (answer.verdict <= RLP_WAIT) {
            tally_unasked(d);
        }
    }
    d->verdict->at = question.now;
    if (answer.damaged) {
        decide_log_damage(d->r);
    }
    if (answer.verdict > RLP_WAIT) {
        d->verdict->action = "deny";
        d->verdict->denied = true;
        d->verdict->retry = answer.retry;
        tally_refused(d, STATS_REFUSED, answer.tightest);
    } else {
        tally_passed(d);
        if (!d->plain) {
            decide_admit(d, question.now);
        }
    }
    decide_remember(d, answer.tightest);
}

/* Is an outcome of a rule that refuses nobody to be told before others that are not admitted? A
   mark is, since an application may read it: no dry run hides it. Where all rules are dry runs it
   is who would be refused. */
static bool decide_is_loud(const dir_conf_t *conf, const outcome_t *outcome)
{
    return outcome->rule->marks == (conf->engine != ENGINE_LOG_ONLY);
}

/* Do the variables tell of this outcome instead of what they would tell of so far? */
static bool decide_outweighs(const decide_t *d, const outcome_t *outcome)
{
    const outcome_t *told = &d->verdict->apart;

    if (told->rule == NULL) {
        return true;
    }
    if (told->decision.verdict > RLP_WAIT && outcome->decision.verdict > RLP_WAIT &&
        decide_is_loud(d->conf, told) != decide_is_loud(d->conf, outcome)) {
        return decide_is_loud(d->conf, outcome);
    }
    return outcome->variant == NULL || (told->variant != NULL && respond_tighter(outcome, told));
}

/* Keeps what the variables will tell of charges by a rule that refuses nobody, if they tell of
   it. */
static void decide_remember_apart(decide_t *d)
{
    verdict_t *verdict = d->verdict;
    int tightest = -1;

    for (int i = 0; i < d->n; i++) {
        outcome_t outcome;

        decide_set_outcome(&outcome, d, i);
        if (!d->charges[i].spared && decide_outweighs(d, &outcome)) {
            verdict->apart = outcome;
            tightest = i;
        }
    }
    if (tightest < 0) {
        return;
    }
    if (verdict->apart.decision.verdict > RLP_WAIT && !verdict->denied) {
        verdict->action = verdict->apart.rule->marks ? "mark" : "would-deny";
    }
    verdict->apart_identity = decide_is_read(d) ? decide_identity(d, tightest) : NULL;
}

/* Asks the store about the charges of one rule that refuses nobody. */
static void decide_ask_one_apart(decide_t *d)
{
    rlp_question_t question = decide_question(d);
    rlp_answer_t answer;
    const apr_status_t rv = wait_check(d, &question, &answer);

    if (rv != APR_SUCCESS) {
        d->verdict->action = d->verdict->denied ? d->verdict->action : "error";
        decide_failed(d->r, &answer, rv);
        tally_failed(d);
        return;
    }
    d->verdict->at = question.now;
    if (answer.damaged) {
        decide_log_damage(d->r);
    }
    if (answer.verdict > RLP_WAIT) {
        tally_refused(d, STATS_WOULD_REFUSE, answer.tightest);
    } else {
        tally_passed(d);
        if (!d->plain) {
            after_remember(d->verdict, d->r, d->charges, d->rules, d->n, question.now);
        }
    }
    decide_remember_apart(d);
}

/* An unknown value whose map says unknown=deny, where the rule is on trial. */
static void decide_would_refuse_unknown(decide_t *d, uint64_t bit)
{
    verdict_t *verdict = d->verdict;
    const outcome_t outcome = { .rule = d->stranger, .decision.verdict = RLP_DENY };

    if (d->stranger->marks) { /* that speaks of limits alone */
        return;
    }
    d->judged |= bit;
    if (decide_outweighs(d, &outcome)) {
        verdict->apart = outcome;
        verdict->apart_identity = NULL;
        verdict->action = verdict->denied ? verdict->action : "would-deny";
    }
    stats_add(stats_counts(d->stranger, NULL), STATS_WOULD_REFUSE);
}

/* Judges each of these rules by itself, so that none holds another back. */
static void decide_ask_apart(decide_t *d, uint64_t rules)
{
    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        const uint64_t bit = bits & -bits;

        d->n = 0;
        d->refuse = 0;
        const bool fits = decide_collect(d, bit);

        if (d->refuse) {
            decide_would_refuse_unknown(d, bit);
        } else if (fits && d->n > 0) {
            decide_ask_one_apart(d);
        }
    }
    d->verdict->judged = d->judged;
}

/* Rules that found nobody to count since this was asked last. */
static void decide_tally_unidentified(const decide_t *d)
{
    const uint64_t before = d->verdict->unidentified;

    if (d->unidentified != before) {
        d->verdict->unidentified = d->unidentified;
        tally_unidentified(d, d->unidentified & ~before);
    }
}

void decide_refuse_whom(const decide_t *d, const char *identity)
{
    verdict_t *verdict = d->verdict;

    verdict->action = "deny";
    verdict->denied = true;
    verdict->n = 0; /* what other rules have left is not why */
    verdict->apart = (outcome_t){ .rule = d->stranger, .decision.verdict = RLP_DENY };
    verdict->apart_identity = identity;
    stats_add(stats_counts(d->stranger, NULL), STATS_REFUSED);
    respond_env(d->r, verdict);
}

/* An unknown value of a type whose map says unknown=deny. */
static int decide_refuse_unknown(const decide_t *d)
{
    decide_refuse_whom(d, NULL);
    return refuse_request(d->r, d->refuse);
}

/* Without the store nobody is served. */
static int decide_refuse_unasked(decide_t *d)
{
    d->verdict->denied = true;
    respond_env(d->r, d->verdict);
    refuse_retry(d->r, d->verdict->retry);
    return refuse_request(d->r, d->refuse);
}

/* Sets the variables. */
static void decide_tell(const decide_t *d)
{
    verdict_t *verdict = d->verdict;

    if (verdict->apart.rule != NULL && verdict->apart_identity == NULL &&
        verdict->apart.variant != NULL) {
        verdict->apart_identity = decide_whom_before(d, verdict->apart.rule);
    }
    respond_env(d->r, verdict);
}

/* What there is to say after a decision, in which rules were enforced or not; what the hook
   returns. */
DECIDE_INLINE int decide_answer(const decide_t *d, bool enforced, bool in_handler)
{
    verdict_t *verdict = d->verdict;

    if (d->conf->fields != FIELDS_OFF && enforced) {
        respond_fields(d->r, verdict, d->conf);
    }
    if (d->conf->env_always == 1 || verdict->action[0] != 'p') {
        decide_tell(d);
    }
    if (verdict->bandwidth > 0) {
        respond_bandwidth(d->r, verdict);
    }
    if (in_handler) { /* the hook for filters has been */
        respond_insert_filter(d->r);
        after_insert_filter(d->r);
    }
    if (!verdict->denied) {
        return DECLINED;
    }
    if (!d->left) {
        denial_log(d->r, verdict, d->server);
    }
    stats_note(verdict, d->server, d->r->pool);
    return refuse_limited(d->r, verdict, d->conf, in_handler);
}

/* Whoever can cause it could fill the disk with lines. */
static int decide_crowded(const request_rec *r)
{
    if (denial_tells(r, "RLP005")) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "RLP005: more than %d rules or limits apply to one request: use fewer in one "
                      "place",
                      RLP_ENTRIES_MAX);
    }
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* Judges the rules of this section that have not been judged for the client's request. */
int decide_request(request_rec *r, const dir_conf_t *conf, unsigned phases, bool in_handler,
                   const asked_t *asked)
{
    decide_t d;

    decide_begin(&d, r, conf);
    d.before = decide_before(r);
    d.phases = phases;
    d.asked = asked;
    const uint64_t rules = choose_rules(&d);
    const uint64_t apart = choose_apart(conf, rules);

    if (!decide_collect(&d, rules & ~apart)) {
        return decide_crowded(r);
    }
    const bool enforced = d.n > 0;

    d.verdict = decide_verdict(r, conf, d.before, d.n, d.room);
    d.verdict->judged = d.judged;
    decide_tally_unidentified(&d);
    if (d.banned != NULL) {
        return ordered_refuse(&d, in_handler);
    }
    if (d.refuse) {
        return decide_refuse_unknown(&d);
    }
    if (enforced) {
        decide_ask(&d);
        if (d.refuse) {
            return decide_refuse_unasked(&d);
        }
    }
    if (apart) {
        decide_ask_apart(&d, apart);
        decide_tally_unidentified(&d);
    }
    if (d.judged != 0) {
        return decide_answer(&d, enforced, in_handler);
    }
    place_guard(r, d.verdict); /* the handler was not known in an earlier phase */
    return DECLINED;
}
