/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef DECIDE_H
#define DECIDE_H

/*
 * What the files share that judge a request: choose.c says which rules speak of it,
 * decide_collect.c whom they count, decide.c what the store says, decide_wait.c lets it wait,
 * request.c hooks that into httpd.
 */

#include "override.h"
#include "private.h"

#pragma GCC visibility push(hidden)

/* what every request goes through */
#define DECIDE_INLINE __attribute__((always_inline)) static inline

/* which rules are judged */
enum { PHASE_EARLY = 1U << 0, PHASE_LATE = 1U << 1, PHASE_BOTH = PHASE_EARLY | PHASE_LATE };

#define DECIDE_RULES_MAX 64 /* bits of verdict_t.judged */

/* What came of asking the store about a request the short way. */
typedef struct {
    apr_status_t rv; /* APR_SUCCESS: it may be asked about it again; it has charged nothing */
    rlp_answer_t answer;
} asked_t;

/* What one decision gathers. On the stack, and no more of it written than is used. */
typedef struct {
    request_rec *r;
    const dir_conf_t *conf;
    const server_conf_t *server;
    const verdict_t *before; /* what was decided before an internal redirect, or NULL */
    verdict_t *verdict;
    unsigned phases;
    const asked_t *asked;  /* NULL: the store has not been asked yet */
    who_t *who;            /* the last one looked for; the first has its room in here */
    uint64_t judged;       /* rules of the section, a bit each */
    uint64_t unidentified; /* those that found nobody to count, and did not before */
    const who_t *banned;   /* of those whom rules count, for longest; NULL: nobody */
    int refuse;            /* status by which a map refuses an unknown value, or nobody is served */
    const rule_t *stranger; /* the rule that counts one refused by a map or a ban */
    size_t room;            /* for the text of RateLimit */
    bool costed;            /* cost is known */
    bool plain;             /* nothing is to be done after the decision */
    bool waits;             /* may have to wait */
    bool delayed;           /* has waited */
    bool left;              /* the client hung up meanwhile, or the server stops */
    bool dated;             /* the wall clock is asked for */
    rlp_units_t cost;       /* by the section */
    int group;              /* of the next branches */
    int n;
    const rule_t *rules[RLP_ENTRIES_MAX];
    struct {
        const variant_t *variant;
        int limit;
    } owners[RLP_ENTRIES_MAX];
    rlp_charge_t charges[RLP_ENTRIES_MAX];
    who_t first;
} decide_t;

/* What there is to go on from. Of one that was exempt before an internal redirect there is
   nothing. */
DECIDE_INLINE const verdict_t *decide_before(const request_rec *r)
{
    const verdict_t *verdict = request_verdict_so_far(r);

    return verdict != NULL && verdict == &verdict->conf->exempted ? NULL : verdict;
}

/* Goes on from what was decided before an internal redirect. What was charged there without header
   fields is kept where variables tell of it, or the same section goes on: of most requests that
   pass without fields nothing is known. */
DECIDE_INLINE void decide_go_on(verdict_t *verdict, const verdict_t *before, const dir_conf_t *conf)
{
    const bool all = before->identity != NULL || before->conf == conf || before->denied;

    *verdict = *before;
    verdict->n = 0;
    verdict->outcomes = (outcome_t *)(verdict + 1);
    for (int i = 0; i < before->n; i++) {
        if (all || !before->outcomes[i].untold) {
            verdict->outcomes[verdict->n++] = before->outcomes[i];
        }
    }
}

/* A verdict with room for so many outcomes more than before an internal redirect (before; NULL:
   nothing was decided), and for what the header fields say of them: all one piece. */
DECIDE_INLINE verdict_t *decide_verdict(request_rec *r, const dir_conf_t *conf,
                                        const verdict_t *before, int n, size_t text)
{
    const int known = before ? before->n : 0;
    const size_t outcomes = sizeof(outcome_t) * (size_t)(known + n);
    const size_t room = text + (before ? before->room : RLP_NUMBERS_ROOM);
    verdict_t *verdict = apr_palloc(r->pool, sizeof(*verdict) + outcomes + room);

    if (before != NULL) {
        decide_go_on(verdict, before, conf);
    } else {
        verdict->action = conf->passed.action;
        verdict->denied = false;
        verdict->bandwidth = 0;
        verdict->at = 0;
        verdict->after = NULL;
        verdict->retry = 0;
        verdict->identity = NULL;
        verdict->apart.rule = NULL;
        verdict->apart_identity = NULL;
        verdict->n = 0;
        verdict->fields = NULL;
    }
    verdict->conf = conf;
    verdict->unidentified = 0;
    verdict->path = r->uri;
    verdict->before = before;
    verdict->outcomes = (outcome_t *)(verdict + 1);
    verdict->text = (char *)verdict->outcomes + outcomes;
    verdict->room = room;
    ap_set_module_config(r->request_config, &ratelimit_plans_module, verdict);
    return verdict;
}

/* The identities by which a rule counts here. */
DECIDE_INLINE const chain_t *decide_chain(const rule_t *rule, const dir_conf_t *conf)
{
    if (rule->key != NULL) {
        return rule->key;
    }
    return conf->chain ? conf->chain : rlp_world->default_chain;
}

/* Does the rule refuse nobody here? */
DECIDE_INLINE bool decide_is_apart(const dir_conf_t *conf, const rule_t *rule)
{
    return conf->engine == ENGINE_LOG_ONLY || rule->traits & TRAIT_APART;
}

/* --- choose.c */

/* The rules of the section that apply to the request, a bit each. Alternatives are chosen among
   those of all phases. */
uint64_t choose_rules(const decide_t *d);

/* Those of the rules that refuse nobody. */
uint64_t choose_apart(const dir_conf_t *conf, uint64_t rules);

/* --- decide_collect.c */

/* Ready for a request in a section. */
void decide_begin(decide_t *d, request_rec *r, const dir_conf_t *conf);

/* Adds those of the rules that have not been judged for the client's request. False: there is no
   room for more. */
bool decide_collect(decide_t *d, uint64_t rules);

/* How long the request may wait for a turn under the rule. For what refuses nobody, none waits. */
rlp_time_t decide_max_wait(const decide_t *d, const rule_t *rule);

/* --- decide.c */

/* Judges the rules of this section that have not been judged for the client's request. What the
   hook returns. A store that was asked and has failed (asked; NULL: it was not) is not asked again:
   it may have made the charges, and who waits has waited. */
int decide_request(request_rec *r, const dir_conf_t *conf, unsigned phases, bool in_handler,
                   const asked_t *asked);

/* Who is refused whatever the limits say, for the rule that counts it (d->stranger); identity: whom
   that is (NULL: nobody who is counted). */
void decide_refuse_whom(const decide_t *d, const char *identity);

/* Says that a counter was damaged, once a process. */
void decide_log_damage(const request_rec *r);

/* --- ordered_request.c */

/* Puts what people have ordered for the identity into it. */
void ordered_apply(who_t *who);

/* Is there anything ordered for anybody? */
DECIDE_INLINE bool ordered_any(void)
{
    return override_any(rlp_world->ordered_count);
}

/* A request of somebody banned: what the hook returns. */
int ordered_refuse(const decide_t *d, bool in_handler);

/* --- decide_wait.c */

/* Asks the store. Before anybody is refused for a place, those of dead processes come back. */
apr_status_t wait_check(decide_t *d, rlp_question_t *question, rlp_answer_t *answer);

/* The same for a request that may wait: refused when too many do, or when its turn is too far
   away. */
apr_status_t wait_for_turn(decide_t *d, rlp_question_t *question, rlp_answer_t *answer);

#pragma GCC visibility pop

#endif
