/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Bans and plans for a time: found by whom they are for alone, to their last microsecond, up to the
 * last of 4 096; places come back; and who dies in the midst of a change holds up nobody.
 */

#include "override.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW (1000 * RLP_SECOND)

typedef struct {
    void *annex;
    override_table_t table;
} fixture_t;

/* A new table, as the module begins its annex; other processes see it. */
static fixture_t override_test_new(void)
{
    fixture_t f = { .annex = mmap(NULL, RLP_ANNEX_SIZE, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0) };

    assert_true(f.annex != MAP_FAILED);
    assert_false(override_attach(&f.table, f.annex));
    annex_head_t *head = annex_head(f.annex, ANNEX_OVERRIDES);

    memcpy(head->magic, annex_areas[ANNEX_OVERRIDES].magic, sizeof(head->magic));
    head->version = annex_areas[ANNEX_OVERRIDES].version;
    head->size = annex_areas[ANNEX_OVERRIDES].size;
    assert_true(override_attach(&f.table, f.annex));
    assert_false(override_any(&f.table.head->count));
    return f;
}

static void override_test_end(fixture_t *f)
{
    assert_int_equal(munmap(f->annex, RLP_ANNEX_SIZE), 0);
}

static override_key_t override_test_key(uint64_t number)
{
    return (override_key_t){ .fingerprint = number, .digest = ~number };
}

static override_result_t override_test_ban(const fixture_t *f, uint64_t number, rlp_time_t until)
{
    const override_key_t key = override_test_key(number);

    return override_set(&f->table, &key, &(override_t){ .ban = until }, "ip:192.0.2.1", NOW);
}

/* Until when; 0: not. */
static rlp_time_t override_test_banned(const fixture_t *f, uint64_t number, rlp_time_t now)
{
    const override_key_t key = override_test_key(number);
    override_t found = { .ban = 0 };

    return override_find(&f->table, &key, now, &found) ? found.ban : 0;
}

static void test_one(void **state)
{
    fixture_t f = override_test_new();
    const override_key_t other = { .fingerprint = 77, .digest = 1 };
    override_t found;

    (void)state;
    assert_int_equal(override_test_ban(&f, 77, NOW + 10), OVERRIDE_DONE);
    assert_true(override_any(&f.table.head->count));
    assert_int_equal(override_test_banned(&f, 77, NOW), NOW + 10);
    assert_int_equal(override_test_banned(&f, 77, NOW + 9), NOW + 10);
    assert_int_equal(override_test_banned(&f, 77, NOW + 10), 0);
    assert_int_equal(override_test_banned(&f, 78, NOW), 0);
    assert_false(override_find(&f.table, &other, NOW, &found)); /* another of that fingerprint */
    assert_int_equal(override_test_ban(&f, 77, NOW + 5), OVERRIDE_DONE);
    assert_int_equal(override_test_banned(&f, 77, NOW), NOW + 5);
    assert_int_equal(f.table.head->count, 1);
    assert_int_equal(override_test_ban(&f, 77, 0), OVERRIDE_DONE);
    assert_int_equal(override_test_banned(&f, 77, NOW), 0);
    assert_false(override_any(&f.table.head->count));
    assert_int_equal(override_test_ban(&f, 77, 0), OVERRIDE_NONE);
    override_test_end(&f);
}

static void test_both(void **state)
{
    fixture_t f = override_test_new();
    const override_key_t key = override_test_key(5000);
    const override_t wanted = { .ban = NOW + 10, .until = NOW + 20, .plan = 42 };
    override_t found;

    (void)state;
    assert_int_equal(override_set(&f.table, &key, &wanted, "user:amy", NOW), OVERRIDE_DONE);
    assert_true(override_find(&f.table, &key, NOW, &found));
    assert_true(found.ban == NOW + 10 && found.until == NOW + 20 && found.plan == 42);
    assert_true(override_find(&f.table, &key, NOW + 10, &found));
    assert_true(found.ban == 0 && found.until == NOW + 20 && found.plan == 42);
    assert_false(override_find(&f.table, &key, NOW + 20, &found));
    override_test_end(&f);
}

/* All in one chain: the same home for each. */
static uint64_t override_test_crowded(uint64_t i)
{
    return 7 + (i + 1) * OVERRIDES_MAX;
}

static void test_full(void **state)
{
    fixture_t f = override_test_new();

    (void)state;
    for (uint64_t i = 0; i < OVERRIDES_MAX; i++) {
        assert_int_equal(override_test_ban(&f, override_test_crowded(i),
                                           NOW + 1 + (i % 2 ? 100 : 0)),
                         OVERRIDE_DONE);
    }
    assert_int_equal(f.table.head->count, OVERRIDES_MAX);
    assert_int_equal(override_test_ban(&f, 9, NOW + 5), OVERRIDE_FULL);
    assert_int_equal(override_test_banned(&f, 9, NOW), 0);
    for (uint64_t i = 0; i < OVERRIDES_MAX; i++) {
        assert_true(override_test_banned(&f, override_test_crowded(i), NOW) != 0);
    }
    /* those that are there can be changed; those that have ended make room */
    assert_int_equal(override_test_ban(&f, override_test_crowded(1), NOW + 200), OVERRIDE_DONE);
    override_tidy(&f.table, NOW);
    assert_int_equal(f.table.head->count, OVERRIDES_MAX);
    override_tidy(&f.table, NOW + 1);
    assert_int_equal(f.table.head->count, OVERRIDES_MAX / 2);
    assert_int_equal(override_test_ban(&f, 9, NOW + 5), OVERRIDE_DONE);
    assert_int_equal(override_test_banned(&f, 9, NOW), NOW + 5);
    assert_true(override_test_banned(&f, override_test_crowded(OVERRIDES_MAX - 1), NOW) != 0);
    override_tidy(&f.table, NOW + 1000);
    assert_int_equal(f.table.head->count, 0);
    for (int i = 0; i < OVERRIDES_MAX; i++) { /* nobody looks further than needed */
        assert_true(f.table.area->tags[i] == 0);
    }
    override_test_end(&f);
}

#define SOURCE 5

static override_mark_t override_test_mark(const fixture_t *f)
{
    override_mark_t mark;

    assert_true(override_mark(&f->table, SOURCE, &mark));
    return mark;
}

/* Puts numbers from..to in force as those of all hosts. */
static override_result_t override_test_bring_since(const fixture_t *f, uint64_t from, uint64_t to,
                                                   const override_mark_t *mark)
{
    override_brought_t *items = apr_palloc(unit_pool(), sizeof(*items) * (size_t)(to - from + 1));
    int n = 0;

    for (uint64_t i = from; i < to; i++) {
        items[n++] = (override_brought_t){ .key = override_test_key(i),
                                           .wanted = { .ban = NOW + 10 },
                                           .shown = "?" };
    }
    return override_bring(&f->table, mark, to, items, n, NOW);
}

static override_result_t override_test_bring(const fixture_t *f, uint64_t from, uint64_t to)
{
    const override_mark_t mark = override_test_mark(f);

    return override_test_bring_since(f, from, to, &mark);
}

/* What holds on all hosts comes and goes together; what is of this one stays. */
static void test_brought(void **state)
{
    fixture_t f = override_test_new();
    const override_brought_t one = { .key = override_test_key(50),
                                     .wanted = { .ban = NOW + 7 },
                                     .shown = "" };

    (void)state;
    assert_int_equal(override_test_ban(&f, 200, NOW + 20), OVERRIDE_DONE);
    assert_int_equal(override_test_ban(&f, 12, NOW + 20), OVERRIDE_DONE);
    override_adopt(&f.table, SOURCE, NOW);
    assert_int_equal(override_test_bring(&f, 10, 20), OVERRIDE_DONE);
    assert_int_equal(f.table.head->count, 11);
    assert_int_equal(override_test_banned(&f, 12, NOW), NOW + 10);
    assert_int_equal(override_test_bring(&f, 15, 25), OVERRIDE_DONE);
    assert_int_equal(f.table.head->count, 11);
    assert_int_equal(override_test_banned(&f, 14, NOW), 0);
    assert_int_equal(override_test_banned(&f, 12, NOW), 0); /* which had become theirs */
    assert_int_equal(override_test_banned(&f, 15, NOW), NOW + 10);
    assert_int_equal(override_test_banned(&f, 200, NOW), NOW + 20);
    /* who was asked before a change of this host says nothing of it */
    const override_mark_t mark = override_test_mark(&f);

    assert_int_equal(override_set_brought(&f.table, &one, NOW), OVERRIDE_DONE);
    assert_int_equal(override_test_bring_since(&f, 0, 0, &mark), OVERRIDE_BUSY);
    assert_int_equal(override_test_banned(&f, 50, NOW), NOW + 7);
    assert_int_equal(override_test_bring(&f, 0, 0), OVERRIDE_DONE);
    assert_int_equal(override_test_banned(&f, 50, NOW), 0);
    assert_int_equal(f.table.head->count, 1);
    /* what ends, and comes again for this host alone, is this host's */
    assert_int_equal(override_test_bring(&f, 30, 31), OVERRIDE_DONE);
    assert_int_equal(override_test_ban(&f, 30, 0), OVERRIDE_DONE);
    assert_int_equal(override_test_ban(&f, 30, NOW + 3), OVERRIDE_DONE);
    assert_int_equal(override_test_bring(&f, 0, 0), OVERRIDE_DONE);
    assert_int_equal(override_test_banned(&f, 30, NOW), NOW + 3);
    override_test_end(&f);
}

static void test_brought_full(void **state)
{
    fixture_t f = override_test_new();

    (void)state;
    override_adopt(&f.table, SOURCE, NOW);
    assert_int_equal(override_test_bring(&f, 10000, 10000 + OVERRIDES_MAX), OVERRIDE_DONE);
    assert_int_equal(f.table.head->count, OVERRIDES_MAX);
    /* as many others in their place, at once */
    assert_int_equal(override_test_bring(&f, 20000, 20000 + OVERRIDES_MAX), OVERRIDE_DONE);
    assert_int_equal(f.table.head->count, OVERRIDES_MAX);
    assert_int_equal(override_test_bring(&f, 20000, 20000 + OVERRIDES_MAX - 1), OVERRIDE_DONE);
    assert_int_equal(override_test_ban(&f, 7, NOW + 20), OVERRIDE_DONE);
    assert_int_equal(override_test_bring(&f, 20000, 20000 + OVERRIDES_MAX), OVERRIDE_FULL);
    assert_int_equal(override_test_banned(&f, 7, NOW), NOW + 20);
    assert_int_equal(f.table.head->count, OVERRIDES_MAX);
    /* as soon as there is room the next look brings the rest */
    assert_int_equal(override_test_mark(&f).version, 0);
    assert_int_equal(override_test_ban(&f, 7, 0), OVERRIDE_DONE);
    assert_int_equal(override_test_bring(&f, 20000, 20000 + OVERRIDES_MAX), OVERRIDE_DONE);
    assert_int_equal(override_test_mark(&f).version, 20000 + OVERRIDES_MAX);
    override_test_end(&f);
}

/* A version is known only as long as all of it is in force, and nothing else. */
static void test_version(void **state)
{
    fixture_t f = override_test_new();
    const override_brought_t one = { .key = override_test_key(50),
                                     .wanted = { .ban = NOW + 7 },
                                     .shown = "" };

    (void)state;
    override_adopt(&f.table, SOURCE, NOW);
    assert_int_equal(override_test_mark(&f).version, 0);
    assert_int_equal(override_test_bring(&f, 10, 20), OVERRIDE_DONE);
    assert_int_equal(override_test_mark(&f).version, 20);
    /* of two that were ordered at once the earlier may come here last */
    assert_int_equal(override_set_brought(&f.table, &one, NOW), OVERRIDE_DONE);
    assert_int_equal(override_test_mark(&f).version, 0);
    assert_int_equal(override_test_bring(&f, 10, 21), OVERRIDE_DONE);
    assert_int_equal(override_test_ban(&f, 15, 0), OVERRIDE_DONE);
    assert_int_equal(override_test_mark(&f).version, 0);
    /* of two looks at once the one that has the older answer may come last */
    const override_mark_t mark = override_test_mark(&f);

    assert_int_equal(override_test_bring_since(&f, 10, 22, &mark), OVERRIDE_DONE);
    assert_int_equal(override_test_bring_since(&f, 10, 20, &mark), OVERRIDE_BUSY);
    assert_int_equal(override_test_banned(&f, 21, NOW), NOW + 10);
    assert_int_equal(override_test_mark(&f).version, 22);
    /* a new generation may know them by other secrets */
    override_adopt(&f.table, SOURCE, NOW);
    assert_int_equal(override_test_mark(&f).version, 0);
    assert_int_equal(override_test_banned(&f, 21, NOW), NOW + 10);
    override_test_end(&f);
}

/* Children of the last generation, which looks elsewhere, bring nothing any more. */
static void test_source(void **state)
{
    fixture_t f = override_test_new();
    override_mark_t mark;

    (void)state;
    assert_false(override_mark(&f.table, SOURCE, &mark));
    override_adopt(&f.table, SOURCE, NOW);
    assert_int_equal(override_test_bring(&f, 10, 20), OVERRIDE_DONE);
    assert_int_equal(override_test_ban(&f, 7, NOW + 20), OVERRIDE_DONE);
    mark = override_test_mark(&f);
    override_adopt(&f.table, SOURCE + 1, NOW);
    assert_int_equal(override_test_bring_since(&f, 30, 40, &mark), OVERRIDE_BUSY);
    assert_false(override_mark(&f.table, SOURCE, &mark));
    assert_int_equal(override_test_banned(&f, 10, NOW), NOW + 10); /* until the next look */
    assert_true(override_mark(&f.table, SOURCE + 1, &mark));
    assert_int_equal(override_test_bring_since(&f, 11, 13, &mark), OVERRIDE_DONE);
    assert_int_equal(f.table.head->count, 3);
    /* none is in Redis any more */
    override_adopt(&f.table, 0, NOW);
    assert_int_equal(f.table.head->count, 1);
    assert_int_equal(override_test_banned(&f, 7, NOW), NOW + 20);
    assert_false(override_mark(&f.table, SOURCE + 1, &mark));
    override_test_end(&f);
}

/* Against a plain list, many times. */
static void test_random(void **state)
{
    fixture_t f = override_test_new();
    rlp_time_t expected[300] = { 0 };
    uint64_t seed = unit_seed();

    (void)state;
    for (int round = 0; round < 20000; round++) {
        const uint64_t i = unit_below(&seed, UNIT_N(expected));
        const rlp_time_t until = unit_below(&seed, 3) ? NOW + 1 + (int)unit_below(&seed, 9) : 0;

        /* close homes, so that chains meet */
        const override_result_t result =
            override_test_ban(&f, 100 + i / 7 + i * OVERRIDES_MAX, until);

        assert_int_equal(result, until || expected[i] ? OVERRIDE_DONE : OVERRIDE_NONE);
        expected[i] = until;
        const uint64_t j = unit_below(&seed, UNIT_N(expected));

        assert_int_equal(override_test_banned(&f, 100 + j / 7 + j * OVERRIDES_MAX, NOW),
                         expected[j]);
    }
    override_test_end(&f);
}

static void test_lock(void **state)
{
    fixture_t f = override_test_new();
    int status = 0;
    const pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0) { /* dies with the lock, and a wrong count */
        (void)rlp_latch_take(&f.table.head->latch);
        f.table.head->count = 7;
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(override_test_ban(&f, 77, NOW + 10), OVERRIDE_DONE);
    assert_int_equal(f.table.head->count, 1);
    assert_true(f.table.head->latch == 0);
    f.table.head->latch = 1; /* as a damaged one, which nobody has */
    f.table.head->next = 0;
    override_tidy(&f.table, NOW + 9);
    assert_true(f.table.head->latch == 0);
    assert_true(rlp_latch_take(&f.table.head->latch)); /* lives */
    assert_int_equal(override_test_ban(&f, 78, NOW + 10), OVERRIDE_BUSY);
    assert_int_equal(override_test_banned(&f, 77, NOW), NOW + 10); /* who reads does not wait */
    override_tidy(&f.table, NOW + 10);
    assert_int_equal(f.table.head->count, 1);
    override_test_end(&f);
}

#define RACE_ROUNDS 3000

/* One process bans and unbans many on the places of one another; who is banned for good is found
   all the time, and nobody gets what is another's. */
static void test_race(void **state)
{
    fixture_t f = override_test_new();
    int status = 0;

    (void)state;
    assert_int_equal(override_test_ban(&f, override_test_crowded(50), RLP_TIME_NEVER - 1),
                     OVERRIDE_DONE);
    const pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        for (uint64_t i = 0; i < RACE_ROUNDS; i++) {
            (void)override_test_ban(&f, override_test_crowded(i % 40), NOW + (int)(i % 40) + 1);
            (void)override_test_ban(&f, override_test_crowded((i + 20) % 40), 0);
        }
        _exit(0);
    }
    while (waitpid(pid, &status, WNOHANG) == 0) {
        assert_int_equal(override_test_banned(&f, override_test_crowded(50), NOW),
                         RLP_TIME_NEVER - 1);
        for (uint64_t i = 0; i < 40; i++) {
            const rlp_time_t until = override_test_banned(&f, override_test_crowded(i), NOW);

            assert_true(until == 0 || until == NOW + (int)i + 1);
        }
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    override_test_end(&f);
}

/* Whatever stands there, it is read and changed within bounds. */
static void test_damage(void **state)
{
    fixture_t f = override_test_new();
    uint64_t seed = unit_seed();
    uint64_t *words = (uint64_t *)f.table.area;

    (void)state;
    for (size_t i = 0; i < sizeof(*f.table.area) / sizeof(*words); i++) {
        words[i] = unit_random(&seed);
    }
    memset(f.table.head->brought, 0x5a, sizeof(f.table.head->brought));
    f.table.head->count = UINT32_MAX;
    (void)override_test_banned(&f, 77, NOW);
    (void)override_test_ban(&f, 77, NOW + 10);
    override_adopt(&f.table, SOURCE, NOW);
    (void)override_test_bring(&f, 10, 500);
    assert_true(f.table.head->count <= OVERRIDES_MAX);
    override_test_end(&f);
}

static void test_keys(void **state)
{
    rlp_store_t *store = NULL;
    const char *const names[] = { "ip:192.0.2.1", "ip:192.0.2.2", "user:amy" };

    (void)state;
    assert_int_equal(rlp_memory_create(&store, unit_pool()), APR_SUCCESS);
    for (size_t i = 0; i < UNIT_N(names); i++) {
        const override_key_t key = override_key(store, names[i], strlen(names[i]));
        const override_key_t same = override_key(store, names[i], strlen(names[i]));

        assert_true(key.fingerprint > 1 && key.digest == same.digest);
        for (size_t j = 0; j < i; j++) {
            assert_true(override_key(store, names[j], strlen(names[j])).digest != key.digest);
        }
    }
    assert_true(override_plan_hash("free") != override_plan_hash("pro"));
}

int main(void)
{
    unit_add("one ban, from its begin to its end", test_one, NULL);
    unit_add("a ban and a plan for one identity", test_both, NULL);
    unit_add("4 096 of one home, and no more", test_full, NULL);
    unit_add("those of all hosts", test_brought, NULL);
    unit_add("those of all hosts, to the last place", test_brought_full, NULL);
    unit_add("those of all hosts, by their version", test_version, NULL);
    unit_add("those of all hosts, from elsewhere", test_source, NULL);
    unit_add("as a plain list", test_random, NULL);
    unit_add("the lock of the dead and of the living", test_lock, NULL);
    unit_add("who reads while others change", test_race, NULL);
    unit_add("whatever is there", test_damage, NULL);
    unit_add("keys tell identities apart", test_keys, NULL);
    return unit_run();
}
