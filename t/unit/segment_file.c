/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "segment_file.h"

#include <apr_file_io.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const rlp_clock_t segment_first_boot = { .monotonic = UPTIME, .wall = WALL, .boot_id = "one" };

const char *segment_path(void)
{
    const char *dir;

    assert_int_equal(apr_temp_dir_get(&dir, unit_pool()), APR_SUCCESS);
    char *made = apr_pstrcat(unit_pool(), dir, "/rlp-unit.XXXXXX", NULL);

    assert_non_null(mkdtemp(made));
    return apr_pstrcat(unit_pool(), made, "/store", NULL);
}

void segment_forget(const char *path)
{
    char *dir = apr_pstrdup(unit_pool(), path);

    (void)unlink(path);
    (void)unlink(apr_pstrcat(unit_pool(), path, ".new", NULL));
    (void)unlink(apr_pstrcat(unit_pool(), path, ".other", NULL));
    *strrchr(dir, '/') = '\0';
    (void)rmdir(path);
    assert_int_equal(rmdir(dir), 0);
}

opened_t segment_open_at(const char *path, size_t size, const rlp_clock_t *clock)
{
    opened_t o = { .error = NULL };
    const char *message = NULL;

    o.rv = rlp_segment_open(&o.segment, path, size, clock, &message, unit_pool());
    *(o.rv == APR_SUCCESS ? &o.warning : &o.error) = message;
    assert_int_equal(o.rv == APR_SUCCESS, o.error == NULL);
    assert_int_equal(o.rv == APR_SUCCESS, o.segment.memory != NULL);
    return o;
}

rlp_segment_t segment_open_well(const char *path, size_t size, const rlp_clock_t *clock)
{
    const opened_t o = segment_open_at(path, size, clock);

    if (o.error != NULL || o.warning != NULL) {
        fail_msg("%s", o.error ? o.error : o.warning);
    }
    assert_int_equal(o.segment.size, size);
    return o.segment;
}

rlp_decision_t segment_spend(const rlp_segment_t *segment, int n, rlp_time_t now)
{
    const rlp_limit_t *limit = &unit_plan("rate=10/min")->limits[0];
    const rlp_question_t question = { .now = now };
    rlp_charge_t charge;
    rlp_answer_t answer;
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    rlp_charge_init(&charge, "user:1", 6, rlp_signature("segment", NULL, limit), limit);
    for (int i = 0; i < n; i++) {
        assert_int_equal(rlp_check(store, &charge, 1, &question, &answer), APR_SUCCESS);
    }
    return charge.decision;
}

const rlp_key_t big_log_key = { .identity = "user:1", .identity_len = 6, .size = LOG_SIZE };
const rlp_key_t big_quota_key = { .identity = "user:1", .identity_len = 6, .size = QUOTA_SIZE };

static void big_update(rlp_entry_t *entries[], int n, rlp_time_t now, void *baton)
{
    uint64_t *words = entries[0]->state;
    big_t *big = baton;

    (void)n;
    big->found = true;
    for (uint32_t i = 0; i < entries[0]->key.size / sizeof(*words); i++) {
        big->found &= words[i] == i + 1;
        words[i] = i + 1;
    }
    entries[0]->dirty = big->life > 0;
    entries[0]->held = big->held;
    entries[0]->expires = big->life == RLP_TIME_NEVER ? big->life : now + big->life;
    entries[0]->loss = (float)RLP_LOSS_FULL;
}

bool big_visit(const rlp_segment_t *segment, const rlp_key_t *key, big_t big, rlp_time_t now)
{
    static uint64_t state[LOG_SIZE / 8];
    rlp_entry_t entry = { .key = *key, .state = state };
    rlp_entry_t *pointer = &entry;
    rlp_store_t *store;

    assert_int_equal(rlp_shm_create(&store, segment, unit_pool()), APR_SUCCESS);
    assert_int_equal(rlp_shm_state_max(store), LOG_SIZE);
    assert_int_equal(store->type->update(store, &pointer, 1, now, big_update, &big), APR_SUCCESS);
    return big.found;
}

bool big_find(const rlp_segment_t *segment, const rlp_key_t *key, rlp_time_t now)
{
    return big_visit(segment, key, (big_t){ .life = 0 }, now);
}

void segment_make_spent(const char *path)
{
    rlp_segment_t segment = segment_open_well(path, MB, &segment_first_boot);

    assert_int_equal(segment_spend(&segment, 10, UPTIME).verdict, RLP_ALLOW);
    assert_int_equal(segment_spend(&segment, 1, UPTIME).verdict, RLP_DENY);
    big_visit(&segment, &big_log_key, (big_t){ .life = 6 * RLP_SECOND - 2000 }, UPTIME);
    big_visit(&segment, &big_quota_key, (big_t){ .life = RLP_TIME_NEVER }, UPTIME);
    assert_true(big_find(&segment, &big_log_key, UPTIME));
    rlp_segment_close(&segment);
}
