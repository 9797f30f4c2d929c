/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A request: which rules speak of it, whom they count, what the store says. Most requests pass and
 * have nothing to tell; for them this file allocates nothing.
 */

#include "private.h"

#include <http_core.h>
#include <http_log.h>
#include <http_request.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

/* what every request goes through */
#define REQUEST_INLINE __attribute__((always_inline)) static inline

#define REQUEST_RULES_MAX 64 /* bits of verdict_t.judged */

/* What one decision gathers. On the stack, and no more of it written than is used. */
typedef struct {
    request_rec *r;
    const dir_conf_t *conf;
    const server_conf_t *server;
    const verdict_t *before; /* what was decided before an internal redirect, or NULL */
    verdict_t *verdict;
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

/* mod_http2 pushes what no client has asked for; and after "Upgrade: h2c" stream 1 is once more the
   request that httpd has judged as HTTP/1.1 on the connection below. */
__attribute__((noinline)) static bool request_is_no_request(const request_rec *r)
{
    const char *pushed = apr_table_get(r->subprocess_env, "H2_PUSHED");
    const char *stream = apr_table_get(r->subprocess_env, "H2_STREAM_ID");

    return (pushed != NULL && *pushed != '\0') ||
           (stream != NULL && strcmp(stream, "1") == 0 &&
            ap_get_module_config(r->connection->master->conn_config, &ratelimit_plans_module) !=
                NULL);
}

REQUEST_INLINE bool request_is_uncounted(const request_rec *r)
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

/* The verdict of this decision, with room for its outcomes and those of before, and for what the
   header fields say of them: all one piece. */
REQUEST_INLINE verdict_t *request_begin_verdict(const decide_t *d)
{
    /* nothing is told of a dry run in whose place another section has come */
    const int known = d->before && d->before->conf->engine == ENGINE_ON ? d->before->n : 0;
    const size_t outcomes = sizeof(outcome_t) * (size_t)(known + d->n);
    const size_t room = d->room + (d->before ? d->before->room : REQUEST_NUMBERS);
    verdict_t *verdict = apr_palloc(d->r->pool, sizeof(*verdict) + outcomes + room);

    if (d->before != NULL) {
        *verdict = *d->before;
        verdict->n = known;
    } else {
        verdict->action = d->conf->passed.action;
        verdict->denied = false;
        verdict->bandwidth = 0;
        verdict->after = NULL;
        verdict->retry = 0;
        verdict->identity = NULL;
        verdict->n = 0;
        verdict->fields = NULL;
        verdict->guarded = NULL;
    }
    verdict->conf = d->conf;
    verdict->judged = d->judged;
    verdict->before = d->before;
    verdict->outcomes = (outcome_t *)(verdict + 1);
    verdict->text = (char *)verdict->outcomes + outcomes;
    verdict->room = room;
    if (known > 0) {
        memcpy(verdict->outcomes, d->before->outcomes, sizeof(outcome_t) * (apr_size_t)known);
    }
    ap_set_module_config(d->r->request_config, &ratelimit_plans_module, verdict);
    return verdict;
}

static bool request_judged_by(const verdict_t *verdict, const rule_t *rule)
{
    const apr_array_header_t *rules = verdict->conf->rules;

    for (int i = 0; i < rules->nelts; i++) {
        if (verdict->judged >> i & 1 &&
            APR_ARRAY_IDX(rules, i, const rule_t *)->scope == rule->scope) {
            return true;
        }
    }
    return false;
}

static bool request_judged(const verdict_t *verdict, const rule_t *rule)
{
    while (verdict != NULL && !request_judged_by(verdict, rule)) {
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

/* Adds the limits of a rule under one plan to what will be asked. False: there is no room for
   more. */
REQUEST_INLINE bool request_add(decide_t *d, const rule_t *rule, const who_t *who,
                                const variant_t *variant)
{
    const bool dry = d->conf->engine == ENGINE_LOG_ONLY;
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

/* What the request costs by the rule, or by the section, which is worked out once. */
static rlp_units_t request_cost(decide_t *d, const rule_t *rule)
{
    if (rule->cost != NULL) {
        return cost_before(rule->cost, d->r);
    }
    if (!d->costed) {
        d->cost = cost_before(d->conf->cost, d->r);
        d->costed = true;
    }
    return d->cost;
}

/* How long the request may wait for a turn under the rule. A dry run waits for nothing. */
static rlp_time_t request_max_wait(const decide_t *d, const rule_t *rule)
{
    const rlp_time_t most = d->server->delay_max == RLP_UNSET ? 0 : d->server->delay_max;

    if (!rule->delays || d->conf->engine != ENGINE_ON) {
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

        charge->cost = cost;
        charge->max_wait = max_wait;
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
            : rule_variant(rule, who, d->server);

    if (variant == NULL) {
        return true;
    }
    d->judged |= UINT64_C(1) << i;
    return request_add_all(d, rule, who, variant);
}

/* Finds the rules that speak of the request and have not been judged for it. */
static bool request_collect(decide_t *d)
{
    const int n = d->conf->rules->nelts;

    for (int i = 0; i < n && i < REQUEST_RULES_MAX; i++) {
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, i, const rule_t *);

        if ((rule->conditional && !rule_matches(rule, d->r)) ||
            (d->before != NULL && request_judged(d->before, rule))) {
            continue;
        }
        if (!request_count(d, rule, i)) {
            return false;
        }
    }
    return n <= REQUEST_RULES_MAX;
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

/* Keeps what header fields and variables will tell of n charges. */
REQUEST_INLINE void request_remember(decide_t *d, int first, int n, int tightest)
{
    verdict_t *verdict = d->verdict;
    const rlp_key_t *key = &d->charges[first + tightest].entry.key;

    if (verdict->action[0] != 'p' || d->conf->env_always == 1) {
        verdict->identity = apr_pstrmemdup(d->r->pool, key->identity, key->identity_len);
    }
    for (int i = first; i < first + n; i++) {
        if (d->charges[i].spared) {
            continue;
        }
        outcome_t *outcome = &verdict->outcomes[verdict->n++];

        outcome->rule = d->rules[i];
        outcome->variant = d->owners[i].variant;
        outcome->limit = d->owners[i].limit;
        outcome->decision = d->charges[i].decision;
    }
}

static void request_failed(const request_rec *r, apr_status_t rv)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, rv, r,
                  "RLP004: the store failed, the request passes uncounted");
}

/* Is it only for places of concurrency limits that the charges are refused? What holds them may
   wait for some. */
static bool request_lacks_places(const decide_t *d, int first, int n)
{
    bool lacks = false;

    for (int i = first; i < first + n; i++) {
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
static apr_status_t request_check(decide_t *d, int first, int n, const rlp_question_t *question,
                                  rlp_answer_t *answer)
{
    rlp_charge_t *charges = d->charges + first;
    const apr_status_t rv = rlp_check(rlp_world->store, charges, n, question, answer);

    if (rv != APR_SUCCESS || d->plain || !request_lacks_places(d, first, n) ||
        !rlp_owner_sweep(rlp_world->store)) {
        return rv;
    }
    return rlp_check(rlp_world->store, charges, n, question, answer);
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

/* Once some of the patience is spent, less is left for what follows. */
static void request_spend(decide_t *d, rlp_time_t span)
{
    for (int i = 0; i < d->n; i++) {
        rlp_charge_t *charge = &d->charges[i];

        charge->max_wait = charge->max_wait > span ? charge->max_wait - span : 0;
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
    rlp_time_t spent = 0;
    apr_status_t rv = APR_SUCCESS;
    bool lacks = true;

    turn_join(&self);
    while (lacks && *turn == TURN_CAME) {
        const bool last = request_patience(d) == 0;

        if (last || turn_first(&self)) {
            question->now = rlp_world->clock->monotonic();
            rv = request_check(d, 0, d->n, question, answer);
            lacks = rv == APR_SUCCESS && !last && request_lacks_places(d, 0, d->n);
        }
        if (lacks) {
            *turn = turn_wait(d->r, REQUEST_NAP);
            d->verdict->action = "delay";
            const rlp_time_t now = rlp_clock_monotonic();

            request_spend(d, now - begin - spent);
            spent = now - begin;
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

/* A request that may wait: refused when too many do, or when its turn is too far away. */
__attribute__((noinline)) static apr_status_t
request_check_waiting(decide_t *d, rlp_question_t *question, rlp_answer_t *answer)
{
    turn_t turn = TURN_CAME;

    if (!turn_enter(d->server)) {
        request_spend(d, RLP_TIME_NEVER);
        return request_check(d, 0, d->n, question, answer);
    }
    const apr_status_t rv = request_queue_key(d) ? request_queue(d, question, answer, &turn)
                                                 : request_check(d, 0, d->n, question, answer);

    if (rv == APR_SUCCESS && turn == TURN_CAME && answer->verdict == RLP_WAIT) {
        turn = request_wait(d, question, answer);
    }
    turn_leave(d->server);
    if (turn != TURN_CAME) {
        answer->verdict = RLP_DENY;
        answer->retry = answer->retry > answer->wait ? answer->retry : answer->wait;
    }
    return rv;
}

/* What there is to do for charges that were made, beyond the usual. */
static void request_admit(decide_t *d, int first, int n, rlp_time_t now)
{
    for (int i = first; i < first + n && d->conf->engine == ENGINE_ON; i++) {
        const int64_t bandwidth = d->owners[i].variant->plan->bandwidth;
        int64_t *least = &d->verdict->bandwidth;

        if (!d->charges[i].spared && bandwidth > 0 && (*least == 0 || bandwidth < *least)) {
            *least = bandwidth;
        }
    }
    after_remember(d->verdict, d->r, d->charges + first, d->rules + first, n, now);
}

/* Asks the store about n charges from the first on. */
REQUEST_INLINE apr_status_t request_ask(decide_t *d, int first, int n, rlp_time_t now)
{
    rlp_question_t question = { .now = now,
                                .wall = d->dated ? rlp_world->clock->wall() : 0,
                                .owner = rlp_world->owner };
    const bool dry = d->conf->engine == ENGINE_LOG_ONLY;
    rlp_answer_t answer;
    const apr_status_t rv = d->waits ? request_check_waiting(d, &question, &answer)
                                     : request_check(d, first, n, &question, &answer);

    if (rv != APR_SUCCESS) {
        d->verdict->action = "error";
        request_failed(d->r, rv);
        return rv;
    }
    if (answer.damaged) {
        request_log_damage(d->r);
    }
    if (answer.verdict > RLP_WAIT) {
        d->verdict->action = dry ? "would-deny" : "deny";
        d->verdict->denied = !dry;
        d->verdict->retry = answer.retry;
    } else if (!d->plain) {
        request_admit(d, first, n, question.now);
    }
    request_remember(d, first, n, answer.tightest);
    return rv;
}

/* A dry run judges each rule by itself, so that none holds another back. */
static void request_ask_dry(decide_t *d, rlp_time_t now)
{
    apr_status_t rv = APR_SUCCESS;
    int n;

    for (int i = 0; i < d->n && rv == APR_SUCCESS; i += n) {
        const variant_t *variant = d->owners[i].variant;

        n = variant->plan->n + (variant->then ? variant->then->plan->n : 0);
        rv = request_ask(d, i, n, now);
    }
}

/* An unknown value of a type whose map says unknown=deny. */
static int request_refuse_unknown(decide_t *d)
{
    d->verdict->action = "deny";
    d->verdict->denied = true;
    respond_env(d->r, d->verdict);
    return respond_refuse(d->r, d->refuse);
}

/* What there is to say after a decision; what the hook returns. */
REQUEST_INLINE int request_answer(decide_t *d, bool in_handler)
{
    verdict_t *verdict = d->verdict;

    if (verdict->n > 1) {
        respond_sort(verdict);
    }
    if (d->conf->fields != FIELDS_OFF && d->conf->engine == ENGINE_ON) {
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
                                                    bool in_handler)
{
    decide_t d;

    request_begin(&d, r, conf);
    d.before = request_before(r);
    if (!request_collect(&d)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "RLP005: more than %d rules or limits apply to one request: use fewer in one "
                      "place",
                      RLP_ENTRIES_MAX);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    d.verdict = request_begin_verdict(&d);
    if (d.refuse && conf->engine == ENGINE_ON) {
        return request_refuse_unknown(&d);
    }
    if (d.n == 0) {
        return DECLINED;
    }
    const rlp_time_t now = rlp_world->clock->monotonic();

    if (conf->engine == ENGINE_ON) {
        (void)request_ask(&d, 0, d.n, now);
    } else {
        request_ask_dry(&d, now);
    }
    return request_answer(&d, in_handler);
}

/* The limits of a rule that speaks of every request, for an address without a plan of its own; NULL
   if that takes a closer look. */
REQUEST_INLINE const variant_t *request_plain_variant(const rule_t *rule)
{
    const variant_t *variant = rule->variants[0];

    return rule->conditional || rule->choice == CHOICE_NAMED || !rule->plain || variant == NULL ||
                   !variant->plain
               ? NULL
               : variant;
}

/* Where neither header fields nor variables tell of a request that passes, rules that count
   addresses and speak of every request leave nothing to remember but that they were judged: this
   allocates nothing. A refusal here has changed nothing; it, and all else, is decided in full. */
__attribute__((noinline)) static int request_decide_quietly(request_rec *r, const dir_conf_t *conf)
{
    const server_conf_t *server =
        ap_get_module_config(r->server->module_config, &ratelimit_plans_module);
    const rlp_question_t question = { .now = rlp_world->clock->monotonic() };
    rlp_charge_t charges[RLP_ENTRIES_MAX];
    rlp_answer_t answer;
    int n = 0;

    for (int i = 0; i < conf->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, i, const rule_t *);
        const variant_t *variant = request_plain_variant(rule);
        const address_t *address = identity_known_address(request_chain(rule, conf), r, server);

        if (variant == NULL || address == NULL || n + variant->plan->n > RLP_ENTRIES_MAX) {
            return request_decide(r, conf, false);
        }
        for (int j = 0; j < variant->plan->n; j++, n++) {
            rlp_charge_init(&charges[n], address->text, address->len, variant->signatures[0][j],
                            &variant->plan->limits[j]);
            charges[n].entry.key.fingerprint = address->fingerprint;
        }
    }
    if (rlp_check(rlp_world->store, charges, n, &question, &answer) != APR_SUCCESS ||
        answer.verdict != RLP_ALLOW || answer.damaged) {
        return request_decide(r, conf, false);
    }
    ap_set_module_config(r->request_config, &ratelimit_plans_module,
                         (void *)(uintptr_t)&conf->passed);
    return DECLINED;
}

/* With a rule there is a store (plans_post_config()). */
REQUEST_INLINE bool request_concerned(const request_rec *r, const dir_conf_t *conf)
{
    return conf->engine > ENGINE_OFF && conf->rules->nelts > 0 && r->main == NULL;
}

/* Whether passing requests leave nothing to tell. */
REQUEST_INLINE bool request_is_quiet(const dir_conf_t *conf)
{
    return conf->fields == FIELDS_OFF && conf->env_always != 1 && conf->engine == ENGINE_ON &&
           conf->cost == NULL && conf->refund == NULL;
}

/* A redirect has renamed the variables and dropped the filters of the request before it. */
static void request_redirected(request_rec *r)
{
    const verdict_t *before = request_verdict_so_far(r);

    if (before == NULL || before->n == 0) {
        return;
    }
    verdict_t *verdict = apr_pmemdup(r->pool, before, sizeof(*before));

    verdict->before = before;
    verdict->judged = 0;
    ap_set_module_config(r->request_config, &ratelimit_plans_module, verdict);
    if (verdict->identity != NULL) {
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
    request_redirected(r);
    if (request_is_error_document(r) || !request_concerned(r, conf) || request_is_uncounted(r)) {
        return DECLINED;
    }
    return request_is_exempt(r, conf) ? request_exempt(r, conf) : request_decide(r, conf, false);
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
    if (request_is_exempt(r, conf)) {
        return request_exempt(r, conf);
    }
    return request_is_quiet(conf) ? request_decide_quietly(r, conf)
                                  : request_decide(r, conf, false);
}

/* Writes a refusal in JSON; and: mod_dir puts another resource in the place of the one judged in
   fixups, whose rules are judged here, or a directory's index would go round them. */
int request_handler(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);
    const verdict_t *verdict = request_verdict(r);

    if (verdict != NULL && verdict->conf == conf && !verdict->denied) {
        return DECLINED;
    }
    if (verdict != NULL && verdict->denied) {
        return r->handler == respond_handler_name ? respond_write_json(r, verdict) : DECLINED;
    }
    if (!request_concerned(r, conf) || request_is_error_document(r) || request_is_uncounted(r)) {
        return DECLINED;
    }
    return request_is_exempt(r, conf) ? request_exempt(r, conf) : request_decide(r, conf, true);
}
