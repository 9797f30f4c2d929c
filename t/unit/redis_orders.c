/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Bans and plans for all hosts, as Redis answers: what stands there is read line by line, whatever
 * it is, within its bounds, and for nobody else than whom it names.
 */

#include "redis/key.h"
#include "redis/orders.h"

#include "unit.h"

#include <apr_strings.h>

#include <string.h>

#define NOW "1795280304633"
#define LATER "1795280309633" /* five seconds */
#define HEAD "rlpo1 17\n"

/* An answer of n texts; it is the caller's. */
static redisReply *reply_of(const char *const texts[], const size_t lens[], int n)
{
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;
    char head[32];

    (void)redisReaderFeed(reader, head, (size_t)apr_snprintf(head, sizeof(head), "*%d\r\n", n));
    for (int i = 0; i < n; i++) {
        const size_t len = lens ? lens[i] : strlen(texts[i]);

        (void)redisReaderFeed(reader, head,
                              (size_t)apr_snprintf(head, sizeof(head), "$%d\r\n", (int)len));
        (void)redisReaderFeed(reader, texts[i], len);
        (void)redisReaderFeed(reader, "\r\n", 2);
    }
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    redisReaderFree(reader);
    return reply;
}

static redisReply *reply_look(const char *value)
{
    return reply_of((const char *const[]){ NOW, "17", value }, NULL, 3);
}

/* --- one line */

typedef struct {
    const char *line;     /* behind the first one */
    const char *identity; /* NULL: it is none of ours, or has ended */
    int bad;
    int ban; /* seconds */
    int until;
    const char *plan;
} line_t;

static const line_t lines[] = {
    { "ip:192.0.2.1 " LATER " 0 -\n", "ip:192.0.2.1", 0, 5, 0, "" },
    { "ip:192.0.2.1 0 " LATER " gold\n", "ip:192.0.2.1", 0, 0, 5, "gold" },
    { "u:1 " LATER " " LATER " a.b-c_1\n", "u:1", 0, 5, 5, "a.b-c_1" },
    { "u:a%20b%7B%25 " LATER " 0 -\n", "u:a b{%", 0, 5, 0, "" },
    { "u:1 " LATER " 1 gold\n", "u:1", 0, 5, 0, "" },
    { "u:1 " LATER " " LATER " -\n", "u:1", 0, 5, 0, "" },
    { "", NULL, 0, 0, 0, NULL },
    { "u:1 " NOW " 0 -\n", NULL, 0, 0, 0, NULL }, /* to the millisecond */
    { "u:1 1 1 gold\n", NULL, 0, 0, 0, NULL },
    { "u:1 0 0 -\n", NULL, 0, 0, 0, NULL },
    /* damaged */
    { "\n", NULL, 1, 0, 0, NULL },
    { "u:1\n", NULL, 1, 0, 0, NULL },
    { "u:1 " LATER "\n", NULL, 1, 0, 0, NULL },
    { "u:1 " LATER " 0\n", NULL, 1, 0, 0, NULL },
    { "u:1 " LATER " 0 - \n", NULL, 1, 0, 0, NULL },
    { "u:1 " LATER " 0 - -\n", NULL, 1, 0, 0, NULL },
    { "u:1 " LATER " 0 -", NULL, 1, 0, 0, NULL }, /* cut off */
    { " " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1  " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1 -5 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1 +" LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1 1e15 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1 0x5 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1 " LATER " " LATER " \n", NULL, 1, 0, 0, NULL },
    { "u:1 0 " LATER " -gold\n", NULL, 1, 0, 0, NULL },
    { "u:1 0 " LATER " g\xc3\xb6ld\n", NULL, 1, 0, 0, NULL },
    { "u:1 9999999999999 0 -\n", NULL, 1, 0, 0, NULL }, /* more than ten years away */
    { "u:1 18446744073709551617 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1 99999999999999999999999999999999999 0 -\n", NULL, 1, 0, 0, NULL },
    /* names that would be those of others */
    { "u:1% " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1%2 " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1%2g " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1%7b " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:1%00 " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:{1} " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:\xff " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
    { "u:\t " LATER " 0 -\n", NULL, 1, 0, 0, NULL },
};

static void test_line(void **state)
{
    const line_t *row = unit_row(state);
    const bool found = row->identity != NULL;
    redisReply *reply = reply_look(apr_pstrcat(unit_pool(), HEAD, row->line, NULL));
    const redis_orders_t *list = redis_orders_read(reply, unit_pool());

    assert_non_null(list);
    assert_true(list->whole && list->version == 17);
    assert_int_equal(list->bad, row->bad);
    assert_int_equal(list->n, found);
    if (found) {
        assert_string_equal(list->orders[0].identity, row->identity);
        assert_string_equal(list->orders[0].plan, row->plan);
        assert_int_equal(list->orders[0].ban, row->ban * RLP_SECOND);
        assert_int_equal(list->orders[0].until, row->until * RLP_SECOND);
    }
    freeReplyObject(reply);
}

/* --- all of them */

static const char *value_of(int n)
{
    char *text = apr_palloc(unit_pool(), 64 * (size_t)n + sizeof(HEAD));
    char *at = text + apr_snprintf(text, sizeof(HEAD), "%s", HEAD);

    for (int i = 0; i < n; i++) {
        at += apr_snprintf(at, 64, "user:%d %s 0 -\n", i, LATER);
    }
    return text;
}

static void test_room(void **state)
{
    for (int n = REDIS_ORDERS_MAX - 1; n <= REDIS_ORDERS_MAX + 2; n++) {
        redisReply *reply = reply_look(value_of(n));
        const redis_orders_t *list = redis_orders_read(reply, unit_pool());
        const int over = n > REDIS_ORDERS_MAX ? n - REDIS_ORDERS_MAX : 0;

        assert_int_equal(list->n, n - over);
        assert_int_equal(list->bad, over);
        assert_string_equal(list->orders[list->n - 1].identity,
                            apr_psprintf(unit_pool(), "user:%d", list->n - 1));
        freeReplyObject(reply);
    }
    (void)state;
}

/* Bytes of a good value changed at random: the lines that are left say what they said, or are for
   somebody else than the neighbours at least. */
static void test_random(void **state)
{
    const char *value = value_of(20);
    const size_t len = strlen(value);
    uint64_t seed = unit_seed();

    (void)state;
    for (int round = 0; round < 20000; round++) {
        apr_pool_t *pool;

        apr_pool_create(&pool, unit_pool());
        char *text = apr_pstrmemdup(pool, value, len);

        for (uint64_t i = unit_below(&seed, 4); i < 4; i++) {
            text[unit_below(&seed, len)] = (char)unit_random(&seed);
        }
        redisReply *reply =
            reply_of((const char *const[]){ NOW, "17", text }, (const size_t[]){ 13, 2, len }, 3);
        const redis_orders_t *list = redis_orders_read(reply, pool);

        assert_true(list != NULL && list->n <= 24);
        for (int i = 0; i < list->n; i++) {
            assert_true(list->orders[i].ban >= 0 &&
                        list->orders[i].ban <= REDIS_ORDERS_SPAN + 86400 * RLP_SECOND);
            assert_true(list->orders[i].until >= 0 &&
                        list->orders[i].until <= REDIS_ORDERS_SPAN + 86400 * RLP_SECOND);
            assert_true(list->orders[i].identity[0] != '\0');
        }
        freeReplyObject(reply);
        apr_pool_destroy(pool);
    }
}

/* What is no answer of the script. */
static void test_answer(void **state)
{
    static const char *const none[][3] = { { "x", "17", HEAD },
                                           { "", "17", HEAD },
                                           { NOW, "", HEAD },
                                           { NOW, "-1", HEAD },
                                           { NOW, "123456789012345678", HEAD } };

    (void)state;
    for (size_t i = 0; i < UNIT_N(none); i++) {
        redisReply *reply = reply_of(none[i], NULL, 3);

        assert_null(redis_orders_read(reply, unit_pool()));
        freeReplyObject(reply);
    }
    redisReply *reply = reply_of((const char *const[]){ NOW }, NULL, 1);

    assert_null(redis_orders_read(reply, unit_pool()));
    freeReplyObject(reply);
    reply = reply_of((const char *const[]){ NOW, "17" }, NULL, 2);
    assert_false(redis_orders_read(reply, unit_pool())->whole);
    freeReplyObject(reply);
    assert_null(redis_orders_read(NULL, unit_pool()));
    /* a NUL ends no line */
    reply = reply_of((const char *const[]){ NOW, "17",
                                            HEAD "u:1\0 " LATER " 0 -\nu:2 " LATER " 0 -\n" },
                     (const size_t[]){
                         13, 2, sizeof(HEAD "u:1\0 " LATER " 0 -\nu:2 " LATER " 0 -\n") - 1 },
                     3);
    const redis_orders_t *list = redis_orders_read(reply, unit_pool());

    assert_int_equal(list->n, 1);
    assert_int_equal(list->bad, 1);
    assert_string_equal(list->orders[0].identity, "u:2");
    freeReplyObject(reply);
}

typedef struct {
    const char *texts[3];
    redis_ordered_t result;
    int ban;
} change_t;

static const change_t changes[] = {
    { { "done", NOW, "u:1 " LATER " 0 -\n" }, REDIS_ORDERED, 5 },
    { { "done", NOW, "" }, REDIS_ORDERED, 0 },
    { { "none", NOW, "" }, REDIS_ORDERED_NONE, 0 },
    { { "full", NOW, "" }, REDIS_ORDERED_FULL, 0 },
    { { "well", NOW, "" }, REDIS_ORDERED_UNCLEAR, 0 },
    { { "done", "", "" }, REDIS_ORDERED_UNCLEAR, 0 },
    { { "done", NOW, "u:1 " LATER " 0 -" }, REDIS_ORDERED_UNCLEAR, 0 },
    { { "done", NOW, "u:1 " LATER "\n" }, REDIS_ORDERED_UNCLEAR, 0 },
};

static void test_change(void **state)
{
    const change_t *row = unit_row(state);
    redisReply *reply = reply_of(row->texts, NULL, 3);
    redis_order_t now;

    assert_int_equal(redis_orders_changed(&now, reply, unit_pool()), row->result);
    assert_int_equal(now.ban, row->ban * RLP_SECOND);
    assert_string_equal(now.plan, "");
    freeReplyObject(reply);
}

/* Whatever bytes an identity has, it comes back from how it stands there. */
static void test_names(void **state)
{
    uint64_t seed = unit_seed();

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char name[17] = "";
        char text[3 * sizeof(name)];
        const size_t len = 1 + (size_t)unit_below(&seed, sizeof(name) - 1);

        for (size_t i = 0; i < len; i++) {
            name[i] = (char)(1 + unit_below(&seed, 255));
        }
        *redis_key_escape(text, name, len) = '\0';
        assert_int_equal(strcspn(text, " \n{}"), strlen(text));
        assert_true(redis_key_unescape(text));
        assert_int_equal(strlen(text), len);
        assert_memory_equal(text, name, len);
    }
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(lines); i++) {
        unit_add_case("a line", lines[i].line, test_line, &lines[i]);
    }
    unit_add("room for 4 096", test_room, NULL);
    unit_add("changed at random", test_random, NULL);
    unit_add("answers of others", test_answer, NULL);
    for (size_t i = 0; i < UNIT_N(changes); i++) {
        unit_add_case("a change", changes[i].texts[0], test_change, &changes[i]);
    }
    unit_add("identities as they stand there", test_names, NULL);
    return unit_run();
}
