/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Hosts that share one Redis, simulated: round trips, what passes above a limit, how evenly hosts
 * share it. One line of JSON; the same options have the same figures.
 *
 *   hosts [-m exact|lease] [-n HOSTS] [-k KEYS] [-z EXPONENT] [-r REQUESTS] [-x SKEW] [-l LIMIT]
 *         [-s SECONDS] [-S SEED] [-d MICROSECONDS] [-j MICROSECONDS] [-w MICROSECONDS]
 *         [-o MILLISECONDS] [-p LOST] [-a MILLISECONDS -e MILLISECONDS [-f]] [-t]
 *
 * -z  of the keys' Zipf distribution; -x of that of the hosts, 0 for even.
 * -r  requests a second, of all hosts together.
 * -l  the limit of each key, in the words of a plan.
 * -d  latency, one way; -j so much more on average; -w what Redis works on a call.
 * -o  timeout of a call.
 * -p  questions, and answers, that get lost, of 1 000 000.
 * -a  Redis is away so long, each -e; with -f it is empty afterwards.
 * -t  a table of the keys that are asked for most.
 */

#include "hosts_world.h"

#include <apr_general.h>
#include <apr_strings.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "hosts [-m exact|lease] [-n HOSTS] [-k KEYS] [-z EXPONENT] [-r REQUESTS] [-x SKEW]\n"
    "      [-l LIMIT] [-s SECONDS] [-S SEED] [-d MICROSECONDS] [-j MICROSECONDS]\n"
    "      [-w MICROSECONDS] [-o MILLISECONDS] [-p LOST] [-a MILLISECONDS -e MILLISECONDS [-f]]\n"
    "      [-t]\n";

typedef struct {
    world_settings_t world;
    const char *mode;
    const char *limit;
    bool table;
} options_t;

static bool options_read(options_t *options, int argc, char *argv[])
{
    world_settings_t *world = &options->world;

    for (int option; (option = getopt(argc, argv, "m:n:k:z:r:x:l:s:S:d:j:w:o:p:a:e:ft")) != -1;) {
        switch (option) {
        case 'm':
            options->mode = optarg;
            break;
        case 'n':
            world->hosts = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'k':
            world->keys = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'z':
            world->exponent = atof(optarg);
            break;
        case 'r':
            world->rate = atof(optarg);
            break;
        case 'x':
            world->skew = atof(optarg);
            break;
        case 'l':
            options->limit = optarg;
            break;
        case 's':
            world->seconds = atoi(optarg);
            break;
        case 'S':
            world->seed = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            world->latency = atoi(optarg);
            break;
        case 'j':
            world->jitter = atoi(optarg);
            break;
        case 'w':
            world->service = atoi(optarg);
            break;
        case 'o':
            world->timeout = (rlp_time_t)atoi(optarg) * 1000;
            break;
        case 'p':
            world->lost = atoi(optarg);
            break;
        case 'a':
            world->away = (rlp_time_t)atoi(optarg) * 1000;
            break;
        case 'e':
            world->every = (rlp_time_t)atoi(optarg) * 1000;
            break;
        case 'f':
            world->forgets = true;
            break;
        case 't':
            options->table = true;
            break;
        default:
            return false;
        }
    }
    world->leases = strcmp(options->mode, "lease") == 0;
    return (world->leases || strcmp(options->mode, "exact") == 0) && world->hosts > 0 &&
           world->hosts <= 256 && world->keys > 0 && world->rate > 0 && world->seconds > 0;
}

static double part(uint64_t of, uint64_t all)
{
    return all > 0 ? (double)of / (double)all : 0;
}

static void print_result(const options_t *options, const world_result_t *result)
{
    printf("{\"mode\":\"%s\",\"hosts\":%" PRIu32 ",\"keys\":%" PRIu32
           ",\"limit\":\"%s\",\"requests\":%" PRIu64 ",\"admitted\":%" PRIu64
           ",\"refused\":%" PRIu64 ",\"unasked\":%" PRIu64,
           options->mode, options->world.hosts, options->world.keys, options->limit,
           result->requests, result->admitted, result->refused, result->unasked);
    printf(",\"of_due\":%.4f,\"above\":%" PRIu64 ",\"worst\":%" PRIu64 ",\"trips\":%.4f"
           ",\"waited\":%.4f,\"crowded\":%" PRIu64 ",\"fairness\":%.4f",
           part(result->admitted, result->due), result->above, result->worst,
           part(result->trips, result->requests), part(result->waited, result->requests),
           result->crowded, result->fairness);
    printf(",\"busy\":%.4f,\"p50_us\":%" PRId64 ",\"p99_us\":%" PRId64 ",\"most_us\":%" PRId64
           ",\"living\":%" PRIu32 ",\"outages\":%" PRIu64 ",\"digest\":\"%016" PRIx64 "\"}\n",
           result->busy, result->p50, result->p99, result->most, result->living, result->outages,
           result->digest);
}

static void print_table(const options_t *options, const world_result_t *result)
{
    puts("key  requests/s  admitted/s  trips a request");
    for (int key = 0; key < WORLD_TOP; key++) {
        printf("%3d %11.1f %11.1f %16.4f\n", key,
               (double)result->top_requests[key] / (double)options->world.seconds,
               (double)result->top_admitted[key] / (double)options->world.seconds,
               part(result->top_trips[key], result->top_requests[key]));
    }
}

/* The limit in words of a plan, which has no other. */
static const rlp_limit_t *options_limit(const options_t *options, apr_pool_t *pool)
{
    char **words;
    rlp_plan_t *plan;
    rlp_plan_source_t source = { .name = "hosts" };

    if (apr_tokenize_to_argv(options->limit, &words, pool) != APR_SUCCESS) {
        return NULL;
    }
    while (words[source.n] != NULL) {
        source.n++;
    }
    source.words = (const char *const *)words;
    const char *message = rlp_plan_parse(&plan, &source, pool);

    if (message != NULL || plan->n != 1) {
        fprintf(stderr, "-l: %s\n", message != NULL ? message : "expected one limit");
        return NULL;
    }
    return &plan->limits[0];
}

int main(int argc, char *argv[])
{
    options_t options = { .world = { .hosts = 100,
                                     .keys = 10000000,
                                     .exponent = 1,
                                     .rate = 50000,
                                     .seconds = 20,
                                     .seed = 1,
                                     .latency = 100,
                                     .jitter = 100,
                                     .service = 12,
                                     .timeout = 30000 },
                          .mode = "exact",
                          .limit = "rate=100/s" };
    apr_pool_t *pool;

    if (!options_read(&options, argc, argv) || apr_initialize() != APR_SUCCESS ||
        apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        fputs(usage, stderr);
        return 2;
    }
    options.world.limit = options_limit(&options, pool);
    if (options.world.limit == NULL) {
        return 2;
    }
    const world_result_t result = world_run(&options.world, pool);

    print_result(&options, &result);
    if (options.table) {
        print_table(&options, &result);
    }
    return 0;
}
