/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The table behind algorithm=NAME. An algorithm of another module is asked through a stand-in, so
 * that an answer out of bounds makes no request wait for ever and no field unreadable. What it
 * writes outside its state nobody can keep it from.
 */

#include "provider.h"

#include <apr_strings.h>

#include <string.h>

#define ALGORITHM_TAKES (RLP_TAKES_BURST | RLP_TAKES_INITIAL | RLP_TAKES_START)
#define ALGORITHM_SIZE_MAX (UINT32_MAX - 7)

/* Stands in for the algorithm of another module. */
typedef struct {
    rlp_algorithm_t head;
    const rlp_algorithm_t *own;
} stand_in_t;

static const rlp_algorithm_t *algorithm_own(const rlp_limit_t *limit)
{
    return ((const stand_in_t *)limit->algorithm)->own;
}

static rlp_time_t algorithm_span(rlp_time_t span)
{
    return span < 0 ? 0 : span;
}

/* Keeps a decision within what rlp_decision_t promises. */
static void algorithm_bound(rlp_decision_t *d, const rlp_op_t *op)
{
    const bool asks = op->kind == RLP_TAKE || op->kind == RLP_PEEK;
    const bool none = (unsigned)d->verdict > RLP_NEVER || (!asks && d->verdict != RLP_ALLOW);

    d->damaged |= none;
    d->verdict = none ? RLP_ALLOW : d->verdict;
    if (d->verdict == RLP_WAIT && (d->wait <= 0 || op->max_wait <= 0)) {
        d->verdict = RLP_ALLOW;
    }
    d->wait = d->verdict == RLP_WAIT ? d->wait : 0;
    d->wait = d->wait > op->max_wait ? op->max_wait : d->wait;
    d->retry = d->verdict == RLP_DENY ? d->retry : 0;
    d->retry = d->verdict == RLP_DENY && d->retry < 1 ? 1 : d->retry;
    d->changed &= op->kind != RLP_PEEK;
    d->next = algorithm_span(d->next);
    d->reset = algorithm_span(d->reset);
    d->remaining = d->remaining < 0 ? 0 : d->remaining;
    d->remaining =
        d->remaining > RLP_UNITS_MAX / RLP_UNIT ? RLP_UNITS_MAX / RLP_UNIT : d->remaining;
}

static void algorithm_step(void *state, const rlp_limit_t *limit, const rlp_op_t *op,
                           rlp_decision_t *decision)
{
    *decision = (rlp_decision_t){ .verdict = RLP_ALLOW };
    algorithm_own(limit)->step(state, limit, op, decision);
    algorithm_bound(decision, op);
}

/* In whole words, one at least. */
static uint32_t algorithm_round(uint32_t size)
{
    return size == 0 ? 8 : (size > ALGORITHM_SIZE_MAX ? ALGORITHM_SIZE_MAX : size + 7) / 8 * 8;
}

static uint32_t algorithm_state_size(const rlp_limit_t *limit)
{
    return algorithm_round(algorithm_own(limit)->state_size_of(limit));
}

/* What an algorithm lacks to stand behind algorithm=; NULL: nothing. */
static const char *algorithm_lacks(const rlp_algorithm_t *own, const char *name, apr_pool_t *pool)
{
    if (own->name == NULL || ap_cstr_casecmp(own->name, name) != 0) {
        return "with its own name in rlp_algorithm_t";
    }
    if (rlp_name_check(name, pool) != NULL) {
        return "with a name of letters, digits, \"_\", \".\" or \"-\"";
    }
    if (own->step == NULL) {
        return "with a step";
    }
    if ((own->state_size == 0) == (own->state_size_of == NULL)) {
        return "with either state_size or state_size_of";
    }
    if (own->quota || own->holds) {
        return "without quota and holds, which rate= does not have";
    }
    return (own->takes & ~(unsigned)ALGORITHM_TAKES) != 0 ? "that takes RLP_TAKES_* only" : NULL;
}

static bool algorithm_is_built_in(const rlp_algorithm_t *algorithm)
{
    for (int i = 0; rlp_algorithms[i] != NULL; i++) {
        if (rlp_algorithms[i] == algorithm) {
            return true;
        }
    }
    return false;
}

static const rlp_algorithm_t *algorithm_stand_in(const rlp_algorithm_t *own, apr_pool_t *pool)
{
    stand_in_t *made = apr_pcalloc(pool, sizeof(*made));

    made->own = own;
    made->head = *own;
    made->head.step = algorithm_step;
    made->head.state_size = own->state_size ? algorithm_round(own->state_size) : 0;
    made->head.state_size_of = own->state_size_of ? algorithm_state_size : NULL;
    return &made->head;
}

/* The next place of the table after the algorithm of that name, which stands there if it may. */
static const rlp_algorithm_t **algorithm_put(const rlp_algorithm_t **table, const char *name,
                                             apr_pool_t *pool)
{
    const rlp_algorithm_t *own = provider_find(&provider_algorithms, name, pool);

    if (algorithm_is_built_in(own)) {
        *table++ = own;
    } else if (algorithm_lacks(own, name, pool) == NULL) {
        *table++ = algorithm_stand_in(own, pool);
    }
    return table;
}

static bool algorithm_is_known(const char *name)
{
    for (int i = 0; rlp_algorithms[i] != NULL; i++) {
        if (ap_cstr_casecmp(rlp_algorithms[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

const rlp_algorithm_t *const *algorithm_table(apr_pool_t *pool)
{
    const char *const *names = provider_names(&provider_algorithms, pool);
    size_t n = 1;

    while (names[n - 1] != NULL) {
        n++;
    }
    const rlp_algorithm_t **table = apr_pcalloc(pool, n * sizeof(rlp_algorithm_t *));
    const rlp_algorithm_t **next = table;

    for (int i = 0; rlp_algorithms[i] != NULL; i++) {
        next = algorithm_put(next, rlp_algorithms[i]->name, pool);
    }
    for (int i = 0; names[i] != NULL; i++) {
        next = algorithm_is_known(names[i]) ? next : algorithm_put(next, names[i], pool);
    }
    return table;
}

/* What keeps the algorithm of that name from being used; NULL: nothing, or it is not there. */
static const char *algorithm_refusal(const char *name, apr_pool_t *pool)
{
    const rlp_algorithm_t *own = provider_find(&provider_algorithms, name, pool);

    if (own == NULL) {
        return provider_other_version(&provider_algorithms, name, pool);
    }
    const char *lacks = algorithm_lacks(own, name, pool);

    return lacks ? apr_psprintf(pool, "expected an algorithm %s, got \"%s\"", lacks, name) : NULL;
}

const char *algorithm_refused(const char *const words[], int n, apr_pool_t *pool)
{
    const char *error = NULL;

    for (int i = 0; i < n && error == NULL; i++) {
        if (ap_cstr_casecmpn(words[i], "algorithm=", 10) == 0) {
            error = algorithm_refusal(words[i] + 10, pool);
        }
    }
    return error;
}
