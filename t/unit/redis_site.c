/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis_site.h"

#include <apr_strings.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

static void site_report(void *baton, const char *server, redis_change_t change, const char *why)
{
    site_t *site = baton;

    (void)server;
    (void)why;
    atomic_fetch_add(&site->opened, change.from == REDIS_CLOSED);
    atomic_fetch_add(&site->closed, change.to == REDIS_CLOSED);
}

site_t *site_open(const char *text)
{
    site_t *site = apr_pcalloc(unit_pool(), sizeof(*site));
    const redis_settings_t settings = {
        .session.connect = ANSWERED,
        .breaker = { .threshold = 3,
                     .recovery = RECOVERY,
                     .longest = RLP_SECOND,
                     .probe = RLP_SECOND },
        .report = site_report,
        .baton = site,
    };
    redis_url_t url;

    site->timeout = ANSWERED;
    assert_null(redis_url_parse(&url, text, NULL, unit_pool()));
    assert_int_equal(redis_endpoint_create(&site->endpoint, &url, &settings, site->breakers, 16,
                                           unit_pool()),
                     APR_SUCCESS);
    return site;
}

redis_fault_t site_ask(const site_t *site, const char *command, char got[64])
{
    static const char script[] = "return redis.call('SET', KEYS[1], ARGV[1])";
    char text[256], *next;
    const char *argv[8];
    size_t len[8];
    redis_call_t call = { .argv = argv, .argv_len = len };
    const int64_t begun = peer_ms();

    apr_cpystrn(text, command, sizeof(text));
    for (char *word = strtok_r(text, " ", &next); word != NULL; word = strtok_r(NULL, " ", &next)) {
        argv[call.argc] = word;
        len[call.argc++] = strlen(word);
    }
    const bool scripted = strcmp(argv[0], "EVALSHA") == 0;

    call.key = call.argc > 1 ? argv[scripted ? 3 : 1] : NULL;
    call.key_len = call.key == NULL ? 0 : strlen(call.key);
    call.script = scripted ? script : NULL;
    call.script_len = sizeof(script) - 1;
    redis_endpoint_exchange(site->endpoint, &call, 1, rlp_clock_monotonic() + site->timeout);
    assert_in_range(peer_ms() - begun, 0, site->timeout / 1000 + SLACK);
    got[0] = '\0';
    if (call.reply != NULL) {
        snprintf(got, 64, "%.*s", call.reply->str == NULL ? 0 : 63,
                 call.reply->str == NULL ? "" : call.reply->str);
        if (call.reply->type == REDIS_REPLY_INTEGER) {
            snprintf(got, 64, "%lld", call.reply->integer);
        }
        freeReplyObject(call.reply);
    }
    return call.fault;
}

int site_await(const site_t *site, const char *command, char got[64])
{
    const int64_t begun = peer_ms();

    for (int asked = 1; peer_ms() - begun < PATIENCE; asked++) {
        redis_endpoint_maintain(site->endpoint);
        if (site_ask(site, command, got) == REDIS_FAULT_NONE) {
            return asked;
        }
        poll(NULL, 0, 10);
    }
    fail_msg("%s: never answered", command);
    return 0;
}
