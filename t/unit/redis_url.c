/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * URLs of Redis: what they mean, what is refused, and that no password is ever shown.
 */

#include "unit.h"

#include "redis/tls.h"
#include "redis/url.h"

#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET "s3cr3t"

static const struct {
    const char *url;
    const char *printed;
    const char *user;
    const char *password;
} right[] = {
    { "redis://localhost", "redis://localhost:6379/0", NULL, NULL },
    { "redis://localhost/", "redis://localhost:6379/0", NULL, NULL },
    { "redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3", NULL, NULL },
    { "redis://[::1]:7000/3", "redis://[::1]:7000/3", NULL, NULL },
    { "redis://:" SECRET "@h", "redis://h:6379/0", NULL, SECRET },
    { "redis://app:" SECRET "@h:1/65535", "redis://app@h:1/65535", "app", SECRET },
    { "redis://a%40b:p%2F%40%3a%25@h", "redis://a%40b@h:6379/0", "a@b", "p/@:%" },
    { "redis://app:a:b@h", "redis://app@h:6379/0", "app", "a:b" },
    { "unix:///run/redis.sock", "unix:///run/redis.sock?db=0", NULL, NULL },
    { "unix://app:" SECRET "@/run/a%40b?db=7", "unix://app@/run/a%40b?db=7", "app", SECRET },
    { "redis-sentinel://s1,s2:7,[::1]/main", "redis-sentinel://s1:26379,s2:7,[::1]:26379/main/0",
      NULL, NULL },
    { "redis-sentinel://:" SECRET "@s1/main.x/2", "redis-sentinel://s1:26379/main.x/2", NULL,
      SECRET },
    { "redis-cluster://h1,h2:7,h3", "redis-cluster://h1:6379,h2:7,h3:6379", NULL, NULL },
    { "redis-cluster://app:" SECRET "@h1/", "redis-cluster://app@h1:6379", "app", SECRET },
};

static void test_right(void **state)
{
    redis_url_t url;

    (void)state;
    for (size_t i = 0; i < UNIT_N(right); i++) {
        const char *error = redis_url_parse(&url, right[i].url, NULL, unit_pool());

        assert_null(error);
        assert_string_equal(redis_url_print(&url, unit_pool()), right[i].printed);
        assert_string_equal(url.login.user == NULL ? "" : url.login.user,
                            right[i].user == NULL ? "" : right[i].user);
        assert_string_equal(url.login.password == NULL ? "" : url.login.password,
                            right[i].password == NULL ? "" : right[i].password);
    }
}

static const struct {
    const char *url;
    const char *expected; /* a part of the message */
} wrong[] = {
    { "", "redis://, rediss://" },
    { "localhost", "redis://, rediss://" },
    { "REDIS://h", "redis://, rediss://" },
    { "http://:" SECRET "@h", "redis://, rediss://" },
    { "redis://", "host name" },
    { "redis:///0", "host name" },
    { "redis://:" SECRET "@", "host name" },
    { "redis://:" SECRET "@ho st", "host name" },
    { "redis://::1", "host name" },
    { "redis://[::1", "host name" },
    { "redis://[::1]x", "host name" },
    { "redis://[]", "host name" },
    { "redis://h:", "port" },
    { "redis://h:0", "port" },
    { "redis://h:65536", "port" },
    { "redis://h:+1", "port" },
    { "redis://user:" SECRET, "port" },
    { "redis://h1,h2", "one host" },
    { "redis://h/x", "database" },
    { "redis://h/-1", "database" },
    { "redis://h/65536", "database" },
    { "redis://h/1/2", "database" },
    { "redis://h/ 1", "database" },
    { "redis://@h", "before \"@\"" },
    { "redis://:@h", "before \"@\"" },
    { "redis://app:@h", "before \"@\"" },
    { "redis://app@h", "password for the user" },
    { "redis://:" SECRET "%@h", "hexadecimal" },
    { "redis://:" SECRET "%4@h", "hexadecimal" },
    { "redis://:" SECRET "%00@h", "hexadecimal" },
    { "redis://:" SECRET "@" SECRET "@h", "%40" },
    { "redis://:" SECRET "/" SECRET "@h", "%2F" },
    { "unix:/run/redis.sock", "redis://, rediss://" },
    { "unix://run/redis.sock", "three slashes" },
    { "unix:///", "unix:///PATH" },
    { "unix:///run/x?port=1", "db=" },
    { "unix:///run/x?db=", "db=" },
    { "unix:///run/x?db=x", "database" },
    { "unix:///run/%00", "unix:///PATH" },
    { "unix:////0123456789012345678901234567890123456789012345678901234567890123456789012345678901"
      "23456789012345678901234567890",
      "107 bytes" },
    { "redis-sentinel://s1,s2", "name of the master" },
    { "redis-sentinel://s1,s2/", "name of the master" },
    { "redis-sentinel://s1,/main", "host name" },
    { "redis-sentinel://s1/ma in", "name of the master" },
    { "redis-sentinel://s1/main/x", "database" },
    { "redis-cluster://h1/1", "cluster has one" },
    { "redis-cluster://h1/0", "cluster has one" },
    { "redis-cluster://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "16 hosts" },
};

static void test_wrong(void **state)
{
    redis_url_t url;

    (void)state;
    for (size_t i = 0; i < UNIT_N(wrong); i++) {
        const char *error = redis_url_parse(&url, wrong[i].url, NULL, unit_pool());

        if (error == NULL || strstr(error, wrong[i].expected) == NULL) {
            fail_msg("%s: %s", wrong[i].url, error == NULL ? "accepted" : error);
        }
        assert_ptr_equal(strstr(error, "expected "), error);
        assert_null(strstr(error, SECRET));
    }
}

static void test_tls(void **state)
{
    redis_url_t url;
    const char *error = redis_url_parse(&url, "rediss://:" SECRET "@h", NULL, unit_pool());

    (void)state;
    if (redis_tls_missing() != NULL) {
        assert_string_equal(error, redis_tls_missing());
        assert_null(strstr(error, SECRET));
        return;
    }
    assert_null(error);
    assert_true(url.tls);
    assert_string_equal(redis_url_print(&url, unit_pool()), "rediss://h:6379/0");
    assert_null(redis_url_parse(&url, "rediss-sentinel://a,b/main", NULL, unit_pool()));
    assert_true(url.tls && url.kind == REDIS_SENTINEL);
    assert_string_equal(redis_url_print(&url, unit_pool()),
                        "rediss-sentinel://a:26379,b:26379/main/0");
    assert_null(redis_url_parse(&url, "rediss-cluster://a,b", NULL, unit_pool()));
    assert_true(url.tls && url.kind == REDIS_CLUSTER);
    assert_string_equal(redis_url_print(&url, unit_pool()), "rediss-cluster://a:6379,b:6379");
}

/* A file of the test's own with this text. */
static const char *secret_file(const char *text)
{
    char *path = apr_pstrdup(unit_pool(), "redis_url.XXXXXX");
    const int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static const char *parse_with_file(redis_url_t *url, const char *text, const char *content)
{
    const char *path = secret_file(content);
    const char *error =
        redis_url_parse(url, text, apr_pstrcat(unit_pool(), "file:", path, (char *)NULL),
                        unit_pool());

    unlink(path);
    return error;
}

static void test_secret(void **state)
{
    redis_url_t url;
    char large[1100];

    (void)state;
    assert_null(parse_with_file(&url, "redis://app@h", SECRET "\r\nsecond line\n"));
    assert_string_equal(url.login.password, SECRET);
    assert_non_null(strstr(parse_with_file(&url, "redis://h", ""), "1 to 1024 bytes"));
    assert_non_null(strstr(parse_with_file(&url, "redis://h", "\n" SECRET), "1 to 1024 bytes"));
    memset(large, 'x', sizeof(large));
    large[sizeof(large) - 1] = '\0';
    assert_non_null(strstr(parse_with_file(&url, "redis://h", large), "1 to 1024 bytes"));
    assert_non_null(strstr(parse_with_file(&url, "redis://:" SECRET "@h", "x"), "one password"));
    setenv("REDIS_URL_TEST", SECRET, 1);
    assert_null(redis_url_parse(&url, "redis://h", "env:REDIS_URL_TEST", unit_pool()));
    assert_string_equal(url.login.password, SECRET);
    unsetenv("REDIS_URL_TEST");
    assert_non_null(strstr(redis_url_parse(&url, "redis://h", "env:REDIS_URL_TEST", unit_pool()),
                           "REDIS_URL_TEST"));
    assert_non_null(strstr(redis_url_parse(&url, "redis://h", "file:missing", unit_pool()),
                           "can be read, got \"missing\""));
    assert_string_equal(redis_url_parse(&url, "redis://h", SECRET, unit_pool()),
                        "expected file:PATH or env:NAME");
}

int main(void)
{
    unit_add("what is accepted, and how it is shown", test_right, NULL);
    unit_add("what is refused, and that no password is shown", test_wrong, NULL);
    unit_add("TLS, where hiredis has it", test_tls, NULL);
    unit_add("password=file: and env:", test_secret, NULL);
    return unit_run();
}
