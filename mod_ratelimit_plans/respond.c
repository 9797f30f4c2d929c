/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What client, logs and other modules are told: header fields, variables, bandwidth.
 */

#include "private.h"

#include <http_request.h>
#include <util_filter.h>

#include <apr_strings.h>

#include <string.h>

#define RESPOND_DIGITS ((size_t)20)

/* what every request with header fields goes through */
#define RESPOND_INLINE __attribute__((always_inline)) static inline

/* The names of draft-ietf-httpapi-ratelimit-headers-11 and of the older custom, in one place: they
   still move. In the order of verdict_t.fields. */
const _Alignas(RESPOND_NAME) char respond_names[RLP_FIELDS_N][RESPOND_NAME] = {
    "RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining",
    "X-RateLimit-Reset"
};

enum { FIELD_POLICY, FIELD_LIMIT, FIELD_X_LIMIT, FIELD_X_REMAINING, FIELD_X_RESET };

_Static_assert(FIELD_X_RESET + 1 == RLP_FIELDS_N, "as records.h says");

#define RESPOND_TIME ";t="

/* --- text, without printf: this is most of what a request costs */

static char *respond_put(char *to, const char *text, size_t len)
{
    memcpy(to, text, len);
    return to + len;
}

static const char respond_pairs[] = "00010203040506070809101112131415161718192021222324"
                                    "25262728293031323334353637383940414243444546474849"
                                    "50515253545556575859606162636465666768697071727374"
                                    "75767778798081828384858687888990919293949596979899";

static char *respond_put_pair(char *to, uint32_t below100)
{
    return respond_put(to, respond_pairs + (size_t)below100 * 2, 2);
}

/* One or two digits. */
static char *respond_put_short(char *to, uint32_t below100)
{
    if (below100 >= 10) {
        return respond_put_pair(to, below100);
    }
    *to = (char)('0' + below100);
    return to + 1;
}

/* One to four digits. */
RESPOND_INLINE char *respond_put_four(char *to, uint32_t below10000)
{
    return below10000 >= 100
               ? respond_put_pair(respond_put_short(to, below10000 / 100), below10000 % 100)
               : respond_put_short(to, below10000);
}

__attribute__((noinline)) static char *respond_put_long(char *to, uint64_t number)
{
    uint64_t rest = number;
    uint64_t unit = 10000; /* of the four digits in hand */

    while (rest / unit >= 10000) {
        unit *= 10000;
    }
    to = respond_put_four(to, (uint32_t)(rest / unit));
    while (unit > 1) {
        rest %= unit;
        unit /= 10000;
        const uint32_t four = (uint32_t)(rest / unit);

        to = respond_put_pair(respond_put_pair(to, four / 100), four % 100);
    }
    return to;
}

/* Most are short. */
static char *respond_put_number(char *to, int64_t number)
{
    return (uint64_t)number < 10000 ? respond_put_four(to, (uint32_t)number)
                                    : respond_put_long(to, (uint64_t)number);
}

/* A number as a string of its own; to moves behind it. */
static const char *respond_number_at(char **to, int64_t number)
{
    const char *text = *to;

    *to = respond_put_number(*to, number);
    *(*to)++ = '\0';
    return text;
}

const char *respond_number(int64_t number, apr_pool_t *pool)
{
    char *room = apr_palloc(pool, RESPOND_DIGITS + 1);

    return respond_number_at(&room, number);
}

/* --- header fields */

static const rlp_limit_t *respond_limit(const outcome_t *outcome)
{
    return &outcome->variant->plan->limits[outcome->limit];
}

bool respond_tighter(const outcome_t *a, const outcome_t *b)
{
    return rlp_decision_tighter(respond_limit(a), &a->decision, respond_limit(b), &b->decision);
}

void respond_sort(verdict_t *verdict)
{
    outcome_t *all = verdict->outcomes;

    for (int i = 1; i < verdict->n; i++) { /* insertion, they are few */
        const outcome_t one = all[i];
        int j = i;

        for (; j > 0 && respond_tighter(&one, &all[j - 1]); j--) {
            all[j] = all[j - 1];
        }
        all[j] = one;
    }
}

/* Two rules may use one plan, and one may have the name of another's plan. */
const label_t *respond_label(const verdict_t *verdict, const outcome_t *outcome)
{
    const label_t *label = &outcome->variant->labels[0][outcome->limit];

    for (int i = 0; i < verdict->n; i++) {
        const outcome_t *other = &verdict->outcomes[i];

        if (other->rule != outcome->rule && other->untold == outcome->untold &&
            strcmp(other->variant->labels[0][other->limit].name, label->name) == 0) {
            return &outcome->variant->labels[1][outcome->limit];
        }
    }
    return label;
}

/* One member of RateLimit. The label is copied by words; both ends have room for that. */
RESPOND_INLINE char *respond_put_left(char *to, const label_t *label, const outcome_t *outcome)
{
    const int64_t effective = rlp_limit_effective(respond_limit(outcome), &outcome->decision);
    const char *left = label->left;
    const size_t len = label->left_len;

    for (size_t i = 0; i < len; i += RLP_LABEL_WORD) {
        memcpy(to + i, left + i, RLP_LABEL_WORD);
    }
    to = respond_put_number(to + len, outcome->decision.remaining);
    if (effective >= 0) {
        to = respond_put(to, RESPOND_TIME, sizeof(RESPOND_TIME) - 1);
        to = respond_put_number(to, effective);
    }
    return to;
}

static void respond_policies(verdict_t *verdict, apr_pool_t *pool)
{
    size_t room = 1;

    for (int i = 0; i < verdict->n; i++) {
        room += respond_label(verdict, &verdict->outcomes[i])->policy_len + 2;
    }
    char *to = apr_palloc(pool, room);

    verdict->fields[FIELD_POLICY] = to;
    for (int i = 0; i < verdict->n; i++) {
        const label_t *label = respond_label(verdict, &verdict->outcomes[i]);

        to = respond_put(to, ", ", i > 0 ? 2 : 0);
        to = respond_put(to, label->policy, label->policy_len);
    }
    *to = '\0';
}

/* RateLimit-Policy and RateLimit; the policy of a single limit is a constant. */
static char *respond_ietf(char *to, verdict_t *verdict, apr_pool_t *pool)
{
    const outcome_t *outcome = verdict->outcomes;

    verdict->fields[FIELD_LIMIT] = to;
    if (verdict->n == 1) {
        const label_t *label = &outcome->variant->labels[0][outcome->limit];

        verdict->fields[FIELD_POLICY] = label->policy;
        to = respond_put_left(to, label, outcome);
    } else {
        respond_policies(verdict, pool);
        for (int i = 0; i < verdict->n; i++, outcome++) {
            to = respond_put(to, ", ", i > 0 ? 2 : 0);
            to = respond_put_left(to, respond_label(verdict, outcome), outcome);
        }
    }
    *to++ = '\0';
    return to;
}

#define RESPOND_SLACK INT64_C(1000) /* clocks are not read all at once */

/* A span from the decision on, as an instant: a request may have waited since. */
static int64_t respond_instant(const verdict_t *verdict, rlp_time_t span)
{
    const rlp_time_t wall = rlp_world->clock->wall();
    const rlp_time_t since = rlp_world->clock->monotonic() - verdict->at;

    return rlp_seconds(wall - since + span - RESPOND_SLACK);
}

static void respond_legacy(char *to, verdict_t *verdict, bool epoch)
{
    const outcome_t *outcome = verdict->outcomes;
    const rlp_time_t reset = outcome->decision.reset;
    int64_t seconds = reset > 0 ? rlp_seconds(reset) : 0;

    verdict->fields[FIELD_X_LIMIT] =
        respond_number_at(&to, rlp_limit_quota(respond_limit(outcome)));
    verdict->fields[FIELD_X_REMAINING] = respond_number_at(&to, outcome->decision.remaining);
    verdict->fields[FIELD_X_RESET] = NULL;
    if (reset != RLP_TIME_NEVER) {
        if (epoch) {
            seconds = respond_instant(verdict, reset);
        }
        verdict->fields[FIELD_X_RESET] = respond_number_at(&to, seconds);
    }
}

/* Sends those from one field up to another. */
RESPOND_INLINE void respond_send_some(request_rec *r, const char *const fields[], int from, int to)
{
    /* in an empty one nothing need be looked for */
    void (*const send)(apr_table_t *, const char *, const char *) =
        apr_is_empty_table(r->err_headers_out) ? apr_table_addn : apr_table_setn;

    for (int i = from; i < to; i++) {
        if (fields[i] != NULL) {
            send(r->err_headers_out, respond_names[i], fields[i]);
        }
    }
}

void respond_send(request_rec *r, const char *const fields[])
{
    respond_send_some(r, fields, 0, RLP_FIELDS_N);
}

/* What was told before a redirect is told anew, or not any more; a filter has the pointers. */
static void respond_forget(request_rec *r, const char *fields[])
{
    for (int i = 0; i < RLP_FIELDS_N; i++) {
        if (fields[i] != NULL) {
            apr_table_unset(r->err_headers_out, respond_names[i]);
            fields[i] = NULL;
        }
    }
}

/* What is to be told behind a redirect of all that was charged. */
__attribute__((noinline)) static verdict_t *respond_told(const verdict_t *verdict, apr_pool_t *pool)
{
    verdict_t *told = apr_pmemdup(pool, verdict, sizeof(*verdict));

    told->n = 0;
    told->outcomes = apr_palloc(pool, sizeof(*told->outcomes) * (apr_size_t)verdict->n);
    for (int i = 0; i < verdict->n; i++) {
        if (!verdict->outcomes[i].untold) {
            told->outcomes[told->n++] = verdict->outcomes[i];
        }
    }
    return told;
}

void respond_fields(request_rec *r, verdict_t *verdict, const dir_conf_t *conf)
{
    unsigned set = conf->fields == RLP_UNSET ? FIELDS_BOTH : (unsigned)conf->fields;

    if (verdict->n == 0 || (conf->fields_denied == 1 && !verdict->denied)) {
        return;
    }
    if (verdict->fields == NULL) {
        verdict->fields = verdict->own_fields;
        memset(verdict->own_fields, 0, sizeof(verdict->own_fields));
    } else {
        respond_forget(r, verdict->fields);
    }
    verdict_t *told = verdict;
    if (verdict->before != NULL) {
        told = respond_told(verdict, r->pool);
        set = told->n > 0 ? set : FIELDS_OFF;
    }
    char *to = told->text;

    place_begin(r);
    if (set & FIELDS_IETF) {
        to = respond_ietf(to, told, r->pool);
    }
    if (set & FIELDS_LEGACY) {
        respond_legacy(to, told, conf->fields_epoch == 1);
    }
    respond_send_some(r, verdict->fields, set & FIELDS_IETF ? FIELD_POLICY : FIELD_X_LIMIT,
                      set & FIELDS_LEGACY ? RLP_FIELDS_N : FIELD_X_LIMIT);
    if (r->handler != NULL || r->content_type != NULL || r->proxyreq != PROXYREQ_NONE) {
        place_guard(r, verdict);
    }
}

/* --- variables */

static const struct {
    _Alignas(RESPOND_NAME) char action[RESPOND_NAME];
    char identity[RESPOND_NAME];
    char time[RESPOND_NAME];
    char rule[RESPOND_NAME];
    char plan[RESPOND_NAME];
    char remaining[RESPOND_NAME];
    char reset[RESPOND_NAME];
} respond_variables = { "RATELIMIT_ACTION", "RATELIMIT_IDENTITY", "RATELIMIT_TIME",
                        "RATELIMIT_RULE",   "RATELIMIT_PLAN",     "RATELIMIT_REMAINING",
                        "RATELIMIT_RESET" };

/* Of rules that refuse nobody, something is told where they would have, or nothing else is; of the
   rule by which a map or a ban refuses, ever. */
static bool respond_tells_apart(const verdict_t *verdict)
{
    if (verdict->apart.rule == NULL) {
        return false;
    }
    return verdict->n > 0 ? verdict->action[0] == 'w' || verdict->action[0] == 'm'
                          : !verdict->denied || verdict->action[0] == 'd';
}

/* What there is nothing to say of is not left as it was before authentication or a redirect. */
static void respond_set(request_rec *r, const char *variable, const char *value)
{
    if (value != NULL) {
        apr_table_setn(r->subprocess_env, variable, value);
    } else {
        apr_table_unset(r->subprocess_env, variable);
    }
}

/* When it was decided, by the clock of the store that has: several have none in common. */
static void respond_time(request_rec *r, const verdict_t *verdict)
{
    const rule_t *rule = verdict->n > 0 ? verdict->outcomes[0].rule : verdict->apart.rule;

    if (verdict->at != 0 && rule != NULL) {
        apr_table_setn(r->subprocess_env, respond_variables.time,
                       respond_number(rlp_store_time(stores_of(rule)->store, verdict->at),
                                      r->pool));
    }
}

/* Of the limit that is told of; NULL: none is, but a rule may be. */
static void respond_env_limit(request_rec *r, const outcome_t *outcome)
{
    const rlp_time_t reset = outcome ? outcome->decision.reset : RLP_TIME_NEVER;

    respond_set(r, respond_variables.plan, outcome ? outcome->variant->plan_name : NULL);
    respond_set(r, respond_variables.remaining,
                outcome ? respond_number(outcome->decision.remaining, r->pool) : NULL);
    respond_set(r, respond_variables.reset,
                reset != RLP_TIME_NEVER
                    ? respond_number(reset > 0 ? rlp_seconds(reset) : 0, r->pool)
                    : NULL);
}

static void respond_env_alone(request_rec *r, const verdict_t *verdict)
{
    const bool apart = respond_tells_apart(verdict);
    const outcome_t *outcome = apart ? &verdict->apart : verdict->outcomes;

    apr_table_setn(r->subprocess_env, respond_variables.action, verdict->action);
    respond_set(r, respond_variables.identity, apart ? verdict->apart_identity : verdict->identity);
    respond_time(r, verdict);
    if (verdict->n > 0 || apart) {
        respond_set(r, respond_variables.rule, outcome->rule->name);
        respond_env_limit(r, outcome->variant != NULL ? outcome : NULL);
    }
}

/* Behind redirects, too: what a log is to have (env=, expr=) is asked of the first request. */
void respond_env(request_rec *r, const verdict_t *verdict)
{
    for (; r != NULL; r = r->prev) {
        respond_env_alone(r, verdict);
    }
}

void respond_env_none(request_rec *r)
{
    apr_table_unset(r->subprocess_env, respond_variables.action);
}

/* --- bandwidth */

#define RESPOND_RATE_FILTER "RATE_LIMIT"
static const char respond_rate_limit[] = "rate-limit"; /* KiB a second */

/* What others have set stays if it is slower. */
void respond_bandwidth(request_rec *r, const verdict_t *verdict)
{
    const char *set = apr_table_get(r->subprocess_env, respond_rate_limit);
    const int64_t kib = verdict->bandwidth / 1024;

    if (set == NULL || apr_atoi64(set) <= 0 || apr_atoi64(set) > kib) {
        apr_table_setn(r->subprocess_env, respond_rate_limit, respond_number(kib, r->pool));
    }
}

void respond_insert_filter(request_rec *r)
{
    const verdict_t *verdict = r->main == NULL ? request_verdict_so_far(r) : NULL;

    if (verdict == NULL || verdict->bandwidth == 0) {
        return;
    }
    for (const ap_filter_t *filter = r->output_filters; filter != NULL; filter = filter->next) {
        if (ap_cstr_casecmp(filter->frec->name, RESPOND_RATE_FILTER) == 0) {
            return; /* it would slow down twice */
        }
    }
    ap_add_output_filter(RESPOND_RATE_FILTER, NULL, r, r->connection);
}
