/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where Redis is: the first line says by not being empty that there is a password beside the URL,
 * which is the rest. What is refused shows no
 * password; what is read is the same when it is written and read again.
 */

#include "redis/url.h"
#include "fuzz.h"

#include <apr_strings.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char fuzz_name[] = "url";

static bool text_same(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool address_same(const redis_address_t *a, const redis_address_t *b)
{
    return text_same(a->host, b->host) && text_same(a->path, b->path) && a->port == b->port;
}

static void url_try_ranges(const redis_url_t *url)
{
    fuzz_expect(url->n >= 1 && url->n <= REDIS_HOSTS_MAX, "there is a server");
    fuzz_expect(url->db >= 0 && url->db <= REDIS_DB_MAX, "a database has a number");
    fuzz_expect((url->master != NULL) == (url->kind == REDIS_SENTINEL), "Sentinels know a master");
    for (int i = 0; i < url->n; i++) {
        const redis_address_t *address = &url->addresses[i];

        fuzz_expect((address->host == NULL) != (address->path == NULL), "a server has one place");
        fuzz_expect(address->path != NULL || (address->port > 0 && *address->host != '\0'),
                    "a host has a name and a port");
    }
}

static const char source[] = "env:RLP_FUZZ_SECRET";

static void url_try_again(const redis_url_t *url, apr_pool_t *pool)
{
    const char *printed = redis_url_print(url, pool);
    redis_url_t again;

    setenv("RLP_FUZZ_SECRET", url->login.password ? url->login.password : "none", 1);
    fuzz_expect(redis_url_parse(&again, printed, url->login.password ? source : NULL, pool) == NULL,
                "what is written can be read");
    fuzz_expect(again.kind == url->kind && again.tls == url->tls && again.n == url->n &&
                    again.db == url->db && text_same(again.master, url->master) &&
                    text_same(again.login.user, url->login.user) &&
                    text_same(again.login.password, url->login.password),
                "and is the same");
    for (int i = 0; i < url->n; i++) {
        fuzz_expect(address_same(&again.addresses[i], &url->addresses[i]), "on the same servers");
    }
    fuzz_expect(strcmp(redis_url_print(&again, pool), printed) == 0, "and is written so again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    apr_pool_t *pool = fuzz_pool();
    char *password = apr_pstrmemdup(pool, (const char *)data, size);
    char *text = strchr(password, '\n');
    redis_url_t url;

    if (text == NULL) {
        return 0;
    }
    *text++ = '\0';
    setenv("RLP_FUZZ_SECRET", "S3cret", 1);
    const char *error = redis_url_parse(&url, text, *password ? source : NULL, pool);

    if (error != NULL) {
        fuzz_expect(strstr(error, "expected ") != NULL, "a refusal says what was expected");
        fuzz_expect(strstr(error, "S3cret") == NULL, "and shows no password");
        return 0;
    }
    url_try_ranges(&url);
    redis_url_t open = url;

    open.login.password = NULL;
    fuzz_expect(strcmp(redis_url_print(&url, pool), redis_url_print(&open, pool)) == 0,
                "no password is shown");
    url_try_again(&url, pool);
    return 0;
}
