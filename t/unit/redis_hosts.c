/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * How many hosts live, as they tell a real server. What each then does with its share is in
 * redis_local.c.
 */

#include "redis/hosts.h"
#include "redis/store.h"

#include "redis_server.h"
#include "unit.h"

#include <string.h>

static redis_hosts_t hosts;
static redis_endpoint_t *endpoint;

#define ID_OF(n) ((const unsigned char[REDIS_HOST_ID]){ 1, 2, 3, 4, 5, 6, 7, (n) })

static redis_hosts_settings_t settings_of(const unsigned char *id, rlp_time_t ttl)
{
    return (redis_hosts_settings_t){
        .endpoint = endpoint, .prefix = "t:", .id = id, .timeout = 20 * RLP_SECOND, .ttl = ttl
    };
}

static void fresh(void)
{
    freeReplyObject(redis_server_ask("FLUSHALL"));
    memset(&hosts, 0, sizeof(hosts));
}

static bool tell(const unsigned char *id, rlp_time_t ttl)
{
    const redis_hosts_settings_t settings = settings_of(id, ttl);

    hosts.due = 0;
    return redis_hosts_tell(&hosts, &settings, rlp_clock_monotonic());
}

static void test_living(void **state)
{
    (void)state;
    fresh();
    assert_int_equal(redis_hosts_living(&hosts), 1);
    assert_true(tell(ID_OF(1), REDIS_HOSTS_TTL));
    assert_int_equal(redis_hosts_living(&hosts), 1);
    assert_true(tell(ID_OF(2), REDIS_HOSTS_TTL));
    assert_true(tell(ID_OF(3), REDIS_HOSTS_TTL));
    assert_true(tell(ID_OF(1), REDIS_HOSTS_TTL));
    assert_int_equal(redis_hosts_living(&hosts), 3);
    redisReply *reply = redis_server_ask("PTTL t:rlp:hosts");

    assert_in_range(reply->integer, 1, REDIS_HOSTS_TTL / 1000);
    freeReplyObject(reply);
    reply = redis_server_ask("STRLEN t:rlp:hosts");
    assert_int_equal(reply->integer, 3 * 16);
    freeReplyObject(reply);
}

/* Who has not told for a while is gone. */
static void test_gone(void **state)
{
    const rlp_time_t begin = rlp_clock_monotonic();

    (void)state;
    fresh();
    assert_true(tell(ID_OF(1), RLP_SECOND / 10));
    do {
        assert_true(tell(ID_OF(2), RLP_SECOND / 10));
        assert_true(rlp_clock_monotonic() - begin < 20 * RLP_SECOND);
    } while (redis_hosts_living(&hosts) == 2);
    assert_int_equal(redis_hosts_living(&hosts), 1);
}

/* Of all processes one tells, every other second. */
static void test_due(void **state)
{
    const redis_hosts_settings_t settings = settings_of(ID_OF(1), REDIS_HOSTS_TTL);

    (void)state;
    fresh();
    for (int i = 0; i < 41; i++) {
        assert_int_equal(redis_hosts_tell(&hosts, &settings, RLP_SECOND + i * RLP_SECOND / 10),
                         i % 20 == 0);
    }
    assert_true(redis_hosts_tell(&hosts, &settings, 0)); /* after a boot */
}

static void test_damaged(void **state)
{
    (void)state;
    fresh();
    freeReplyObject(redis_server_ask("SET t:rlp:hosts garbage"));
    assert_true(tell(ID_OF(1), REDIS_HOSTS_TTL));
    assert_int_equal(redis_hosts_living(&hosts), 1);
    freeReplyObject(
        redis_server_ask("SET t:rlp:hosts %b", "0123456789abcdef0123456789abcdef", (size_t)32));
    assert_true(tell(ID_OF(1), REDIS_HOSTS_TTL));
    assert_int_equal(redis_hosts_living(&hosts), 1);
    freeReplyObject(redis_server_ask("DEL t:rlp:hosts"));
    freeReplyObject(redis_server_ask("LPUSH t:rlp:hosts x"));
    assert_true(tell(ID_OF(1), REDIS_HOSTS_TTL));
    assert_int_equal(redis_hosts_living(&hosts), 1);
}

static void add_with_server(void)
{
    endpoint = redis_server_endpoint(redis_server_path(), redis_store_script(unit_pool()),
                                     20 * RLP_SECOND);
    unit_add("hosts that live are counted", test_living, NULL);
    unit_add("hosts that are gone are not", test_gone, NULL);
    unit_add("one process of a host tells", test_due, NULL);
    unit_add("a damaged list of hosts", test_damaged, NULL);
}

int main(void)
{
    if (redis_server_start("with a server")) {
        add_with_server();
    }
    return unit_run();
}
