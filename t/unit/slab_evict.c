/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The slab: who has to go when a set is full, and who stays: by what is lost with him, by what
 * processes hold, under a million identities never seen before.
 */

#include "slab_cells.h"

#include "store/slab_layout.h"

#include <stdlib.h>
#include <string.h>

#define JUNK 1000000

/* --- eviction: sixteen keys of two sets, and one more */

#define NEIGHBOURS (2 * SLAB_WAYS)

typedef struct {
    rlp_time_t put; /* seconds after NOW */
    rlp_time_t expires;
    uint64_t loss;
} resident_t;

#define LASTING (UINT64_C(1) << 32)

#define FOREVER (RLP_TIME_NEVER / RLP_SECOND)

typedef struct {
    const char *name;
    resident_t residents[SLAB_WAYS];
    int victim;
} eviction_t;

/* Eight residents and eight whom nobody pushes out; the newcomer comes after 50 seconds. */
static const eviction_t evictions[] = {
    { "what has expired goes first",
      { { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 49, 60000 },
        { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 100, 9 },
        { 0, 100, 1 } },
      2 },
    { "then the smallest loss",
      { { 0, 100, 700 },
        { 0, 100, 600 },
        { 0, 100, 500 },
        { 0, 100, 400 },
        { 0, 100, 300 },
        { 0, 100, 310 },
        { 0, 100, 400 },
        { 0, 100, 500 } },
      4 },
    { "a full client stays, however short its life",
      { { 0, 86400, 66 },
        { 0, 60, 65535 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 },
        { 0, 86400, 70 } },
      0 },
    { "the loss shrinks with the life that is left",
      { { 40, 100, 600 },
        { 40, 100, 600 },
        { 40, 100, 600 },
        { 40, 100, 600 },
        { 40, 100, 600 },
        { 0, 100, 900 },
        { 40, 100, 600 },
        { 40, 100, 600 } },
      5 },
    { "what never expires is judged by its loss",
      { { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 500 },
        { 0, FOREVER, 100 },
        { 0, 100, 800 } },
      6 },
    { "a loss that lasts does not shrink",
      { { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 100, 1100 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 },
        { 0, 51, LASTING | 600 } },
      3 },
    { "and is the smaller one where it is",
      { { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 1000, LASTING | 500 },
        { 0, 100, 1200 },
        { 0, 100, 1200 },
        { 0, 100, 1200 } },
      4 },
    { "losses beyond 16 bits are told from each other",
      { { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 4000000000 },
        { 0, 86400, 3900000000 } },
      7 },
    { "no loss is as good as none",
      { { 0, FOREVER, 500 },
        { 0, FOREVER, 0 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 },
        { 0, 51, 1 } },
      1 },
};

/* Keys of the same two sets whose search begins at the same way: the hash that chooses is the
   fingerprint's and the signature's together. */
static cell_t neighbour(uint64_t i)
{
    return (cell_t){ .fingerprint = UINT64_C(0x123456789abcdef0) ^ i, .signature = i, .size = 24 };
}

static rlp_time_t after(rlp_time_t seconds)
{
    return seconds == FOREVER ? RLP_TIME_NEVER : NOW + seconds * RLP_SECOND;
}

/* Fills a set with what outweighs all residents. */
static void put_stones(slab_t *slab, rlp_time_t now)
{
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        cell_t cell = neighbour(NEIGHBOURS + 1 + i);

        cell.expires = RLP_TIME_NEVER;
        cell.loss = UINT32_MAX;
        cell.lasting = true;
        cell_put(slab, &cell, 77, now);
    }
}

static void put_residents(slab_t *slab, const eviction_t *row, rlp_time_t at)
{
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        const resident_t *r = &row->residents[i];
        cell_t cell = neighbour(i);

        cell.expires = after(r->expires);
        cell.loss = (uint32_t)r->loss;
        cell.lasting = (r->loss & LASTING) != 0;
        if (r->put == at) {
            cell_put(slab, &cell, (unsigned char)(i + 1), after(at));
        }
    }
}

/* stones: after so many seconds they come, before the residents or after them, so that these have
   the second set or the first. */
static void check_eviction(const eviction_t *row, rlp_time_t stones)
{
    slab_t slab = slab_new(MB);
    cell_t newcomer = neighbour(SLAB_WAYS);

    for (rlp_time_t at = 0; at <= 50; at++) {
        if (at == stones) {
            put_stones(&slab, after(at));
        }
        put_residents(&slab, row, at);
    }
    newcomer.expires = after(1000);
    cell_put(&slab, &newcomer, 99, after(50));
    assert_int_equal(cell_get(&slab, &newcomer, after(50)), 99);
    for (uint64_t i = 0; i < SLAB_WAYS; i++) {
        const cell_t cell = neighbour(i);
        const cell_t stone = neighbour(NEIGHBOURS + 1 + i);

        assert_int_equal(cell_get(&slab, &cell, after(50)), (int)i == row->victim ? 0 : (int)i + 1);
        assert_int_equal(cell_get(&slab, &stone, after(50)), 77);
    }
    slab_free(&slab);
}

static void test_eviction(void **state)
{
    const eviction_t *row = unit_row(state);

    check_eviction(row, 0);
    check_eviction(row, 45);
}

/* A newcomer that is refused writes nothing and throws nobody out. */
static void test_refused_newcomer(void **state)
{
    slab_t slab = slab_new(MB);
    unsigned char *before = malloc(MB);
    const size_t from = slab.classes[0].offset;

    (void)state;
    for (uint64_t i = 0; i < NEIGHBOURS; i++) {
        cell_t cell = neighbour(i);

        cell.expires = after(9);
        cell.loss = 1;
        cell_put(&slab, &cell, 1, NOW);
    }
    memcpy(before, slab.base, MB);
    for (uint64_t i = 0; i < 1000; i++) {
        const cell_t cell = neighbour(NEIGHBOURS + i);

        assert_int_equal(cell_get(&slab, &cell, NOW), 0);
    }
    assert_memory_equal(before + from, slab.base + from, MB - from);
    free(before);
    slab_free(&slab);
}

/* Puts the value to the neighbours from first on, all in one update. */
static void put_neighbours(slab_t *slab, uint64_t first, int n, int value)
{
    uint64_t states[NEIGHBOURS + 1][RLP_STATE_MAX / 8];
    rlp_entry_t entries[NEIGHBOURS + 1];
    rlp_entry_t *pointers[NEIGHBOURS + 1];
    fill_t fill = { .value = value };

    for (int i = 0; i < n; i++) {
        const cell_t cell = neighbour((first + (uint64_t)i) % (NEIGHBOURS + 1));

        entries[i] = (rlp_entry_t){ .key = { .fingerprint = cell.fingerprint,
                                             .signature = cell.signature,
                                             .size = cell.size },
                                    .state = states[i] };
        pointers[i] = &entries[i];
    }
    assert_int_equal(slab_update(slab, pointers, n, NOW, fill_update, &fill), 0);
}

/* How many of the seventeen have that value. */
static int count_neighbours(slab_t *slab, int value)
{
    int n = 0;

    for (uint64_t i = 0; i <= NEIGHBOURS; i++) {
        const cell_t cell = neighbour(i);

        n += cell_get(slab, &cell, NOW) == value;
    }
    return n;
}

/* Keys of one update never push each other out, and what has no room is left out. */
static void test_own_set(void **state)
{
    slab_t slab = slab_new(MB);
    cell_t poor = neighbour(0);

    (void)state;
    put_neighbours(&slab, 0, NEIGHBOURS + 1, 7);
    assert_int_equal(count_neighbours(&slab, 7), NEIGHBOURS);
    poor.expires = NOW + RLP_SECOND;
    poor.loss = 1;
    cell_put(&slab, &poor, 8, NOW);
    put_neighbours(&slab, NEIGHBOURS, 2, 9); /* the last, then the poor one, which has its slot */
    assert_int_equal(count_neighbours(&slab, 9), 2);
    slab_free(&slab);
}

/* Who went to the second set is found there when the first has room again, and has no other slot:
   the newcomer after him gets that room. */
static void test_second_stays(void **state)
{
    slab_t slab = slab_new(MB);

    (void)state;
    for (uint64_t i = 0; i <= SLAB_WAYS; i++) {
        cell_t cell = neighbour(i);

        cell.expires = i == 0 ? after(1) : after(1000);
        cell.loss = 1;
        cell_put(&slab, &cell, (unsigned char)(i + 1), NOW);
    }
    for (int times = 0; times < 3; times++) {
        cell_t ninth = neighbour(SLAB_WAYS);

        ninth.expires = after(1000);
        ninth.loss = 1;
        assert_int_equal(cell_get(&slab, &ninth, after(2)), SLAB_WAYS + 1);
        cell_put(&slab, &ninth, SLAB_WAYS + 1, after(2));
    }
    for (uint64_t i = SLAB_WAYS + 1; i <= NEIGHBOURS; i++) {
        cell_t cell = neighbour(i);

        cell.expires = after(1000);
        cell.loss = 1;
        cell_put(&slab, &cell, (unsigned char)(i + 1), after(2));
    }
    for (uint64_t i = 1; i <= NEIGHBOURS; i++) {
        const cell_t cell = neighbour(i);

        assert_int_equal(cell_get(&slab, &cell, after(2)), i + 1);
    }
    slab_free(&slab);
}

/* --- as many keys as have a share of the slots, which ask in turn */

typedef struct {
    const char *name;
    int percent; /* of the slots */
    int most;    /* keys ever pushed out, of a million */
} share_t;

/* The table in docs/operations.md, with some room. */
static const share_t shares[] = {
    { "25 of 100 slots in use", 25, 20 },
    { "50 of 100 slots in use", 50, 600 },
    { "75 of 100 slots in use", 75, 20000 },
};

static void test_share(void **state)
{
    const share_t *row = unit_row(state);
    slab_t slab = slab_new(16 * MB);
    const uint64_t n = slab_room(slab.size, 24) * (uint64_t)row->percent / 100;
    unsigned char *pushed = calloc(n, 1);
    uint64_t all = 0;

    for (int round = 0; round < 5; round++) {
        uint64_t random = 4711;

        for (uint64_t i = 0; i < n; i++) {
            const cell_t cell = { .fingerprint = unit_random(&random) | 1,
                                  .signature = 5,
                                  .size = 24,
                                  .expires = RLP_TIME_NEVER,
                                  .loss = RLP_LOSS_REQUEST };
            visit_t visit = { .put = 1, .keep = true };

            assert_int_equal(cell_visit(&slab, &visit, &cell, NOW), 0);
            pushed[i] |= round > 0 && visit.found == 0;
        }
    }
    for (uint64_t i = 0; i < n; i++) {
        all += pushed[i];
    }
    assert_in_range(all, 0, n * (uint64_t)row->most / 1000000);
    free(pushed);
    slab_free(&slab);
}

/* --- what processes hold */

static void put_junk(slab_t *slab, uint32_t size, int n, uint64_t *random)
{
    for (int i = 0; i < n; i++) {
        const cell_t cell = { .fingerprint = unit_random(random) | 1,
                              .size = size,
                              .expires = RLP_TIME_NEVER,
                              .loss = RLP_LOSS_FULL };

        cell_put(slab, &cell, 1, NOW);
    }
}

/* Held by one process or two: in its place until the last of them is gone. */
static void test_held_junk(void **state)
{
    static const uint32_t sizes[] = { 40, 232, 4072 };
    uint64_t random = unit_seed();

    (void)state;
    for (size_t i = 0; i < UNIT_N(sizes); i++) {
        slab_t slab = slab_new(MB);
        rlp_store_t *store = slab_store(&slab);
        const rlp_hold_t one = rlp_owner_open(store, 1001);
        const rlp_hold_t two = rlp_owner_open(store, 1002);
        const cell_t cell = { .fingerprint = 11, .size = sizes[i] };

        assert_true(one != 0 && two != 0 && one != two);
        hold_put(&slab, &cell, one | 1, two | 1);
        put_junk(&slab, cell.size, 50000, &random);
        assert_int_equal(hold_get(&slab, &cell), one | 1);
        rlp_owner_close(store, 1001);
        put_junk(&slab, cell.size, 50000, &random);
        assert_int_equal(hold_get(&slab, &cell), one | 1);
        rlp_owner_close(store, 1002);
        put_junk(&slab, cell.size, 100000, &random);
        assert_int_equal(hold_get(&slab, &cell), 0);
        slab_free(&slab);
    }
}

static void hold_neighbours(slab_t *slab, rlp_hold_t owner)
{
    for (uint64_t i = 0; i < NEIGHBOURS; i++) {
        const cell_t cell = neighbour(i);

        hold_put(slab, &cell, owner | (i + 1), owner);
    }
}

/* Where both sets are held whole there is no room, which is no error; and what has void holds goes
   before anything that counts, also when the number of the dead lives again. */
static void test_held_full(void **state)
{
    slab_t slab = slab_new(MB);
    rlp_store_t *store = slab_store(&slab);
    const rlp_hold_t owner = rlp_owner_open(store, 1001);
    cell_t newcomer = neighbour(NEIGHBOURS);
    const cell_t first = neighbour(0);

    (void)state;
    newcomer.expires = RLP_TIME_NEVER;
    newcomer.loss = RLP_LOSS_FULL;
    hold_neighbours(&slab, owner);
    cell_put(&slab, &newcomer, 99, NOW);
    assert_int_equal(cell_get(&slab, &newcomer, NOW), 0);
    for (uint64_t i = 0; i < NEIGHBOURS; i++) {
        const cell_t cell = neighbour(i);

        assert_int_equal(hold_get(&slab, &cell), owner | (i + 1));
    }
    cell_put(&slab, &first, 1, NOW); /* gives its places back */
    rlp_owner_close(store, 1001);
    assert_int_equal(rlp_owner_open(store, 1002) >> 48, owner >> 48);
    cell_put(&slab, &newcomer, 99, NOW);
    assert_int_equal(cell_get(&slab, &newcomer, NOW), 99);
    newcomer = neighbour(NEIGHBOURS + 1);
    newcomer.expires = RLP_TIME_NEVER;
    newcomer.loss = 1;
    cell_put(&slab, &newcomer, 98, NOW);
    assert_int_equal(cell_get(&slab, &newcomer, NOW), 98);
    slab_free(&slab);
}

/* After a full start nobody holds anything. */
static void test_held_void(void **state)
{
    slab_t slab = slab_new(MB);
    const cell_t cell = { .fingerprint = 11, .size = 232 };
    uint64_t random = unit_seed();

    (void)state;
    hold_put(&slab, &cell, rlp_owner_open(slab_store(&slab), 1001) | 1, 0);
    slab_unlock_all(&slab);
    assert_int_equal(rlp_owner_open(slab_store(&slab), 1001) & ((UINT64_C(1) << 48) - 1),
                     rlp_owner(0, 3)); /* another life of the number */
    put_junk(&slab, cell.size, 100000, &random);
    assert_int_equal(hold_get(&slab, &cell), 0);
    slab_free(&slab);
}

/* --- junk: a million identities never seen before */

typedef struct {
    const char *id;
    const char *words;
    rlp_time_t tick; /* between two requests, microseconds */
} flood_t;

static const flood_t floods[] = {
    { "I-20 frozen clock", "rate=10/min rate=1000/day", 0 },
    { "I-20 frozen clock", "rate=10/min algorithm=fixed-window", 0 },
    { "I-20 frozen clock", "rate=10/min", 0 },
    { "I-20 running clock", "rate=10/min rate=1000/day", 50 },
    { "I-20 running clock", "rate=10/min algorithm=fixed-window", 50 },
    { "I-20 running clock", "rate=10/min", 50 },
};

static void test_flood(void **state)
{
    const flood_t *row = unit_row(state);
    const rlp_plan_t *plan = unit_plan(row->words);
    slab_t slab = slab_new(16 * MB);
    const rlp_segment_t segment = { .fd = -1, .memory = slab.base, .size = slab.size };
    uint64_t random = unit_seed();
    rlp_store_t *shm;
    rlp_store_t *memory;
    char name[20];
    rlp_time_t now = NOW - NOW % (60 * RLP_SECOND);

    assert_int_equal(rlp_shm_create(&shm, &segment, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_memory_create(&memory, unit_pool()), APR_SUCCESS);
    for (int i = 0; i < JUNK; i++, now += row->tick) {
        const rlp_answer_t junk = flood_ask(shm, plan, junk_name(unit_random(&random), name), now);

        assert_int_equal(junk.verdict, RLP_ALLOW);
        if (i % 1000 < 11) { /* the limited client, of whom the memory store forgets nothing */
            const rlp_answer_t known = flood_ask(shm, plan, "ip:192.0.2.1", now);
            const rlp_answer_t oracle = flood_ask(memory, plan, "ip:192.0.2.1", now);

            assert_int_equal(known.verdict, oracle.verdict);
            assert_int_equal(known.retry, oracle.retry);
        }
    }
    slab_free(&slab);
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } singles[] = {
        { "held: 100000 newcomers, until the holders are gone", test_held_junk },
        { "held: two whole sets", test_held_full },
        { "held: void after a full start", test_held_void },
        { "a refused newcomer costs nothing", test_refused_newcomer },
        { "seventeen keys of two sets in one update", test_own_set },
        { "the second set: found there later too", test_second_stays },
    };

    for (size_t i = 0; i < UNIT_N(singles); i++) {
        unit_add(singles[i].name, singles[i].run, NULL);
    }
    for (size_t i = 0; i < UNIT_N(evictions); i++) {
        unit_add_case("eviction", evictions[i].name, test_eviction, &evictions[i]);
    }
    for (size_t i = 0; i < UNIT_N(shares); i++) {
        unit_add_case("asking in turn", shares[i].name, test_share, &shares[i]);
    }
    for (size_t i = 0; i < UNIT_N(floods); i++) {
        unit_add_case(floods[i].id, floods[i].words, test_flood, &floods[i]);
    }
    return unit_run();
}
