/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the store in Redis is made of that needs no Redis: names of keys, what is noted in its
 * place, how many hosts share a limit.
 */

#include "redis/hosts.h"
#include "redis/key.h"
#include "redis/ledger.h"
#include "redis/session.h"

#include "unit.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

static void charge_init(rlp_charge_t *charge, const char *identity, const char *rule,
                        const char *words)
{
    const rlp_limit_t *limit = &unit_plan(words)->limits[0];

    rlp_charge_init(charge, identity, strlen(identity), rlp_signature("api", NULL, limit), limit);
    charge->rule = rule;
    charge->decision = (rlp_decision_t){ .reset = 100 };
}

/* --- keys */

typedef struct {
    const char *prefix;
    const char *identity;
    const char *rule;
    const char *key;
} name_t;

static const name_t names[] = {
    { "", "user:1", "api", "rlp:{user:1}:api" },
    { "t:", "user:1", "api", "t:rlp:{user:1}:api" },
    { "", "user:1", NULL, "rlp:{user:1}:" },
    { "", "user:1", "", "rlp:{user:1}:" },
    { "", "", "api", "rlp:{}:api" },
    { "", "ip:2001:db8::1", "a b", "rlp:{ip:2001:db8::1}:a%20b" },
    { "", "user:a}b{c", "api", "rlp:{user:a%7Db%7Bc}:api" },
    { "", "user:100%", "api", "rlp:{user:100%25}:api" },
    { "", "user:100%25", "api", "rlp:{user:100%2525}:api" },
    { "", "user:\x01\x1f\x7f\x80\xff", "api", "rlp:{user:%01%1F%7F%80%FF}:api" },
    { "", "user:J\xc3\xb6rg", "r\xc3\xa4t", "rlp:{user:J%C3%B6rg}:r%C3%A4t" },
    { "", "user:1", "api/{x}", "rlp:{user:1}:api/%7Bx%7D" },
    { "", "user:~!\"#$&'()*+,-./", "api", "rlp:{user:~!\"#$&'()*+,-./}:api" },
    { "site {1}%:", "user:1", "api", "site {1}%:rlp:{user:1}:api" }, /* the administrator's own */
};

/* Within its room to the byte, which asks for no more than three bytes for each. */
static void test_key(void **state)
{
    const name_t *row = unit_row(state);
    rlp_charge_t charge;
    script_key_t key;

    charge_init(&charge, row->identity, row->rule, "rate=5/hour");
    const size_t room = redis_key_room(row->prefix, &charge);
    char *at = malloc(room);

    assert_non_null(at);
    char *end = redis_key_make(&key, at, row->prefix, &charge);

    assert_ptr_equal(key.bytes, at);
    assert_ptr_equal(end, at + key.len);
    assert_int_equal(key.len, strlen(row->key));
    assert_memory_equal(key.bytes, row->key, key.len);
    assert_in_range(key.len, 1, room);
    free(at);
}

/* An identity with a NUL in it is all of it; bytes that all need a sign fill the room. */
static void test_key_bytes(void **state)
{
    char all[256];
    char at[3 * sizeof(all) + 16];
    rlp_charge_t charge;
    script_key_t key;

    (void)state;
    charge_init(&charge, "a\0b", "", "rate=5/hour");
    charge.entry.key.identity_len = 3;
    redis_key_make(&key, at, "", &charge);
    assert_int_equal(key.len, strlen("rlp:{a%00b}:"));
    assert_memory_equal(key.bytes, "rlp:{a%00b}:", key.len);
    memset(all, '{', sizeof(all));
    charge.entry.key.identity = all;
    charge.entry.key.identity_len = sizeof(all);
    redis_key_make(&key, at, "", &charge);
    assert_int_equal(key.len, redis_key_room("", &charge));
}

/* Each byte of an identity makes a key of its own. */
static void test_key_apart(void **state)
{
    char keys[256][16];

    (void)state;
    for (int i = 0; i < 256; i++) {
        const char byte = (char)i;
        rlp_charge_t charge;
        script_key_t key;

        charge_init(&charge, "", "r", "rate=5/hour");
        charge.entry.key.identity = &byte;
        charge.entry.key.identity_len = 1;
        *redis_key_make(&key, keys[i], "", &charge) = '\0';
        assert_int_equal(strcspn(keys[i], "}"), strlen(keys[i]) - 3); /* one hash tag */
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(keys[k], keys[i]);
        }
    }
}

/* --- parts */

static const struct {
    rlp_units_t units;
    int64_t part;
    int64_t whole;
    rlp_units_t got;
} portions[] = {
    { 0, 1, 2, 0 },
    { 1000, 0, 7, 0 },
    { 1000, 7, 7, 1000 },
    { 1000, 1, 3, 333 },
    { 1000, 2, 3, 666 },
    { 1, 999999, 1000000, 0 },
    { RLP_UNITS_MAX, INT64_MAX - 1, INT64_MAX, RLP_UNITS_MAX - 1 },
    { RLP_UNITS_MAX, INT64_MAX, INT64_MAX, RLP_UNITS_MAX },
};

static void test_part(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(portions); i++) {
        assert_int_equal(redis_part(portions[i].units, portions[i].part, portions[i].whole),
                         portions[i].got);
    }
}

typedef struct {
    const char *words;
    rlp_time_t age;
    rlp_time_t reset;
    rlp_units_t left; /* of 1000 */
} left_t;

static const left_t lefts[] = {
    { "rate=10/hour", -5, 100, 1000 }, /* another thread's clock */
    { "rate=10/hour", 0, 0, 1000 },
    { "rate=10/hour", 1, 100, 990 },
    { "rate=10/hour", 99, 100, 10 },
    { "rate=10/hour", 101, 100, 0 },
    { "rate=10/hour", INT64_MAX, INT64_MAX - 1, 0 },
    { "rate=10/hour algorithm=stepped-bucket", 50, 100, 500 },
    { "rate=10/hour algorithm=leaky-bucket", 50, 100, 500 },
    { "rate=10/hour algorithm=fixed-window", 99, 100, 1000 },
    { "rate=10/hour algorithm=fixed-window", 100, 100, 0 },
    { "quota=10/day", 99, 100, 1000 },
    { "quota=10/day", 100, 100, 0 },
    { "quota=10", INT64_MAX, RLP_TIME_NEVER, 1000 },
};

static void test_left(void **state)
{
    const left_t *row = unit_row(state);

    assert_int_equal(redis_left(&unit_plan(row->words)->limits[0], 1000, row->age, row->reset),
                     row->left);
}

/* --- the ledger */

/* What was noted, taken out of it. */
static rlp_units_t ledger_units(redis_ledger_t *ledger)
{
    redis_debt_t *debt = redis_ledger_take(ledger);

    assert_non_null(debt);
    const rlp_units_t units = debt->units;

    redis_debt_free(debt);
    return units;
}

static const struct {
    rlp_units_t first;
    rlp_units_t then;
    rlp_time_t later;
    rlp_units_t units;
} notes[] = {
    { 4000, 3000, 0, 7000 },       { 4000, 3000, 50, 5000 }, /* half of the first is gone */
    { 4000, 3000, 100, 3000 },                               /* all of it */
    { 4000, -1000, 0, 3000 },      { 4000, -5000, 0, 0 },
    { 4000, -3000, 50, 0 },        { 9000, 2000, 0, 10000 }, /* never above full */
    { 4000, INT64_MAX, 0, 10000 },
};

static void test_notes(void **state)
{
    redis_ledger_t *ledger = redis_ledger_create(unit_pool());
    rlp_charge_t charge;

    (void)state;
    charge_init(&charge, "user:1", "api", "rate=10/hour");
    for (size_t i = 0; i < UNIT_N(notes); i++) {
        redis_ledger_note(ledger, &charge, notes[i].first, 1, 1000);
        redis_ledger_note(ledger, &charge, notes[i].then, 1, 1000 + notes[i].later);
        assert_int_equal(redis_ledger_size(ledger), 1);
        assert_int_equal(ledger_units(ledger), notes[i].units);
        assert_int_equal(redis_ledger_size(ledger), 0);
    }
}

/* Another identity, limit, count or outage is another debt; another rule's text is not, since the
   signature has it. */
static void test_apart(void **state)
{
    static const struct {
        const char *identity;
        const char *rule;
        const char *words;
        uint64_t outage;
        int size;
    } rows[] = {
        { "user:1", "api", "rate=10/hour", 1, 1 },   { "user:1", "api", "rate=10/hour", 1, 1 },
        { "user:1", "other", "rate=10/hour", 1, 1 }, { "user:11", "api", "rate=10/hour", 1, 2 },
        { "user:", "api", "rate=10/hour", 1, 3 },    { "user:1", "api", "rate=20/hour", 1, 4 },
        { "user:1", "api", "rate=10/min", 1, 5 },    { "user:1", "api", "rate=10/hour", 2, 6 },
        { "user:1", NULL, "quota=10/day", 2, 7 },    { "user:11", "api", "rate=10/hour", 1, 7 },
    };
    redis_ledger_t *ledger = redis_ledger_create(unit_pool());

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        rlp_charge_t charge;

        charge_init(&charge, rows[i].identity, rows[i].rule, rows[i].words);
        redis_ledger_note(ledger, &charge, RLP_UNIT, rows[i].outage, 0);
        assert_int_equal(redis_ledger_size(ledger), rows[i].size);
    }
    for (int i = 7; i > 0; i--) {
        redis_debt_t *debt = redis_ledger_take(ledger);

        assert_non_null(debt);
        assert_int_equal(redis_ledger_size(ledger), i - 1);
        redis_debt_free(debt);
    }
    assert_null(redis_ledger_take(ledger));
}

/* A debt keeps what it needs when the charge is gone. */
static void test_copied(void **state)
{
    redis_ledger_t *ledger = redis_ledger_create(unit_pool());
    char identity[] = "user:\0x";
    char rule[] = "api";
    rlp_charge_t charge;

    (void)state;
    charge_init(&charge, identity, rule, "rate=10/hour");
    charge.entry.key.identity_len = 7;
    charge.decision.reset = 12345;
    redis_ledger_note(ledger, &charge, RLP_UNIT, 9, 77);
    const uint64_t signature = charge.entry.key.signature;

    memset(identity, 'z', sizeof(identity));
    memset(rule, 'z', sizeof(rule) - 1);
    memset(&charge, 0xff, sizeof(charge));
    redis_debt_t *debt = redis_ledger_take(ledger);

    assert_non_null(debt);
    assert_int_equal(debt->subject->identity_len, 7);
    assert_memory_equal(debt->subject->bytes, "user:\0x", 7);
    assert_string_equal(debt->subject->rule, "api");
    assert_int_equal(debt->subject->signature, signature);
    assert_int_equal(debt->outage, 9);
    assert_int_equal(debt->at, 77);
    assert_int_equal(debt->reset, 12345);
    assert_int_equal(debt->subject->limit.count, 10);
    redis_debt_free(debt);
}

/* A full one has no room for more, but goes on with those it has; what is left goes with the
   pool. */
static void test_full(void **state)
{
    redis_ledger_t *ledger = redis_ledger_create(unit_pool());
    rlp_charge_t charge;

    (void)state;
    charge_init(&charge, "", "api", "rate=10/hour");
    for (int i = 0; i < 2 * REDIS_LEDGER_MAX; i++) {
        const int identity = i % (REDIS_LEDGER_MAX + 100);

        charge.entry.key.identity = (const char *)&identity;
        charge.entry.key.identity_len = sizeof(identity);
        redis_ledger_note(ledger, &charge, RLP_UNIT, 1, 0);
    }
    assert_int_equal(redis_ledger_size(ledger), REDIS_LEDGER_MAX);
    rlp_units_t sum = 0;

    for (int i = 0; i < REDIS_LEDGER_MAX; i++) {
        sum += ledger_units(ledger);
    }
    assert_int_equal(sum, (2 * REDIS_LEDGER_MAX - 100) * RLP_UNIT);
    charge_init(&charge, "user:1", "api", "rate=10/hour");
    redis_ledger_note(ledger, &charge, RLP_UNIT, 1, 0);
    assert_int_equal(redis_ledger_size(ledger), 1);
}

/* --- hosts */

static const struct {
    uint64_t known;
    int64_t living;
} livings[] = {
    { 0, 1 },
    { 1, 1 },
    { 2, 2 },
    { 9, 9 },
    { INT64_MAX, INT64_MAX },
    { UINT64_C(1) << 63, 1 },
    { UINT64_MAX, 1 },
};

/* One at least, whatever lies in the memory that they share. */
static void test_living(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(livings); i++) {
        const redis_hosts_t hosts = { .living = livings[i].known };

        assert_int_equal(redis_hosts_living(&hosts), livings[i].living);
    }
}

/* Who is not due asks nobody: the settings are not even looked at. */
static void test_not_due(void **state)
{
    static const redis_hosts_settings_t settings = { .prefix = "" };
    static const rlp_time_t ahead[] = { 1, RLP_SECOND, REDIS_HOSTS_EVERY };

    (void)state;
    for (size_t i = 0; i < UNIT_N(ahead); i++) {
        redis_hosts_t hosts = { .due = 1000 + ahead[i], .living = 3 };

        assert_false(redis_hosts_tell(&hosts, &settings, 1000));
        assert_int_equal(hosts.due, 1000 + ahead[i]);
        assert_int_equal(redis_hosts_living(&hosts), 3);
    }
}

/* --- the server's clock */

typedef struct {
    const char *reply;
    rlp_time_t time;
} clock_reply_t;

static const clock_reply_t clocks[] = {
    { "*2\r\n$10\r\n1700000000\r\n$1\r\n7\r\n", INT64_C(1700000000000007) },
    { "*3\r\n$1\r\n0\r\n$6\r\n999999\r\n$1\r\nx\r\n", 999999 },
    { "*2\r\n$10\r\n9007199253\r\n$6\r\n999999\r\n", INT64_C(9007199253999999) },
    { "*2\r\n$10\r\n9007199254\r\n$1\r\n0\r\n", -1 },
    { "*2\r\n$19\r\n9223372036854775807\r\n$1\r\n0\r\n", -1 },
    { "*2\r\n$1\r\n1\r\n$7\r\n1000000\r\n", -1 },
    { "*2\r\n$1\r\n1\r\n$2\r\n-1\r\n", -1 },
    { "*2\r\n$2\r\n-1\r\n$1\r\n0\r\n", -1 },
    { "*2\r\n:1\r\n$1\r\n0\r\n", -1 },
    { "*2\r\n$1\r\n1\r\n:0\r\n", -1 },
    { "*1\r\n$1\r\n1\r\n", -1 },
    { "$1\r\n1\r\n", -1 },
    { "*-1\r\n", -1 },
};

static void test_clock(void **state)
{
    const clock_reply_t *row = unit_row(state);
    redisReader *reader = redisReaderCreate();
    void *reply = NULL;

    assert_int_equal(redisReaderFeed(reader, row->reply, strlen(row->reply)), REDIS_OK);
    assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
    assert_int_equal(redis_reply_time(reply), row->time);
    freeReplyObject(reply);
    redisReaderFree(reader);
}

int main(void)
{
    for (size_t i = 0; i < UNIT_N(clocks); i++) {
        unit_add_case("a clock", apr_psprintf(unit_pool(), "%zu", i), test_clock, &clocks[i]);
    }
    for (size_t i = 0; i < UNIT_N(names); i++) {
        unit_add_case("key", names[i].key, test_key, &names[i]);
    }
    unit_add("keys of any bytes", test_key_bytes, NULL);
    unit_add("each byte has a key of its own", test_key_apart, NULL);
    unit_add("parts of units", test_part, NULL);
    for (size_t i = 0; i < UNIT_N(lefts); i++) {
        unit_add_case("what is left", lefts[i].words, test_left, &lefts[i]);
    }
    unit_add("what is noted", test_notes, NULL);
    unit_add("debts of their own", test_apart, NULL);
    unit_add("a debt is a copy", test_copied, NULL);
    unit_add("a full ledger", test_full, NULL);
    unit_add("hosts that are known", test_living, NULL);
    unit_add("a host that is not due", test_not_due, NULL);
    return unit_run();
}
