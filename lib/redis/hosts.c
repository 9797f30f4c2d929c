/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/hosts.h"

#include "rlp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS_KEY "rlp:hosts"

/* The value: for each host 8 bytes of its name and a double, the millisecond at which it is thought
   to be gone. What is no such value is overwritten. */
static const char hosts_script[] =
    "local time = redis.call('TIME')\n"
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
    "local id, ttl = ARGV[1], tonumber(ARGV[2])\n"
    "local value = redis.pcall('GET', KEYS[1])\n"
    "local list = { id .. struct.pack('<d', now + ttl) }\n"
    "if type(value) == 'string' and #value % 16 == 0 then\n"
    "  for i = 1, #value, 16 do\n"
    "    local ends = struct.unpack('<d', value, i + 8)\n"
    "    if ends > now and ends <= now + ttl and string.sub(value, i, i + 7) ~= id "
    "and #list < 10000 then\n"
    "      list[#list + 1] = string.sub(value, i, i + 15)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "redis.call('SET', KEYS[1], table.concat(list), 'PX', ttl)\n"
    "return #list";

/* One process of the host does it. */
static bool hosts_claim(redis_hosts_t *hosts, rlp_time_t now)
{
    rlp_time_t due = __atomic_load_n(&hosts->due, __ATOMIC_RELAXED);

    /* a moment too far away is no time of this clock */
    return (now >= due || due - now > REDIS_HOSTS_EVERY) &&
           __atomic_compare_exchange_n(&hosts->due, &due, now + REDIS_HOSTS_EVERY, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool redis_hosts_tell(redis_hosts_t *hosts, const redis_hosts_settings_t *settings, rlp_time_t now)
{
    char ttl[24];
    const size_t prefix_len = strlen(settings->prefix);
    char *key = hosts_claim(hosts, now) ? malloc(prefix_len + sizeof(HOSTS_KEY)) : NULL;

    if (key == NULL) {
        return false;
    }
    memcpy(key, settings->prefix, prefix_len);
    memcpy(key + prefix_len, HOSTS_KEY, sizeof(HOSTS_KEY));
    const int ttl_len = snprintf(ttl, sizeof(ttl), "%lld", (long long)(settings->ttl / 1000));
    const char *argv[] = { "EVAL", hosts_script, "1", key, (const char *)settings->id, ttl };
    const size_t lens[] = { 4,
                            sizeof(hosts_script) - 1,
                            1,
                            prefix_len + sizeof(HOSTS_KEY) - 1,
                            REDIS_HOST_ID,
                            (size_t)ttl_len };
    redis_call_t call = {
        .key = key, .key_len = lens[3], .argc = 6, .argv = argv, .argv_len = lens
    };

    redis_endpoint_exchange(settings->endpoint, &call, 1,
                            rlp_clock_monotonic() + settings->timeout);
    const redisReply *reply = call.reply;
    const bool told = call.fault == REDIS_FAULT_NONE && reply != NULL &&
                      reply->type == REDIS_REPLY_INTEGER && reply->integer > 0;

    if (told) {
        __atomic_store_n(&hosts->living, (uint64_t)reply->integer, __ATOMIC_RELAXED);
    }
    freeReplyObject(call.reply);
    free(key);
    return told;
}

int64_t redis_hosts_living(const redis_hosts_t *hosts)
{
    const uint64_t living = __atomic_load_n(&hosts->living, __ATOMIC_RELAXED);

    return living > 0 && living <= INT64_MAX ? (int64_t)living : 1;
}
