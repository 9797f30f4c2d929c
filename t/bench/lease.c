/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Decisions a second from leases, by processes that share them; Redis' answers are made up, so what
 * a question costs there is not counted. One line of JSON.
 *
 *   lease [-p PROCESSES] [-k KEYS] [-s SECONDS]
 */

#include "redis/lease.h"

#include <apr_general.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEASES (16 * LEASE_TABLE_STEP)
#define PROCESSES_MAX 64

typedef struct {
    struct {
        _Alignas(64) uint64_t decisions;
        uint64_t questions;
    } done[PROCESSES_MAX];
} sums_t;

typedef struct {
    lease_table_t *table;
    sums_t *sums;
    rlp_plan_t *plan;
    int processes;
    uint64_t keys;
    double seconds;
} bench_t;

static void *bench_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

/* The clock is read for each decision, as the store does. */
static void bench_child(const bench_t *bench, int child)
{
    lease_charge_t wanted = { .signature = 1, .cost = RLP_UNIT, .limit = &bench->plan->limits[0] };
    const rlp_time_t end = rlp_clock_monotonic() + (rlp_time_t)(bench->seconds * 1e6);
    uint64_t decisions = 0;
    uint64_t questions = 0;

    for (rlp_time_t now = 0; now < end; decisions++) {
        lease_result_t result;
        lease_question_t question;

        now = rlp_clock_monotonic();
        wanted.identity =
            (decisions + (uint64_t)child) % bench->keys * UINT64_C(0x9E3779B97F4A7C15) + 1;
        lease_spend(bench->table, &wanted, now, &result, &question);
        if (result.outcome == LEASE_ASK) {
            const lease_answer_t answer = { .now = now,
                                            .granted = question.want,
                                            .lasts = LEASE_SPAN };

            question.key_len = question.args_len = 1;
            lease_granted(bench->table, &question, &answer, now, &result);
            questions++;
        }
    }
    bench->sums->done[child].decisions = decisions;
    bench->sums->done[child].questions = questions;
    _exit(0);
}

static int bench_options(bench_t *bench, int argc, char *argv[])
{
    for (int option; (option = getopt(argc, argv, "p:k:s:")) != -1;) {
        switch (option) {
        case 'p':
            bench->processes = atoi(optarg);
            break;
        case 'k':
            bench->keys = strtoull(optarg, NULL, 10);
            break;
        case 's':
            bench->seconds = atof(optarg);
            break;
        default:
            return 0;
        }
    }
    return bench->processes > 0 && bench->processes <= PROCESSES_MAX && bench->keys > 0;
}

int main(int argc, char *argv[])
{
    static const char *const words[] = { "rate=1000000000/s" };
    const rlp_plan_source_t source = { .name = "bench", .words = words, .n = 1 };
    bench_t bench = { .processes = 1, .keys = 1, .seconds = 1 };
    uint64_t decisions = 0;
    uint64_t questions = 0;
    apr_pool_t *pool;

    if (!bench_options(&bench, argc, argv) || apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&pool, NULL) != APR_SUCCESS ||
        rlp_plan_parse(&bench.plan, &source, pool) != NULL) {
        fputs("lease [-p PROCESSES] [-k KEYS] [-s SECONDS]\n", stderr);
        return 2;
    }
    bench.table = lease_table_make(bench_shared(lease_table_size(LEASES)), LEASES, RLP_SECOND);
    bench.sums = bench_shared(sizeof(*bench.sums));
    fflush(stdout);
    for (int i = 0; i < bench.processes; i++) {
        if (fork() == 0) {
            bench_child(&bench, i);
        }
    }
    while (wait(NULL) > 0) {
    }
    for (int i = 0; i < bench.processes; i++) {
        decisions += bench.sums->done[i].decisions;
        questions += bench.sums->done[i].questions;
    }
    printf("{\"procs\":%d,\"keys\":%" PRIu64 ",\"decisions\":%" PRIu64 ",\"questions\":%" PRIu64
           ",\"mops\":%.3f}\n",
           bench.processes, bench.keys, decisions, questions,
           (double)decisions / bench.seconds / 1e6);
    return 0;
}
