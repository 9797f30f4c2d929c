/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Whom the rules count, and what is charged for it. Most charges are plain: for them this file
 * allocates nothing.
 */

#include "decide.h"

void decide_begin(decide_t *d, request_rec *r, const dir_conf_t *conf)
{
    d->r = r;
    d->conf = conf;
    d->server = server_conf(r->server);
    d->before = NULL;
    d->asked = NULL;
    d->who = NULL;
    d->judged = 0;
    d->unidentified = 0;
    d->banned = NULL;
    d->refuse = 0;
    d->room = 0;
    d->costed = false;
    d->plain = true;
    d->waits = false;
    d->delayed = false;
    d->left = false;
    d->dated = false;
    d->group = 0;
    d->n = 0;
}

static bool decide_is_dry(const dir_conf_t *conf, const rule_t *rule)
{
    return conf->engine == ENGINE_LOG_ONLY || rule->dry;
}

/* A rule of the same name stands for another if it counts in the same place and refuses as well. Is
   one of these, a bit each? */
static bool decide_is_among(uint64_t bits, const verdict_t *verdict, const dir_conf_t *conf,
                            const rule_t *rule)
{
    const apr_array_header_t *rules = verdict->conf->rules;

    for (int i = 0; i < rules->nelts; i++) {
        const rule_t *other = APR_ARRAY_IDX(rules, i, const rule_t *);

        if (bits >> i & 1 && rule_same_scope(other, rule) &&
            decide_is_dry(verdict->conf, other) == decide_is_dry(conf, rule) &&
            (!other->marks || rule->marks)) {
            return true;
        }
    }
    return false;
}

static bool decide_judged(const decide_t *d, const rule_t *rule)
{
    const verdict_t *verdict = d->before;

    while (verdict != NULL && !decide_is_among(verdict->judged, verdict, d->conf, rule)) {
        verdict = verdict->before;
    }
    return verdict != NULL;
}

/* The rule finds nobody to count: that is counted once for the client's request. */
__attribute__((noinline)) static void decide_note_unidentified(decide_t *d, const rule_t *rule,
                                                               int i)
{
    const verdict_t *verdict = d->before;

    while (verdict != NULL && !decide_is_among(verdict->unidentified, verdict, d->conf, rule)) {
        verdict = verdict->before;
    }
    d->unidentified |= verdict == NULL ? UINT64_C(1) << i : 0;
}

__attribute__((noinline)) static void decide_find_who(decide_t *d, const chain_t *chain)
{
    d->who = d->who ? apr_palloc(d->r->pool, sizeof(*d->who)) : &d->first;
    identity_find(d->who, chain, d->r, d->server);
}

__attribute__((noinline)) static const who_t *decide_ordered(decide_t *d)
{
    if (d->who->found) {
        ordered_apply(d->who);
    }
    return d->who;
}

DECIDE_INLINE const who_t *decide_who(decide_t *d, const rule_t *rule)
{
    const chain_t *chain = decide_chain(rule, d->conf);

    if (d->who != NULL && d->who->chain == chain) {
        return d->who;
    }
    const address_t *address = identity_known_address(&chain->items[0], d->r, d->server);

    if (address == NULL || d->who != NULL) {
        decide_find_who(d, chain);
        return ordered_any() ? decide_ordered(d) : d->who;
    }
    d->who = &d->first;
    d->first.chain = chain;
    d->first.plan = NULL;
    d->first.found = true;
    d->first.refuse = 0;
    d->first.banned = 0;
    d->first.text = address->text;
    d->first.len = address->len;
    d->first.fingerprint = address->fingerprint;
    return ordered_any() ? decide_ordered(d) : d->who;
}

/* Adds the limits of a rule under one plan to what will be asked. False: there is no room for
   more. */
DECIDE_INLINE bool decide_add(decide_t *d, const rule_t *rule, const who_t *who,
                              const variant_t *variant)
{
    const bool dry = decide_is_dry(d->conf, rule);
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
        d->charges[d->n].rule = variant->scope;
        d->charges[d->n].terms = rule->terms;
    }
    return true;
}

/* What the request takes of a concurrency limit: one place, unless it is free for sure. */
static rlp_units_t decide_place(const decide_t *d, const rule_t *rule, rlp_units_t cost)
{
    return cost == 0 && cost_is_late(cost_of(rule, d->conf)) ? RLP_UNIT : cost;
}

/* What the request costs by the rule, or by the section, which is worked out once. */
static rlp_units_t decide_cost(decide_t *d, const rule_t *rule)
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
rlp_time_t decide_max_wait(const decide_t *d, const rule_t *rule)
{
    const rlp_time_t most = d->server->delay_max == RLP_UNSET ? 0 : d->server->delay_max;

    if (!rule->delays || decide_is_apart(d->conf, rule)) {
        return 0;
    }
    return rule->max_wait < most ? rule->max_wait : most;
}

/* Sets what is not usual for the charges from the first on. */
static void decide_refine(decide_t *d, const rule_t *rule, int first)
{
    const rlp_units_t cost = decide_cost(d, rule);
    const rlp_time_t max_wait = decide_max_wait(d, rule);

    d->plain = false;
    d->waits |= max_wait > 0;
    for (int i = first; i < d->n; i++) {
        rlp_charge_t *charge = &d->charges[i];
        const variant_t *variant = d->owners[i].variant;

        charge->cost = charge->limit->algorithm->holds ? decide_place(d, rule, cost) : cost;
        charge->max_wait = max_wait;
        charge->spared = false;
        charge->decision.verdict = RLP_ALLOW; /* until it is asked for */
        charge->entry.key.size = variant->sizes[d->owners[i].limit];
        d->dated |= charge->limit->calendar != NULL;
        if (charge->entry.key.size > sizeof(charge->room)) {
            charge->entry.state = apr_palloc(d->r->pool, charge->entry.key.size);
        }
    }
}

/* Adds a rule under one plan, and the plan that takes over. */
static bool decide_add_all(decide_t *d, const rule_t *rule, const who_t *who,
                           const variant_t *variant)
{
    const int first = d->n;

    if (!decide_add(d, rule, who, variant)) {
        return false;
    }
    if (variant->then != NULL) {
        const int instead = d->n;

        if (!decide_add(d, rule, who, variant->then)) {
            return false;
        }
        for (int i = first; i < d->n; i++) {
            d->charges[i].branch = i < instead ? RLP_FIRST : RLP_INSTEAD;
            d->charges[i].group = d->group;
        }
        d->group++;
    }
    if (!rule->plain || !variant->plain || d->conf->cost != NULL || d->conf->refund != NULL) {
        decide_refine(d, rule, first);
    }
    return true;
}

/* Adds what a rule that speaks of the request counts, if it counts anybody. False: no room for
   more. */
DECIDE_INLINE bool decide_count(decide_t *d, const rule_t *rule, int i)
{
    const who_t *who = decide_who(d, rule);

    if (!who->found) {
        if (who->refuse) {
            d->refuse = who->refuse;
            d->stranger = rule;
        } else {
            decide_note_unidentified(d, rule, i);
        }
        return true;
    }
    /* of several the one who is banned longest: all have to be over */
    if (who->banned > (d->banned ? d->banned->banned : 0)) {
        d->banned = who;
        d->stranger = rule;
    }
    const variant_t *variant =
        who->plan == NULL && rule->choice != CHOICE_NAMED && rule->own != NULL
            ? rule->variants[0]
            : rule_variant(rule, who, d->server, d->r->pool);

    if (variant == NULL) {
        return true;
    }
    d->judged |= UINT64_C(1) << i;
    return decide_add_all(d, rule, who, variant);
}

bool decide_collect(decide_t *d, uint64_t rules)
{
    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        const int i = __builtin_ctzll(bits);
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, i, const rule_t *);

        if (!decide_judged(d, rule) && !decide_count(d, rule, i)) {
            return false;
        }
    }
    return d->conf->rules->nelts <= DECIDE_RULES_MAX;
}
