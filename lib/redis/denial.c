/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/denial.h"

#include "algorithm/algorithms.h"
#include "check.h"

#include <apr_general.h>
#include <apr_siphash.h>
#include <apr_time.h>

#include <string.h>

_Static_assert(sizeof(((redis_denials_t *)NULL)->key[0]) == APR_SIPHASH_KSIZE, "a key of siphash");

#define DENIAL_SETS (REDIS_DENIALS / REDIS_DENIAL_WAYS)
#define DENIAL_REMAINING_BITS 40
#define DENIAL_REMAINING_END (UINT64_C(1) << DENIAL_REMAINING_BITS)
#define DENIAL_LAG_MAX ((INT64_C(1) << 23) - 1)

/* Behind the seal. */
enum {
    WORD_ASKED = 1, /* when */
    WORD_REMAINING, /* and the lag above */
    WORD_NEXT,
    WORD_RESET,
    WORD_RETRY,
    WORD_REQUEST, /* what was asked for, as a hash; the lowest bits: what was said of it */
    WORD_SERVER
};

/* What was said of a request. */
typedef enum {
    SAID_NOTHING, /* that would refuse it */
    SAID_DENY,
    SAID_NEVER,
    SAID_SPARED, /* a quota of its branch was used up */
    SAID_MASK = 7
} said_t;

/* Where a limit's entry is, and which it is. */
typedef struct {
    uint64_t set;
    uint64_t fingerprint;
} name_t;

/* What is known of one charge. */
typedef struct {
    bool known;
    bool fresh;   /* not too old to refuse by */
    bool used_up; /* the branch of this quota does not count */
    rlp_decision_t decision;
} fact_t;

/* The finalizer of splitmix64. */
static uint64_t denial_mix(uint64_t word)
{
    word = (word ^ word >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    word = (word ^ word >> 27) * UINT64_C(0x94D049BB133111EB);
    return word ^ word >> 31;
}

/* Nobody who does not know the keys can make two limits the same, nor choose a set. */
static name_t denial_name(const redis_denials_t *denials, const rlp_charge_t *charge)
{
    const rlp_key_t *key = &charge->entry.key;
    const rlp_limit_t *limit = charge->limit;
    const uint64_t words[] = { apr_siphash24(key->identity, key->identity_len, denials->key[0]),
                               key->signature, (uint64_t)limit->count, (uint64_t)limit->burst,
                               (uint64_t)limit->initial };

    return (name_t){ .set = denial_mix(words[0] + words[1]) % DENIAL_SETS,
                     .fingerprint = apr_siphash24(words, sizeof(words), denials->key[1]) };
}

static uint64_t denial_seal(uint64_t fingerprint, const uint64_t words[REDIS_DENIAL_WORDS])
{
    uint64_t seal = fingerprint;

    for (int i = 1; i < REDIS_DENIAL_WORDS; i++) {
        seal = denial_mix(seal + words[i] + (uint64_t)i);
    }
    return seal;
}

/* A request with its cost and its patience, the lowest bits free. */
static uint64_t denial_request(uint64_t fingerprint, const rlp_charge_t *charge)
{
    const uint64_t mixed = denial_mix(fingerprint + (uint64_t)charge->cost);

    return denial_mix(mixed + (uint64_t)charge->max_wait) & ~(uint64_t)SAID_MASK;
}

static void denial_load(const redis_denial_t *entry, uint64_t words[REDIS_DENIAL_WORDS])
{
    for (int i = 0; i < REDIS_DENIAL_WORDS; i++) {
        words[i] = __atomic_load_n(&entry->words[i], __ATOMIC_RELAXED);
    }
}

static void denial_store(redis_denial_t *entry, const uint64_t words[REDIS_DENIAL_WORDS])
{
    for (int i = 0; i < REDIS_DENIAL_WORDS; i++) {
        __atomic_store_n(&entry->words[i], words[i], __ATOMIC_RELAXED);
    }
}

/* The number of its entry, which is read into the words; -1: there is none. */
static int64_t denial_find(const redis_denials_t *denials, const name_t *name,
                           uint64_t words[REDIS_DENIAL_WORDS])
{
    const size_t first = name->set * REDIS_DENIAL_WAYS;

    for (size_t i = first; i < first + REDIS_DENIAL_WAYS; i++) {
        denial_load(&denials->entries[i], words);
        if (words[0] == denial_seal(name->fingerprint, words)) {
            return (int64_t)i;
        }
    }
    return -1;
}

/* How long ago it was asked. Clocks of threads may lie apart a little; -1: that is no time. */
static rlp_time_t denial_age(const uint64_t words[REDIS_DENIAL_WORDS], rlp_time_t now)
{
    const rlp_time_t asked = (rlp_time_t)words[WORD_ASKED];

    if (asked < 0 || asked > now) {
        return asked >= 0 && asked - now <= RLP_CLOCK_SKEW ? 0 : -1;
    }
    return now - asked;
}

/* The entry that is given up for a new one: the oldest. */
static size_t denial_victim(const redis_denials_t *denials, const name_t *name, rlp_time_t now)
{
    const size_t first = name->set * REDIS_DENIAL_WAYS;
    size_t victim = first;
    uint64_t oldest = 0;

    for (size_t i = first; i < first + REDIS_DENIAL_WAYS; i++) {
        uint64_t words[REDIS_DENIAL_WORDS];

        denial_load(&denials->entries[i], words);
        const uint64_t age = (uint64_t)denial_age(words, now); /* no time is the oldest */

        if (age > oldest) {
            victim = i;
            oldest = age;
        }
    }
    return victim;
}

apr_status_t redis_denials_init(redis_denials_t *denials)
{
    return apr_generate_random_bytes((unsigned char *)denials->key, sizeof(denials->key));
}

void redis_denials_doubt(redis_denials_t *denials, rlp_time_t now)
{
    __atomic_store_n(&denials->since, now, __ATOMIC_RELAXED);
}

/* --- learning */

static said_t denial_said(const rlp_charge_t *charge)
{
    if (charge->spared) {
        return SAID_SPARED;
    }
    if (charge->limit->algorithm->holds || charge->decision.verdict <= RLP_WAIT) {
        return SAID_NOTHING;
    }
    return charge->decision.verdict == RLP_DENY ? SAID_DENY : SAID_NEVER;
}

static bool denial_decides_branch(const rlp_charge_t *charge)
{
    return charge->branch == RLP_FIRST && charge->limit->algorithm->quota;
}

/* Nothing is told of a spared one but that a quota of its branch is used up, and what there is of
   it. */
static bool denial_teaches(const rlp_charge_t *charge)
{
    const rlp_decision_t *d = &charge->decision;

    if (charge->spared) {
        return denial_decides_branch(charge);
    }
    return !d->damaged && d->remaining >= 0 && (uint64_t)d->remaining < DENIAL_REMAINING_END;
}

/* Of two that are learnt in the wrong order the later one counts; but a time so far ahead is not
   one of this clock. */
static void denial_raise(rlp_time_t *time, rlp_time_t to, rlp_time_t ahead)
{
    const rlp_time_t known = __atomic_load_n(time, __ATOMIC_RELAXED);

    if (to > known || known - to > ahead) {
        __atomic_store_n(time, to, __ATOMIC_RELEASE);
    }
}

static void denial_refund(redis_refund_t *refund, const redis_told_t *told)
{
    denial_raise(&refund->server, told->server, REDIS_DENIAL_BELIEVED_MAX);
    denial_raise(&refund->answered, told->asked + told->lag, RLP_CLOCK_SKEW);
}

/* May something have been given back since the entry was made? A time still to come is none. */
static bool denial_refunded(const redis_refund_t *refund, const uint64_t words[REDIS_DENIAL_WORDS],
                            rlp_time_t now)
{
    const rlp_time_t answered = __atomic_load_n(&refund->answered, __ATOMIC_ACQUIRE);
    const rlp_time_t server = __atomic_load_n(&refund->server, __ATOMIC_RELAXED);

    return (rlp_time_t)words[WORD_ASKED] < answered && (rlp_time_t)words[WORD_SERVER] < server &&
           answered <= now + RLP_CLOCK_SKEW;
}

static void denial_learn_one(redis_denials_t *denials, const rlp_charge_t *charge,
                             const redis_told_t *told)
{
    const name_t name = denial_name(denials, charge);
    const rlp_decision_t *d = &charge->decision;
    const rlp_time_t lag = told->lag < 0 || told->lag > DENIAL_LAG_MAX ? DENIAL_LAG_MAX : told->lag;
    uint64_t words[REDIS_DENIAL_WORDS];
    const int64_t found = denial_find(denials, &name, words);
    const rlp_time_t age = found < 0 ? -1 : denial_age(words, told->asked);

    if (charge->cost < 0) {
        denial_refund(&denials->refunds[name.set], told);
    }
    if (age >= 0 && age <= REDIS_DENIAL_BELIEVED && words[WORD_SERVER] > (uint64_t)told->server) {
        return;
    }
    words[WORD_ASKED] = (uint64_t)told->asked;
    words[WORD_REMAINING] = (uint64_t)d->remaining | (uint64_t)lag << DENIAL_REMAINING_BITS;
    words[WORD_NEXT] = (uint64_t)d->next;
    words[WORD_RESET] = (uint64_t)d->reset;
    words[WORD_RETRY] = (uint64_t)d->retry;
    words[WORD_REQUEST] = denial_request(name.fingerprint, charge) | denial_said(charge);
    if (!told->away || found < 0) {
        words[WORD_SERVER] = (uint64_t)told->server;
    }
    words[0] = denial_seal(name.fingerprint, words);
    denial_store(&denials->entries[found >= 0 ? (size_t)found
                                              : denial_victim(denials, &name, told->asked)],
                 words);
}

void redis_denials_learn(redis_denials_t *denials, rlp_charge_t *const charges[], int n,
                         const redis_told_t *told)
{
    for (int i = 0; denials != NULL && i < n; i++) {
        if (denial_teaches(charges[i])) {
            denial_learn_one(denials, charges[i], told);
        }
    }
}

/* --- refusing */

static rlp_time_t denial_believed(const rlp_limit_t *limit)
{
    if (limit->period == 0 || limit->count == 0) { /* nothing comes but what is given back */
        return REDIS_DENIAL_BELIEVED_MAX;
    }
    const rlp_time_t span = limit->period / limit->count * REDIS_DENIAL_BELIEVED_UNITS;

    if (span < REDIS_DENIAL_BELIEVED) {
        return REDIS_DENIAL_BELIEVED;
    }
    return span < REDIS_DENIAL_BELIEVED_MAX ? span : REDIS_DENIAL_BELIEVED_MAX;
}

static rlp_time_t denial_left(uint64_t span, rlp_time_t gone)
{
    const rlp_time_t whole = (rlp_time_t)span;

    if (whole == RLP_TIME_NEVER) {
        return whole;
    }
    return whole > gone ? whole - gone : 0;
}

/* Whole units when it is full; -1: by then that is not known, since places come back with the end
   of requests. */
static int64_t denial_full(const rlp_limit_t *limit)
{
    if (limit->algorithm->holds) {
        return -1;
    }
    return limit->algorithm == &rlp_leaky_bucket ? 1 : rlp_limit_quota(limit);
}

/* Told by the moment at which the answer came, so that who comes back then is not too early. */
static rlp_decision_t denial_decision(const rlp_limit_t *limit,
                                      const uint64_t words[REDIS_DENIAL_WORDS], rlp_time_t age)
{
    const rlp_time_t gone = age - (rlp_time_t)(words[WORD_REMAINING] >> DENIAL_REMAINING_BITS);
    const rlp_time_t reset = words[WORD_RESET] ? denial_left(words[WORD_RESET], gone) : 0;
    const int64_t full = words[WORD_RESET] != 0 && reset == 0 ? denial_full(limit) : -1;

    return (rlp_decision_t){
        .verdict = RLP_ALLOW,
        .remaining = full >= 0 ? full : (int64_t)(words[WORD_REMAINING] % DENIAL_REMAINING_END),
        .next = words[WORD_NEXT] ? denial_left(words[WORD_NEXT], gone) : 0,
        .reset = reset,
    };
}

/* It is refused for such a span, if that is believed and not over by the moment at which Redis was
   asked. */
static bool denial_refuses(fact_t *fact, uint64_t span, rlp_time_t age, rlp_time_t gone)
{
    const bool for_ever = (rlp_time_t)span == RLP_TIME_NEVER;

    if (!fact->fresh || denial_left(span, age) == 0) {
        return false;
    }
    fact->decision.verdict = for_ever ? RLP_NEVER : RLP_DENY;
    fact->decision.retry = for_ever ? 0 : denial_left(span, gone);
    return true;
}

/* What is known of a charge by its entry. That a unit is lacking, each answer tells. */
static bool denial_judge(fact_t *fact, const rlp_charge_t *charge, uint64_t request,
                         const uint64_t words[REDIS_DENIAL_WORDS], rlp_time_t age)
{
    const rlp_time_t gone = age - (rlp_time_t)(words[WORD_REMAINING] >> DENIAL_REMAINING_BITS);
    const said_t said = (words[WORD_REQUEST] & ~(uint64_t)SAID_MASK) == request
                            ? (said_t)(words[WORD_REQUEST] & SAID_MASK)
                            : SAID_NOTHING;
    const int64_t remaining = fact->decision.remaining;

    fact->used_up = said == SAID_SPARED;
    if (said == SAID_SPARED) { /* until it is renewed */
        return fact->fresh && (words[WORD_RESET] == 0 || denial_left(words[WORD_RESET], age) > 0);
    }
    if (said == SAID_NEVER) {
        return denial_refuses(fact, RLP_TIME_NEVER, age, gone);
    }
    if (said == SAID_DENY) {
        return denial_refuses(fact, words[WORD_RETRY], age, gone);
    }
    if (charge->limit->algorithm->holds) {
        return remaining > 0;
    }
    if (remaining == 0 && charge->cost == RLP_UNIT && charge->max_wait == 0) {
        return denial_refuses(fact, words[WORD_NEXT], age, gone);
    }
    return charge->cost >= 0 && charge->cost <= remaining * RLP_UNIT &&
           (words[WORD_REQUEST] & SAID_MASK) != SAID_SPARED;
}

static fact_t denial_fact(const redis_denials_t *denials, const rlp_charge_t *charge,
                          rlp_time_t now)
{
    const name_t name = denial_name(denials, charge);
    uint64_t words[REDIS_DENIAL_WORDS];
    fact_t fact = { .known = false };

    if (denial_find(denials, &name, words) < 0) {
        return fact;
    }
    const rlp_time_t age = denial_age(words, now);

    if (age < 0 || age > REDIS_DENIAL_BELIEVED_MAX) {
        return fact;
    }
    fact.fresh =
        age <= denial_believed(charge->limit) &&
        (rlp_time_t)words[WORD_ASKED] >= __atomic_load_n(&denials->since, __ATOMIC_RELAXED) &&
        !denial_refunded(&denials->refunds[name.set], words, now);
    fact.decision = denial_decision(charge->limit, words, age);
    fact.known =
        denial_judge(&fact, charge, denial_request(name.fingerprint, charge), words, age) &&
        (fact.fresh || !denial_decides_branch(charge));
    fact.used_up |= fact.decision.verdict > RLP_WAIT;
    return fact;
}

/* Which groups' quotas are used up, a bit each, as check.c has it. False: that is not known of
   some. */
static bool denial_used_up(const rlp_charge_t charges[], const fact_t facts[], int n,
                           uint64_t *groups)
{
    *groups = 0;
    for (int i = 0; i < n; i++) {
        if (!denial_decides_branch(&charges[i])) {
            continue;
        }
        if (!facts[i].known) {
            return false;
        }
        *groups |= (uint64_t)facts[i].used_up << charges[i].group;
    }
    return true;
}

static bool denial_spared(const rlp_charge_t *charge, uint64_t used_up)
{
    const bool instead = used_up >> charge->group & 1;

    return charge->branch != RLP_ALWAYS && instead == (charge->branch == RLP_FIRST);
}

/* Does one refuse, and is enough known of the others to tell of them? */
static bool denial_sure(const rlp_charge_t charges[], const fact_t facts[], int n, uint64_t used_up)
{
    bool refused = false;

    for (int i = 0; i < n; i++) {
        if (denial_spared(&charges[i], used_up)) {
            continue;
        }
        if (!facts[i].known) {
            return false;
        }
        refused |= facts[i].decision.verdict > RLP_WAIT;
    }
    return refused;
}

bool redis_denials_refuse(const redis_denials_t *denials, rlp_charge_t charges[], int n,
                          rlp_time_t now, rlp_answer_t *answer)
{
    fact_t facts[RLP_ENTRIES_MAX];
    uint64_t used_up;

    for (int i = 0; denials != NULL && i < n; i++) {
        facts[i] = denial_fact(denials, &charges[i], now);
        if (!facts[i].known && charges[i].branch == RLP_ALWAYS) {
            return false;
        }
    }
    if (denials == NULL || !denial_used_up(charges, facts, n, &used_up) ||
        !denial_sure(charges, facts, n, used_up)) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        charges[i].spared = denial_spared(&charges[i], used_up);
        charges[i].decision = facts[i].decision;
        if (charges[i].spared) {
            charges[i].decision = (rlp_decision_t){ .verdict = RLP_ALLOW };
        }
    }
    check_answer(charges, n, answer);
    return true;
}

/* --- one asks for all */

#define DENIAL_NAP 100 /* microseconds, twice as long each time */
#define DENIAL_NAP_MAX 1600

/* Was a request like this refused when the entry was made, or told that there is nothing left? */
static bool denial_was(const rlp_charge_t *charge, uint64_t fingerprint,
                       const uint64_t words[REDIS_DENIAL_WORDS])
{
    const uint64_t said = words[WORD_REQUEST] & SAID_MASK;

    if ((said == SAID_DENY || said == SAID_NEVER) &&
        words[WORD_REQUEST] - said == denial_request(fingerprint, charge)) {
        return true;
    }
    return words[WORD_REMAINING] % DENIAL_REMAINING_END == 0 && words[WORD_NEXT] > 0 &&
           charge->cost == RLP_UNIT && charge->max_wait == 0;
}

/* The number of the first entry of which that is so; -1: of none. */
static int64_t denial_ended(const redis_denials_t *denials, const rlp_charge_t charges[], int n)
{
    for (int i = 0; i < n; i++) {
        const rlp_charge_t *charge = &charges[i];
        const name_t name = denial_name(denials, charge);
        uint64_t words[REDIS_DENIAL_WORDS];
        const int64_t found =
            charge->limit->algorithm->holds ? -1 : denial_find(denials, &name, words);

        if (found >= 0 && denial_was(charge, name.fingerprint, words)) {
            return found;
        }
    }
    return -1;
}

/* Does somebody ask? A time too far away is none of this clock. */
static bool denial_is_asked(rlp_time_t until, rlp_time_t now)
{
    return until > now && until - now <= RLP_SECOND;
}

bool redis_denials_await(redis_denials_t *denials, const rlp_charge_t charges[], int n,
                         rlp_time_t end, rlp_time_t **asking)
{
    rlp_time_t now = rlp_clock_monotonic();
    const int64_t found = denials != NULL && now < end ? denial_ended(denials, charges, n) : -1;

    *asking = NULL;
    if (found < 0) {
        return false;
    }
    rlp_time_t *word = &denials->asked_until[found];
    rlp_time_t until = __atomic_load_n(word, __ATOMIC_ACQUIRE);

    if (!denial_is_asked(until, now) &&
        __atomic_compare_exchange_n(word, &until, end, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
        *asking = word;
        return false;
    }
    for (rlp_time_t nap = DENIAL_NAP; denial_is_asked(until, now) && now < end;) {
        apr_sleep(nap);
        nap = nap < DENIAL_NAP_MAX ? 2 * nap : nap;
        now = rlp_clock_monotonic();
        until = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    return true;
}

void redis_denials_asked(rlp_time_t *asking)
{
    if (asking != NULL) {
        __atomic_store_n(asking, 0, __ATOMIC_RELEASE);
    }
}

/* --- the rest */

bool redis_denials_level(const redis_denials_t *denials, const rlp_charge_t *charge, rlp_time_t now,
                         redis_level_t *level)
{
    uint64_t words[REDIS_DENIAL_WORDS];

    if (denials == NULL) {
        return false;
    }
    const name_t name = denial_name(denials, charge);

    if (denial_find(denials, &name, words) < 0) {
        return false;
    }
    *level =
        (redis_level_t){ .age = denial_age(words, now),
                         .server = (rlp_time_t)words[WORD_SERVER],
                         .reset = (rlp_time_t)words[WORD_RESET],
                         .remaining = (int64_t)(words[WORD_REMAINING] % DENIAL_REMAINING_END) };
    return level->age >= 0;
}
