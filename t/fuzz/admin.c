/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What people send to ratelimit-admin, a line for each request: whatever it is, the answer is one
 * value of JSON without markup, and no counter that it tells of has more than its limit.
 */

#include "admin.h"
#include "fuzz.h"
#include "httpd.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

const char fuzz_name[] = "admin";

#define LINES_MAX 20

static const char admin_conf[] =
    "RateLimitEngine On\n"
    "RateLimitPlan slow rate=1/s\n"
    "RateLimitPlan free rate=10/min burst=20 quota=100/day then=slow\n"
    "RateLimitPlan pro rate=100/min concurrent=5 rate=7/10s algorithm=sliding-log\n"
    "RateLimitPlanDefault free\n"
    "RateLimitIdentity apikey=header:X-API-Key user vhost+ip/24,56\n"
    "RateLimitRule api method=GET path=/api/** priority=1\n"
    "RateLimitRule all cost=0.5 key=ip rate=5/h algorithm=fixed-window\n"
    "RateLimitRule dry mode=log plan=pro\n"
    "RateLimitExempt ip 10.0.0.0/8\n"
    "RateLimitHeaders Both\n"
    "<VirtualHost b>\n"
    "RateLimitRule api rate=3/s action=delay:2s\n"
    "</VirtualHost>\n";

static int64_t admin_whole(const json_t *value)
{
    return value != NULL && value->kind == JSON_NUMBER ? strtoll(value->text, NULL, 10) : -1;
}

/* The limits of an answer, and those of each of its rules. */
static void admin_try_limits(const json_t *answer)
{
    const json_t *limits = json_member(answer, "limits");

    for (int i = 0; limits != NULL && limits->kind == JSON_ARRAY && i < limits->items->nelts; i++) {
        const json_t *limit = &APR_ARRAY_IDX(limits->items, i, const json_t);
        const int64_t quota = admin_whole(json_member(limit, "quota"));
        const int64_t remaining = admin_whole(json_member(limit, "remaining"));

        fuzz_expect(remaining >= 0 && remaining <= quota, "no more is left than the limit has");
        fuzz_expect(admin_whole(json_member(limit, "used")) <= quota, "and no more is used");
    }
}

static void admin_try_answer(const request_rec *r, apr_pool_t *pool)
{
    const json_t *answer = NULL;
    apr_size_t len = 0;
    const char *text = httpd_written(&len);

    fuzz_expect(len > 0 && json_parse(&answer, text, len, pool) == NULL &&
                    answer->kind == JSON_OBJECT,
                "an answer is an object");
    fuzz_expect(memchr(text, '<', len) == NULL, "there is no markup in it");
    fuzz_expect((r->status == HTTP_OK) == (json_member(answer, "detail") == NULL),
                "what is refused has its reason");
    const json_t *rules = json_member(answer, "rules");

    admin_try_limits(answer);
    for (int i = 0; rules != NULL && rules->kind == JSON_ARRAY && i < rules->items->nelts; i++) {
        admin_try_limits(&APR_ARRAY_IDX(rules->items, i, const json_t));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    const char *line = (const char *)data;
    httpd_conf_t conf;

    httpd_read(&conf, admin_conf, pool);
    fuzz_expect(conf.error == NULL && rule_check_all(conf.main, pool),
                "the configuration is sound");
    httpd_open(&conf, pool);
    for (int i = 0; size > 0 && i < LINES_MAX; i++) {
        const char *end = memchr(line, '\n', size);
        const size_t len = end != NULL ? (size_t)(end - line) : size;
        request_rec *r = httpd_post(&conf, line, len, pool);

        fuzz_expect(admin_handler(r) == OK, "every request has its answer");
        admin_try_answer(r, pool);
        line += len + (end != NULL);
        size -= len + (end != NULL);
    }
    return 0;
}
