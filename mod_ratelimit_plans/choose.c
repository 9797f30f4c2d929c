/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which rules of a section speak of a request.
 */

#include "decide.h"

/* Of two alternatives, NULL for none, the one that applies: the first declared among equals. */
static const rule_t *choose_better(const rule_t *one, const rule_t *later)
{
    return one == NULL || later->priority > one->priority ? later : one;
}

/* Is the rule one of several alternatives of that place? */
static bool choose_is_alternative(const rule_t *rule, const char *directory)
{
    return rule->traits & TRAIT_PRIORITY &&
           (rule->directory == directory || (rule->directory != NULL && directory != NULL &&
                                             strcmp(rule->directory, directory) == 0));
}

/* Of the alternatives among the matching rules that are from one .htaccess, or from none, leaves
   the one that applies. One that refuses nobody takes no other's place: it is judged beside it if
   it is the better one. */
static uint64_t choose_choose(const apr_array_header_t *rules, uint64_t matching,
                              const char *directory)
{
    const rule_t *best = NULL;
    const rule_t *enforced = NULL;
    uint64_t chosen = matching;

    for (uint64_t bits = matching; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(rules, __builtin_ctzll(bits), const rule_t *);

        if (choose_is_alternative(rule, directory)) {
            best = choose_better(best, rule);
            enforced = rule->traits & TRAIT_APART ? enforced : choose_better(enforced, rule);
        }
    }
    for (uint64_t bits = matching; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(rules, __builtin_ctzll(bits), const rule_t *);

        if (choose_is_alternative(rule, directory) && rule != best && rule != enforced) {
            chosen &= ~(bits & -bits);
        }
    }
    return chosen;
}

/* The same for each .htaccess by itself: what is said there takes the place of nothing outside. */
static uint64_t choose_choose_local(const apr_array_header_t *rules, uint64_t matching)
{
    uint64_t chosen = matching;

    for (uint64_t bits = matching; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(rules, __builtin_ctzll(bits), const rule_t *);

        if (rule->directory != NULL) {
            chosen = choose_choose(rules, chosen, rule->directory);
        }
    }
    return chosen;
}

/* Those of the rules whose turn it is. */
static uint64_t choose_phase(const decide_t *d, uint64_t rules)
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
uint64_t choose_rules(const decide_t *d)
{
    const int n = d->conf->rules->nelts;
    uint64_t matching = 0;

    for (int i = 0; i < n && i < DECIDE_RULES_MAX; i++) {
        const rule_t *rule = APR_ARRAY_IDX(d->conf->rules, i, const rule_t *);

        if (rule_matches(rule, d->r)) {
            matching |= UINT64_C(1) << i;
        }
    }
    if (d->conf->traits & TRAIT_PRIORITY) {
        matching = choose_choose(d->conf->rules, matching, NULL);
        matching = d->conf->traits & TRAIT_LOCAL ? choose_choose_local(d->conf->rules, matching)
                                                 : matching;
    }
    return d->conf->traits & TRAIT_EARLY ? choose_phase(d, matching) : matching;
}

/* Those of the rules that refuse nobody. */
uint64_t choose_apart(const dir_conf_t *conf, uint64_t rules)
{
    uint64_t apart = 0;

    if (conf->engine == ENGINE_ON && !(conf->traits & TRAIT_APART)) {
        return 0;
    }
    for (uint64_t bits = rules; bits != 0; bits &= bits - 1) {
        const rule_t *rule = APR_ARRAY_IDX(conf->rules, __builtin_ctzll(bits), const rule_t *);

        apart |= decide_is_apart(conf, rule) ? bits & -bits : 0;
    }
    return apart;
}
