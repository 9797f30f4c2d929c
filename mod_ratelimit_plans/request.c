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
    who_t *who;      /* the last one looked for; the first has its room in here */
    uint64_t judged; /* rules of the section, a bit each */
    int refuse;      /* status by which a map refuses an unknown value */
    size_t room;     /* for the text of RateLimit */
    int n;
    struct {
        const rule_t *rule;
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

/* The verdict of the client's request so far, from before an internal redirect too. */
static const verdict_t *request_verdict_so_far(const request_rec *r)
{
    const verdict_t *verdict = request_verdict(r);

    for (r = r->prev; verdict == NULL && r != NULL; r = r->prev) {
        verdict = request_verdict(r);
    }
    return verdict;
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

/* Adds the rule's limits to what will be asked. False: there is no room for more. */
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
        d->owners[d->n].rule = rule;
        d->owners[d->n].variant = variant;
        d->owners[d->n].limit = i;
        rlp_charge_init(&d->charges[d->n], who->text, who->len, variant->signatures[dry][i],
                        &plan->limits[i]);
        d->charges[d->n].entry.key.fingerprint = who->fingerprint;
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
    return request_add(d, rule, who, variant);
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
        outcome_t *outcome = &verdict->outcomes[verdict->n++];

        outcome->rule = d->owners[i].rule;
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

/* Asks the store about n charges from the first on. */
REQUEST_INLINE apr_status_t request_ask(decide_t *d, int first, int n, rlp_time_t now)
{
    const rlp_question_t question = { .now = now };
    const bool dry = d->conf->engine == ENGINE_LOG_ONLY;
    rlp_answer_t answer;
    const apr_status_t rv = rlp_check(rlp_world->store, d->charges + first, n, &question, &answer);

    if (rv != APR_SUCCESS) {
        d->verdict->action = "error";
        request_failed(d->r, rv);
        return rv;
    }
    if (answer.damaged) {
        request_log_damage(d->r);
    }
    if (answer.verdict != RLP_ALLOW) {
        d->verdict->action = dry ? "would-deny" : "deny";
        d->verdict->denied = !dry;
        d->verdict->retry = answer.retry;
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
        n = d->owners[i].variant->plan->n;
        rv = request_ask(d, i, n, now);
    }
}

static void request_log_refusal(const request_rec *r, const verdict_t *verdict)
{
    const outcome_t *outcome = &verdict->outcomes[0];
    const char *identity = verdict->identity;
    const bool plain = strncmp(identity, "ip:", 3) == 0;
    char digest[33] = "";

    if (!APLOG_R_IS_LEVEL(r, APLOG_INFO)) {
        return;
    }
    if (!plain) { /* names of users stay out of the log; their digest tells them apart */
        rlp_shm_digest(rlp_world->store, identity, strlen(identity), digest);
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "RLP001: rule %s, plan %s refuses %.*s%s",
                  outcome->rule->name, outcome->variant->plan_name,
                  (int)(plain ? strlen(identity) : strcspn(identity, ":") + 1), identity, digest);
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
    if (!verdict->denied) {
        return DECLINED;
    }
    request_log_refusal(d->r, verdict);
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
    d->n = 0;
}

/* Judges the rules of this section that have not been judged for the client's request. */
__attribute__((noinline)) static int request_decide(request_rec *r, const dir_conf_t *conf,
                                                    bool in_handler)
{
    decide_t d;

    request_begin(&d, r, conf);
    d.before = request_verdict_so_far(r);
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
    return rule->conditional || rule->choice == CHOICE_NAMED ? NULL : rule->variants[0];
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
    return conf->fields == FIELDS_OFF && conf->env_always != 1 && conf->engine == ENGINE_ON;
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
    respond_guard(r, verdict);
}

__attribute__((noinline)) static int request_fixups_redirected(request_rec *r,
                                                               const dir_conf_t *conf)
{
    request_redirected(r);
    if (request_is_error_document(r) || !request_concerned(r, conf) || request_is_uncounted(r)) {
        return DECLINED;
    }
    return request_decide(r, conf, false);
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
    return request_decide(r, conf, true);
}
