/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * ratelimit-admin about the counters of one identity: what it has left, and what people give back.
 */

#include "admin.h"

#include <apr_strings.h>

#include <string.h>

/* One action on the counters of one identity. */
typedef struct {
    admin_t *admin;
    admin_target_t target;
    const char *rule;   /* that alone; NULL: all */
    const plan_t *plan; /* as if it had that; NULL: what it has */
    bool unknown;       /* nobody can tell which that is, under some rule */
    rlp_units_t units;  /* to be given back; 0: none */
    int n;              /* limits found */
    apr_hash_t *met;    /* counters and their limits, as text */
    apr_status_t rv;
} action_t;

/* --- counters */

static rlp_question_t action_question(void)
{
    const rlp_time_t now = rlp_world->clock->monotonic();

    return (rlp_question_t){ .now = now,
                             .wall = rlp_world->clock->wall(),
                             .owner = rlp_world->owner,
                             .charged_at = RLP_TIME_EVER };
}

/* Nothing is drawn ahead for an administrator, and what he gives comes back where all have it, or
   he is told that it does not. */
static const rlp_terms_t *action_terms(const action_t *action, const rule_t *rule)
{
    rlp_terms_t *terms = apr_pcalloc(action->admin->r->pool, sizeof(*terms));

    if (rule->terms != NULL) {
        *terms = *rule->terms;
    }
    terms->sync = RLP_SYNC_EXACT;
    terms->failure = action->units > 0 ? RLP_FAILURE_CLOSED : terms->failure;
    return terms;
}

static void action_charge(const action_t *action, rlp_charge_t *charge, const rule_t *rule,
                          const variant_t *variant, int limit, bool dry)
{
    rlp_charge_init(charge, action->target.text, strlen(action->target.text),
                    variant->signatures[dry][limit], &variant->plan->limits[limit]);
    charge->rule = variant->scope;
    charge->terms = action_terms(action, rule);
    charge->entry.key.size = variant->sizes[limit];
    if (charge->entry.key.size > sizeof(charge->room)) {
        charge->entry.state = apr_palloc(action->admin->r->pool, charge->entry.key.size);
    }
}

/* What a counter goes by in action_t.met. */
static const char *action_counter(const action_t *action, const rule_t *rule, uint64_t signature)
{
    return apr_psprintf(action->admin->r->pool, "%" APR_UINT64_T_HEX_FMT "@%pp", signature,
                        (const void *)stores_of(rule));
}

/* And a limit of it: rules of one name share counters, each under a limit of its own. */
static const char *action_limit(const action_t *action, const char *counter,
                                const rlp_limit_t *limit)
{
    return apr_psprintf(action->admin->r->pool, "%s %" APR_INT64_T_FMT " %" APR_INT64_T_FMT,
                        counter, limit->count, (apr_int64_t)limit->burst);
}

static bool action_has_met(const action_t *action, const char *what)
{
    return apr_hash_get(action->met, what, APR_HASH_KEY_STRING) != NULL;
}

static void action_meet(const action_t *action, const char *what)
{
    apr_hash_set(action->met, what, APR_HASH_KEY_STRING, what);
}

/* Gives units back, whenever they were charged. By a charge of nothing a store that decides by
   itself says that it is asked itself; and what is remembered of the limit is learnt anew. */
static apr_status_t action_give(rlp_charge_t *charge, rlp_units_t units)
{
    rlp_question_t question = action_question();
    rlp_answer_t answer;

    charge->cost = 0;
    apr_status_t rv = rlp_check(rlp_world->store, charge, 1, &question, &answer);

    charge->cost = -units;
    charge->counted_at = charge->counted_at != 0 ? RLP_TIME_EVER : 0;
    if (rv == APR_SUCCESS && units > 0) {
        rv = rlp_settle(rlp_world->store, charge, 1, &question, &answer);
    }
    return rv;
}

static void action_remember(action_t *action, apr_status_t rv)
{
    action->rv = action->rv == APR_SUCCESS ? rv : action->rv;
}

/* Gives back under a limit of a counter, to each counter once. */
static void action_give_one(action_t *action, const rule_t *rule, const variant_t *variant, int i,
                            bool dry)
{
    const char *counter = action_counter(action, rule, variant->signatures[dry][i]);
    const char *limit = action_limit(action, counter, &variant->plan->limits[i]);
    const rlp_units_t units = action_has_met(action, counter) ? 0 : action->units;
    rlp_charge_t charge;

    if (action_has_met(action, limit)) {
        return;
    }
    action_meet(action, counter);
    action_meet(action, limit);
    action_charge(action, &charge, rule, variant, i, dry);
    action_remember(action, action_give(&charge, units));
}

/* Gives back under each limit that counts what comes and goes, not what is in flight. */
static void action_give_all(action_t *action, const rule_t *rule, const variant_t *variant,
                            bool dry)
{
    for (int i = 0; i < variant->plan->n; i++) {
        if (!variant->plan->limits[i].algorithm->holds) {
            action_give_one(action, rule, variant, i, dry);
        }
    }
}

/* Tells of each limit, once. */
static void action_tell(action_t *action, const rule_t *rule, const variant_t *variant)
{
    const bool dry = rule_is_dry(rule);

    for (int i = 0; i < variant->plan->n; i++) {
        const char *counter = action_counter(action, rule, variant->signatures[dry][i]);
        const char *limit = action_limit(action, counter, &variant->plan->limits[i]);
        const rlp_question_t question = action_question();
        rlp_charge_t charge;
        rlp_answer_t answer;

        if (action_has_met(action, limit)) {
            continue;
        }
        action_meet(action, limit);
        action_charge(action, &charge, rule, variant, i, dry);
        const apr_status_t rv = rlp_peek(rlp_world->store, &charge, 1, &question, &answer);

        action_remember(action, rv);
        if (rv == APR_SUCCESS) {
            probe_limit(&action->admin->out, rule, variant, i, &charge.decision);
        }
        action->n++;
    }
}

/* --- rules */

static bool action_counts(const action_t *action, const rule_t *rule)
{
    const identity_t *target = action->target.identity;
    bool counts = rule->key == NULL; /* the chain of a section, which may be any */

    for (int i = 0; rule->key != NULL && i < rule->key->n; i++) {
        const identity_t *identity = &rule->key->items[i];

        counts |= identity->label_len == target->label_len &&
                  memcmp(identity->label, target->label, target->label_len) == 0;
    }
    return counts;
}

static bool action_is_meant(const action_t *action, const rule_t *rule)
{
    return action->rule == NULL || strcmp(action->rule, rule->name) == 0 ||
           strcmp(action->rule, rule->scope) == 0;
}

/* What the map of a part says. One that is an expression speaks of a request, and is not asked.
 *known: whether that can be told of what is known of the part. */
static const plan_t *action_mapped_part(const action_t *action, const rule_t *rule, int i,
                                        bool *known)
{
    const admin_target_t *target = &action->target;
    const plan_map_t *map = plan_map_of(server_conf(rule->server), target->identity->parts[i].name);

    if (map == NULL || ap_cstr_casecmp(map->name, "expr") == 0) {
        return NULL;
    }
    *known = target->values[i] != NULL;
    return *known ? plan_map_find(map, target->values[i], action->admin->r) : NULL;
}

/* What maps say: of its parts the first one that has a plan. */
static const plan_t *action_mapped(const action_t *action, const rule_t *rule, bool *known)
{
    const plan_t *plan = NULL;

    *known = true;
    for (int i = 0; i < action->target.identity->n && plan == NULL && *known; i++) {
        plan = action_mapped_part(action, rule, i, known);
    }
    return plan;
}

/* The rule's limits for the identity; NULL: none, or it is not known which. */
static const variant_t *action_variant(action_t *action, const rule_t *rule)
{
    who_t who = { .plan = action->plan };
    bool known = true;
    override_t found;

    if (who.plan == NULL && admin_override(&action->target, &found) && found.plan != 0) {
        who.plan = ordered_plan(found.plan);
    }
    if (who.plan == NULL && rule->choice == CHOICE_AUTO) {
        who.plan = action_mapped(action, rule, &known);
    }
    if (!known) {
        action->unknown = true;
        return NULL;
    }
    return rule_variant(rule, &who, server_conf(rule->server), action->admin->r->pool);
}

typedef void action_fn(action_t *action, const rule_t *rule);

/* All rules that may count the identity. */
static void action_each(action_t *action, action_fn *fn)
{
    action->met = apr_hash_make(action->admin->r->pool);
    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        const rule_t *rule = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *);

        if (!rule->off && action_is_meant(action, rule) && action_counts(action, rule)) {
            fn(action, rule);
        }
    }
}

static void action_look_rule(action_t *action, const rule_t *rule)
{
    (void)action_variant(action, rule);
}

static void action_tell_rule(action_t *action, const rule_t *rule)
{
    for (const variant_t *variant = action_variant(action, rule); variant;
         variant = variant->then) {
        action_tell(action, rule, variant);
    }
}

static void action_grant_rule(action_t *action, const rule_t *rule)
{
    for (const variant_t *variant = action_variant(action, rule); variant;
         variant = variant->then) {
        action_give_all(action, rule, variant, rule_is_dry(rule));
    }
}

/* Under every plan, so that none that was had before is left; and of dry runs, too. */
static void action_reset_rule(action_t *action, const rule_t *rule)
{
    for (int i = 0; i <= rlp_world->plan_list->nelts; i++) {
        if (rule->variants[i] != NULL) {
            action_give_all(action, rule, rule->variants[i], false);
            action_give_all(action, rule, rule->variants[i], true);
        }
    }
}

/* --- what is common to actions */

static const char *action_unknown_rule(const action_t *action)
{
    apr_pool_t *pool = action->admin->r->pool;
    const char **names =
        apr_pcalloc(pool, sizeof(char *) * ((apr_size_t)rlp_world->rules->nelts + 1));

    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        names[i] = APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *)->name;
    }
    return apr_psprintf(pool, "expected a rule of the server's configuration, got \"%s\"%s",
                        action->rule, config_near_whole(action->rule, names, pool));
}

static bool action_rule_exists(const action_t *action)
{
    bool exists = action->rule == NULL;

    for (int i = 0; i < rlp_world->rules->nelts; i++) {
        exists |= action_is_meant(action, APR_ARRAY_IDX(rlp_world->rules, i, const rule_t *));
    }
    return exists;
}

static const char *action_begin(action_t *action, admin_t *admin)
{
    const char *error = NULL;

    *action = (action_t){ .admin = admin, .rv = APR_SUCCESS };
    action->rule = admin_text(admin, "rule", &error);
    if (error == NULL) {
        error = admin_target(&action->target, admin);
    }
    if (error == NULL && !action_rule_exists(action)) {
        error = action_unknown_rule(action);
    }
    return error;
}

/* NULL, or that the store could not be asked; the line of what was changed says so, too. */
static const char *action_end(action_t *action)
{
    admin_t *admin = action->admin;

    if (action->rv == APR_SUCCESS) {
        return NULL;
    }
    if (admin->audit != NULL) {
        admin->audit =
            apr_pstrcat(admin->r->pool, admin->audit, ", without an answer of the store", NULL);
    }
    admin->status = HTTP_SERVICE_UNAVAILABLE;
    return "expected a store that answers: some counters could not be asked or changed";
}

static const char *action_tell_all(action_t *action)
{
    json_out_t *out = &action->admin->out;

    admin_tell_override(action->admin, &action->target);
    json_open(out, "limits", '[');
    action_each(action, action_tell_rule);
    json_close(out, ']');
    return action_end(action);
}

static const char *action_of_rule(const action_t *action)
{
    return action->rule ? apr_pstrcat(action->admin->r->pool, " of rule ", action->rule, NULL) : "";
}

/* The plan that is said, or can be told: NULL, or what was expected. */
static const char *action_find_plan(action_t *action)
{
    const char *error = NULL;

    action->plan = admin_plan(action->admin, &error);
    if (error != NULL) {
        return error;
    }
    action_each(action, action_look_rule);
    return action->unknown
               ? "expected \"plan\", too, or the value as \"secret\": of a digest, or a "
                 "network among several parts, no map knows the plan"
               : NULL;
}

/* --- actions on counters */

const char *admin_get(admin_t *admin)
{
    action_t action;
    const char *error = action_begin(&action, admin);

    error = error ? error : action_find_plan(&action);
    return error ? error : action_tell_all(&action);
}

const char *admin_reset(admin_t *admin)
{
    action_t action;
    const char *error = action_begin(&action, admin);

    if (error != NULL) {
        return error;
    }
    action.units = RLP_UNITS_MAX;
    action_each(&action, action_reset_rule);
    admin->audit =
        apr_psprintf(admin->r->pool, "reset %s%s", action.target.shown, action_of_rule(&action));
    return action_tell_all(&action);
}

static const char *action_units(action_t *action)
{
    const json_t *units = json_member(action->admin->ask, "units");

    if (units == NULL || units->kind != JSON_NUMBER ||
        rlp_units_parse(&action->units, units->text, action->admin->r->pool) != NULL ||
        action->units == 0) {
        return "expected \"units\": a number above 0 with at most three decimals, which are given "
               "back";
    }
    return NULL;
}

const char *admin_grant(admin_t *admin)
{
    action_t action;
    const char *error = action_begin(&action, admin);

    error = error ? error : action_units(&action);
    error = error ? error : action_find_plan(&action);
    if (error != NULL) {
        return error;
    }
    action_each(&action, action_grant_rule);
    admin->audit =
        apr_psprintf(admin->r->pool, "grant %s to %s%s", json_member(admin->ask, "units")->text,
                     action.target.shown, action_of_rule(&action));
    return action_tell_all(&action);
}
