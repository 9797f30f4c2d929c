/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The file of a store in shared memory, whose bytes somebody changes: while decisions run, and
 * before it is opened, where it is also cut off or longer. The input is a list of acts, six bytes
 * each. Nothing that lies in it makes a decision that no limit allows, ends the process or is
 * followed out of the file; and until the first damage its answers are those of a store in memory.
 * The words of a lock are left alone while it is in use: whoever can write those can stop a server
 * as well.
 */

#include "fuzz.h"
#include "override.h"
#include "rlp.h"
#include "store/slab_layout.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACT 6 /* bytes */
#define ACTS_MAX 200
#define CLIENTS 4
#define BEGIN (INT64_C(1700000000) * RLP_SECOND)

const char fuzz_name[] = "segment";

static const char *const plans[] = {
    "rate=10/min burst=20", "rate=5/10s algorithm=fixed-window rate=7/min algorithm=sliding-window",
    "rate=40/min algorithm=sliding-log quota=50/day",
    "rate=4/10s algorithm=stepped-bucket rate=3/s algorithm=leaky-bucket", "concurrent=3"
};

#define PLANS ((int)(sizeof(plans) / sizeof(plans[0])))
#define PLAN_OF_PLACES (PLANS - 1)

typedef struct {
    apr_pool_t *pool;
    rlp_segment_t segment;
    slab_t slab;
    rlp_store_t *store;
    rlp_store_t *oracle; /* NULL: damage was done */
    rlp_hold_t owner;
    rlp_clock_t clock;
    size_t size;
} scene_t;

/* --- the file */

/* In place of APR's: the same input always does the same. */
apr_status_t apr_generate_random_bytes(unsigned char *buf, apr_size_t length)
{
    for (apr_size_t i = 0; i < length; i++) {
        buf[i] = (unsigned char)(i * 37 + 11);
    }
    return APR_SUCCESS;
}

static char scene_dir[] = "/dev/shm/rlp-fuzz.XXXXXX"; /* or in /tmp */

static const char *scene_path(void)
{
    static char path[sizeof(scene_dir) + 8];

    return strcat(strcpy(path, scene_dir), "/store");
}

static void scene_sweep(void)
{
    (void)unlink(scene_path());
    (void)rmdir(scene_dir);
}

static void scene_open(scene_t *scene)
{
    static bool made;
    const char *message = NULL;

    if (!made && mkdtemp(scene_dir) == NULL &&
        mkdtemp(strcpy(scene_dir, "/tmp/rlp-fuzz.XXXXXX")) == NULL) {
        abort();
    }
    made = made || atexit(scene_sweep) == 0;
    fuzz_expect(rlp_segment_open(&scene->segment, scene_path(), scene->size, &scene->clock,
                                 &message, scene->pool) == APR_SUCCESS,
                "a file that is damaged is replaced");
    fuzz_expect(message == NULL || scene->oracle == NULL, "one that is not is used");
    fuzz_expect(slab_attach(&scene->slab, scene->segment.memory, scene->segment.size) == NULL &&
                    rlp_shm_create(&scene->store, &scene->segment, scene->pool) == APR_SUCCESS,
                "an opened one is whole");
    scene->owner = rlp_owner_open(scene->store, getpid());
}

/* Which byte an act means: of the header, of a shard, of the set of a counter, of the annex. */
static size_t scene_place(const scene_t *scene, const uint8_t act[ACT], const rlp_key_t *key)
{
    const size_t at = (size_t)act[2] << 8 | act[3];
    const size_t shards = scene->slab.shards;
    place_t place;

    switch (act[1] & 7) {
    case 0:
        return at % SLAB_HEAD;
    case 1:
        return SLAB_HEAD + at % shards * sizeof(shard_t) + sizeof(latch_t) +
               at / shards % (sizeof(shard_t) - sizeof(latch_t));
    case 2:
        return scene->segment.size + at % ANNEX_PAGE;
    case 3:
        return scene->segment.size + at * 16 % RLP_ANNEX_SIZE;
    default:
        if (!slab_place(&scene->slab, key, &place)) {
            abort();
        }
        return (size_t)(place.set - scene->slab.base) +
               at % ((size_t)place.stride * (place.mask + 1));
    }
}

/* What is written may be any byte, a run of them, or a large or negative number. */
static void scene_damage(scene_t *scene, const uint8_t act[ACT], const rlp_key_t *key)
{
    static const uint64_t numbers[] = { 0, UINT64_MAX, INT64_MAX, UINT64_C(1) << 63, 1 };
    unsigned char *memory = scene->segment.memory;
    const size_t at = scene_place(scene, act, key);
    const size_t end = at < SLAB_HEAD ? SLAB_HEAD : scene->segment.size + RLP_ANNEX_SIZE;
    const size_t room = end - at; /* locks are behind the header */
    const unsigned how = act[1] >> 3;

    scene->oracle = NULL;
    if (how < sizeof(numbers) / sizeof(numbers[0]) && at % 8 + 8 <= room) {
        memcpy(memory + at / 8 * 8, &numbers[how], 8);
        return;
    }
    if ((act[1] & 7) == 1) { /* a run could reach a lock */
        memory[at] ^= act[4];
        return;
    }
    memset(memory + at, act[4], act[5] < room ? act[5] : room);
}

/* Shorter, longer, or with other bytes anywhere. */
static void scene_damage_file(scene_t *scene, const uint8_t act[ACT])
{
    const size_t whole = scene->size + RLP_ANNEX_SIZE;
    const size_t part = whole / 65536 * ((size_t)act[2] << 8 | act[3]);
    unsigned char bytes[256];
    const int fd = open(scene_path(), O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        abort();
    }
    memset(bytes, act[4], sizeof(bytes));
    switch (act[1] & 3) {
    case 0:
        fuzz_expect(ftruncate(fd, (off_t)part) == 0, "a file can be cut");
        break;
    case 1:
        fuzz_expect(ftruncate(fd, (off_t)(whole + part)) == 0, "a file can grow");
        break;
    case 2:
        fuzz_expect(pwrite(fd, bytes, act[5] + 1U, (off_t)part) > 0, "and be written");
        break;
    default: /* near the begin, where the header and the locks are */
        fuzz_expect(pwrite(fd, bytes, act[5] % 16 + 1U, (off_t)(part / 128)) > 0, "here, too");
    }
    scene->oracle = NULL;
    close(fd);
}

static void scene_reopen(scene_t *scene, const uint8_t act[ACT])
{
    static const size_t sizes[] = { RLP_SEGMENT_MIN, RLP_SEGMENT_MIN + 4096,
                                    (size_t)2 * RLP_SEGMENT_MIN };

    rlp_segment_close(&scene->segment);
    if (act[1] & 64) {
        scene_damage_file(scene, act);
    }
    if (act[1] & 32) {
        const char *message = NULL;

        if (rlp_segment_borrow(&scene->segment, scene_path(), &scene->clock, &message,
                               scene->pool) != APR_SUCCESS) {
            fuzz_expect(message != NULL && scene->oracle == NULL, "a refusal has its reason");
        } else {
            rlp_segment_close(&scene->segment);
        }
    }
    if (act[1] & 16) { /* of another size: what is full may forget */
        scene->size = sizes[act[5] % 3];
    }
    scene_open(scene);
}

/* --- decisions */

typedef struct {
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_plan_t *plan;
} asked_t;

static rlp_plan_t *asked_plan(int which)
{
    static rlp_plan_t *made[PLANS];
    static apr_pool_t *pool;
    const char *words[8];
    char *rest = NULL;
    rlp_plan_source_t source = { .name = "plan", .words = words, .wall = BEGIN };

    if (pool == NULL && apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        abort();
    }
    for (char *word = apr_strtok(apr_pstrdup(pool, plans[which]), " ", &rest);
         made[which] == NULL && word; word = apr_strtok(NULL, " ", &rest)) {
        words[source.n++] = word;
    }
    if (made[which] == NULL && rlp_plan_parse(&made[which], &source, pool) != NULL) {
        abort();
    }
    return made[which];
}

static void asked_make(asked_t *asked, int client, int plan, apr_pool_t *pool)
{
    static const char *const names[CLIENTS] = { "ip:192.0.2.1", "user:2", "apikey:3", "" };

    asked->plan = asked_plan(plan);
    for (int i = 0; i < asked->plan->n; i++) {
        const rlp_limit_t *limit = &asked->plan->limits[i];

        rlp_charge_init(&asked->charges[i], names[client], strlen(names[client]),
                        rlp_signature("rule", NULL, limit), limit);
        asked->charges[i].entry.state = apr_palloc(pool, limit->state_size + RLP_STATE_MAX);
    }
}

#define TURNS (INT64_C(10) * 366 * 86400 * RLP_SECOND) /* as far ahead as steps let turns be */

/* Whatever lies in the file, nobody waits for longer than for a full limit, or the edges of two
   periods of a calendar, behind turns that may be taken already. */
static rlp_time_t asked_longest(const rlp_limit_t *limit)
{
    return limit->drain + 3 * limit->period + 2 * RLP_CLOCK_SKEW + TURNS;
}

static void asked_expect(const asked_t *asked)
{
    for (int i = 0; i < asked->plan->n; i++) {
        const rlp_limit_t *limit = &asked->plan->limits[i];
        const rlp_decision_t *d = &asked->charges[i].decision;

        fuzz_expect(d->remaining >= 0 && d->remaining <= limit->burst / RLP_UNIT,
                    "what is left is no more than the limit");
        fuzz_expect(d->retry >= 0 && d->wait >= 0 && d->next >= 0 && d->reset >= 0,
                    "no time is below 0");
        fuzz_expect(d->verdict <= RLP_NEVER && (d->verdict == RLP_DENY || d->retry == 0),
                    "a verdict is one");
        fuzz_expect(limit->algorithm->holds || d->retry <= asked_longest(limit),
                    "nobody is locked out for ever");
    }
}

static void asked_compare(const asked_t *one, const asked_t *other)
{
    for (int i = 0; i < one->plan->n; i++) {
        const rlp_decision_t *a = &one->charges[i].decision;
        const rlp_decision_t *b = &other->charges[i].decision;

        fuzz_expect(a->verdict == b->verdict && a->remaining == b->remaining &&
                        a->retry == b->retry && a->reset == b->reset,
                    "a file answers as memory does");
    }
}

typedef apr_status_t ask_t(rlp_store_t *store, rlp_charge_t charges[], int n,
                           const rlp_question_t *question, rlp_answer_t *answer);

static void scene_ask(scene_t *scene, const uint8_t act[ACT], ask_t *ask, int plan)
{
    const rlp_question_t question = { .now = scene->clock.monotonic,
                                      .wall = scene->clock.wall,
                                      .owner = scene->owner,
                                      .charged_at =
                                          rlp_store_time(scene->store, scene->clock.monotonic) };
    asked_t asked;
    asked_t other;
    rlp_answer_t answer;

    asked_make(&asked, act[1] % CLIENTS, plan, scene->pool);
    asked_make(&other, act[1] % CLIENTS, plan, scene->pool);
    for (int i = 0; i < asked.plan->n; i++) {
        asked.charges[i].cost = ask == rlp_settle ? -RLP_UNIT * act[2] / 16 : RLP_UNIT * act[2] / 8;
        other.charges[i].cost = asked.charges[i].cost;
    }
    const apr_status_t rv = ask(scene->store, asked.charges, asked.plan->n, &question, &answer);

    fuzz_expect(rv == APR_SUCCESS, "a file answers, whatever is in it");
    asked_expect(&asked);
    if (scene->oracle != NULL && plan != PLAN_OF_PLACES) {
        (void)ask(scene->oracle, other.charges, other.plan->n, &question, &answer);
        asked_compare(&asked, &other);
    }
}

/* --- what else looks at a file */

static void scene_count(void *baton, const override_key_t *key, const char *shown,
                        const override_t *found)
{
    (void)key;
    fuzz_expect(strlen(shown) <= OVERRIDE_SHOWN && (found->ban != 0 || found->plan != 0),
                "an order is one");
    ++*(int *)baton;
}

static void scene_order(scene_t *scene, const uint8_t act[ACT])
{
    override_table_t table;
    override_t found;
    const override_t wanted = { .ban = act[2] & 1 ? scene->clock.monotonic + RLP_SECOND : 0,
                                .until = act[2] & 2 ? scene->clock.monotonic + act[3] : 0,
                                .plan = act[2] & 2 ? override_plan_hash("plan") : 0 };
    const override_key_t key = override_key(scene->store, "user:2", act[1] % 7U);
    int n = 0;

    if (!override_attach(&table, rlp_segment_annex(&scene->segment))) {
        return;
    }
    table.head->latch = 0; /* one of somebody who lives is waited for, two seconds long */
    (void)override_set(&table, &key, &wanted, "somebody with a name", scene->clock.monotonic);
    (void)override_find(&table, &key, scene->clock.monotonic, &found);
    override_tidy(&table, scene->clock.monotonic);
    override_visit(&table, scene->clock.monotonic, scene_count, &n);
    fuzz_expect(n <= OVERRIDES_MAX, "there are as many orders as there is room");
}

/* As a server that is new has it. */
static void scene_begin_annex(const scene_t *scene)
{
    for (int i = 0; i < ANNEX_AREAS; i++) {
        annex_head_t *head = annex_head(rlp_segment_annex(&scene->segment), (annex_area_t)i);

        memcpy(head->magic, annex_areas[i].magic, sizeof(head->magic));
        head->version = annex_areas[i].version;
        head->size = annex_areas[i].size;
    }
}

static void scene_look(scene_t *scene)
{
    const rlp_segment_look_t look = rlp_segment_look(&scene->segment, scene->clock.monotonic);

    fuzz_expect(look.used <= look.slots, "no more is used than there is");
    (void)rlp_owner_sweep(scene->store);
}

static void scene_pass(scene_t *scene, const uint8_t act[ACT])
{
    static const rlp_time_t pauses[] = { 1, 1000, RLP_SECOND, 10 * RLP_SECOND, 3600 * RLP_SECOND };
    const rlp_time_t pause = pauses[act[1] % 5] * act[2];

    scene->clock.monotonic += pause;
    scene->clock.wall += pause;
}

static void scene_act(scene_t *scene, const uint8_t act[ACT])
{
    const int plan = act[0] / 16 % PLANS;
    asked_t asked;

    switch (act[0] & 15) {
    case 0:
    case 1:
        asked_make(&asked, act[5] % CLIENTS, plan, scene->pool);
        asked.charges[0].entry.key.fingerprint =
            rlp_store_fingerprint(scene->store, asked.charges[0].entry.key.identity,
                                  asked.charges[0].entry.key.identity_len);
        scene_damage(scene, act, &asked.charges[0].entry.key);
        break;
    case 2:
        scene_reopen(scene, act);
        break;
    case 3:
        scene_pass(scene, act);
        break;
    case 4:
        scene_look(scene);
        break;
    case 5:
        scene_order(scene, act);
        break;
    case 6:
        scene_ask(scene, act, rlp_settle, plan == PLAN_OF_PLACES ? 0 : plan);
        break;
    case 7:
        scene_ask(scene, act, rlp_peek, plan);
        break;
    case 8:
        scene_ask(scene, act, rlp_release, PLAN_OF_PLACES);
        break;
    default:
        scene_ask(scene, act, rlp_check, plan);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    scene_t scene = { .pool = fuzz_pool(),
                      .segment = { .fd = -1 },
                      .clock = { .monotonic = BEGIN, .wall = BEGIN, .boot_id = "one" },
                      .size = RLP_SEGMENT_MIN };

    if (size % ACT != 0) { /* said already: replay.c tries each beginning */
        return 0;
    }
    if (rlp_memory_create(&scene.oracle, scene.pool) != APR_SUCCESS) {
        abort();
    }
    (void)unlink(scene_path());
    scene_open(&scene);
    scene_begin_annex(&scene);
    for (size_t i = 0; i < size && i < (size_t)ACT * ACTS_MAX; i += ACT) {
        scene_act(&scene, data + i);
    }
    rlp_segment_close(&scene.segment);
    return 0;
}
