/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a request costs: a number, an expression, or what the response says.
 */

#include "private.h"

#include <http_log.h>

#include <apr_atomic.h>
#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define COST_HEADER "response-header:"
#define COST_SHOWN 64 /* bytes of a value in a message */

static const char *cost_parse_header(cost_t *cost, cmd_parms *cmd, const char *word,
                                     const char *reserve)
{
    cost->header = word + strlen(COST_HEADER);
    config_needs(cmd, HOOK_AFTER | HOOK_HEARS);
    if (*cost->header == '\0' || *ap_scan_http_token(cost->header) != '\0') {
        return apr_psprintf(cmd->pool,
                            "expected " COST_HEADER "NAME with the name of a header field, got "
                            "\"%s\"",
                            word);
    }
    if (reserve != NULL && rlp_units_parse(&cost->units, reserve, cmd->pool) != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected reserve=N with at most three decimals, got \"reserve=%s\"",
                            reserve);
    }
    return NULL;
}

const char *cost_parse(cost_t **made, cmd_parms *cmd, const char *word, const char *reserve)
{
    static const char *const names[] = { "expr=", COST_HEADER, NULL };
    cost_t *cost = apr_pcalloc(cmd->pool, sizeof(*cost));

    *made = cost;
    cost->units = RLP_UNIT;
    if (ap_cstr_casecmpn(word, COST_HEADER, strlen(COST_HEADER)) == 0) {
        return cost_parse_header(cost, cmd, word, reserve);
    }
    if (reserve != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected reserve= with " COST_HEADER "NAME alone, got \"reserve=%s\"",
                            reserve);
    }
    if (ap_cstr_casecmpn(word, "expr=", 5) == 0) {
        return config_expression(&cost->expr, cmd, "expr=", word + 5, AP_EXPR_FLAG_STRING_RESULT);
    }
    if (rlp_units_parse(&cost->units, word, cmd->pool) != NULL) {
        return apr_psprintf(cmd->pool,
                            "expected a cost of 0 or more with at most three decimals, "
                            "\"expr=EXPR\" or " COST_HEADER "NAME, got \"%s\"%s",
                            word, config_near(word, names, cmd->pool));
    }
    return NULL;
}

const char *cost_text(rlp_units_t units, apr_pool_t *pool)
{
    const char *whole = apr_psprintf(pool, "%" APR_INT64_T_FMT, units / RLP_UNIT);

    return units % RLP_UNIT ? apr_psprintf(pool, "%s.%03d", whole, (int)(units % RLP_UNIT)) : whole;
}

/* Clients may be able to cause what is wrong: one line a second of each process says it. */
static bool cost_may_log(void)
{
    const apr_uint32_t second = (apr_uint32_t)(rlp_world->clock->monotonic() / RLP_SECOND);

    return apr_atomic_xchg32(&rlp_world->cost_logged, second) != second;
}

/* The number that a text is; or what is assumed, with a line in the log, if it is none. Blanks
   around it are no part of what a header field says. */
static rlp_units_t cost_number(const char *value, rlp_units_t assumed, const request_rec *r)
{
    static const char blanks[] = " \t";
    const char *begin = value + strspn(value, blanks);
    size_t len = strlen(begin);

    while (len > 0 && strchr(blanks, begin[len - 1]) != NULL) {
        len--;
    }
    const char *text = apr_pstrmemdup(r->pool, begin, len);
    rlp_units_t units = assumed;

    if (rlp_units_parse(&units, text, r->pool) != NULL && cost_may_log()) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "RLP006: expected a cost of at most 15 digits and three decimals, got "
                      "\"%.*s\"; %" APR_INT64_T_FMT ".%03d counts instead",
                      COST_SHOWN, text, assumed / RLP_UNIT, (int)(assumed % RLP_UNIT));
    }
    return units;
}

const cost_t *cost_of(const rule_t *rule, const dir_conf_t *conf)
{
    const cost_t *cost = rule->cost ? rule->cost : conf->cost;

    /* what .htaccess says is no matter of counters that other hosts have, too */
    while (cost != NULL && cost->local && rule->directory == NULL && !rule->server->is_virtual) {
        cost = cost->outer;
    }
    return cost;
}

/* What one directive says, or none. */
static rlp_units_t cost_alone(const cost_t *cost, request_rec *r)
{
    if (cost == NULL) {
        return RLP_UNIT;
    }
    if (cost->expr == NULL) {
        return cost->units;
    }
    const char *error = NULL;
    const char *text = ap_expr_str_exec(r, cost->expr, &error);

    if (error == NULL && text != NULL) {
        return cost_number(text, RLP_UNIT, r);
    }
    if (cost_may_log()) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "RLP006: expected a cost, got none: %s; 1.000 counts instead",
                      error ? error : "the expression has no value");
    }
    return RLP_UNIT;
}

rlp_units_t cost_before(const cost_t *cost, request_rec *r)
{
    rlp_units_t most = cost_alone(cost, r);

    for (; cost != NULL && cost->local; cost = cost->outer) {
        const rlp_units_t units = cost_alone(cost->outer, r);

        most = units > most ? units : most;
    }
    return most;
}

bool cost_is_late(const cost_t *cost)
{
    while (cost != NULL && cost->header == NULL) {
        cost = cost->outer;
    }
    return cost != NULL;
}

/* What one directive says when there is a response. */
static rlp_units_t cost_alone_after(const cost_t *cost, request_rec *r, rlp_units_t charged)
{
    if (cost == NULL || cost->header == NULL) {
        return cost_alone(cost, r);
    }
    const char *text = apr_table_get(r->headers_out, cost->header);

    if (text == NULL) {
        text = apr_table_get(r->err_headers_out, cost->header);
    }
    return text ? cost_number(text, charged, r) : charged;
}

rlp_units_t cost_after(const cost_t *cost, request_rec *r, rlp_units_t charged)
{
    rlp_units_t most = cost_alone_after(cost, r, charged);

    for (; cost != NULL && cost->local; cost = cost->outer) {
        const rlp_units_t units = cost_alone_after(cost->outer, r, charged);

        most = units > most ? units : most;
    }
    return most;
}
