/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Requests judged again. Where their microseconds are known, each is judged once, as the module
 * would. Where only the tick (a second or a millisecond) is known, they are judged twice: as many
 * as can pass in any arrangement of the requests within their ticks pass in the run of the fewest
 * refusals, and no arrangement has more refusals than the run of the most (docs/simulate.md says
 * why). The requests of an identity within a tick are all alike, so their number is enough.
 */

#include "replay_window.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define REPLAY_LINE 64       /* bytes of a cache line */
#define REPLAY_FETCH 8       /* requests ahead whose records are fetched */
#define REPLAY_FETCH_LARGE 3 /* and what those point to */

/* One identity, plan and run. */
typedef struct {
    replay_t *replay;
    replay_plan_t *plan;
    rlp_store_t *store;
    replay_request_t *priced; /* NULL: all cost the same */
    rlp_answer_t answer;
} judge_t;

/* Requests of one identity within one tick. */
typedef struct {
    identity_t *identity;
    rlp_time_t at;
    uint32_t n;
    replay_request_t *priced;
} group_t;

static apr_status_t replay_free(void *data)
{
    replay_t *replay = data;

    free(replay->hour);
    return APR_SUCCESS;
}

/* Charges of a plan, all but whom they are charged to. */
static void replay_prepare(replay_t *replay, replay_plan_t *plan)
{
    for (int i = 0; i < plan->plan->n; i++) {
        const rlp_limit_t *limit = &plan->plan->limits[i];
        rlp_charge_t *charge = &plan->charges[i];

        rlp_charge_init(charge, "", 0, rlp_signature("simulate", NULL, limit), limit);
        charge->cost = replay->cost;
        charge->max_wait = replay->max_wait;
    }
}

const char *replay_open(replay_t *replay, apr_pool_t *pool)
{
    size_t extra = sizeof(replay_use_t) * (size_t)(replay->plans * REPLAY_RUNS);

    replay->pool = pool;
    replay->uses = sizeof(identity_t);
    extra = (extra + 7) / 8 * 8;
    for (int i = 0; i < replay->plans; i++) {
        replay_prepare(replay, &replay->plan[i]);
        for (int run = 0; run < replay->runs; run++) {
            extra += replay_store_create(&replay->plan[i].stores[run], replay->plan[i].plan,
                                         sizeof(identity_t) + extra, pool);
        }
    }
    replay->record = sizeof(identity_t) + extra;
    replay->population = population_create(extra, pool);
    replay->window = replay_window_create(pool);
    apr_pool_cleanup_register(pool, replay, replay_free, apr_pool_cleanup_null);
    return replay->population != NULL ? NULL : "out of memory, or no random numbers";
}

bool replay_bounds(const replay_t *replay, int plan)
{
    const rlp_plan_t *limits = replay->plan[plan].plan;

    if (replay->runs > 1 && replay->priced) {
        return false;
    }
    for (int i = 0; i < limits->n && replay->runs > 1; i++) {
        const rlp_limit_t *limit = &limits->limits[i];
        const bool steps = strcmp(limit->algorithm->name, "stepped-bucket") == 0;

        if ((steps && limit->start == 0) ||
            ((steps || limit->algorithm->windowed) && replay->max_wait > 0)) {
            return false;
        }
    }
    return true;
}

replay_use_t *replay_use(const replay_t *replay, identity_t *identity, int plan, int run)
{
    replay_use_t *uses = (replay_use_t *)(void *)((char *)identity + replay->uses);

    return &uses[plan * REPLAY_RUNS + run];
}

/* --- judging */

/* rlp_check() or rlp_peek() */
typedef apr_status_t judge_ask_fn(rlp_store_t *store, rlp_charge_t charges[], int n,
                                  const rlp_question_t *question, rlp_answer_t *answer);

static rlp_verdict_t judge_ask(judge_t *judge, rlp_time_t now, judge_ask_fn *ask)
{
    const rlp_question_t question = { .now = now, .wall = now };

    if (ask(judge->store, judge->plan->charges, judge->plan->plan->n, &question, &judge->answer) !=
        APR_SUCCESS) {
        judge->answer.verdict = RLP_NEVER; /* no store of ours says so */
    }
    return judge->answer.verdict;
}

/* How a request at this moment fares. */
static rlp_verdict_t judge_at(judge_t *judge, rlp_time_t now)
{
    return judge_ask(judge, now, rlp_check);
}

/* From now on the judge asks for the request of this number. */
static void judge_price(const judge_t *judge, uint32_t i)
{
    for (int k = 0; judge->priced != NULL && k < judge->plan->plan->n; k++) {
        judge->plan->charges[k].cost = judge->priced[i].cost;
    }
}

/* The fewest refusals: each request comes when it can pass, as early in its tick as that is. One
   that waits for a turn within its tick may have come at that turn. */
static replay_sum_t judge_fewest(judge_t *judge, rlp_time_t at, uint32_t n)
{
    const rlp_time_t end = at + judge->replay->tick;
    replay_sum_t sum = { 0 };
    rlp_time_t now = at;

    for (uint32_t i = 0; i < n; i++) {
        judge_price(judge, i);
        rlp_verdict_t verdict = judge_at(judge, now);

        if (verdict == RLP_DENY && judge->answer.retry < end - now) {
            now += judge->answer.retry;
            verdict = judge_at(judge, now);
        }
        if (verdict > RLP_WAIT && judge->priced == NULL) {
            sum.refused = n - i; /* and so fare all the others */
            break;
        }
        sum.refused += verdict > RLP_WAIT;
        sum.delayed += verdict == RLP_WAIT && judge->answer.wait >= end - now;
    }
    return sum;
}

/* How many of a tick pass if all come at its beginning. Nothing depends on what the last of them is
   charged, which is only looked at: most are the only ones. */
static uint32_t judge_try(judge_t *judge, rlp_time_t at, uint32_t n, replay_sum_t *sum)
{
    replay_store_t *store = (replay_store_t *)judge->store;
    uint32_t passed = 0;

    if (n > 1) {
        replay_store_try(store);
    }
    for (uint32_t i = 0; i < n && (judge->priced != NULL || passed == i); i++) {
        judge_price(judge, i);
        const bool passes = judge_ask(judge, at, i == n - 1 ? rlp_peek : rlp_check) <= RLP_WAIT;

        passed += passes;
        sum->delayed += judge->answer.verdict == RLP_WAIT;
        if (judge->priced != NULL) {
            judge->priced[i].passes = passes;
        }
    }
    replay_store_forget(store);
    return passed;
}

/* The most: the requests of a tick all come at its beginning, but what they are charged counts for
   later ticks as if they had come at its end. */
static replay_sum_t judge_most(judge_t *judge, rlp_time_t at, uint32_t n)
{
    replay_sum_t sum = { 0 };
    const uint32_t passed = judge_try(judge, at, n, &sum);

    sum.refused = n - passed;
    for (uint32_t i = 0; i < n; i++) {
        if (judge->priced != NULL ? judge->priced[i].passes : i < passed) {
            judge_price(judge, i);
            (void)judge_at(judge, at + judge->replay->tick - 1);
        }
    }
    return sum;
}

static replay_sum_t judge_exactly(judge_t *judge, rlp_time_t at)
{
    judge_price(judge, 0);
    const rlp_verdict_t verdict = judge_at(judge, at);

    return (replay_sum_t){ .refused = verdict > RLP_WAIT, .delayed = verdict == RLP_WAIT };
}

/* --- adding up */

/* The hour that is last, since times rise. */
static replay_hour_t *replay_hour(replay_t *replay, rlp_time_t at)
{
    const uint32_t hour = (uint32_t)(at / (3600 * RLP_SECOND));

    if (replay->hours > 0 && replay->hour[replay->hours - 1].hour == hour) {
        return &replay->hour[replay->hours - 1];
    }
    if (replay->hours == replay->hours_room) {
        const int room = replay->hours_room ? replay->hours_room * 2 : 64;
        replay_hour_t *hours = realloc(replay->hour, (size_t)room * sizeof(*hours));

        if (hours == NULL) {
            abort(); /* nothing true could be said any more */
        }
        replay->hour = hours;
        replay->hours_room = room;
    }
    memset(&replay->hour[replay->hours], 0, sizeof(*replay->hour));
    replay->hour[replay->hours].hour = hour;
    return &replay->hour[replay->hours++];
}

static void replay_count(replay_sum_t *to, replay_sum_t add, bool first)
{
    to->refused += add.refused;
    to->delayed += add.delayed;
    to->identities += first;
}

/* The outcome of requests of one identity under one plan in one run. */
static void replay_tell(replay_t *replay, identity_t *identity, int plan, int run, replay_sum_t sum)
{
    replay_hour_t *hour = &replay->hour[replay->hours - 1];
    replay_use_t *use = replay_use(replay, identity, plan, run);
    const bool refused = sum.refused > 0;

    if (sum.refused + sum.delayed == 0) {
        return;
    }
    replay_count(&replay->plan[plan].sums[run], sum, refused && use->refused == 0);
    replay->plan[plan].sums[run].slowed += sum.delayed > 0 && use->delayed == 0;
    replay_count(&hour->sums[plan][run], sum, refused && use->hour != hour->hour);
    use->refused += (uint32_t)sum.refused;
    use->delayed += (uint32_t)sum.delayed;
    use->hour = refused ? hour->hour : use->hour;
}

/* Whom the charges of all plans go to. */
static void replay_address(replay_t *replay, identity_t *identity)
{
    for (int i = 0; i < replay->plans; i++) {
        replay_plan_t *plan = &replay->plan[i];

        for (int k = 0; k < plan->plan->n; k++) {
            rlp_key_t *key = &plan->charges[k].entry.key;

            key->identity = identity->name;
            key->identity_len = identity->len;
            key->fingerprint = (uint64_t)(uintptr_t)identity;
        }
    }
}

/* What they cost, as far as it can be told. */
static void replay_use_up(const replay_t *replay, const group_t *group)
{
    identity_t *identity = group->identity;

    identity->requests += group->n;
    for (uint32_t i = 0; i < group->n; i++) {
        const rlp_units_t cost = group->priced ? group->priced[i].cost : replay->cost;
        const bool over = UINT64_MAX - identity->units < (uint64_t)cost;

        identity->units = over ? UINT64_MAX : identity->units + (uint64_t)cost;
    }
}

static void replay_group(replay_t *replay, const group_t *group)
{
    replay_use_up(replay, group);
    replay_address(replay, group->identity);
    for (int i = 0; i < replay->plans; i++) {
        judge_t judge = { .replay = replay, .plan = &replay->plan[i], .priced = group->priced };

        judge.store = &replay->plan[i].stores[REPLAY_FEWEST].head;
        if (replay->runs == 1) {
            replay_tell(replay, group->identity, i, 0, judge_exactly(&judge, group->at));
            continue;
        }
        replay_tell(replay, group->identity, i, REPLAY_FEWEST,
                    judge_fewest(&judge, group->at, group->n));
        judge.store = &replay->plan[i].stores[REPLAY_MOST].head;
        replay_tell(replay, group->identity, i, REPLAY_MOST,
                    judge_most(&judge, group->at, group->n));
    }
}

/* Was the verdict that of the log? */
static void replay_compare(replay_t *replay, const replay_request_t *request, replay_sum_t before)
{
    const replay_sum_t *sum = &replay->plan[0].sums[0];
    const replay_verdict_t verdict = sum->refused > before.refused   ? REPLAY_DENY
                                     : sum->delayed > before.delayed ? REPLAY_DELAY
                                                                     : REPLAY_PASS;

    if (verdict == request->logged) {
        return;
    }
    if (replay->differences < REPLAY_SHOWN) {
        replay->difference[replay->differences] =
            (replay_difference_t){ .request = *request, .verdict = verdict };
    }
    replay->differences++;
}

/* Requests whose microseconds are known. */
static void replay_exact(replay_t *replay, replay_request_t *requests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const replay_sum_t before = replay->plan[0].sums[0];
        const group_t group = { .identity = population_at(replay->population, requests[i].identity),
                                .at = requests[i].at,
                                .n = 1,
                                .priced = replay->priced ? &requests[i] : NULL };

        replay_group(replay, &group);
        if (replay->compare) {
            replay_compare(replay, &requests[i], before);
        }
    }
}

/* What is judged soon is on its way from memory by then: the record first, what it points to
   later. */
static void replay_fetch(const replay_t *replay, const replay_request_t *requests, size_t n)
{
    if (n > REPLAY_FETCH) {
        const identity_t *identity =
            population_at(replay->population, requests[REPLAY_FETCH].identity);

        for (size_t at = 0; at < replay->record; at += REPLAY_LINE) {
            __builtin_prefetch((const char *)identity + at, 1);
        }
    }
    for (int i = 0; i < replay->plans && n > REPLAY_FETCH_LARGE; i++) {
        const identity_t *identity =
            population_at(replay->population, requests[REPLAY_FETCH_LARGE].identity);

        for (int run = 0; run < replay->runs; run++) {
            replay_store_fetch(&replay->plan[i].stores[run], identity);
        }
    }
}

/* Requests of one tick: counted first, each identity where it comes first. */
static void replay_tick_alike(replay_t *replay, replay_request_t *requests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        population_at(replay->population, requests[i].identity)->pending++;
    }
    for (size_t i = 0; i < n; i++) {
        const group_t group = {
            .identity = population_at(replay->population, requests[i].identity),
            .at = requests[i].at - requests[i].at % replay->tick,
            .n = population_at(replay->population, requests[i].identity)->pending
        };

        replay_fetch(replay, requests + i, n - i);
        if (group.n > 0) {
            group.identity->pending = 0;
            replay_group(replay, &group);
        }
    }
}

static int replay_order(const void *a, const void *b)
{
    const replay_request_t *one = a;
    const replay_request_t *two = b;

    if (one->identity != two->identity) {
        return one->identity < two->identity ? -1 : 1;
    }
    return one->line < two->line ? -1 : one->line > two->line;
}

/* The same where each has a cost of its own: those of an identity are brought together. */
static void replay_tick_priced(replay_t *replay, replay_request_t *requests, size_t n)
{
    qsort(requests, n, sizeof(*requests), replay_order);
    for (size_t i = 0; i < n;) {
        group_t group = { .identity = population_at(replay->population, requests[i].identity),
                          .at = requests[i].at - requests[i].at % replay->tick,
                          .priced = &requests[i] };

        while (i < n && requests[i].identity == group.priced->identity) {
            group.n++;
            i++;
        }
        replay_group(replay, &group);
    }
}

void replay_second(replay_t *replay, replay_request_t *requests, size_t n)
{
    replay_hour(replay, requests[0].at)->requests += n;
    if (replay->requests == 0) {
        replay->first = requests[0].at;
    }
    replay->requests += n;
    replay->last = requests[n - 1].at;
    if (replay->runs == 1) {
        replay_exact(replay, requests, n);
        return;
    }
    for (size_t i = 0; i < n;) {
        size_t same = i + 1;

        while (same < n && requests[same].at / replay->tick == requests[i].at / replay->tick) {
            same++;
        }
        (replay->priced ? replay_tick_priced : replay_tick_alike)(replay, requests + i, same - i);
        i = same;
    }
}

const char *replay_add(replay_t *replay, replay_request_t request, const char *identity, size_t len)
{
    request.identity = population_find(replay->population, identity, len);
    if (request.identity == UINT32_MAX) {
        return "there are more identities than can be counted";
    }
    return replay_window_add(replay->window, replay, request) ? NULL : "out of memory";
}

void replay_finish(replay_t *replay)
{
    replay_window_flush(replay->window, replay);
}
