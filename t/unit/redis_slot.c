/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Slots of Redis Cluster, against its specification and what redis-server 7.0 answers to CLUSTER
 * KEYSLOT; and the faults told from error replies.
 */

#include "unit.h"

#include "redis/fault.h"
#include "redis/slot.h"

#include <string.h>

static const struct {
    const char *key;
    int slot;
} slots[] = {
    { "123456789", 0x31c3 },
    { "", 0 },
    { "foo", 12182 },
    { "bar", 5061 },
    { "{user1000}.following", 3443 },
    { "{user1000}.followers", 3443 },
    { "user1000", 3443 },
    { "foo{}{bar}", 8363 },
    { "foo{{bar}}zap", 4015 },
    { "foo{bar}{zap}", 5061 },
    { "rlp:{user:42}:api", 15880 },
    { "foo{bar", 15278 },
};

static void test_slots(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(slots); i++) {
        assert_int_equal(redis_slot(slots[i].key, strlen(slots[i].key)), slots[i].slot);
    }
    assert_int_equal(redis_crc16("123456789", 9), 0x31c3);
    assert_int_equal(redis_slot("a\0b", 3), redis_crc16("a\0b", 3) % REDIS_SLOTS);
    assert_int_not_equal(redis_slot("a\0b", 3), redis_slot("a", 1));
}

static const struct {
    const char *text;
    redis_fault_t fault;
    bool closes;
    bool counts;
} replies[] = {
    { "NOSCRIPT No matching script.", REDIS_FAULT_NOSCRIPT, false, false },
    { "MOVED 3999 127.0.0.1:6381", REDIS_FAULT_MOVED, false, false },
    { "ASK 3999 127.0.0.1:6381", REDIS_FAULT_ASK, false, false },
    { "TRYAGAIN Multiple keys request", REDIS_FAULT_APART, false, false },
    { "CLUSTERDOWN Hash slot not served", REDIS_FAULT_UNSERVED, false, false },
    { "CLUSTERDOWN The cluster is down", REDIS_FAULT_AWAY, false, true },
    { "MASTERDOWN Link with MASTER is down", REDIS_FAULT_AWAY, false, true },
    { "LOADING Redis is loading the dataset", REDIS_FAULT_AWAY, false, true },
    { "BUSY Redis is busy running a script", REDIS_FAULT_AWAY, false, true },
    { "MISCONF Redis is configured to", REDIS_FAULT_AWAY, false, true },
    { "NOREPLICAS Not enough good replicas", REDIS_FAULT_AWAY, false, true },
    { "READONLY You can't write", REDIS_FAULT_READONLY, true, true },
    { "OOM command not allowed", REDIS_FAULT_MEMORY, false, false },
    { "NOAUTH Authentication required.", REDIS_FAULT_DENIED, true, true },
    { "WRONGPASS invalid username-password", REDIS_FAULT_DENIED, true, true },
    { "NOPERM this user has no permissions", REDIS_FAULT_DENIED, true, true },
    { "NOPROTO unsupported protocol version", REDIS_FAULT_DENIED, true, true },
    { "ERR max number of clients reached", REDIS_FAULT_CROWDED, true, true },
    { "ERR AUTH <password> called without any password configured", REDIS_FAULT_DENIED, true,
      true },
    { "ERR The user executing the script can't run this command or subcommand script: 0123",
      REDIS_FAULT_DENIED, true, true },
    { "ERR ACL failure in script: User h has no permissions to run the 'time' command",
      REDIS_FAULT_DENIED, true, true },
    { "ERR DB index is out of range", REDIS_FAULT_DENIED, true, true },
    { "ERR unknown command", REDIS_FAULT_ERROR, false, false },
    { "WRONGTYPE Operation against a key", REDIS_FAULT_ERROR, false, false },
    { "ERR Error running script (call to f_0123): @user_script:1: @user_script: 1: -OOM command",
      REDIS_FAULT_MEMORY, false, false },
    { "ERR Error running script (call to f_0123): @user_script:1: -READONLY You can't write",
      REDIS_FAULT_READONLY, true, true },
    { "ERR Error running script (call to f_0123): user_script:1: attempt to index",
      REDIS_FAULT_ERROR, false, false },
    { "ERR Error running script: -", REDIS_FAULT_ERROR, false, false },
    { "ERR value is: -OOM", REDIS_FAULT_ERROR, false, false },
    { "MOVEDX", REDIS_FAULT_ERROR, false, false },
    { "OOM", REDIS_FAULT_MEMORY, false, false },
    { "", REDIS_FAULT_ERROR, false, false },
};

static void test_replies(void **state)
{
    (void)state;
    for (size_t i = 0; i < UNIT_N(replies); i++) {
        const redis_fault_t fault = redis_fault_of(replies[i].text, strlen(replies[i].text));

        assert_int_equal(fault, replies[i].fault);
        assert_int_equal(redis_remedy(fault)->closes, replies[i].closes);
        assert_int_equal(redis_remedy(fault)->counts, replies[i].counts);
        assert_int_not_equal(redis_remedy(fault)->status, APR_SUCCESS);
    }
    for (int fault = REDIS_FAULT_NONE; fault <= REDIS_FAULT_LOCAL; fault++) {
        assert_non_null(redis_remedy((redis_fault_t)fault)->text);
    }
}

int main(void)
{
    unit_add("slots are those of Redis Cluster", test_slots, NULL);
    unit_add("error replies by their first word", test_replies, NULL);
    return unit_run();
}
