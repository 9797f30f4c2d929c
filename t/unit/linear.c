/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Linearizability: what processes and threads were told about one key is what they would have been
 * told one after the other, in some order in which none comes before another that had ended when it
 * began. The order is searched for with the algorithm's own step as the oracle.
 * RLP_PROCESSES=no leaves out what forks, for the thread sanitizer.
 */

#include "unit.h"

#include <apr_strings.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUNS 60
#define ACTORS 6
#define OPS 5 /* of each actor */
#define EVENTS (ACTORS * OPS)
#define SEEN 65536 /* a power of two */
#define NOW (INT64_C(1700000000) * RLP_SECOND)
#define STATE_WORDS 64
#define TICK 1024 /* microseconds: so exactly does the store keep when a state expires */

/* One question and its answer. */
typedef struct {
    rlp_op_kind_t kind;
    rlp_units_t units;
    rlp_time_t now;
    int begin; /* of the clock that ticks with each event */
    int end;
    rlp_verdict_t verdict;
    int64_t remaining;
    rlp_time_t retry;
} event_t;

/* What the actors of one run share. */
typedef struct {
    rlp_store_t *store;
    const rlp_limit_t *limit;
    char identity[24];
    uint64_t seed;
    atomic_int clock;
    atomic_int ready;
    atomic_int next; /* number of an actor */
    event_t events[EVENTS];
} scene_t;

/* What an actor is about to ask: mostly takes, at times that differ a little. */
static void event_draw(event_t *event, const scene_t *scene, uint64_t *random)
{
    static const rlp_op_kind_t kinds[] = { RLP_TAKE, RLP_TAKE, RLP_TAKE, RLP_PEEK, RLP_SETTLE };

    event->kind = kinds[unit_below(random, UNIT_N(kinds))];
    event->units = (rlp_units_t)(unit_below(random, 3) + 1) * RLP_UNIT;
    if (event->kind == RLP_SETTLE) {
        event->units = -event->units;
    }
    event->now =
        NOW +
        (rlp_time_t)unit_below(random, (uint64_t)(scene->limit->period / scene->limit->count));
}

static void event_ask(event_t *event, scene_t *scene)
{
    static const rlp_time_t wall = NOW;
    const rlp_question_t question = { .now = event->now,
                                      .wall = wall,
                                      .charged_at = rlp_store_time(scene->store, NOW) };
    uint64_t room[STATE_WORDS];
    rlp_charge_t charge;
    rlp_answer_t answer;

    rlp_charge_init(&charge, scene->identity, strlen(scene->identity), 7, scene->limit);
    if (charge.entry.key.size > RLP_STATE_MAX) {
        charge.entry.state = room;
    }
    charge.cost = event->units;
    event->begin = atomic_fetch_add(&scene->clock, 1);
    const apr_status_t rv =
        event->kind == RLP_TAKE   ? rlp_check(scene->store, &charge, 1, &question, &answer)
        : event->kind == RLP_PEEK ? rlp_peek(scene->store, &charge, 1, &question, &answer)
                                  : rlp_settle(scene->store, &charge, 1, &question, &answer);

    event->end = atomic_fetch_add(&scene->clock, 1);
    if (rv != APR_SUCCESS) {
        abort();
    }
    event->verdict = charge.decision.verdict;
    event->remaining = charge.decision.remaining;
    event->retry = charge.decision.retry;
}

static void *scene_act(void *data)
{
    scene_t *scene = data;
    const int actor = atomic_fetch_add(&scene->next, 1);
    uint64_t random = scene->seed + (uint64_t)actor;

    atomic_fetch_add(&scene->ready, 1);
    while (atomic_load(&scene->ready) < ACTORS) {
        sched_yield();
    }
    for (int i = 0; i < OPS; i++) {
        event_t *event = &scene->events[actor * OPS + i];

        event_draw(event, scene, &random);
        event_ask(event, scene);
    }
    return NULL;
}

static void scene_threads(scene_t *scene, int n)
{
    pthread_t threads[ACTORS];

    for (int i = 0; i < n; i++) {
        if (pthread_create(&threads[i], NULL, scene_act, scene) != 0) {
            abort();
        }
    }
    for (int i = 0; i < n; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* All actors at once, in so many processes. */
static void scene_play(scene_t *scene, int processes)
{
    pid_t children[ACTORS];

    if (processes == 1) {
        scene_threads(scene, ACTORS);
        return;
    }
    for (int i = 0; i < processes; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            scene_threads(scene, ACTORS / processes);
            _exit(0);
        }
    }
    for (int i = 0; i < processes; i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
}

/* --- the search for an order */

typedef struct {
    uint64_t words[STATE_WORDS];
    rlp_time_t expires; /* then it is a new one */
} kept_t;

typedef struct {
    const scene_t *scene;
    rlp_time_t offset; /* of the store's time line */
    int n_seen;
    struct {
        uint32_t done;
        uint64_t state;
    } seen[SEEN]; /* dead ends */
} search_t;

static uint64_t search_hash(const kept_t *kept, uint32_t size)
{
    uint64_t hash = (uint64_t)kept->expires;

    for (uint32_t i = 0; i < size / 8; i++) {
        hash ^= kept->words[i];
        (void)unit_random(&hash);
    }
    return hash;
}

/* Was this met before? It is from now on. */
static bool search_met(search_t *search, uint32_t done, uint64_t state)
{
    for (uint64_t at = state ^ done;; at++) {
        const size_t i = at & (SEEN - 1);

        if (search->seen[i].done == 0) {
            assert_in_range(++search->n_seen, 1, SEEN / 2);
            search->seen[i].done = done;
            search->seen[i].state = state;
            return false;
        }
        if (search->seen[i].done == done && search->seen[i].state == state) {
            return true;
        }
    }
}

/* Was every event that ended before this one began asked already? */
static bool search_may_be_next(const search_t *search, uint32_t done, int next)
{
    const event_t *events = search->scene->events;

    for (int i = 0; i < EVENTS; i++) {
        if ((done >> i & 1) == 0 && events[i].end < events[next].begin) {
            return false;
        }
    }
    return true;
}

/* Would it be told the same in this state? Then the state is moved on. */
static bool search_agrees(const search_t *search, kept_t *kept, const event_t *event)
{
    const rlp_limit_t *limit = search->scene->limit;
    const rlp_op_t op = { .kind = event->kind,
                          .units = event->units,
                          .now = event->now + search->offset,
                          .wall = NOW,
                          .charged_at = NOW + search->offset };
    kept_t after = *kept;
    rlp_decision_t d;

    if (op.now >= kept->expires) {
        after = (kept_t){ 0 };
    }
    limit->algorithm->step(after.words, limit, &op, &d);
    if (d.verdict != event->verdict || d.remaining != event->remaining || d.retry != event->retry) {
        return false;
    }
    if (d.changed) {
        *kept = after;
        kept->expires = (d.expires + TICK - 1) / TICK * TICK;
    }
    return true;
}

/* One more event of those that may follow, from the number tried last on; false: none. */
static bool search_step(search_t *search, uint32_t done, const kept_t *from, int *event, kept_t *to)
{
    while (++*event < EVENTS) {
        if ((done >> *event & 1) != 0 || !search_may_be_next(search, done, *event)) {
            continue;
        }
        *to = *from;
        if (search_agrees(search, to, &search->scene->events[*event]) &&
            !search_met(search, done | UINT32_C(1) << *event,
                        search_hash(to, search->scene->limit->state_size))) {
            return true;
        }
    }
    return false;
}

static bool search_order(search_t *search)
{
    kept_t states[EVENTS + 1] = { { .expires = 0 } };
    int order[EVENTS + 1] = { -1 };
    uint32_t done = 0;
    int n = 0;

    while (n >= 0 && n < EVENTS) {
        if (search_step(search, done, &states[n], &order[n], &states[n + 1])) {
            done |= UINT32_C(1) << order[n];
            order[++n] = -1;
        } else if (--n >= 0) {
            done &= ~(UINT32_C(1) << order[n]);
        }
    }
    return n == EVENTS;
}

_Static_assert(EVENTS < 32, "a bit for each");

static bool scene_has_order(const scene_t *scene)
{
    static search_t search;

    search = (search_t){ .scene = scene, .offset = rlp_store_time(scene->store, 0) };
    return search_order(&search);
}

/* --- the tests */

static scene_t *scene;

static const char *const plans[] = {
    "rate=20/hour",
    "rate=20/hour algorithm=fixed-window",
    "rate=20/hour algorithm=leaky-bucket",
    "rate=20/hour algorithm=stepped-bucket",
    "rate=20/hour algorithm=sliding-window",
    "rate=20/hour algorithm=sliding-log",
    "quota=20/day",
};

static void scene_begin(const char *plan, uint64_t *random)
{
    static int runs;
    rlp_store_t *store = scene->store;

    *scene = (scene_t){ .store = store, .limit = &unit_plan(plan)->limits[0] };
    assert_in_range(scene->limit->state_size, 8, STATE_WORDS * 8);
    scene->seed = unit_random(random);
    apr_snprintf(scene->identity, sizeof(scene->identity), "run:%d", ++runs);
}

static void test_order(void **state)
{
    uint64_t random = unit_seed();
    const bool forks = getenv("RLP_PROCESSES") == NULL;

    for (int i = 0; i < RUNS; i++) {
        scene_begin(unit_row(state), &random);
        scene_play(scene, forks && i % 2 ? 3 : 1);
        if (!scene_has_order(scene)) {
            fail_msg("no order explains the answers (run %d, RLP_SEED=%" PRIu64 ")", i,
                     unit_seed());
        }
    }
}

/* The search is no yes-man: one charge that two were told of has no order. */
static void test_lost(void **state)
{
    uint64_t random = 42;
    event_t *event = NULL;

    (void)state;
    scene_begin(plans[0], &random);
    scene_play(scene, 1);
    for (int i = 0; i < EVENTS && event == NULL; i++) {
        if (scene->events[i].kind == RLP_TAKE && scene->events[i].verdict == RLP_ALLOW) {
            event = &scene->events[i];
        }
    }
    assert_non_null(event);
    event->remaining += event->units / RLP_UNIT;
    assert_false(scene_has_order(scene));
}

static rlp_store_t *store_open(void)
{
    static const rlp_clock_t clock = { .monotonic = NOW, .wall = NOW };
    const char *message;
    char path[] = "/tmp/rlp-unit.XXXXXX";
    const int fd = mkstemp(path);
    rlp_segment_t segment;
    rlp_store_t *store;

    if (fd < 0 ||
        rlp_segment_open(&segment, path, RLP_SEGMENT_MIN, &clock, &message, unit_pool()) !=
            APR_SUCCESS ||
        rlp_shm_create(&store, &segment, unit_pool()) != APR_SUCCESS) {
        abort();
    }
    close(fd);
    unlink(path);
    return store;
}

int main(void)
{
    scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (scene == MAP_FAILED) {
        abort();
    }
    scene->store = store_open();
    for (size_t i = 0; i < UNIT_N(plans); i++) {
        unit_add_case("linearizable", plans[i], test_order, plans[i]);
    }
    unit_add("a charge that is told wrong has no order", test_lost, NULL);
    return unit_run();
}
