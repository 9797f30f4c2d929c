/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Decisions a second: the library's, and beside it a yardstick without locks, plans, eviction or
 * collision handling (one compare-and-swap in a flat table). One line of JSON a run.
 *
 *   decision -i library|floor -d uniform|zipf|hot [-k KEYS] [-p PROCESSES] [-s SECONDS] [-m
 * MEGABYTES]
 *
 * The limits are never reached. The clock is read once in 256 decisions, since a server reads it
 * for other reasons too. The ratio of two runs, one after the other, is what counts.
 */

#include "rlp.h"

#include <apr_general.h>

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
    } done[PROCESSES_MAX];
} control_t;

typedef struct {
    bool floor;
    const char *distribution;
    uint32_t keys;
    int processes;
    double seconds;
    size_t megabytes;
    uint32_t *stream;
    control_t *control;
    rlp_store_t *store;
    rlp_segment_t segment;
    const rlp_limit_t *limit;
    cell_t *cells;
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

static uint64_t floor_hash(uint64_t key)
{
    wide_t product = (wide_t)(key ^ UINT64_C(0xa0761d6478bd642f)) *
                     (UINT64_C(0x2122232425262728) ^ UINT64_C(0xe7037ed1a0b428db));

    const uint64_t mixed = (uint64_t)product ^ (uint64_t)(product >> 64);

    product = (wide_t)(mixed ^ 16) * UINT64_C(0x8ebc6af09c88c6e3);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static cell_t *floor_find(const bench_t *bench, uint64_t hash)
{
    for (uint64_t line = hash >> 20;; line++) {
        cell_t *cells = &bench->cells[(line & bench->mask) * 4];

        for (int i = 0; i < 4; i++) {
            uint64_t tag = atomic_load_explicit(&cells[i].tag, memory_order_acquire);

            if (tag == 0 && atomic_compare_exchange_strong(&cells[i].tag, &tag, hash | 1)) {
                return &cells[i];
            }
            if (tag == (hash | 1)) {
                return &cells[i];
            }
        }
    }
}

static void floor_decide(const bench_t *bench, uint32_t key, uint64_t now)
{
    cell_t *cell = floor_find(bench, floor_hash(key));
    uint64_t time = atomic_load_explicit(&cell->time, memory_order_relaxed);
    uint64_t next;

    do {
        next = (time > now ? time : now) + 1;
        if (next - now > UINT64_C(1000000000000)) {
            return;
        }
    } while (!atomic_compare_exchange_weak_explicit(&cell->time, &time, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
}

/* --- ours */

static void library_decide(const bench_t *bench, uint32_t key, uint64_t now)
{
    const uint64_t identity[2] = { key, UINT64_C(0x2122232425262728) };
    const rlp_question_t question = { .now = (rlp_time_t)(now / 1000) };
    rlp_charge_t charge;
    rlp_answer_t answer;

    rlp_charge_init(&charge, (const char *)identity, sizeof(identity), 42, bench->limit);
    if (rlp_check(bench->store, &charge, 1, &question, &answer) != APR_SUCCESS ||
        answer.verdict != RLP_ALLOW) {
        abort();
    }
}

static void bench_decide(const bench_t *bench, uint32_t key, uint64_t now)
{
    if (bench->floor) {
        floor_decide(bench, key, now);
    } else {
        library_decide(bench, key, now);
    }
}

static void bench_child(const bench_t *bench, int child)
{
    uint64_t n = 0;
    uint64_t now = (uint64_t)rlp_clock_monotonic() * 1000;
    uint32_t at = (uint32_t)child * 1037389;
    cpu_set_t cpu;

    CPU_ZERO(&cpu);
    CPU_SET((size_t)child % (size_t)sysconf(_SC_NPROCESSORS_ONLN), &cpu);
    (void)sched_setaffinity(0, sizeof(cpu), &cpu);
    /* a forked child has no page-table entries of shared memory yet */
    volatile unsigned char *memory =
        bench->floor ? (volatile unsigned char *)bench->cells : bench->segment.memory;
    const size_t size = bench->floor ? (bench->mask + 1) * 4 * sizeof(cell_t) : bench->segment.size;

    for (size_t i = 0; i < size; i += 4096) {
        (void)memory[i];
    }
    for (uint32_t i = 0; i < STREAM / 8; i++) {
        bench_decide(bench, bench->stream[i], now);
    }
    atomic_fetch_add(&bench->control->ready, 1);
    while (!atomic_load(&bench->control->go)) {
        sched_yield();
    }
    while (!atomic_load_explicit(&bench->control->stop, memory_order_relaxed)) {
        now = (uint64_t)rlp_clock_monotonic() * 1000;
        for (int i = 0; i < 256; i++) {
            bench_decide(bench, bench->stream[at++ % STREAM], now);
        }
        n += 256;
    }
    bench->control->done[child].decisions = n;
    _exit(0);
}

static void bench_run(bench_t *bench)
{
    uint64_t decisions = 0;

    fflush(stdout);
    for (int i = 0; i < bench->processes; i++) {
        if (fork() == 0) {
            bench_child(bench, i);
        }
    }
    while (atomic_load(&bench->control->ready) < bench->processes) {
        usleep(1000);
    }
    const rlp_time_t begin = rlp_clock_monotonic();

    atomic_store(&bench->control->go, 1);
    usleep((useconds_t)(bench->seconds * 1e6));
    atomic_store(&bench->control->stop, 1);
    while (wait(NULL) > 0) {
    }
    const double seconds = (double)(rlp_clock_monotonic() - begin) / 1e6;

    for (int i = 0; i < bench->processes; i++) {
        decisions += bench->control->done[i].decisions;
    }
    printf("{\"impl\":\"%s\",\"dist\":\"%s\",\"keys\":%" PRIu32
           ",\"procs\":%d,\"decisions\":%" PRIu64 ",\"mops\":%.3f,\"ns\":%.2f}\n",
           bench->floor ? "floor" : "library", bench->distribution, bench->keys, bench->processes,
           decisions, (double)decisions / seconds / 1e6,
           seconds * 1e9 * bench->processes / (double)decisions);
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

static void bench_open(bench_t *bench, apr_pool_t *pool)
{
    static const char *const words[] = { "rate=100000000/hour" };
    rlp_plan_t *plan = NULL;
    rlp_clock_t clock;
    const char *error = NULL;
    char path[] = "/dev/shm/decision.XXXXXX";
    uint64_t lines = 1;

    while (lines * 4 * 10 < (uint64_t)bench->keys * 16) {
        lines *= 2;
    }
    bench->mask = lines - 1;
    bench->control = bench_shared(sizeof(*bench->control));
    if (bench->floor) {
        bench->cells = bench_shared(lines * 4 * sizeof(cell_t));
        return;
    }
    const int fd = mkstemp(path);

    rlp_clock_read(&clock);
    const rlp_plan_source_t source = {
        .name = "bench", .words = words, .n = 1, .wall = clock.wall
    };

    if (rlp_plan_parse(&plan, &source, pool) != NULL || fd < 0 ||
        rlp_segment_open(&bench->segment, path, bench->megabytes << 20, &clock, &error, pool) !=
            APR_SUCCESS ||
        rlp_shm_create(&bench->store, &bench->segment, pool) != APR_SUCCESS) {
        fprintf(stderr, "decision: %s\n", error ? error : "no store");
        exit(1);
    }
    (void)close(fd);
    (void)unlink(path);
    bench->limit = &plan->limits[0];
}

static bool bench_options(bench_t *bench, int argc, char *argv[])
{
    int option;

    while ((option = getopt(argc, argv, "i:d:k:p:s:m:")) != -1) {
        switch (option) {
        case 'i':
            bench->floor = strcmp(optarg, "floor") == 0;
            break;
        case 'd':
            bench->distribution = optarg;
            break;
        case 'k':
            bench->keys = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'p':
            bench->processes = (int)strtol(optarg, NULL, 10);
            break;
        case 's':
            bench->seconds = strtod(optarg, NULL);
            break;
        case 'm':
            bench->megabytes = (size_t)strtoul(optarg, NULL, 10);
            break;
        default:
            return false;
        }
    }
    return bench->keys > 0 && bench->processes > 0 && bench->processes <= PROCESSES_MAX;
}

int main(int argc, char *argv[])
{
    bench_t bench = { .distribution = "zipf", .keys = 1000000, .processes = 1, .seconds = 1 };
    apr_pool_t *pool;

    if (!bench_options(&bench, argc, argv)) {
        fputs("usage: decision -i library|floor -d uniform|zipf|hot [-k KEYS] [-p PROCESSES] "
              "[-s SECONDS] [-m MEGABYTES]\n",
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
    for (uint32_t i = 0; i < bench.keys && strcmp(bench.distribution, "hot") != 0; i++) {
        bench_decide(&bench, i, (uint64_t)rlp_clock_monotonic() * 1000);
    }
    bench_run(&bench);
    return 0;
}
