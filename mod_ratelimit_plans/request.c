/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The hooks: which requests are judged when, once each; and the short way that most of them take.
 */

#include "admin.h"
#include "decide.h"
#include "stats.h"
#include "status.h"

#include <http_core.h>
#include <http_request.h>
#include <mod_http2.h>

#include <apr_strings.h>

static bool request_is_error_document(const request_rec *r)
{
    return r->prev != NULL && r->prev->status >= HTTP_BAD_REQUEST;
}

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

/* mod_http2 pushes what no client has asked for. */
__attribute__((noinline)) static bool request_is_no_request(request_rec *r)
{
    const char *pushed = request_http2(r, "H2_PUSHED");

    return pushed != NULL && *pushed != '\0';
}

DECIDE_INLINE bool request_is_uncounted(request_rec *r)
{
    return r->connection->master != NULL && request_is_no_request(r);
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

/* Who is exempt is neither counted nor told of limits. What was counted before a redirect stays
   so. */
static int request_exempt(request_rec *r, const dir_conf_t *conf)
{
    if (request_verdict_so_far(r) == NULL) {
        tally_exempt(r, conf);
    }
    if (decide_before(r) == NULL) {
        ap_set_module_config(r->request_config, &ratelimit_plans_module,
                             (void *)(uintptr_t)&conf->exempted);
        respond_env(r, &conf->exempted);
    }
    return DECLINED;
}

DECIDE_INLINE bool request_is_exempt(request_rec *r, const dir_conf_t *conf)
{
    return conf->exempts != NULL && exempt_matches(conf->exempts, r);
}

/* The charges of rules that count the address only and need nothing else to be done. */
typedef struct {
    rlp_charge_t *charges;
    int n;
    uint64_t judged; /* rules, a bit each */
    rlp_time_t now;  /* when the store was asked */
} usual_t;

/* Adds what a rule counts, where there is room for a plan more. False: it takes a closer look. */
DECIDE_INLINE bool request_add_usual(usual_t *usual, const request_rec *r, const dir_conf_t *conf,
                                     const rule_t *rule)
{
    const server_conf_t *server = server_conf(r->server);
    const variant_t *variant = rule->usual;
    const address_t *address =
        identity_known_address(&decide_chain(rule, conf)->items[0], r, server);
    rlp_charge_t *charge = &usual->charges[usual->n];

    if (variant == NULL || address == NULL) {
        return false;
    }
    int i = 0;

    do { /* a plan has limits */
        rlp_charge_init(charge, address->text, address->len, variant->signatures[0][i],
                        &variant->plan->limits[i]);
        charge->entry.key.fingerprint = address->fingerprint;
        charge->rule = variant->scope;
        charge++;
    } while (++i < variant->plan->n);
    usual->n += variant->plan->n;
    return true;
}

/* Adds what all rules that speak of the request count. */
DECIDE_INLINE bool request_collect_usual(usual_t *usual, request_rec *r, const dir_conf_t *conf)
{
    const int n = conf->rules->nelts;
    uint64_t bit = 1;

    for (int i = 0; i < n; i++, bit <<= 1) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, i, const rule_t *);

        if (!rule_matches(rule, r)) {
            continue;
        }
        if (usual->n > RLP_ENTRIES_MAX - RLP_LIMITS_MAX ||
            !request_add_usual(usual, r, conf, rule)) {
            return false;
        }
        usual->judged |= bit;
    }
    return usual->n > 0 && n <= DECIDE_RULES_MAX;
}

/* Statistics of a rule that has let a request pass. */
DECIDE_INLINE void request_tally_rule(const rule_t *rule)
{
    const variant_t *variant = rule->usual;

    stats_add(variant->counted ? variant->counted : stats_counts(rule, variant), STATS_ADMITTED);
}

DECIDE_INLINE void request_tally_usual(const dir_conf_t *conf, uint64_t judged)
{
    for (uint64_t bits = judged; bits != 0; bits &= bits - 1) {
        request_tally_rule(APR_ARRAY_IDX(conf->rules, __builtin_ctzll(bits), const rule_t *));
    }
}

/* Room for what header fields tell of the rules. */
DECIDE_INLINE size_t request_room(const dir_conf_t *conf, uint64_t judged)
{
    size_t room = 0;

    for (uint64_t bits = judged; bits != 0; bits &= bits - 1) {
        room += APR_ARRAY_IDX(conf->rules, __builtin_ctzll(bits), const rule_t *)->usual->room;
    }
    return room;
}

/* Remembers the charges, and tells the client of them. */
DECIDE_INLINE void request_tell_usual(request_rec *r, const dir_conf_t *conf, const usual_t *usual)
{
    verdict_t *verdict = decide_verdict(r, conf, NULL, usual->n, request_room(conf, usual->judged));
    outcome_t *outcome = verdict->outcomes;
    const rlp_charge_t *charge = usual->charges;

    verdict->at = usual->now;
    verdict->n = usual->n;
    verdict->judged = usual->judged;
    for (uint64_t bits = usual->judged; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, __builtin_ctzll(bits), const rule_t *);

        for (int i = 0; i < rule->usual->plan->n; i++, outcome++, charge++) {
            outcome->rule = rule;
            outcome->variant = rule->usual;
            outcome->limit = i;
            outcome->untold = conf->fields == FIELDS_OFF;
            outcome->decision = charge->decision;
        }
    }
    if (conf->fields != FIELDS_OFF) {
        if (verdict->n > 1) {
            respond_sort(verdict);
        }
        respond_fields(r, verdict, conf);
    }
}

/* Makes the charges, if all rules let the request pass. A refusal here has changed nothing; it, and
   all else, is decided in full. */
DECIDE_INLINE bool request_passes(const request_rec *r, usual_t *usual, asked_t *asked)
{
    const rlp_question_t question = { .now = rlp_world->clock->monotonic() };

    usual->now = question.now;
    asked->rv = rlp_check(rlp_world->store, usual->charges, usual->n, &question, &asked->answer);
    if (asked->rv != APR_SUCCESS) {
        return false;
    }
    if (asked->answer.damaged) { /* mended by now: who asks again does not hear of it */
        decide_log_damage(r);
    }
    return asked->answer.verdict == RLP_ALLOW;
}

/* Do all rules judge all requests here, and header fields tell of none? */
DECIDE_INLINE bool request_is_silent(const dir_conf_t *conf)
{
    _Static_assert(FIELDS_OFF == 0, "one look at both");

    return (conf->traits | (unsigned)conf->fields) == 0;
}

/* This allocates nothing. */
DECIDE_INLINE void request_pass_silently(const request_rec *r, const dir_conf_t *conf)
{
    ap_set_module_config(r->request_config, &ratelimit_plans_module,
                         (void *)(uintptr_t)&conf->passed);
}

/* The first request of a connection takes the short way, too, when its address is known; what is
   not usual is decided in full. */
__attribute__((noinline)) static int
request_decide_else(request_rec *r, const dir_conf_t *conf, const asked_t *asked,
                    int (*again)(request_rec *, const dir_conf_t *))
{
    const rule_t *rule = APR_ARRAY_IDX(conf->rules, 0, const rule_t *);

    return identity_meet(&decide_chain(rule, conf)->items[0], r, server_conf(r->server))
               ? again(r, conf)
               : decide_request(r, conf, PHASE_BOTH, false, asked);
}

/* Most requests: rules that count addresses, and a client that passes them. */
__attribute__((noinline)) static int request_decide_usual(request_rec *r, const dir_conf_t *conf)
{
    rlp_charge_t charges[RLP_ENTRIES_MAX];
    usual_t usual = { .charges = charges };
    asked_t asked;

    asked.rv = APR_SUCCESS;
    if (!request_collect_usual(&usual, r, conf) || !request_passes(r, &usual, &asked)) {
        return request_decide_else(r, conf, &asked, request_decide_usual);
    }
    request_tally_usual(conf, usual.judged);
    if (request_is_silent(conf)) {
        request_pass_silently(r, conf);
    } else {
        request_tell_usual(r, conf, &usual);
    }
    return DECLINED;
}

/* The same where there is but one rule. */
__attribute__((noinline)) static int request_decide_single(request_rec *r, const dir_conf_t *conf)
{
    const rule_t *rule = APR_ARRAY_IDX(conf->rules, 0, const rule_t *);
    rlp_charge_t charges[RLP_LIMITS_MAX];
    usual_t usual = { .charges = charges, .judged = 1 };
    asked_t asked;

    asked.rv = APR_SUCCESS;
    if (!rule_matches(rule, r) || !request_add_usual(&usual, r, conf, rule) ||
        !request_passes(r, &usual, &asked)) {
        return request_decide_else(r, conf, &asked, request_decide_single);
    }
    request_tally_rule(rule);
    request_tell_usual(r, conf, &usual);
    return DECLINED;
}

/* And there is nothing to tell. */
__attribute__((noinline)) static int request_decide_silently(request_rec *r, const dir_conf_t *conf)
{
    const rule_t *rule = APR_ARRAY_IDX(conf->rules, 0, const rule_t *);
    rlp_charge_t charges[RLP_LIMITS_MAX];
    usual_t usual = { .charges = charges };
    asked_t asked;

    asked.rv = APR_SUCCESS;
    if (!request_add_usual(&usual, r, conf, rule) || !request_passes(r, &usual, &asked)) {
        return request_decide_else(r, conf, &asked, request_decide_silently);
    }
    request_tally_rule(rule);
    request_pass_silently(r, conf);
    return DECLINED;
}

static const char request_own[] = "ratelimit-";

static bool request_is_own_name(const char *handler)
{
    return handler != NULL && strncmp(handler, request_own, sizeof(request_own) - 1) == 0 &&
           (strcmp(handler, quota_handler_name) == 0 || strcmp(handler, admin_handler_name) == 0);
}

__attribute__((noinline)) static bool request_is_own(const request_rec *r)
{
    return request_is_own_name(r->handler);
}

bool request_will_be_own(request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    const char *error = NULL;

    return core->expr_handler != NULL &&
           request_is_own_name(ap_expr_str_exec(r, core->expr_handler, &error));
}

/* With the engine on there is a store (plans_post_config()). */
DECIDE_INLINE bool request_concerned(const request_rec *r, const dir_conf_t *conf)
{
    return conf->engine > ENGINE_OFF && conf->rules->nelts > 0 && r->main == NULL &&
           (r->handler == NULL || !request_is_own(r));
}

/* Whether passing requests need no more than their charges and header fields. */
DECIDE_INLINE bool request_is_usual(const dir_conf_t *conf)
{
    return conf->engine == ENGINE_ON && !(conf->traits & (TRAIT_PRIORITY | TRAIT_APART |
                                                          TRAIT_EARLY | TRAIT_LOCAL | TRAIT_MORE));
}

/* Has the request been judged as it stands? Another path may be that of other rules, by path= or
   by if=. */
static bool request_is_judged(const request_rec *r, const verdict_t *verdict,
                              const dir_conf_t *conf)
{
    return verdict != NULL && verdict->conf == conf &&
           (!(conf->traits & (TRAIT_PATH | TRAIT_CHOOSY)) || verdict->path == r->uri);
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

    if (!(conf->traits & TRAIT_EARLY) || !request_concerned(r, conf) || request_will_be_own(r) ||
        request_is_error_document(r) || request_is_uncounted(r) || request_is_exempt(r, conf)) {
        return DECLINED;
    }
    return decide_request(r, conf, PHASE_EARLY, false, NULL);
}

/* A redirect has renamed the variables and dropped the filters of the request before it. */
static void request_redirected(request_rec *r)
{
    const verdict_t *before = decide_before(r);

    if (before == NULL || before == &before->conf->passed) {
        return;
    }
    verdict_t *verdict = apr_pmemdup(r->pool, before, sizeof(*before));

    if (request_is_error_document(r)) {
        after_error(r, verdict);
    }
    verdict->before = before;
    verdict->judged = 0;
    verdict->unidentified = 0;
    place_again(r, verdict);
    ap_set_module_config(r->request_config, &ratelimit_plans_module, verdict);
    if (verdict->action[0] != 'p' || verdict->identity != NULL || verdict->apart_identity != NULL) {
        respond_env(r, verdict);
    }
    if (verdict->bandwidth > 0) {
        respond_bandwidth(r, verdict);
    }
    place_guard(r, verdict);
}

static bool request_is_verdict(const verdict_t *verdict)
{
    return verdict != NULL &&
           (verdict == &verdict->conf->exempted || verdict->judged != 0 || verdict->denied);
}

/* Who was exempt before redirects stays so where nothing is judged behind it. */
static void request_tell_exempt(request_rec *r)
{
    const request_rec *judged = r;

    while (judged != NULL && !request_is_verdict(request_verdict(judged))) {
        judged = judged->prev;
    }
    const verdict_t *verdict = judged != NULL ? request_verdict(judged) : NULL;

    if (judged != r && verdict != NULL && verdict == &verdict->conf->exempted) {
        respond_env(r, verdict);
    }
}

static int request_judge_redirected(request_rec *r, const dir_conf_t *conf)
{
    const unsigned phases = request_phases_left(r, conf);

    request_redirected(r);
    if (request_is_error_document(r) || !request_concerned(r, conf) || request_is_uncounted(r)) {
        return DECLINED;
    }
    return request_is_exempt(r, conf) ? request_exempt(r, conf)
                                      : decide_request(r, conf, phases, false, NULL);
}

__attribute__((noinline)) static int request_fixups_redirected(request_rec *r,
                                                               const dir_conf_t *conf)
{
    const int rv = request_judge_redirected(r, conf);

    request_tell_exempt(r);
    return rv;
}

__attribute__((noinline)) static int request_fixups_in_full(request_rec *r, const dir_conf_t *conf)
{
    if (r->prev != NULL && r->main == NULL) {
        return request_fixups_redirected(r, conf);
    }
    if (!request_concerned(r, conf) || request_is_uncounted(r)) {
        return DECLINED;
    }
    if (request_is_usual(conf) && request_verdict(r) == NULL &&
        !ordered_any()) { /* what was decided is kept */
        return request_decide_usual(r, conf);
    }
    return request_is_exempt(r, conf)
               ? request_exempt(r, conf)
               : decide_request(r, conf, request_phases_left(r, conf), false, NULL);
}

/* A client's own request for what has no handler yet, of which nothing was decided: one look at all
   of that. */
DECIDE_INLINE bool request_is_fresh(const request_rec *r)
{
    return ((uintptr_t)r->prev | (uintptr_t)r->main | (uintptr_t)r->handler |
            (uintptr_t)r->connection->master | (uintptr_t)request_verdict(r)) == 0;
}

/* What most requests are is told without a call. */
int request_fixups(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);

    if (!request_is_usual(conf) || conf->rules->nelts != 1 || !request_is_fresh(r) ||
        ordered_any()) {
        return request_fixups_in_full(r, conf);
    }
    return request_is_silent(conf) ? request_decide_silently(r, conf)
                                   : request_decide_single(r, conf);
}

/* Does a rule speak of the request, or of one that it was before a redirect? */
static bool request_has_rules(const request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);

    return (conf->engine > ENGINE_OFF && conf->rules->nelts > 0) ||
           request_verdict_so_far(r) != NULL;
}

/* After "Upgrade: h2c" a stream of HTTP/2 asks once more, and its response is not the one of the
   request that was charged. What rules speak of is answered in HTTP/1.1. */
int request_propose(conn_rec *c, request_rec *r, server_rec *s, const apr_array_header_t *offers,
                    apr_array_header_t *proposals)
{
    int kept = 0;

    (void)c;
    (void)s;
    (void)offers;
    if (r == NULL || !request_has_rules(r)) {
        return DECLINED;
    }
    for (int i = 0; i < proposals->nelts; i++) {
        const char *protocol = APR_ARRAY_IDX(proposals, i, const char *);

        if (strncmp(protocol, "h2", 2) != 0) {
            APR_ARRAY_IDX(proposals, kept++, const char *) = protocol;
        }
    }
    proposals->nelts = kept;
    return DECLINED;
}

static int request_answer_own(request_rec *r)
{
    return strcmp(r->handler, quota_handler_name) == 0 ? quota_handler(r) : admin_handler(r);
}

/* Of who was exempt before mod_dir put something else there, the variables say so no more where he
   has been judged and passed. */
static void request_unexempt(request_rec *r, const dir_conf_t *conf)
{
    const verdict_t *verdict = request_verdict(r);

    if (verdict->judged != 0 && verdict->action[0] == 'p' && conf->env_always != 1) {
        respond_env_none(r);
    }
}

/* Writes a refusal in JSON; and: mod_dir puts another resource in the place of the one judged in
   fixups, whose rules are judged here, or a directory's index would go round them. */
static int request_judge_late(request_rec *r, const dir_conf_t *conf, const verdict_t *verdict)
{
    if (*r->handler == 'r' && r->main == NULL && request_is_own(r)) {
        return request_answer_own(r); /* of a refusal, too, as its ErrorDocument */
    }
    if (verdict != NULL && verdict->denied) {
        return r->handler == refuse_handler_name ? refuse_write_json(r, verdict) : DECLINED;
    }
    if (request_is_judged(r, verdict, conf)) {
        return DECLINED;
    }
    if (!request_concerned(r, conf) || request_is_error_document(r) || request_is_uncounted(r)) {
        return DECLINED;
    }
    if (request_is_exempt(r, conf)) {
        return request_exempt(r, conf);
    }
    const int rv = decide_request(r, conf, PHASE_BOTH, true, NULL);

    if (verdict != NULL && verdict == &verdict->conf->exempted) {
        request_unexempt(r, conf);
    }
    return rv;
}

/* What mod_dir puts in the place of the resource has none of its filters, and may have fields of
   its own, whether it is judged or not. */
static void request_guard(request_rec *r)
{
    const verdict_t *verdict = request_verdict(r);

    if (verdict != NULL) {
        place_guard(r, verdict);
    }
}

/* The one hook for handlers, as each costs every request something. The names of pages of ours
   begin alike; httpd has given every request the name of a handler by now. */
__attribute__((noinline)) static int request_handle_in_full(request_rec *r, const dir_conf_t *conf)
{
    const verdict_t *verdict = request_verdict(r);
    const int rv = verdict == &conf->passed ? DECLINED : request_judge_late(r, conf, verdict);

    if (rv == DECLINED) {
        request_guard(r);
    }
    return rv == DECLINED && *r->handler == 'r' ? status_handler(r) : rv;
}

/* Of most requests there is nothing to be done any more. */
int request_handler(request_rec *r)
{
    const dir_conf_t *conf = ap_get_module_config(r->per_dir_config, &ratelimit_plans_module);
    verdict_t *verdict = ap_get_module_config(r->request_config, &ratelimit_plans_module);
    const bool passed = verdict == &conf->passed;

    if (*r->handler == 'r' ||
        (!passed && (!request_is_judged(r, verdict, conf) || verdict->denied))) {
        return request_handle_in_full(r, conf);
    }
    if (!passed && verdict->fields != NULL) {
        place_response(r, verdict);
    }
    return DECLINED;
}
