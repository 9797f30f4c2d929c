/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A request: which rules speak of it, whom they count, what the store says. Most requests pass and
 * have nothing to tell; for them this file allocates nothing.
 */

#include "private.h"

#include <http_core.h>
#include <http_log.h>
#include <http_request.h>
#include <mod_http2.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* what every request goes through */
#define REQUEST_INLINE __attribute__((always_inline)) static inline

/* which rules are judged */
enum { PHASE_EARLY = 1U << 0, PHASE_LATE = 1U << 1, PHASE_BOTH = PHASE_EARLY | PHASE_LATE };

#define REQUEST_RULES_MAX 64 /* bits of verdict_t.judged */

/* What one decision gathers. On the stack, and no more of it written than is used. */
typedef struct {
    request_rec *r;
    const dir_conf_t *conf;
    const server_conf_t *server;
    const verdict_t *before; /* what was decided before an internal redirect, or NULL */
    verdict_t *verdict;
    unsigned phases;
    who_t *who;       /* the last one looked for; the first has its room in here */
    uint64_t judged;  /* rules of the section, a bit each */
    int refuse;       /* status by which a map refuses an unknown value */
    size_t room;      /* for the text of RateLimit */
    bool costed;      /* cost is known */
    bool plain;       /* nothing is to be done after the decision */
    bool waits;       /* may have to wait */
    bool dated;       /* the wall clock is asked for */
    rlp_units_t cost; /* by the section */
    int group;        /* of the next branches */
    int n;
    const rule_t *rules[RLP_ENTRIES_MAX];
    struct {
        const variant_t *variant;
        int limit;
    } owners[RLP_ENTRIES_MAX];
    rlp_charge_t charges[RLP_ENTRIES_MAX];
    who_t first;
} decide_t;

static bool request_is_error_document(const request_rec *r)
{
    return r->prev != NULL && r->prev->status >= HTTP_BAD_REQUEST;
}

/* Marks a connection on which a request was judged whose address is not kept with it. */
static const address_t request_mark = { .len = 0 };

/* What mod_http2 says of a stream; before its fixups, when asked. */
static const char *request_http2(request_rec *r, const char *name)
{
    APR_OPTIONAL_FN_TYPE(http2_var_lookup) *const lookup =
        APR_RETRIEVE_OPTIONAL_FN(http2_var_lookup);
    const char *value = apr_table_get(r->subprocess_env, name);

    return value != NULL || lookup == NULL
               ? value
               : lookup(r->pool, r->server, r->connection, r, apr_pstrdup(r->pool, name));
}

/* mod_http2 pushes what no client has asked for; and after "Upgrade: h2c" stream 1 is once more the
   request that httpd has judged as HTTP/1.1 on the connection below. */
__attribute__((noinline)) static bool request_is_no_request(request_rec *r)
{
    const char *pushed = request_http2(r, "H2_PUSHED");
    const char *stream = request_http2(r, "H2_STREAM_ID");

    return (pushed != NULL && *pushed != '\0') ||
           (stream != NULL && strcmp(stream, "1") == 0 &&
            ap_get_module_config(r->connection->master->conn_config, &ratelimit_plans_module) !=
                NULL);
}

REQUEST_INLINE bool request_is_uncounted(request_rec *r)
{
    return r->connection->master != NULL && request_is_no_request(r);
}

static void request_mark_connection(const request_rec *r)
{
    ap_conf_vector_t *config = r->connection->conn_config;

    if (ap_get_module_config(config, &ratelimit_plans_module) == NULL) {
        ap_set_module_config(config, &ratelimit_plans_module, (void *)(uintptr_t)&request_mark);
    }
}

static const verdict_t *request_verdict(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &ratelimit_plans_module);
}

const verdict_t *request_verdict_so_far(const request_rec *r)
{
    const verdict_t *verdict = request_verdict(r);

    for (r = r->prev; verdict == NULL && r != NULL; r = r->prev) {
        verdict = request_verdict(r);
    }
    return verdict;
}

/* What there is to go on from. Of one that was exempt before an internal redirect there is
   nothing. */
REQUEST_INLINE const verdict_t *request_before(const request_rec *r)
{
    const verdict_t *verdict = request_verdict_so_far(r);

    return verdict != NULL && verdict == &verdict->conf->exempted ? NULL : verdict;
}

#define REQUEST_NUMBERS (3 * (RLP_NUMBER_MAX + 1) + 1) /* of the X-RateLimit fields */

/* A verdict with room for so many outcomes more than before an internal redirect (before; NULL:
   nothing was decided), and for what the header fields say of them: all one piece. */
REQUEST_INLINE verdict_t *request_new_verdict(request_rec *r, const dir_conf_t *conf,
                                              const verdict_t *before, int n, size_t text)
{
    const int known = before ? before->n : 0;
    const size_t outcomes = sizeof(outcome_t) * (size_t)(known + n);
    const size_t room = text + (before ? before->room : REQUEST_NUMBERS);
    verdict_t *verdict = apr_palloc(r->pool, sizeof(*verdict) + outcomes + room);

    if (before != NULL) {
        *verdict = *before;
    } else {
        verdict->action = conf->passed.action;
        verdict->denied = false;
        verdict->bandwidth = 0;
        verdict->after = NULL;
        verdict->retry = 0;
        verdict->identity = NULL;
        verdict->apart.rule = NULL;
        verdict->apart_identity = NULL;
        verdict->n = 0;
        verdict->fields = NULL;
        verdict->guarded = NULL;
    }
    verdict->conf = conf;
    verdict->path = r->uri;
    verdict->before = before;
    verdict->outcomes = (outcome_t *)(verdict + 1);
    verdict->text = (char *)verdict->outcomes + outcomes;
    verdict->room = room;
    if (known > 0) {
        memcpy(verdict->outcomes, before->outcomes, sizeof(outcome_t) * (apr_size_t)known);
    }
    ap_set_module_config(r->request_config, &ratelimit_plans_module, verdict);
    return verdict;
}

static bool request_is_dry(const dir_conf_t *conf, const rule_t *rule)
{
    return conf->engine == ENGINE_LOG_ONLY || rule->dry;
}

/* A rule of the same name stands for another if it counts in the same place and refuses as well. */
static bool request_judged_by(const verdict_t *verdict, const dir_conf_t *conf, const rule_t *rule)
{
    const apr_array_header_t *rules = verdict->conf->rules;

    for (int i = 0; i < rules->nelts; i++) {
        const rule_t *other = APR_ARRAY_IDX(rules, i, const rule_t *);

        if (verdict->judged >> i & 1 && rule_same_scope(other, rule) &&
            request_is_dry(verdict->conf, other) == request_is_dry(conf, rule) &&
            (!other->marks || rule->marks)) {
            return true;
        }
    }
    return false;
}

static bool request_judged(const decide_t *d, const rule_t *rule)
{
    const verdict_t *verdict = d->before;

    while (verdict != NULL && !request_judged_by(verdict, d->conf, rule)) {
        verdict = verdict->before;
    }
    return verdict != NULL;
}

__attribute__((noinline)) static void request_find_who(decide_t *d, const chain_t *chain)
{
    d->who = d->who ? apr_palloc(d->r->pool, sizeof(*d->who)) : &d->first;
    identity_find(d->who, chain, d->r, d->server);
    request_mark_connection(d->r);
}

REQUEST_INLINE const chain_t *request_chain(const rule_t *rule, const dir_conf_t *conf)
{
    if (rule->key != NULL) {
        return rule->key;
    }
    return conf->chain ? conf->chain : rlp_world->default_chain;
}

REQUEST_INLINE const who_t *request_who(decide_t *d, const rule_t *rule)
{
    const chain_t *chain = request_chain(rule, d->conf);

    if (d->who != NULL && d->who->chain == chain) {
        return d->who;
    }
    const address_t *address = identity_known_address(chain, d->r, d->server);

    if (address == NULL || d->who != NULL) {
        request_find_who(d, chain);
        return d->who;
    }
    d->who = &d->first;
    d->first.chain = chain;
    d->first.plan = NULL;
    d->first.found = true;
    d->first.refuse = 0;
    d->first.text = address->text;
    d->first.len = address->len;
    d->first.fingerprint = address->fingerprint;
    return d->who;
}

/* Does the rule refuse nobody here? */
REQUEST_INLINE bool request_is_apart(const dir_conf_t *conf, const rule_t *rule)
{
    return conf->engine == ENGINE_LOG_ONLY || rule->traits & TRAIT_APART;
}

/* Adds the limits of a rule under one plan to what will be asked. False: there is no room for
   more. */
REQUEST_INLINE bool request_add(decide_t *d, const rule_t *rule, const who_t *who,
                                const variant_t *variant)
{
    const bool dry = request_is_dry(d->conf, rule);
    const rlp_plan_t *plan = variant->plan;

    if (d->n + plan->n > RLP_ENTRIES_MAX) {
        return false;
    }
    d->room += variant->room;
    for (int i = 0; i < plan->n; i++, d->n++) {
        d->rules[d->n] = rule;
        d->owners[d->n].variant = variant;
        d->owners[d->n].limit = i;
        rlp_charge_init(&d->charges[d->n], who->text, who->len, variant->signatures[dry][i],
                        &plan->limits[i]);
        d->charges[d->n].entry.key.fingerprint = who->fingerprint;
    }
    return true;
}

/* What the request takes of a concurrency limit: one place, unless it is free for sure. */
static rlp_units_t request_place(const decide_t *d, const rule_t *rule, rlp_units_t cost)
{
    return cost == 0 && cost_is_late(cost_of(rule, d->conf)) ? RLP_UNIT : cost;
}

/* What the request costs by the rule, or by the section, which is worked out once. */
static rlp_units_t request_cost(decide_t *d, const rule_t *rule)
{
    const cost_t *cost = cost_of(rule, d->conf);

    if (cost != d->conf->cost) {
        return cost_before(cost, d->r);
    }
    if (!d->costed) {
        d->cost = cost_before(cost, d->r);
        d->costed = true;
    }
    return d->cost;
}

/* How long the request may wait for a turn under the rule. For what refuses nobody, none waits. */
static rlp_time_t request_max_wait(const decide_t *d, const rule_t *rule)
{
    const rlp_time_t most = d->server->delay_max == RLP_UNSET ? 0 : d->server->delay_max;

    if (!rule->delays || request_is_apart(d->conf, rule)) {
        return 0;
    }
    return rule->max_wait < most ? rule->max_wait : most;
}

/* Sets what is not usual for the charges from the first on. */
static void request_refine(decide_t *d, const rule_t *rule, int first)
{
    const rlp_units_t cost = request_cost(d, rule);
    const rlp_time_t max_wait = request_max_wait(d, rule);

    d->plain = false;
    d->waits |= max_wait > 0;
    for (int i = first; i < d->n; i++) {
        rlp_charge_t *charge = &d->charges[i];
        const variant_t *variant = d->owners[i].variant;

        charge->cost = charge->limit->algorithm->holds ? request_place(d, rule, cost) : cost;
        charge->max_wait = max_wait;
        charge->spared = false;
        charge->entry.key.size = variant->sizes[d->owners[i].limit];
        d->dated |= charge->limit->calendar != NULL;
        if (charge->entry.key.size > sizeof(charge->room)) {
            charge->entry.state = apr_palloc(d->r->pool, charge->entry.key.size);
        }
    }
}

/* Adds a rule under one plan, and the plan that takes over. */
static bool request_add_all(decide_t *d, const rule_t *rule, const who_t *who,
                            const variant_t *variant)
{
    const int first = d->n;

    if (!request_add(d, rule, who, variant)) {
        return false;
    }
    if (variant->then != NULL) {
        const int instead = d->n;

        if (!request_add(d, rule, who, variant->then)) {
            return false;
        }
        for (int i = first; i < d->n; i++) {
            d->charges[i].branch = i < instead ? RLP_FIRST : RLP_INSTEAD;
            d->charges[i].group = d->group;
        }
        d->group++;
    }
    if (!rule->plain || !variant->plain || d->conf->cost != NULL || d->conf->refund != NULL) {
        request_refine(d, rule, first);
    }
    return true;
}

/* Adds what a rule that speaks of the request counts, if it counts anybody. False: no room for
   more. */
REQUEST_INLINE bool request_count(decide_t *d, const rule_t *rule, int i)
{
    const who_t *who = request_who(d, rule);

    if (!who->found) {
        if (who->refuse) {
            d->refuse = who->refuse;
        }
        return true;
    }
    const variant_t *variant =
        who->plan == NULL && rule->choice != CHOICE_NAMED && rule->own != NULL
            ? rule->variants[0]
            : rule_variant(rule, who, d->server, d->r->pool);

    if (variant == NULL) {
        return true;
    }
    d->judged |= UINT64_C(1) << i;
    return request_add_all(d, rule, who, variant);
}

/* Of two alternatives, NULL for none, the one that applies: the first declared among equals. */
static const rule_t *request_better(const rule_t *one, const rule_t *later)
{
    return one == NULL || later->priority > one->priority ? later : one;
}

/* Is the rule one of several alternatives of that place? */
static bool request_is_alternative(const rule_t *rule, const char *directory)
{
    return rule->traits & TRAIT_PRIORITY &&
           (rule->directory == directory || (rule->directory != NULL && directory != NULL &&
                                             strcmp(rule->directory, directory) == 0));
}

/* Of the alternatives among the matching rules that are from one .htaccess, or from none, leaves
   the one that applies. One that refuses nobody takes no other's place: it is judged beside it if
   it is the better one. */
static uint64_t request_choose(const apr_array_header_t *rules, uint64_t matching,
                               const char *directory)
{
    const rule_t *best = NULL;
    const rule_t *enforced = NULL;
    uint64_t chosen = matching;

    for (uint64_t bits = matching; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(rules, __builtin_ctzll(bits), const rule_t *);

        if (request_is_alternative(rule, directory)) {
            best = request_better(best, rule);
            enforced = rule->traits & TRAIT_APART ? enforced : request_better(enforced, rule);
        }
    }
    for (uint64_t bits = matching; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(rules, __builtin_ctzll(bits), const rule_t *);

        if (request_is_alternative(rule, directory) && rule != best && rule != enforced) {
            chosen &= ~(bits & -bits);
        }
    }
    return chosen;
}

/* The same for each .htaccess by itself: what is said there takes the place of nothing outside. */
static uint64_t request_choose_local(const apr_array_header_t *rules, uint64_t matching)
{
    uint64_t chosen = matching;

    for (uint64_t bits = matching; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(rules, __builtin_ctzll(bits), const rule_t *);

        if (rule->directory != NULL) {
            chosen = request_choose(rules, chosen, rule->directory);
        }
    }
    return chosen;
}

/* Those of the rules whose turn it is. */
static uint64_t request_phase(const decide_t *d, uint64_t rules)
{
    uint64_t due = 0;

    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, __builtin_ctzll(bits), const rule_t *);
        const unsigned phase = rule->traits & TRAIT_EARLY ? PHASE_EARLY : PHASE_LATE;

        due |= d->phases & phase ? bits & -bits : 0;
    }
    return due;
}

/* The rules that apply to the request, a bit each. Alternatives are chosen among those of all
   phases. */
static uint64_t request_rules(const decide_t *d)
{
    const int n = d->conf->rules->nelts;
    uint64_t matching = 0;

    for (int i = 0; i < n && i < REQUEST_RULES_MAX; i++) {
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, i, const rule_t *);

        if (rule_matches(rule, d->r)) {
            matching |= UINT64_C(1) << i;
        }
    }
    if (d->conf->traits & TRAIT_PRIORITY) {
        matching = request_choose(d->conf->rules, matching, NULL);
        matching = d->conf->traits & TRAIT_LOCAL ? request_choose_local(d->conf->rules, matching)
                                                 : matching;
    }
    return d->conf->traits & TRAIT_EARLY ? request_phase(d, matching) : matching;
}

/* Those of the rules that refuse nobody. */
static uint64_t request_apart(const dir_conf_t *conf, uint64_t rules)
{
    uint64_t apart = 0;

    if (conf->engine == ENGINE_ON && !(conf->traits & TRAIT_APART)) {
        return 0;
    }
    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, __builtin_ctzll(bits), const rule_t *);

        apart |= request_is_apart(conf, rule) ? bits & -bits : 0;
    }
    return apart;
}

/* Adds those of the rules that have not been judged for the client's request. */
static bool request_collect(decide_t *d, uint64_t rules)
{
    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        const int i = __builtin_ctzll(bits);
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, i, const rule_t *);

        if (!request_judged(d, rule) && !request_count(d, rule, i)) {
            return false;
        }
    }
    return d->conf->rules->nelts <= REQUEST_RULES_MAX;
}

static void request_log_damage(const request_rec *r)
{
    static apr_uint32_t logged;

    if (apr_atomic_inc32(&logged) == 0) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "RLP002: a counter in the store was damaged and began anew (said once a "
                      "process)");
    }
}

/* The identity of a charge, for the variables; NULL if nobody reads it. */
REQUEST_INLINE const char *request_identity(const decide_t *d, int i)
{
    const rlp_key_t *key = &d->charges[i].entry.key;

    return d->verdict->action[0] != 'p' || d->conf->env_always == 1
               ? apr_pstrmemdup(d->r->pool, key->identity, key->identity_len)
               : NULL;
}

REQUEST_INLINE void request_set_outcome(outcome_t *outcome, const decide_t *d, int i)
{
    outcome->rule = d->rules[i];
    outcome->variant = d->owners[i].variant;
    outcome->limit = d->owners[i].limit;
    outcome->decision = d->charges[i].decision;
}

/* Keeps what header fields and variables will tell of the charges. */
REQUEST_INLINE void request_remember(decide_t *d, int tightest)
{
    verdict_t *verdict = d->verdict;
    const char *identity = request_identity(d, tightest);

    verdict->identity = identity ? identity : verdict->identity;
    for (int i = 0; i < d->n; i++) {
        if (!d->charges[i].spared) {
            request_set_outcome(&verdict->outcomes[verdict->n++], d, i);
        }
    }
}

static void request_failed(const request_rec *r, apr_status_t rv)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, r,
                  "RLP004: the store failed, the request passes uncounted");
}

/* Is it only for places of concurrency limits that the charges are refused? What holds them may
   wait for some. */
static bool request_lacks_places(const decide_t *d)
{
    bool lacks = false;

    for (int i = 0; i < d->n; i++) {
        const rlp_charge_t *charge = &d->charges[i];

        if (charge->spared || charge->decision.verdict <= RLP_WAIT) {
            continue;
        }
        if (!charge->limit->algorithm->holds) {
            return false;
        }
        lacks = true;
    }
    return lacks;
}

/* Before anybody is refused for a place, those of dead processes come back. */
static apr_status_t request_check(decide_t *d, const rlp_question_t *question, rlp_answer_t *answer)
{
    const apr_status_t rv = rlp_check(rlp_world->store, d->charges, d->n, question, answer);

    if (rv != APR_SUCCESS || d->plain || !request_lacks_places(d) ||
        !rlp_owner_sweep(rlp_world->store)) {
        return rv;
    }
    return rlp_check(rlp_world->store, d->charges, d->n, question, answer);
}

/* Under which the request queues for places; 0 if it would not wait for any. */
static uint64_t request_queue_key(const decide_t *d)
{
    for (int i = 0; i < d->n; i++) {
        const rlp_charge_t *charge = &d->charges[i];

        if (charge->limit->algorithm->holds && charge->max_wait > 0) {
            return charge->entry.key.signature ^
                   rlp_store_fingerprint(rlp_world->store, charge->entry.key.identity,
                                         charge->entry.key.identity_len);
        }
    }
    return 0;
}

/* How long the request would wait for the places it lacks. */
static rlp_time_t request_patience(const decide_t *d)
{
    rlp_time_t least = RLP_TIME_NEVER;

    for (int i = 0; i < d->n; i++) {
        const rlp_charge_t *charge = &d->charges[i];

        if (!charge->spared && charge->limit->algorithm->holds && charge->max_wait < least) {
            least = charge->max_wait;
        }
    }
    return least;
}

/* How long the charges would wait, after so much of the patience is spent. */
static void request_set_patience(decide_t *d, rlp_time_t spent)
{
    for (int i = 0; i < d->n; i++) {
        const rlp_time_t most = request_max_wait(d, d->rules[i]);

        d->charges[i].max_wait = most > spent ? most - spent : 0;
    }
}

#define REQUEST_NAP (2 * INT64_C(1000)) /* between two looks for a place */

/* Asks again and again until there is a place, patience ends or waiting does; in the order of
   coming among the requests of this process. */
static apr_status_t request_queue(decide_t *d, rlp_question_t *question, rlp_answer_t *answer,
                                  turn_t *turn)
{
    turn_queue_t self = { .key = request_queue_key(d) };
    const rlp_time_t begin = rlp_clock_monotonic();
    apr_status_t rv = APR_SUCCESS;
    bool lacks = true;

    turn_join(&self);
    while (lacks && *turn == TURN_CAME) {
        const bool last = request_patience(d) == 0;

        if (last || turn_first(&self)) {
            question->now = rlp_world->clock->monotonic();
            rv = request_check(d, question, answer);
            lacks = rv == APR_SUCCESS && !last && request_lacks_places(d);
        }
        if (lacks) {
            *turn = turn_wait(d->r, REQUEST_NAP);
            d->verdict->action = "delay";
            request_set_patience(d, rlp_clock_monotonic() - begin);
        }
    }
    turn_quit(&self);
    /* one that leaves the queue without having asked has yet to hear what it is refused by */
    return *turn == TURN_CAME ? rv : rlp_peek(rlp_world->store, d->charges, d->n, question, answer);
}

/* Waits until a charge's turn comes; if it never will, gives the charge back. */
static turn_t request_wait(decide_t *d, const rlp_question_t *question, const rlp_answer_t *answer)
{
    const turn_t turn = turn_wait(d->r, answer->wait);

    d->verdict->action = "delay";
    if (turn != TURN_CAME) {
        after_undo(d->charges, d->n, question->now);
    }
    return turn;
}

/* Those who need not wait take nothing of the budget of those who do; but nobody passes those who
   wait for the same place. True: it is decided. */
static bool request_check_at_once(decide_t *d, const rlp_question_t *question, rlp_answer_t *answer,
                                  apr_status_t *rv)
{
    const uint64_t key = request_queue_key(d);

    if (key != 0 && turn_is_waited_for(key)) {
        return false;
    }
    request_set_patience(d, RLP_TIME_NEVER);
    *rv = request_check(d, question, answer);
    request_set_patience(d, 0);
    return *rv != APR_SUCCESS || answer->verdict <= RLP_WAIT;
}

/* Refuses who may not wait, for now and not for ever: until what was asked last would admit him; a
   place that is free by now is told as one that comes soon. */
static void request_turn_down(rlp_answer_t *answer, const rlp_answer_t *asked)
{
    const rlp_time_t span = asked->wait > asked->retry ? asked->wait : asked->retry;

    answer->verdict = RLP_DENY;
    answer->retry = span > 0 ? span : RLP_SECOND;
}

/* Too many wait already: who would have to is refused. */
static apr_status_t request_check_crowded(decide_t *d, const rlp_question_t *question,
                                          rlp_answer_t *answer)
{
    rlp_answer_t waiting;
    apr_status_t rv = rlp_peek(rlp_world->store, d->charges, d->n, question, &waiting);

    request_set_patience(d, RLP_TIME_NEVER);
    if (rv == APR_SUCCESS) {
        rv = rlp_peek(rlp_world->store, d->charges, d->n, question, answer);
    }
    if (rv == APR_SUCCESS && (answer->verdict <= RLP_WAIT ||
                              (answer->verdict == RLP_NEVER && waiting.verdict != RLP_NEVER))) {
        request_turn_down(answer, &waiting);
    }
    return rv;
}

/* Waits for a turn and for places, as long as it may. */
static apr_status_t request_check_turn(decide_t *d, rlp_question_t *question, rlp_answer_t *answer)
{
    turn_t turn = TURN_CAME;
    const apr_status_t rv = request_queue_key(d) ? request_queue(d, question, answer, &turn)
                                                 : request_check(d, question, answer);

    if (rv == APR_SUCCESS && turn == TURN_CAME && answer->verdict == RLP_WAIT) {
        turn = request_wait(d, question, answer);
    }
    if (turn != TURN_CAME) {
        request_turn_down(answer, answer);
    }
    return rv;
}

/* A request that may wait: refused when too many do, or when its turn is too far away. */
__attribute__((noinline)) static apr_status_t
request_check_waiting(decide_t *d, rlp_question_t *question, rlp_answer_t *answer)
{
    apr_status_t rv = APR_SUCCESS;

    if (request_check_at_once(d, question, answer, &rv)) {
        return rv;
    }
    if (!turn_enter(d->server)) {
        return request_check_crowded(d, question, answer);
    }
    rv = request_check_turn(d, question, answer);
    turn_leave(d->server);
    return rv;
}

/* What there is to do for charges that were made, beyond the usual. */
static void request_admit(decide_t *d, rlp_time_t now)
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

REQUEST_INLINE rlp_question_t request_question(const decide_t *d)
{
    return (rlp_question_t){ .now = rlp_world->clock->monotonic(),
                             .wall = d->dated ? rlp_world->clock->wall() : 0,
                             .owner = rlp_world->owner };
}

/* Asks the store about the charges: all are made, or none and the request is refused. */
REQUEST_INLINE void request_ask(decide_t *d)
{
    rlp_question_t question = request_question(d);
    rlp_answer_t answer;
    const apr_status_t rv = d->waits ? request_check_waiting(d, &question, &answer)
                                     : request_check(d, &question, &answer);

    if (rv != APR_SUCCESS) {
        d->verdict->action = "error";
        request_failed(d->r, rv);
        return;
    }
    if (answer.damaged) {
        request_log_damage(d->r);
    }
    if (answer.verdict > RLP_WAIT) {
        d->verdict->action = "deny";
        d->verdict->denied = true;
        d->verdict->retry = answer.retry;
    } else if (!d->plain) {
        request_admit(d, question.now);
    }
    request_remember(d, answer.tightest);
}

/* Keeps what the variables will tell of charges by a rule that refuses nobody, if they tell of
   it. */
static void request_remember_apart(decide_t *d)
{
    verdict_t *verdict = d->verdict;
    int tightest = -1;

    for (int i = 0; i < d->n; i++) {
        outcome_t outcome;

        request_set_outcome(&outcome, d, i);
        if (!d->charges[i].spared &&
            (verdict->apart.rule == NULL || respond_tighter(&outcome, &verdict->apart))) {
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
    verdict->apart_identity = request_identity(d, tightest);
}

/* Asks the store about the charges of one rule that refuses nobody. */
static void request_ask_one_apart(decide_t *d)
{
    const rlp_question_t question = request_question(d);
    rlp_answer_t answer;
    const apr_status_t rv = request_check(d, &question, &answer);

    if (rv != APR_SUCCESS) {
        d->verdict->action = d->verdict->denied ? d->verdict->action : "error";
        request_failed(d->r, rv);
        return;
    }
    if (answer.damaged) {
        request_log_damage(d->r);
    }
    if (answer.verdict <= RLP_WAIT && !d->plain) {
        after_remember(d->verdict, d->r, d->charges, d->rules, d->n, question.now);
    }
    request_remember_apart(d);
}

/* Judges each of these rules by itself, so that none holds another back. */
static void request_ask_apart(decide_t *d, uint64_t rules)
{
    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        d->n = 0;
        if (request_collect(d, bits & -bits) && d->n > 0) {
            request_ask_one_apart(d);
        }
    }
    d->verdict->judged = d->judged;
}

/* An unknown value of a type whose map says unknown=deny. */
static int request_refuse_unknown(decide_t *d)
{
    d->verdict->action = "deny";
    d->verdict->denied = true;
    respond_env(d->r, d->verdict);
    return respond_refuse(d->r, d->refuse);
}

/* What there is to say after a decision, in which rules were enforced or not; what the hook
   returns. */
REQUEST_INLINE int request_answer(const decide_t *d, bool enforced, bool in_handler)
{
    verdict_t *verdict = d->verdict;

    if (verdict->n > 1) {
        respond_sort(verdict);
    }
    if (d->conf->fields != FIELDS_OFF && enforced) {
        respond_fields(d->r, verdict, d->conf);
    }
    if (d->conf->env_always == 1 || verdict->action[0] != 'p') {
        respond_env(d->r, verdict);
    }
    if (verdict->bandwidth > 0) {
        respond_bandwidth(d->r, verdict);
        if (in_handler) { /* the hook for filters has been */
            respond_insert_filter(d->r);
        }
    }
    if (!verdict->denied) {
        return DECLINED;
    }
    denial_log(d->r, verdict, d->server);
    return respond_deny(d->r, verdict, d->conf, in_handler);
}

REQUEST_INLINE void request_begin(decide_t *d, request_rec *r, const dir_conf_t *conf)
{
    d->r = r;
    d->conf = conf;
    d->server = ap_get_module_config(r->server->module_config, &ratelimit_plans_module);
    d->before = NULL;
    d->who = NULL;
    d->judged = 0;
    d->refuse = 0;
    d->room = 0;
    d->costed = false;
    d->plain = true;
    d->waits = false;
    d->dated = false;
    d->group = 0;
    d->n = 0;
}

/* Who is exempt is neither counted nor told of limits. What was counted before a redirect stays
   so. */
static int request_exempt(request_rec *r, const dir_conf_t *conf)
{
    if (request_before(r) == NULL) {
        ap_set_module_config(r->request_config, &ratelimit_plans_module,
                             (void *)(uintptr_t)&conf->exempted);
        respond_env(r, &conf->exempted);
    }
    return DECLINED;
}

REQUEST_INLINE bool request_is_exempt(request_rec *r, const dir_conf_t *conf)
{
    return conf->exempts != NULL && exempt_matches(conf->exempts, r);
}

/* Judges the rules of this section that have not been judged for the client's request. */
__attribute__((noinline)) static int request_decide(request_rec *r, const dir_conf_t *conf,
                                                    unsigned phases, bool in_handler)
{
    decide_t d;

    request_begin(&d, r, conf);
    d.before = request_before(r);
    d.phases = phases;
    const uint64_t rules = request_rules(&d);
    const uint64_t apart = request_apart(conf, rules);

    if (!request_collect(&d, rules & ~apart)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "RLP005: more than %d rules or limits apply to one request: use fewer in one "
                      "place",
                      RLP_ENTRIES_MAX);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    const bool enforced = d.n > 0;

    d.verdict = request_new_verdict(r, conf, d.before, d.n, d.room);
    d.verdict->judged = d.judged;
    if (d.refuse) {
        return request_refuse_unknown(&d);
    }
    if (enforced) {
        request_ask(&d);
    }
    if (apart) {
        request_ask_apart(&d, apart);
    }
    if (d.judged != 0) {
        return request_answer(&d, enforced, in_handler);
    }
    respond_guard(r, d.verdict); /* the handler was not known in an earlier phase */
    return DECLINED;
}

/* The charges of rules that count the address only and need nothing else to be done. */
typedef struct {
    uint64_t judged; /* rules, a bit each */
    size_t room;     /* for what the fields tell of them */
    int n;
} usual_t;

/* Adds what a rule counts. False: it takes a closer look. */
REQUEST_INLINE bool request_add_usual(usual_t *usual, rlp_charge_t charges[], const request_rec *r,
                                      const dir_conf_t *conf, const rule_t *rule)
{
    const server_conf_t *server =
        ap_get_module_config(r->server->module_config, &ratelimit_plans_module);
    const variant_t *variant = rule->usual;
    const address_t *address = identity_known_address(request_chain(rule, conf), r, server);

    if (variant == NULL || address == NULL || usual->n + variant->plan->n > RLP_ENTRIES_MAX) {
        return false;
    }
    usual->room += variant->room;
    for (int i = 0; i < variant->plan->n; i++, usual->n++) {
        rlp_charge_t *charge = &charges[usual->n];

        rlp_charge_init(charge, address->text, address->len, variant->signatures[0][i],
                        &variant->plan->limits[i]);
        charge->entry.key.fingerprint = address->fingerprint;
    }
    return true;
}

/* Adds what all rules that speak of the request count. */
REQUEST_INLINE bool request_collect_usual(usual_t *usual, rlp_charge_t charges[], request_rec *r,
                                          const dir_conf_t *conf)
{
    const int n = conf->rules->nelts;
    uint64_t bit = 1;

    *usual = (usual_t){ 0 };
    for (int i = 0; i < n; i++, bit <<= 1) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, i, const rule_t *);

        if (!rule_matches(rule, r)) {
            continue;
        }
        if (!request_add_usual(usual, charges, r, conf, rule)) {
            return false;
        }
        usual->judged |= bit;
    }
    return usual->n > 0 && n <= REQUEST_RULES_MAX;
}

/* Remembers the charges, and tells the client of them. */
REQUEST_INLINE void request_tell_usual(request_rec *r, const dir_conf_t *conf, const usual_t *usual,
                                       const rlp_charge_t charges[])
{
    verdict_t *verdict = request_new_verdict(r, conf, NULL, usual->n, usual->room);

    verdict->judged = usual->judged;
    for (uint64_t bits = usual->judged; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, __builtin_ctzll(bits), const rule_t *);

        for (int i = 0; i < rule->usual->plan->n; i++) {
            outcome_t *outcome = &verdict->outcomes[verdict->n];

            outcome->rule = rule;
            outcome->variant = rule->usual;
            outcome->limit = i;
            outcome->decision = charges[verdict->n++].decision;
        }
    }
    if (conf->fields != FIELDS_OFF) {
        if (verdict->n > 1) {
            respond_sort(verdict);
        }
        respond_fields(r, verdict, conf);
    }
}

/* Most requests: rules that count addresses, and a client that passes them. A refusal here has
   changed nothing; it, and all else, is decided in full. Where all requests are judged by the same
   rules and header fields tell of none, this allocates nothing. */
__attribute__((noinline)) static int request_decide_usual(request_rec *r, const dir_conf_t *conf)
{
    const rlp_question_t question = { .now = rlp_world->clock->monotonic() };
    rlp_charge_t charges[RLP_ENTRIES_MAX];
    rlp_answer_t answer;
    usual_t usual;

    if (!request_collect_usual(&usual, charges, r, conf) ||
        rlp_check(rlp_world->store, charges, usual.n, &question, &answer) != APR_SUCCESS) {
        return request_decide(r, conf, PHASE_BOTH, false);
    }
    if (answer.damaged) { /* mended by now: who asks again does not hear of it */
        request_log_damage(r);
    }
    if (answer.verdict != RLP_ALLOW) {
        return request_decide(r, conf, PHASE_BOTH, false);
    }
    if (conf->traits == 0 && conf->fields == FIELDS_OFF) { /* all rules judge all requests */
        ap_set_module_config(r->request_config, &ratelimit_plans_module,
                             (void *)(uintptr_t)&conf->passed);
    } else {
        request_tell_usual(r, conf, &usual, charges);
    }
    return DECLINED;
}

/* With the engine on there is a store (plans_post_config()). */
REQUEST_INLINE bool request_concerned(const request_rec *r, const dir_conf_t *conf)
{
    return conf->engine > ENGINE_OFF && conf->rules->nelts > 0 && r->main == NULL;
}

/* Whether passing requests need no more than their charges and header fields. */
REQUEST_INLINE bool request_is_usual(const dir_conf_t *conf)
{
    return conf->engine == ENGINE_ON && !(conf->traits & (TRAIT_PRIORITY | TRAIT_APART |
                                                          TRAIT_EARLY | TRAIT_LOCAL | TRAIT_MORE));
}

/* Has the request been judged as it stands? Another path may be that of other rules. */
static bool request_is_judged(const request_rec *r, const verdict_t *verdict,
                              const dir_conf_t *conf)
{
    return verdict != NULL && verdict->conf == conf &&
           (!(conf->traits & TRAIT_PATH) || verdict->path == r->uri);
}

/* What is left to judge once authentication is over. A request that content negotiation has
   replaced since then begins anew. */
static unsigned request_phases_left(const request_rec *r, const dir_conf_t *conf)
{
    return conf->traits & TRAIT_EARLY && request_is_judged(r, request_verdict(r), conf)
               ? PHASE_LATE
               : PHASE_BOTH;
}

int request_header_parser(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);

    if (!(conf->traits & TRAIT_EARLY) || !request_concerned(r, conf) ||
        request_is_error_document(r) || request_is_uncounted(r) || request_is_exempt(r, conf)) {
        return DECLINED;
    }
    return request_decide(r, conf, PHASE_EARLY, false);
}

/* A redirect has renamed the variables and dropped the filters of the request before it. */
static void request_redirected(request_rec *r)
{
    const verdict_t *before = request_verdict_so_far(r);

    if (before == NULL || (before->n == 0 && before->apart.rule == NULL)) {
        return;
    }
    verdict_t *verdict = apr_pmemdup(r->pool, before, sizeof(*before));

    verdict->before = before;
    verdict->judged = 0;
    ap_set_module_config(r->request_config, &ratelimit_plans_module, verdict);
    if (verdict->identity != NULL || verdict->apart_identity != NULL) {
        respond_env(r, verdict);
    }
    if (verdict->bandwidth > 0) {
        respond_bandwidth(r, verdict);
    }
    respond_guard(r, verdict);
}

__attribute__((noinline)) static int request_fixups_redirected(request_rec *r,
                                                               const dir_conf_t *conf)
{
    const unsigned phases = request_phases_left(r, conf);

    request_redirected(r);
    if (request_is_error_document(r) || !request_concerned(r, conf) || request_is_uncounted(r)) {
        return DECLINED;
    }
    return request_is_exempt(r, conf) ? request_exempt(r, conf)
                                      : request_decide(r, conf, phases, false);
}

int request_fixups(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);

    if (r->prev != NULL && r->main == NULL) {
        return request_fixups_redirected(r, conf);
    }
    if (!request_concerned(r, conf) || request_is_uncounted(r)) {
        return DECLINED;
    }
    if (request_is_usual(conf) && request_verdict(r) == NULL) { /* what was decided is kept */
        return request_decide_usual(r, conf);
    }
    return request_is_exempt(r, conf)
               ? request_exempt(r, conf)
               : request_decide(r, conf, request_phases_left(r, conf), false);
}

/* Writes a refusal in JSON; and: mod_dir puts another resource in the place of the one judged in
   fixups, whose rules are judged here, or a directory's index would go round them. */
int request_handler(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);
    const verdict_t *verdict = request_verdict(r);

    if (verdict == &conf->passed) {
        return DECLINED;
    }
    if (verdict != NULL && verdict->denied) {
        return r->handler == respond_handler_name ? respond_write_json(r, verdict) : DECLINED;
    }
    if (request_is_judged(r, verdict, conf)) {
        return DECLINED;
    }
    if (!request_concerned(r, conf) || request_is_error_document(r) || request_is_uncounted(r)) {
        return DECLINED;
    }
    return request_is_exempt(r, conf) ? request_exempt(r, conf)
                                      : request_decide(r, conf, PHASE_BOTH, true);
}
