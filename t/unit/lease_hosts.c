/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "lease_hosts.h"

#include "redis_server.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PATIENCE (10 * RLP_SECOND) /* a slow machine may be slow */

rlp_store_t *stores[HOSTS];
rlp_store_t *exacts[HOSTS];
lease_table_t *tables[HOSTS];
unsigned never;

lease_table_t *table_open(rlp_time_t patience)
{
    void *memory = mmap(NULL, lease_table_size(LEASE_TABLE_STEP), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return lease_table_make(memory, LEASE_TABLE_STEP, patience);
}

static rlp_store_t *store_open(lease_table_t *table, rlp_store_t **exact)
{
    redis_store_settings_t made = {
        .endpoint =
            redis_server_endpoint(redis_server_path(), redis_store_script(unit_pool()), PATIENCE),
        .prefix = "t:",
        .timeout = PATIENCE
    };
    const lease_store_settings_t settings = { .exact = redis_store_create(&made, unit_pool()),
                                              .table = table,
                                              .endpoint = made.endpoint,
                                              .timeout = PATIENCE,
                                              .usual = true };

    *exact = settings.exact;
    return lease_store_create(&settings, unit_pool());
}

void hosts_fresh(void)
{
    freeReplyObject(redis_server_ask("FLUSHALL"));
    freeReplyObject(redis_server_ask("CONFIG RESETSTAT"));
    for (int i = 0; i < HOSTS; i++) {
        tables[i] = table_open(PATIENCE);
        stores[i] = store_open(tables[i], &exacts[i]);
    }
}

int hosts_asked(void)
{
    redisReply *reply = redis_server_ask("INFO commandstats");
    const char *at = strstr(reply->str, "cmdstat_evalsha:calls=");
    const int calls = at ? atoi(at + strlen("cmdstat_evalsha:calls=")) : 0;

    freeReplyObject(reply);
    return calls;
}

void charge_init(rlp_charge_t *charge, const char *identity, const char *rule, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature(rule, NULL, limit), limit);
    charge->rule = rule;
}

rlp_question_t question_now(void)
{
    return (rlp_question_t){ .now = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
}

rlp_answer_t host_take(int host, rlp_charge_t charges[], int n)
{
    const rlp_question_t question = question_now();
    rlp_answer_t answer;

    assert_int_equal(rlp_check(stores[host], charges, n, &question, &answer), APR_SUCCESS);
    return answer;
}

int host_admits(int host, int requests, const char *words)
{
    int admitted = 0;

    for (int i = 0; i < requests; i++) {
        rlp_charge_t charge;

        charge_init(&charge, "user:42", "api", words);
        admitted += host_take(host, &charge, 1).verdict == RLP_ALLOW;
    }
    return admitted;
}

void host_settle(rlp_charge_t charge, rlp_units_t cost)
{
    const rlp_question_t question = question_now();
    rlp_answer_t answer;

    charge.cost = cost;
    assert_int_equal(rlp_settle(stores[0], &charge, 1, &question, &answer), APR_SUCCESS);
}
