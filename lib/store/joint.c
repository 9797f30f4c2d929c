/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Several stores that answer as one.
 */

#include "store/joint.h"

#include "check.h"

#include <apr_pools.h>

typedef struct {
    rlp_store_t *store;
    rlp_hold_t owner; /* this process in it */
} joint_part_t;

typedef struct {
    rlp_store_t head;
    joint_choose_fn *choose; /* NULL: by their terms */
    int n;
    int *order; /* of asking */
    joint_part_t parts[];
} joint_t;

/* The charges of one part, in a row. */
typedef struct {
    const joint_part_t *part;
    int n;
    int from[RLP_ENTRIES_MAX];
    rlp_charge_t charges[RLP_ENTRIES_MAX];
} share_t;

/* What is asked, of all parts. */
typedef struct {
    const joint_t *joint;
    rlp_charge_t *charges;
    int n;
    const rlp_question_t *question;
    rlp_op_kind_t kind;
    int part[RLP_ENTRIES_MAX]; /* of each charge */
} asking_t;

static void joint_choose(asking_t *asking)
{
    const joint_t *joint = asking->joint;

    if (joint->choose != NULL) {
        joint->choose(asking->part, asking->charges, asking->n);
        return;
    }
    for (int i = 0; i < asking->n; i++) {
        const rlp_terms_t *terms = asking->charges[i].terms;

        asking->part[i] = terms && terms->store >= 0 && terms->store < joint->n ? terms->store : 0;
    }
}

/* --- shares */

/* A copy has room of its own for a state that fits. */
static void share_copy(rlp_charge_t *to, const rlp_charge_t *from)
{
    *to = *from;
    if (from->entry.state == from->room) {
        to->entry.state = to->room;
    }
}

/* Adds one. The fingerprint of an identity is that of the first part. */
static void share_add(share_t *share, const asking_t *asking, int part, int i)
{
    rlp_charge_t *copy = &share->charges[share->n];

    share_copy(copy, &asking->charges[i]);
    copy->entry.key.fingerprint = part ? 0 : copy->entry.key.fingerprint;
    share->from[share->n++] = i;
}

static void share_take(share_t *share, const asking_t *asking, int part)
{
    share->part = &asking->joint->parts[part];
    share->n = 0;
    for (int i = 0; i < asking->n; i++) {
        if (asking->part[i] == part) {
            share_add(share, asking, part, i);
        }
    }
}

/* What was decided of them. */
static void share_tell(const share_t *share, const asking_t *asking)
{
    for (int i = 0; i < share->n; i++) {
        rlp_charge_t *charge = &asking->charges[share->from[i]];

        charge->decision = share->charges[i].decision;
        charge->spared = share->charges[i].spared;
        charge->counted_at = share->charges[i].counted_at;
        charge->holder = share->charges[i].holder;
    }
}

/* A part answers the question, as it has it. */
static apr_status_t joint_put(const asking_t *asking, const joint_part_t *part,
                              rlp_charge_t charges[], int n, rlp_op_kind_t kind,
                              rlp_answer_t *answer)
{
    rlp_question_t question = *asking->question;

    question.owner = part->owner;
    question.charged_at = rlp_store_time(part->store, asking->question->charged_at);
    *answer = (rlp_answer_t){ .verdict = RLP_ALLOW };
    switch (kind) {
    case RLP_TAKE:
        return rlp_check(part->store, charges, n, &question, answer);
    case RLP_PEEK:
        return rlp_peek(part->store, charges, n, &question, answer);
    case RLP_SETTLE:
        return rlp_settle(part->store, charges, n, &question, answer);
    default:
        return rlp_release(part->store, charges, n, &question, answer);
    }
}

static apr_status_t share_ask(share_t *share, const asking_t *asking, rlp_op_kind_t kind,
                              rlp_answer_t *answer)
{
    return joint_put(asking, share->part, share->charges, share->n, kind, answer);
}

/* --- all or none */

/* Those that this operation gives back. */
static void joint_take_returned(share_t *share, const asking_t *asking, int part,
                                rlp_op_kind_t kind)
{
    share->part = &asking->joint->parts[part];
    share->n = 0;
    for (int i = 0; i < asking->n; i++) {
        const rlp_charge_t *charge = &asking->charges[i];

        if (asking->part[i] == part && !charge->spared && charge->cost > 0 &&
            charge->limit->algorithm->holds == (kind == RLP_RELEASE)) {
            rlp_charge_t *copy = &share->charges[share->n];

            share_add(share, asking, part, i);
            copy->waited = rlp_waited(copy);
            copy->cost = -copy->cost;
            copy->branch = RLP_ALWAYS;
        }
    }
}

/* Gives back what one part has charged, and has its decisions tell what is there now. */
static void joint_return(const asking_t *asking, int part, rlp_op_kind_t kind)
{
    rlp_question_t question = *asking->question;
    const asking_t returning = { .question = &question };
    rlp_answer_t answer;
    share_t share;

    question.charged_at = question.now;
    joint_take_returned(&share, asking, part, kind);
    if (share.n > 0 && share_ask(&share, &returning, kind, &answer) == APR_SUCCESS) {
        share_tell(&share, asking);
    }
}

/* The parts asked so far, the first `asked` in their order. */
static void joint_return_all(const asking_t *asking, int asked)
{
    for (int i = 0; asking->kind == RLP_TAKE && i < asked; i++) {
        joint_return(asking, asking->joint->order[i], RLP_SETTLE);
        joint_return(asking, asking->joint->order[i], RLP_RELEASE);
    }
}

static void joint_spare(const asking_t *asking, int part)
{
    for (int i = 0; i < asking->n; i++) {
        if (asking->part[i] == part) {
            asking->charges[i].spared = true;
        }
    }
}

/* --- asking */

/* What came of it so far. */
typedef struct {
    int answered;    /* parts */
    apr_status_t rv; /* the first failure */
    bool over;       /* nobody else need be asked */
    bool lost;       /* ... since there will be no answer */
    rlp_answer_t failed;
} course_t;

static void joint_fail(course_t *course, const asking_t *asking, int i, const rlp_answer_t *answer,
                       apr_status_t rv)
{
    joint_spare(asking, asking->joint->order[i]);
    course->rv = course->rv == APR_SUCCESS ? rv : course->rv;
    course->failed.unasked = true;
    course->failed.told |= answer->told;
    if ((answer->refuses || asking->joint->choose != NULL) && asking->kind <= RLP_PEEK) {
        course->failed.refuses = answer->refuses;
        course->failed.retry = answer->retry;
        course->over = true;
        course->lost = true;
        joint_return_all(asking, i);
    }
}

/* Asks the part that comes as number i. */
static void joint_ask(course_t *course, const asking_t *asking, int i)
{
    const int part = asking->joint->order[i];
    rlp_answer_t answer;
    share_t share;

    share_take(&share, asking, part);
    if (share.n == 0) {
        return;
    }
    if (course->over) {
        joint_spare(asking, part);
        return;
    }
    const apr_status_t rv = share_ask(&share, asking, asking->kind, &answer);

    if (rv != APR_SUCCESS) {
        joint_fail(course, asking, i, &answer, rv);
        return;
    }
    course->answered++;
    course->failed.unasked |= answer.unasked;
    course->failed.damaged |= answer.damaged;
    share_tell(&share, asking);
    if (asking->kind == RLP_TAKE && answer.verdict > RLP_WAIT) {
        course->over = true;
        joint_return_all(asking, i);
    }
}

/* All charges go to one part; -1: they do not. */
static int joint_only(const asking_t *asking)
{
    for (int i = 1; i < asking->n; i++) {
        if (asking->part[i] != asking->part[0]) {
            return -1;
        }
    }
    return asking->part[0];
}

static apr_status_t joint_ask_all(const asking_t *asking, rlp_answer_t *answer)
{
    course_t course = { .rv = APR_SUCCESS };

    for (int i = 0; i < asking->joint->n; i++) {
        joint_ask(&course, asking, i);
    }
    if (course.answered > 0 && !course.lost) {
        check_answer(asking->charges, asking->n, answer);
        answer->damaged |= course.failed.damaged;
        answer->unasked = course.failed.unasked;
        return APR_SUCCESS;
    }
    *answer = course.failed;
    return course.rv;
}

/* One part answers alone. The fingerprint of an identity is that of the first part. */
static apr_status_t joint_ask_one(const asking_t *asking, int part, rlp_answer_t *answer)
{
    for (int i = 0; part > 0 && i < asking->n; i++) {
        asking->charges[i].entry.key.fingerprint = 0;
    }
    return joint_put(asking, &asking->joint->parts[part], asking->charges, asking->n, asking->kind,
                     answer);
}

static apr_status_t joint_decide(rlp_store_t *head, rlp_charge_t *charges, int n,
                                 const rlp_question_t *question, rlp_op_kind_t kind,
                                 rlp_answer_t *answer)
{
    asking_t asking = { .joint = (const joint_t *)head,
                        .charges = charges,
                        .n = n,
                        .question = question,
                        .kind = kind };

    joint_choose(&asking);
    const int part = joint_only(&asking);

    return part < 0 ? joint_ask_all(&asking, answer) : joint_ask_one(&asking, part, answer);
}

/* --- the rest of a store */

/* The caller's own: each part has another time line. */
static rlp_time_t joint_time(const rlp_store_t *store, rlp_time_t now)
{
    (void)store;
    return now;
}

static uint64_t joint_fingerprint(const rlp_store_t *store, const char *identity, size_t len)
{
    return rlp_store_fingerprint(((const joint_t *)store)->parts[0].store, identity, len);
}

static const rlp_store_type_t joint_type = {
    .name = "joint", .time = joint_time, .fingerprint = joint_fingerprint, .decide = joint_decide
};

/* Puts those of one kind behind the n that are in order; how many are then. */
static int joint_sort(joint_t *joint, int n, bool far)
{
    for (int i = 0; i < joint->n; i++) {
        if ((joint->parts[i].store->type->decide != NULL) == far) {
            joint->order[n++] = i;
        }
    }
    return n;
}

static joint_t *joint_make(rlp_store_t *const stores[], int n, apr_pool_t *pool)
{
    joint_t *joint = apr_pcalloc(pool, sizeof(*joint) + (apr_size_t)n * sizeof(joint_part_t));

    joint->head = *stores[0];
    joint->head.type = &joint_type;
    joint->n = n;
    joint->order = apr_pcalloc(pool, (apr_size_t)n * sizeof(*joint->order));
    for (int i = 0; i < n; i++) {
        joint->parts[i].store = stores[i];
        joint->order[i] = i;
    }
    return joint;
}

rlp_store_t *joint_create(rlp_store_t *const stores[], int n, joint_choose_fn *choose,
                          apr_pool_t *pool)
{
    joint_t *joint = joint_make(stores, n, pool);

    joint->choose = choose;
    return &joint->head;
}

rlp_store_t *rlp_joint_create(rlp_store_t *const stores[], int n, const unsigned char *secret,
                              apr_pool_t *pool)
{
    joint_t *joint = joint_make(stores, n, pool);

    joint->head.secret = secret ? secret : stores[0]->secret;
    (void)joint_sort(joint, joint_sort(joint, 0, false), true);
    return &joint->head;
}

void rlp_joint_owner(rlp_store_t *joint, int i, rlp_hold_t owner)
{
    ((joint_t *)joint)->parts[i].owner = owner;
}
