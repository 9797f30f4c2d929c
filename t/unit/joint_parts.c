/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "joint_parts.h"

#include <string.h>
#include <unistd.h>

part_t joint_parts[PARTS];
rlp_store_t *joint;
char joint_asked[64];
static const rlp_terms_t terms[PARTS] = {
    { .store = 0 }, { .store = 1 }, { .store = 2 }, { .store = 3 }
};
const rlp_question_t joint_question = { .now = NOW, .wall = NOW, .charged_at = NOW };

/* Notes a question; does it fail? */
static bool part_fails(part_t *part)
{
    const size_t len = strlen(joint_asked);

    assert_true(len + 1 < sizeof(joint_asked));
    joint_asked[len] = part->letter;
    joint_asked[len + 1] = '\0';
    part->asked++;
    return part->fails_from > 0 && part->asked >= part->fails_from;
}

static apr_status_t near_update(rlp_store_t *head, rlp_entry_t *entries[], int n, rlp_time_t now,
                                rlp_update_fn *fn, void *baton)
{
    part_t *part = (part_t *)head;

    return part_fails(part) ? FAILURE(part - joint_parts)
                            : part->behind->type->update(part->behind, entries, n, now, fn, baton);
}

static apr_status_t far_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                               const rlp_question_t *asking, rlp_op_kind_t kind,
                               rlp_answer_t *answer)
{
    part_t *part = (part_t *)head;

    if (part_fails(part)) {
        answer->told = true;
        answer->refuses = part->closed;
        answer->retry = part->closed ? 7 * RLP_SECOND : 0;
        return FAILURE(part - joint_parts);
    }
    switch (kind) {
    case RLP_TAKE:
        return rlp_check(part->behind, charges, n, asking, answer);
    case RLP_PEEK:
        return rlp_peek(part->behind, charges, n, asking, answer);
    case RLP_SETTLE:
        return rlp_settle(part->behind, charges, n, asking, answer);
    default:
        return rlp_release(part->behind, charges, n, asking, answer);
    }
}

/* Each part has a time line of its own. */
static rlp_time_t part_time(const rlp_store_t *head, rlp_time_t now)
{
    return rlp_store_time(((const part_t *)head)->behind, now);
}

static uint64_t part_fingerprint(const rlp_store_t *head, const char *identity, size_t len)
{
    return rlp_store_fingerprint(((const part_t *)head)->behind, identity, len);
}

static const rlp_store_type_t near_type = {
    .name = "near", .update = near_update, .time = part_time, .fingerprint = part_fingerprint
};
static const rlp_store_type_t far_type = {
    .name = "far", .time = part_time, .fingerprint = part_fingerprint, .decide = far_decide
};

static void part_make(int i)
{
    rlp_store_t *behind;

    assert_int_equal(rlp_memory_create(&behind, unit_pool()), APR_SUCCESS);
    joint_parts[i] = (part_t){ .head = { .type = i % 2 ? &far_type : &near_type,
                                         .owners = behind->owners,
                                         .secret = behind->secret },
                               .behind = behind,
                               .letter = "aBcD"[i] };
}

void joint_fresh(void)
{
    rlp_store_t *stores[PARTS];

    for (int i = 0; i < PARTS; i++) {
        part_make(i);
        stores[i] = &joint_parts[i].head;
    }
    joint = rlp_joint_create(stores, PARTS, NULL, unit_pool());
    for (int i = 0; i < PARTS; i++) {
        for (int k = 0; k < i; k++) {
            (void)rlp_owner_open(stores[i], getppid()); /* this process's numbers differ */
        }
        rlp_joint_owner(joint, i, rlp_owner_open(stores[i], getpid()));
    }
    joint_asked[0] = '\0';
}

void joint_charge(rlp_charge_t *charge, int part, const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, "user:1", strlen("user:1"), rlp_signature("api", NULL, limit), limit);
    charge->terms = &terms[part];
    charge->spared = false;
    if (limit->state_size > sizeof(charge->room)) {
        charge->entry.state = apr_palloc(unit_pool(), limit->state_size);
    }
}

rlp_answer_t joint_take(rlp_charge_t charges[], int n)
{
    rlp_answer_t answer;

    assert_int_equal(rlp_check(joint, charges, n, &joint_question, &answer), APR_SUCCESS);
    return answer;
}

int64_t part_left(int part, const char *words)
{
    rlp_charge_t charge;
    rlp_answer_t answer;

    joint_charge(&charge, part, words);
    assert_int_equal(rlp_peek(joint_parts[part].behind, &charge, 1, &joint_question, &answer),
                     APR_SUCCESS);
    return charge.decision.remaining;
}

void part_spend(int part, const char *words)
{
    rlp_charge_t charge;

    joint_charge(&charge, part, words);
    assert_int_equal(joint_take(&charge, 1).verdict, RLP_ALLOW);
    joint_asked[0] = '\0';
}
