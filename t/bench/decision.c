/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Decisions a second: the library's, and beside it a yardstick without locks, plans, eviction or
 * collision handling (one compare-and-swap in a flat table). One line of JSON a run.
 *
 *   decision [-i library|floor|line] [-d uniform|zipf|hot] [-k KEYS] [-p PROCESSES] [-s SECONDS]
 *            [-m MEGABYTES] [-l LIMITS] [-c] [-t MICROSECONDS] [-r] [-w] [-n DECISIONS]
 *
 * -i  floor: the yardstick with 16 bytes a key and a hash that whoever knows it can steer; line:
 * the same with what a server cannot go without, a line of 64 bytes a key and a keyed hash
 *     (SipHash-2-4).
 * -l  the limits of the plan, in the words of a plan; all are asked in each decision. Places of a
 *     concurrency limit are given back in groups, and how long that takes is told beside what the
 *     decisions take.
 * -c  the clock is read for each decision, as a server does that has just waited for a request.
 * -t  the clock is not read but moves so far with each decision; for one process.
 * -r  refusals are expected; otherwise the limits must never be reached.
 * -w  which key is next is known only when the one before has been decided. A processor begins with
 *     the next decisions else, while it waits for memory, which those of a server's requests, with
 *     thousands of instructions between them, cannot have.
 * -n  so many decisions in this process, of keys that are all known, without a figure: for a
 *     profiler, which counts.
 *
 * Without -c the clock is read once in 256 decisions, which leaves the decision alone. The ratio
 * of two runs, one after the other, is what counts.
 */

#include "rlp.h"

#include <apr_general.h>
#include <apr_siphash.h>

#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAM (1U << 22)
#define PROCESSES_MAX 64
#define GROUP 256 /* decisions between two looks at the clock */
#define WORDS_MAX 32
#define CLOCK_READ (-1)

typedef struct {
    _Atomic uint64_t tag;
    _Atomic uint64_t time;
} cell_t;

typedef struct {
    _Atomic int ready;
    _Atomic int go;
    _Atomic int stop;
    _Alignas(64) struct {
        _Alignas(64) uint64_t decisions;
        uint64_t deciding; /* microseconds */
        uint64_t releasing;
    } done[PROCESSES_MAX];
} control_t;

typedef struct {
    size_t cell; /* bytes of a cell of the yardstick; 0: the library decides */
    const char *distribution;
    uint32_t keys;
    int processes;
    double seconds;
    size_t megabytes;
    char *limits;
    int64_t tick; /* microseconds of a decision; CLOCK_READ */
    bool refuses;
    bool reads;         /* the clock, for each decision */
    bool waits;         /* for a decision, before the key of the next */
    uint32_t decisions; /* 0: for some seconds */
    uint32_t *stream;
    control_t *control;
    rlp_store_t *store;
    rlp_segment_t segment;
    rlp_plan_t *plan;
    void *rooms[RLP_LIMITS_MAX]; /* for states too large for their charges */
    rlp_hold_t owner;            /* this process */
    rlp_time_t wall;             /* of the wall clock from the monotonic one */
    int holding;                 /* index of the concurrency limit; -1: none */
    unsigned char *cells;
    uint64_t mask;
} bench_t;

static uint64_t bench_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double bench_fraction(uint64_t *state)
{
    return (double)(bench_random(state) >> 11) / 9007199254740992.0;
}

/* Zipf with exponent 1, by the inverse of its sums. */
static void bench_zipf(bench_t *bench, uint64_t *random)
{
    double *sums = malloc(bench->keys * sizeof(*sums));
    double sum = 0;

    for (uint32_t i = 0; i < bench->keys; i++) {
        sum += 1.0 / (double)(i + 1);
        sums[i] = sum;
    }
    for (uint32_t i = 0; i < STREAM; i++) {
        const double at = bench_fraction(random) * sum;
        uint32_t low = 0;
        uint32_t high = bench->keys - 1;

        while (low < high) {
            const uint32_t middle = low + (high - low) / 2;

            if (sums[middle] < at) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        bench->stream[i] = low;
    }
    free(sums);
}

static void bench_stream(bench_t *bench)
{
    uint64_t random = UINT64_C(88172645463325252);

    bench->stream = calloc(STREAM, sizeof(*bench->stream));
    if (strcmp(bench->distribution, "zipf") == 0) {
        bench_zipf(bench, &random);
    } else if (strcmp(bench->distribution, "uniform") == 0) {
        for (uint32_t i = 0; i < STREAM; i++) {
            bench->stream[i] = (uint32_t)(bench_fraction(&random) * bench->keys);
        }
    }
}

__extension__ typedef unsigned __int128 wide_t;

/* --- the yardstick: one 16-byte cell a key, four to a line, GCRA in nanoseconds */

static uint64_t floor_hash(const bench_t *bench, uint64_t key)
{
    static const unsigned char secret[APR_SIPHASH_KSIZE] = { 1 };
    const uint64_t identity[2] = { key, UINT64_C(0x2122232425262728) };

    if (bench->cell > sizeof(cell_t)) {
        return apr_siphash24(identity, sizeof(identity), secret);
    }
    wide_t product = (wide_t)(key ^ UINT64_C(0xa0761d6478bd642f)) *
                     (UINT64_C(0x2122232425262728) ^ UINT64_C(0xe7037ed1a0b428db));

    const uint64_t mixed = (uint64_t)product ^ (uint64_t)(product >> 64);

    product = (wide_t)(mixed ^ 16) * UINT64_C(0x8ebc6af09c88c6e3);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static cell_t *floor_find(const bench_t *bench, uint64_t hash)
{
    for (uint64_t line = hash >> 20;; line++) {
        unsigned char *cells = bench->cells + (line & bench->mask) * 4 * bench->cell;

        for (uint64_t i = 0; i < 4; i++) {
            cell_t *cell = (cell_t *)(void *)(cells + (i + hash / 2) % 4 * bench->cell);
            uint64_t tag = atomic_load_explicit(&cell->tag, memory_order_acquire);

            if (tag == 0 && atomic_compare_exchange_strong(&cell->tag, &tag, hash | 1)) {
                return cell;
            }
            if (tag == (hash | 1)) {
                return cell;
            }
        }
    }
}

/* Each decision is told by a number below 2^63. */
static uint64_t floor_decide(const bench_t *bench, uint32_t key, uint64_t now)
{
    cell_t *cell = floor_find(bench, floor_hash(bench, key));
    uint64_t time = atomic_load_explicit(&cell->time, memory_order_relaxed);
    uint64_t next;

    do {
        next = (time > now ? time : now) + 1;
        if (next - now > UINT64_C(1000000000000)) {
            return 0;
        }
    } while (!atomic_compare_exchange_weak_explicit(&cell->time, &time, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    return next;
}

/* --- ours */

static void library_charge(const bench_t *bench, rlp_charge_t *charge, const uint64_t identity[2],
                           int i)
{
    const rlp_limit_t *limit = &bench->plan->limits[i];

    rlp_charge_init(charge, (const char *)identity, 2 * sizeof(*identity), 42 + (uint64_t)i, limit);
    if (limit->state_size > RLP_STATE_MAX) {
        charge->entry.state = bench->rooms[i];
    }
}

static uint64_t library_decide(const bench_t *bench, uint32_t key, uint64_t now)
{
    const uint64_t identity[2] = { key, UINT64_C(0x2122232425262728) };
    const rlp_question_t question = { .now = (rlp_time_t)(now / 1000),
                                      .wall = (rlp_time_t)(now / 1000) + bench->wall,
                                      .owner = bench->owner };
    const int n = bench->plan->n;
    rlp_charge_t charges[RLP_LIMITS_MAX];
    rlp_answer_t answer;

    for (int i = 0; i < n; i++) {
        library_charge(bench, &charges[i], identity, i);
    }
    if (rlp_check(bench->store, charges, n, &question, &answer) != APR_SUCCESS ||
        (answer.verdict != RLP_ALLOW && !bench->refuses)) {
        abort();
    }
    return (uint64_t)charges[0].decision.remaining;
}

static void library_release(const bench_t *bench, uint32_t key, uint64_t now)
{
    const uint64_t identity[2] = { key, UINT64_C(0x2122232425262728) };
    const rlp_question_t question = { .now = (rlp_time_t)(now / 1000),
                                      .wall = (rlp_time_t)(now / 1000) + bench->wall,
                                      .owner = bench->owner };
    rlp_charge_t charge;
    rlp_answer_t answer;

    library_charge(bench, &charge, identity, bench->holding);
    if (rlp_release(bench->store, &charge, 1, &question, &answer) != APR_SUCCESS) {
        abort();
    }
}

static uint64_t bench_decide(const bench_t *bench, uint32_t key, uint64_t now)
{
    return bench->cell != 0 ? floor_decide(bench, key, now) : library_decide(bench, key, now);
}

/* --- a run */

/* Where a process is in its stream. */
typedef struct {
    const bench_t *bench;
    uint32_t at;
    uint64_t now;    /* nanoseconds */
    uint64_t before; /* what the last decision was, where the next waits for it */
    uint64_t deciding;
    uint64_t releasing;
} walk_t;

static uint64_t walk_clock(void)
{
    return (uint64_t)rlp_clock_monotonic();
}

static void walk_release(walk_t *walk, uint32_t from)
{
    const uint64_t begin = walk_clock();

    for (uint32_t i = 0; i < GROUP; i++) {
        library_release(walk->bench, walk->bench->stream[(from + i) % STREAM], walk->now);
    }
    walk->releasing += walk_clock() - begin;
}

static void walk_group(walk_t *walk)
{
    const bench_t *bench = walk->bench;
    const uint64_t tick = bench->tick == CLOCK_READ ? 0 : (uint64_t)bench->tick * 1000;
    const uint64_t begin = walk_clock();
    const uint32_t from = walk->at;

    if (bench->tick == CLOCK_READ) {
        walk->now = begin * 1000;
    }
    for (int i = 0; i < GROUP; i++) {
        walk->now = bench->reads ? walk_clock() * 1000 : walk->now + tick;
        const uint32_t at = walk->at++ + (uint32_t)(walk->before >> 63);
        const uint64_t decision = bench_decide(bench, bench->stream[at % STREAM], walk->now);

        walk->before = bench->waits ? decision : 0;
    }
    walk->deciding += walk_clock() - begin;
    if (bench->holding >= 0) {
        walk_release(walk, from);
    }
}

static walk_t walk_begin(const bench_t *bench, int child)
{
    return (walk_t){ .bench = bench, .at = (uint32_t)child * 1037389, .now = walk_clock() * 1000 };
}

/* A forked child has no page-table entries of shared memory yet. */
static void bench_touch(const bench_t *bench)
{
    volatile unsigned char *memory = bench->cell != 0 ? bench->cells : bench->segment.memory;
    const size_t size =
        bench->cell != 0 ? (bench->mask + 1) * 4 * bench->cell : bench->segment.size;

    for (size_t i = 0; i < size; i += 4096) {
        (void)memory[i];
    }
}

static void bench_child(bench_t *bench, int child)
{
    walk_t walk = walk_begin(bench, child);
    uint64_t n = 0;
    cpu_set_t cpu;

    CPU_ZERO(&cpu);
    CPU_SET((size_t)child % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &cpu);
    (void)sched_setaffinity(0, sizeof(cpu), &cpu);
    bench_touch(bench);
    if (bench->cell == 0) {
        bench->owner = rlp_owner_open(bench->store, getpid());
    }
    for (uint32_t i = 0; i < STREAM / 8 / GROUP; i++) {
        walk_group(&walk);
    }
    walk.deciding = walk.releasing = 0;
    atomic_fetch_add(&bench->control->ready, 1);
    while (!atomic_load(&bench->control->go)) {
        sched_yield();
    }
    while (!atomic_load_explicit(&bench->control->stop, memory_order_relaxed)) {
        walk_group(&walk);
        n += GROUP;
    }
    bench->control->done[child].decisions = n;
    bench->control->done[child].deciding = walk.deciding;
    bench->control->done[child].releasing = walk.releasing;
    _exit(0);
}

/* Millions a second of all processes, by the time they spent deciding. */
static void bench_print(const bench_t *bench)
{
    uint64_t decisions = 0;
    uint64_t deciding = 0;
    uint64_t releasing = 0;

    for (int i = 0; i < bench->processes; i++) {
        decisions += bench->control->done[i].decisions;
        deciding += bench->control->done[i].deciding;
        releasing += bench->control->done[i].releasing;
    }
    printf("{\"impl\":\"%s\",\"dist\":\"%s\",\"keys\":%" PRIu32
           ",\"procs\":%d,\"decisions\":%" PRIu64
           ",\"mops\":%.3f,\"ns\":%.2f,\"release_ns\":%.2f}\n",
           bench->cell == 0                ? "library"
           : bench->cell == sizeof(cell_t) ? "floor"
                                           : "line",
           bench->distribution, bench->keys, bench->processes, decisions,
           (double)decisions * bench->processes / (double)deciding,
           (double)deciding * 1e3 / (double)decisions, (double)releasing * 1e3 / (double)decisions);
}

static void bench_run(bench_t *bench)
{
    int status = 0;
    int failed = 0;

    fflush(stdout);
    for (int i = 0; i < bench->processes; i++) {
        if (fork() == 0) {
            bench_child(bench, i);
        }
    }
    while (atomic_load(&bench->control->ready) < bench->processes &&
           waitpid(-1, &failed, WNOHANG) == 0) {
        usleep(1000);
    }
    atomic_store(&bench->control->go, 1);
    usleep((useconds_t)(bench->seconds * 1e6));
    atomic_store(&bench->control->stop, 1);
    while (wait(&status) > 0) {
        failed |= status;
    }
    if (failed) {
        fputs("decision: a limit was reached\n", stderr);
        exit(1);
    }
    bench_print(bench);
}

static void bench_count(const bench_t *bench)
{
    walk_t walk = walk_begin(bench, 0);

    for (uint32_t i = 0; i < bench->decisions / GROUP; i++) {
        walk_group(&walk);
    }
}

static void *bench_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

/* Every key is known. */
static void bench_fill(const bench_t *bench)
{
    for (uint32_t i = 0; i < bench->keys && strcmp(bench->distribution, "hot") != 0; i++) {
        const uint64_t now = walk_clock() * 1000;

        (void)bench_decide(bench, i, now);
        if (bench->holding >= 0) {
            library_release(bench, i, now);
        }
    }
}

/* The plan of the limits given, with room for its states. */
static bool bench_plan(bench_t *bench, const rlp_clock_t *clock, apr_pool_t *pool)
{
    const char *words[WORDS_MAX];
    rlp_plan_source_t source = { .name = "bench", .words = words, .wall = clock->wall };
    const char *error = NULL;

    for (char *word = strtok(bench->limits, " "); word != NULL && source.n < WORDS_MAX;
         word = strtok(NULL, " ")) {
        words[source.n++] = word;
    }
    error = rlp_plan_parse(&bench->plan, &source, pool);
    if (error != NULL) {
        fprintf(stderr, "decision: %s\n", error);
        return false;
    }
    rlp_plan_owners(bench->plan, RLP_OWNERS_USUAL);
    for (int i = 0; i < bench->plan->n; i++) {
        const rlp_limit_t *limit = &bench->plan->limits[i];

        bench->holding = limit->algorithm->holds ? i : bench->holding;
        bench->rooms[i] = apr_palloc(pool, limit->state_size);
    }
    return true;
}

static void bench_open(bench_t *bench, apr_pool_t *pool)
{
    rlp_clock_t clock;
    const char *error = NULL;
    char path[] = "/dev/shm/decision.XXXXXX";
    uint64_t lines = 1;

    while (lines * 4 * 10 < (uint64_t)bench->keys * 16) {
        lines *= 2;
    }
    bench->mask = lines - 1;
    bench->control = bench_shared(sizeof(*bench->control));
    if (bench->cell != 0) {
        bench->cells = bench_shared(lines * 4 * bench->cell);
        return;
    }
    rlp_clock_read(&clock);
    bench->wall = clock.wall - clock.monotonic;
    if (!bench_plan(bench, &clock, pool)) {
        exit(64);
    }
    const int fd = mkstemp(path);

    if (fd < 0 ||
        rlp_segment_open(&bench->segment, path, bench->megabytes << 20, &clock, &error, pool) !=
            APR_SUCCESS ||
        rlp_shm_create(&bench->store, &bench->segment, pool) != APR_SUCCESS) {
        fprintf(stderr, "decision: %s\n", error ? error : "no store");
        exit(1);
    }
    (void)close(fd);
    (void)unlink(path);
    bench->owner = rlp_owner_open(bench->store, getpid());
}

static bool bench_option(bench_t *bench, int option)
{
    switch (option) {
    case 'i':
        bench->cell = strcmp(optarg, "floor") == 0  ? sizeof(cell_t)
                      : strcmp(optarg, "line") == 0 ? 64
                                                    : 0;
        return true;
    case 'd':
        bench->distribution = optarg;
        return true;
    case 'k':
        bench->keys = (uint32_t)strtoul(optarg, NULL, 10);
        return true;
    case 'p':
        bench->processes = (int)strtol(optarg, NULL, 10);
        return true;
    case 's':
        bench->seconds = strtod(optarg, NULL);
        return true;
    case 'm':
        bench->megabytes = (size_t)strtoul(optarg, NULL, 10);
        return true;
    case 'l':
        bench->limits = optarg;
        return true;
    case 't':
        bench->tick = strtol(optarg, NULL, 10);
        return true;
    case 'c':
        bench->reads = true;
        return true;
    case 'r':
        bench->refuses = true;
        return true;
    case 'w':
        bench->waits = true;
        return true;
    case 'n':
        bench->decisions = (uint32_t)strtoul(optarg, NULL, 10);
        return true;
    default:
        return false;
    }
}

static bool bench_options(bench_t *bench, int argc, char *argv[])
{
    int option;

    while ((option = getopt(argc, argv, "i:d:k:p:s:m:l:t:crwn:")) != -1) {
        if (!bench_option(bench, option)) {
            return false;
        }
    }
    return bench->keys > 0 && bench->processes > 0 && bench->processes <= PROCESSES_MAX &&
           bench->tick >= CLOCK_READ && (bench->tick == CLOCK_READ || bench->processes == 1);
}

int main(int argc, char *argv[])
{
    char limits[] = "rate=100000000/hour";
    bench_t bench = { .distribution = "zipf",
                      .keys = 1000000,
                      .processes = 1,
                      .seconds = 1,
                      .limits = limits,
                      .tick = CLOCK_READ,
                      .holding = -1 };
    apr_pool_t *pool;

    if (!bench_options(&bench, argc, argv)) {
        fputs("usage: decision [-i library|floor|line] [-d uniform|zipf|hot] [-k KEYS] [-p "
              "PROCESSES] "
              "[-s SECONDS]\n                [-m MEGABYTES] [-l LIMITS] [-c] [-t MICROSECONDS] "
              "[-r] "
              "[-w] [-n DECISIONS]\n",
              stderr);
        return 64;
    }
    if (bench.megabytes == 0) {
        bench.megabytes = 16 + (size_t)bench.keys * 64 / 1000000 * 2;
    }
    apr_initialize();
    apr_pool_create(&pool, NULL);
    bench_open(&bench, pool);
    bench_stream(&bench);
    bench_fill(&bench);
    if (bench.decisions > 0) {
        bench_count(&bench);
    } else {
        bench_run(&bench);
    }
    return 0;
}
