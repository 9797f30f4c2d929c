/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Leases of several hosts on a real server, on a clock of the test's own. The limits themselves say
 * whether what the hosts let pass keeps the promise: each charge is made once more, in its order,
 * by the algorithm in C, which must admit it.
 */

#include "redis/lease_call.h"

#include "redis_server.h"
#include "unit.h"

#include <apr_strings.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS_MAX 4
#define MAILS 64
#define EPOCH (INT64_C(1800000000) * RLP_SECOND)
#define PATIENCE (RLP_SECOND / 10)
#define HOUR (3600 * RLP_SECOND)
#define TICK 500

/* A question on its way, or its answer. */
typedef struct {
    int host; /* -1: none */
    rlp_time_t arrives;
    rlp_time_t returns;
    bool executed;
    bool again; /* is executed a second time, without an answer */
    bool lost;  /* the answer is */
    bool answered;
    rlp_charge_t charge;
    lease_question_t question;
    lease_answer_t answer;
} mail_t;

typedef struct {
    lease_table_t *table;
    rlp_time_t ahead; /* of its monotonic clock */
} host_t;

/* What may go wrong, in thousandths of all questions. */
typedef struct {
    const char *words;
    int lost;
    int late;
    int twice;
    int killed; /* who asks dies: its answer is not taken */
    rlp_units_t cost;
    int refunds; /* in thousandths of the charges */
} trial_t;

typedef struct {
    const trial_t *trial;
    const rlp_limit_t *limit;
    uint64_t seed;
    rlp_time_t now;
    rlp_time_t behind; /* so much is Redis' clock */
    int hosts;
    host_t host[HOSTS_MAX];
    mail_t mails[MAILS];
    uint64_t room[512]; /* the oracle's state */
    int64_t admitted;   /* thousandths */
    int64_t requests;
    int64_t questions;
} world_t;

static char sha[SCRIPT_SHA_SIZE];

/* --- hosts and the way between */

static lease_table_t *table_new(void)
{
    void *memory = aligned_alloc(64, (lease_table_size(LEASE_TABLE_STEP) + 63) / 64 * 64);

    assert_non_null(memory);
    memset(memory, 0, lease_table_size(LEASE_TABLE_STEP));
    return lease_table_make(memory, LEASE_TABLE_STEP, PATIENCE);
}

static void world_begin(world_t *world, const trial_t *trial, uint64_t seed, int hosts)
{
    *world = (world_t){ .trial = trial,
                        .limit = &unit_plan(trial->words)->limits[0],
                        .seed = seed,
                        .now = EPOCH + (rlp_time_t)unit_below(&seed, HOUR),
                        .hosts = hosts };
    for (int i = 0; i < MAILS; i++) {
        world->mails[i].host = -1;
    }
    for (int i = 0; i < hosts; i++) {
        world->host[i].table = table_new();
        world->host[i].ahead = (rlp_time_t)unit_below(&world->seed, HOUR) - EPOCH + HOUR;
    }
    freeReplyObject(redis_server_ask("FLUSHALL"));
}

static void world_end(world_t *world)
{
    for (int i = 0; i < world->hosts; i++) {
        free(world->host[i].table);
    }
}

static rlp_time_t world_clock(const world_t *world, int host)
{
    return world->now + world->host[host].ahead;
}

static bool world_happens(world_t *world, int thousandths)
{
    return unit_below(&world->seed, 1000) < (uint64_t)thousandths;
}

static rlp_charge_t world_charge(const world_t *world, rlp_units_t cost)
{
    rlp_charge_t charge;

    rlp_charge_init(&charge, "user:1", 6, 42, world->limit);
    charge.cost = cost;
    charge.decision = (rlp_decision_t){ .verdict = RLP_ALLOW };
    return charge;
}

static void mail_execute(mail_t *mail, rlp_time_t now)
{
    lease_packet_t packet;
    lease_answer_t answer;

    lease_pack(&packet, &mail->question, sha, &now);
    redisReply *reply = redisCommandArgv(redis_server(), LEASE_ARGC, packet.argv, packet.lens);

    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR) {
        fail_msg("%s", reply->str);
    }
    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    assert_true(lease_unpack(&answer, &mail->question, reply->str, reply->len));
    if (!mail->executed) {
        mail->answer = answer;
    }
    freeReplyObject(reply);
}

static rlp_time_t world_latency(world_t *world)
{
    return 100 + (rlp_time_t)unit_below(&world->seed, 1000);
}

static void world_send(world_t *world, int host, const rlp_charge_t *charge,
                       const lease_question_t *question)
{
    int i = 0;

    while (world->mails[i].host >= 0) {
        i++;
        assert_true(i < MAILS);
    }
    mail_t *mail = &world->mails[i];
    const script_key_t key = { .bytes = "rlp:{user:1}:site", .len = 17 };

    *mail = (mail_t){ .host = host, .charge = *charge, .question = *question };
    if (question->key_len == 0) {
        assert_true(lease_identify(&mail->question, &mail->charge, &key, world->now));
    }
    mail->arrives = world->now + world_latency(world);
    if (world_happens(world, world->trial->late)) {
        mail->arrives += (rlp_time_t)unit_below(&world->seed, 3 * RLP_SECOND);
    }
    mail->returns = mail->arrives + world_latency(world);
    mail->lost = world_happens(world, world->trial->lost + world->trial->killed);
    mail->again = world_happens(world, world->trial->twice);
    world->questions++;
}

/* --- what the promise is */

/* The charge, made by the algorithm itself: under the limit that it was asked for. */
static bool world_admits(world_t *world, const lease_charge_t *charge, rlp_op_kind_t kind,
                         rlp_time_t charged_at)
{
    rlp_decision_t decision;
    const rlp_op_t op = { .kind = kind,
                          .units = charge->cost,
                          .now = world->now,
                          .wall = world->now,
                          .charged_at = charged_at };

    charge->limit->algorithm->step(world->room, charge->limit, &op, &decision);
    return decision.verdict == RLP_ALLOW;
}

static void world_spent(world_t *world, int host, const lease_charge_t *paid,
                        const lease_result_t *result)
{
    world->admitted += paid->cost;
    if (!world_admits(world, paid, RLP_TAKE, 0)) {
        fail_msg("%s: above the promise at %" PRId64 " (seed %" PRIu64 ")", world->trial->words,
                 world->now - EPOCH, world->seed);
    }
    assert_true(result->decision.remaining >= 0);
    if (world_happens(world, world->trial->refunds)) {
        lease_charge_t back = *paid;

        back.cost = -paid->cost;
        if (lease_settle(world->host[host].table, &back, result->id, result->charged_at,
                         world_clock(world, host))) {
            world->admitted -= paid->cost;
            world_admits(world, &back, RLP_SETTLE, world->now);
        }
    }
}

static void world_request(world_t *world, int host)
{
    const rlp_charge_t charge =
        world_charge(world,
                     world->trial->cost > 0
                         ? (rlp_units_t)unit_below(&world->seed, (uint64_t)world->trial->cost) + 1
                         : RLP_UNIT);
    const lease_charge_t wanted = {
        .identity = 7, .signature = 42, .cost = charge.cost, .limit = world->limit
    };
    lease_result_t result;
    lease_question_t question;

    world->requests++;
    lease_spend(world->host[host].table, &wanted, world_clock(world, host), &result, &question);
    if (result.outcome == LEASE_ASK) {
        world_send(world, host, &charge, &question);
    } else if (result.outcome == LEASE_SPENT) {
        world_spent(world, host, &wanted, &result);
        if (result.renew && lease_due(world->host[host].table, result.index, false,
                                      world_clock(world, host), &question)) {
            world_send(world, host, &charge, &question);
        }
    } else if (result.outcome == LEASE_REFUSED) {
        assert_true(result.decision.verdict > RLP_WAIT);
        assert_true((result.decision.retry > 0) == (result.decision.verdict == RLP_DENY));
    }
}

/* What each host's thread does. */
static void world_maintain(world_t *world, int host)
{
    lease_table_t *table = world->host[host].table;
    const rlp_charge_t charge = world_charge(world, RLP_UNIT);
    lease_question_t question;

    for (uint32_t i = 0; lease_table_turn(table, world_clock(world, host)) || i > 0;) {
        for (i = 0; i < lease_table_room(table); i++) {
            if (lease_due(table, i, false, world_clock(world, host), &question)) {
                world_send(world, host, &charge, &question);
            }
        }
        return;
    }
}

/* Brings what is due by now. */
static void world_deliver(world_t *world)
{
    for (int i = 0; i < MAILS; i++) {
        mail_t *mail = &world->mails[i];

        if (mail->host < 0 || mail->arrives > world->now) {
            continue;
        }
        if (!mail->executed) {
            mail_execute(mail, world->now - world->behind);
            mail->executed = true;
        }
        if (mail->returns > world->now) {
            continue;
        }
        if (!mail->lost && !mail->answered) {
            lease_result_t result;
            const lease_charge_t paid = { .identity = 7,
                                          .signature = 42,
                                          .cost = mail->question.cost,
                                          .limit = mail->charge.limit };

            lease_granted(world->host[mail->host].table, &mail->question, &mail->answer,
                          world_clock(world, mail->host), &result);
            if (result.outcome == LEASE_SPENT) {
                world_spent(world, mail->host, &paid, &result);
            }
            mail->answered = true;
        }
        if (mail->again) {
            mail->again = false;
            mail->returns = world->now + (rlp_time_t)unit_below(&world->seed, RLP_SECOND);
            mail->lost = true;
            mail_execute(mail, world->now - world->behind);
        } else {
            mail->host = -1;
        }
    }
}

/* Until that time. */
static void world_advance(world_t *world, rlp_time_t end)
{
    while (world->now < end) {
        world->now += end - world->now < TICK ? end - world->now : TICK;
        world_deliver(world);
    }
}

/* Requests at about so many a second and host, for a while. */
static void world_run(world_t *world, int64_t rate, rlp_time_t span)
{
    const rlp_time_t end = world->now + span;
    const uint64_t gap = (uint64_t)(2 * RLP_SECOND / rate / world->hosts);

    while (world->now < end) {
        world_advance(world, world->now + 1 + (rlp_time_t)unit_below(&world->seed, gap));
        const int host = (int)unit_below(&world->seed, (uint64_t)world->hosts);

        world_request(world, host);
        world_maintain(world, host);
    }
}

/* --- tests */

static const trial_t faulty[] = {
    { "rate=1000/s", .lost = 50, .late = 50, .twice = 50, .refunds = 20 },
    { "rate=100/s burst=500", .lost = 100, .late = 100, .twice = 100, .cost = 5000 },
    { "rate=200/s burst=50", .killed = 200, .late = 100, .refunds = 100 },
    { "rate=500/s algorithm=fixed-window", .lost = 50, .late = 50, .twice = 50, .refunds = 20 },
    { "rate=2000/2s algorithm=fixed-window", .killed = 200, .late = 200, .cost = 3000 },
    { "rate=500/s algorithm=sliding-window", .lost = 50, .late = 50, .twice = 50 },
    { "rate=1000/2s algorithm=sliding-window", .killed = 100, .late = 100, .refunds = 50 },
    { "quota=5000/day", .lost = 50, .late = 50, .twice = 50, .refunds = 20 },
    { "quota=3000", .lost = 50, .late = 50, .twice = 50 },
    /* a host spends more than doubles hold exactly */
    { "rate=1000000000000/100ms", .lost = 50, .late = 50, .cost = INT64_C(50000000000000) },
    { "rate=1000000000000/100ms algorithm=fixed-window", .cost = INT64_C(50000000000000) },
};

#define RUNS 12

/* Whatever happens between the hosts and the server, no window sees more than the limit. */
static void test_never_above(void **state)
{
    const trial_t *trial = unit_row(state);
    uint64_t seed = unit_seed();

    for (int i = 0; i < RUNS; i++) {
        world_t *world = malloc(sizeof(*world));

        assert_non_null(world);
        world_begin(world, trial, unit_random(&seed), 2 + i % (HOSTS_MAX - 1));
        world_run(world, 600, RLP_SECOND);
        world->now += (rlp_time_t)unit_below(&world->seed, 8 * RLP_SECOND);
        world_run(world, 1500, RLP_SECOND);
        world_run(world, 30, 4 * RLP_SECOND);
        world_run(world, 2000, RLP_SECOND);
        world_end(world);
        free(world);
    }
}

typedef struct {
    trial_t trial;
    int64_t burst;      /* what is due at once, */
    rlp_time_t windows; /* and in each window, thousandths */
    rlp_time_t window;
    int64_t rate; /* of each host */
    rlp_time_t span;
    int permille; /* questions for each request, in thousandths, at most */
} due_t;

static const due_t dues[] = {
    { { .words = "rate=1000/s" }, 1000000, 1000000, RLP_SECOND, 1000, 12 * RLP_SECOND, 20 },
    { { .words = "rate=1000/s" }, 1000000, 1000000, RLP_SECOND, 400, 20 * RLP_SECOND, 25 },
    { { .words = "rate=1000/hour" }, 1000000, 1000000, HOUR, 500, 6 * RLP_SECOND, 20 },
    { { .words = "rate=100/s burst=1000" }, 1000000, 100000, RLP_SECOND, 500, 8 * RLP_SECOND, 40 },
    { { .words = "quota=1000/year" }, 1000000, 0, RLP_SECOND, 500, 6 * RLP_SECOND, 20 },
    { { .words = "rate=5/hour" }, 5000, 5000, HOUR, 100, 2 * RLP_SECOND, 60 },
};

/* Nearly all that is due is admitted, for few questions. */
static void test_due(void **state)
{
    const due_t *due = unit_row(state);
    uint64_t seed = unit_seed();

    for (int hosts = 1; hosts <= HOSTS_MAX; hosts++) {
        world_t *world = malloc(sizeof(*world));

        assert_non_null(world);
        world_begin(world, &due->trial, unit_random(&seed), hosts);
        world_run(world, due->rate, due->span);
        const int64_t limited = due->burst + due->windows * due->span / due->window;
        const int64_t asked = world->requests * RLP_UNIT;
        const int64_t most = limited < asked ? limited : asked;

        print_message("# %s, %d hosts: %" PRId64 " of %" PRId64 " units, %" PRId64
                      " questions for %" PRId64 " requests\n",
                      due->trial.words, hosts, world->admitted / RLP_UNIT, most / RLP_UNIT,
                      world->questions, world->requests);
        assert_true(world->admitted <= most + RLP_UNIT);
        assert_true(world->admitted * 100 >= most * 97);
        assert_true(world->questions * 1000 <= world->requests * due->permille);
        world_end(world);
        free(world);
    }
}

/* Hosts with a request now and then: what each has drawn for it is spent, and comes back as it does
   where each request asks. */
static void test_seldom(void **state)
{
    static const trial_t trial = { .words = "rate=10/s burst=2" };
    world_t *world = malloc(sizeof(*world));

    (void)state;
    assert_non_null(world);
    world_begin(world, &trial, unit_seed(), HOSTS_MAX);
    for (int host = 0; host < HOSTS_MAX; host++) {
        world_request(world, host);
        world_advance(world, world->now + (host == 1 ? 3 * RLP_SECOND / 10 : RLP_SECOND / 100));
    }
    assert_int_equal(world->admitted, HOSTS_MAX * RLP_UNIT);
    assert_int_equal(world->questions, HOSTS_MAX);
    world_end(world);
    free(world);
}

/* Of a window under two limits nothing is drawn ahead; but of the next one, which has only been
   asked under one of them. */
static void test_other_plan(void **state)
{
    static const trial_t trial = { .words = "rate=500/s algorithm=fixed-window" };
    world_t *world = malloc(sizeof(*world));

    (void)state;
    assert_non_null(world);
    world_begin(world, &trial, unit_seed(), 1);
    world_run(world, 200, RLP_SECOND);
    world->limit = &unit_plan("rate=1000/s algorithm=fixed-window")->limits[0];
    world_run(world, 200, RLP_SECOND / 50);
    world_advance(world, (world->now / RLP_SECOND + 1) * RLP_SECOND);
    const int64_t requests = world->requests, questions = world->questions;

    world_run(world, 500, 2 * RLP_SECOND);
    assert_true((world->questions - questions) * 10 <= world->requests - requests);
    world_end(world);
    free(world);
}

typedef struct {
    trial_t trial;
    const char *then; /* another plan from that moment on; NULL: none */
} set_back_t;

static const set_back_t set_backs[] = {
    { { .words = "rate=1000/s" }, NULL },
    { { .words = "rate=1000/s burst=200" }, NULL },
    { { .words = "rate=1000/s" }, "rate=1000/s burst=200" },
};

/* A server whose clock is set back, or another one that is behind, refuses for no longer than a
   drain. */
static void test_set_back(void **state)
{
    static const rlp_time_t steps[] = { RLP_SECOND / 2, 5 * RLP_SECOND, HOUR };
    const set_back_t *set_back = unit_row(state);
    uint64_t seed = unit_seed();

    for (size_t i = 0; i < UNIT_N(steps); i++) {
        world_t *world = malloc(sizeof(*world));

        assert_non_null(world);
        world_begin(world, &set_back->trial, unit_random(&seed), 2);
        world_run(world, 700, 3 * RLP_SECOND);
        world->behind = steps[i];
        if (set_back->then != NULL) {
            world->limit = &unit_plan(set_back->then)->limits[0];
        }
        world_run(world, 700, 3 * RLP_SECOND);
        const int64_t before = world->admitted;

        world_run(world, 700, 4 * RLP_SECOND);
        assert_in_range(world->admitted - before, 3000 * RLP_UNIT, 5000 * RLP_UNIT);
        world_end(world);
        free(world);
    }
}

int main(void)
{
    if (!redis_server_start("leases")) {
        return unit_run();
    }
    size_t len;
    const char *text = script_text(&len);

    script_sha(sha);
    freeReplyObject(redis_server_ask("SCRIPT LOAD %b", text, len));
    for (size_t i = 0; i < UNIT_N(faulty); i++) {
        unit_add_case("T-29: never above the limit", faulty[i].words, test_never_above, &faulty[i]);
    }
    unit_add("what is seldom asked for", test_seldom, NULL);
    unit_add("another plan, and the next window", test_other_plan, NULL);
    for (size_t i = 0; i < UNIT_N(dues); i++) {
        unit_add_case("what is due", dues[i].trial.words, test_due, &dues[i]);
    }
    for (size_t i = 0; i < UNIT_N(set_backs); i++) {
        unit_add_case("S-15: a clock that is set back", set_backs[i].trial.words, test_set_back,
                      &set_backs[i]);
    }
    return unit_run();
}
