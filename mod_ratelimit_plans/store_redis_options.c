/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The options of RateLimitStore NAME redis, and what configtest and dumps say of such a store.
 */

#include "store_redis.h"

#include "redis/store.h"

#include <http_config.h>

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

const char *const far_failures[] = { "local", "open", "closed", NULL };

const char far_options_usage[] =
    "url=URL [password=file:PATH|env:NAME] [sentinel-user=NAME] "
    "[sentinel-password=file:PATH|env:NAME] [secret=file:PATH|env:NAME] [prefix=TEXT] "
    "[tls-ca=FILE] [tls-cert=FILE] [tls-key=FILE] [tls-name=NAME] "
    "[timeout=DURATION] [connect=DURATION] [sync=exact|lease] [failure=local|open|closed] "
    "[failure-threshold=N] [recovery=DURATION] [hosts=N]";

static const char *far_failure(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    const int failure = config_word(value, far_failures);

    if (failure < 0) {
        return apr_psprintf(pool, "expected failure=local, open or closed, got \"failure=%s\"%s",
                            value, config_near_whole(value, far_failures, pool));
    }
    settings->failure = (failure_t)failure;
    return NULL;
}

/* Paths are relative to ServerRoot. */
static const char *far_source(const char *value, apr_pool_t *pool)
{
    const char *path = ap_cstr_casecmpn(value, "file:", 5) == 0 && value[5] != '\0'
                           ? ap_server_root_relative(pool, value + 5)
                           : NULL;

    return path ? apr_pstrcat(pool, "file:", path, NULL) : value;
}

static const char *far_secret(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    const char *error = redis_secret_read(&settings->secret, far_source(value, pool), pool);

    return error ? apr_pstrcat(pool, "secret=: ", error, NULL) : NULL;
}

static const char *far_url(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    (void)pool;
    settings->url_text = value;
    return NULL;
}

static const char *far_password(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->password = far_source(value, pool);
    return NULL;
}

static const char *far_sentinel_user(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->sentinels.user = value;
    (void)pool;
    return *value ? NULL : "expected sentinel-user=NAME, got none";
}

static const char *far_sentinel_password(far_settings_t *settings, const char *value,
                                         apr_pool_t *pool)
{
    const char *error =
        redis_secret_read(&settings->sentinels.password, far_source(value, pool), pool);

    return error ? apr_pstrcat(pool, "sentinel-password=: ", error, NULL) : NULL;
}

static const char *far_prefix(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    for (const char *at = value; *at != '\0'; at++) {
        if (!apr_isgraph(*at) || *at == '{' || *at == '}') {
            return apr_psprintf(pool,
                                "expected a prefix= of printable characters without braces, got "
                                "\"prefix=%s\"",
                                value);
        }
    }
    settings->prefix = value;
    return NULL;
}

static const char *far_tls_ca(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->secure.ca = ap_server_root_relative(pool, value);
    return NULL;
}

static const char *far_tls_cert(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->secure.cert = ap_server_root_relative(pool, value);
    return NULL;
}

static const char *far_tls_key(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->secure.key = ap_server_root_relative(pool, value);
    return NULL;
}

static const char *far_tls_name(far_settings_t *settings, const char *value, apr_pool_t *pool)
{
    settings->secure.name = value;
    return *value != '\0' ? NULL : apr_pstrdup(pool, "expected a host name after tls-name=");
}

/* What is a number: where it goes, and from where to where. */
typedef struct {
    const char *name;
    const char *(*set)(far_settings_t *settings, const char *value, apr_pool_t *pool);
    size_t number; /* offset of it, without set */
    bool span;     /* a duration */
    int64_t least;
    int64_t most;
    const char *range;
} far_option_t;

#define FAR_MS (RLP_SECOND / 1000)

static const far_option_t far_options[] = {
    { .name = "url=", .set = far_url },
    { .name = "password=", .set = far_password },
    { .name = "sentinel-user=", .set = far_sentinel_user },
    { .name = "sentinel-password=", .set = far_sentinel_password },
    { .name = "secret=", .set = far_secret },
    { .name = "prefix=", .set = far_prefix },
    { .name = "tls-ca=", .set = far_tls_ca },
    { .name = "tls-cert=", .set = far_tls_cert },
    { .name = "tls-key=", .set = far_tls_key },
    { .name = "tls-name=", .set = far_tls_name },
    { .name = "failure=", .set = far_failure },
    { .name = "sync=", .set = far_sync },
    { .name = "timeout=",
      .number = offsetof(far_settings_t, timeout),
      .span = true,
      .least = FAR_MS,
      .most = 10 * RLP_SECOND,
      .range = "timeout= from 1ms to 10s" },
    { .name = "connect=",
      .number = offsetof(far_settings_t, connect),
      .span = true,
      .least = FAR_MS,
      .most = 10 * RLP_SECOND,
      .range = "connect= from 1ms to 10s" },
    { .name = "recovery=",
      .number = offsetof(far_settings_t, recovery),
      .span = true,
      .least = 100 * FAR_MS,
      .most = 600 * RLP_SECOND,
      .range = "recovery= from 100ms to 10min" },
    { .name = "failure-threshold=",
      .number = offsetof(far_settings_t, threshold),
      .least = 1,
      .most = 1000,
      .range = "failure-threshold= from 1 to 1000" },
    { .name = "hosts=",
      .number = offsetof(far_settings_t, hosts),
      .least = 1,
      .most = 10000,
      .range = "hosts= from 1 to 10000" },
};

#define FAR_OPTIONS ((int)(sizeof(far_options) / sizeof(far_options[0])))

static const char *far_number(far_settings_t *settings, const far_option_t *option,
                              const char *value, apr_pool_t *pool)
{
    int64_t *number = (int64_t *)((char *)settings + option->number);
    char *end = NULL;
    const char *error = NULL;

    if (option->span) {
        error = rlp_duration_parse(number, value, pool);
    } else {
        *number = apr_strtoi64(value, &end, 10);
    }
    if (error != NULL || (end != NULL && (*end != '\0' || !apr_isdigit(*value))) ||
        *number < option->least || *number > option->most) {
        return apr_psprintf(pool, "expected %s, got \"%s%s\"", option->range, option->name, value);
    }
    return NULL;
}

/* What does not begin like an option is not repeated in full: it may be a secret. */
static const char *far_unknown(const char *word, apr_pool_t *pool)
{
    const char *names[FAR_OPTIONS + 1] = { NULL };
    const char *name = apr_pstrmemdup(pool, word, strcspn(word, "="));

    for (int i = 0; i < FAR_OPTIONS; i++) {
        names[i] = far_options[i].name;
    }
    return apr_psprintf(pool,
                        "expected url=, password=, sentinel-user=, sentinel-password=, secret=, "
                        "prefix=, tls-ca=, tls-cert=, tls-key=, tls-name=, timeout=, connect=, "
                        "sync=, failure=, "
                        "failure-threshold=, recovery= or hosts=, got \"%.32s\"%s",
                        strchr(name, ':') ? "..." : name, config_near(word, names, pool));
}

static const char *far_option(far_settings_t *settings, const char *word, apr_pool_t *pool)
{
    for (int i = 0; i < FAR_OPTIONS; i++) {
        const far_option_t *option = &far_options[i];
        const char *value = word + strlen(option->name);

        if (ap_cstr_casecmpn(word, option->name, strlen(option->name)) != 0) {
            continue;
        }
        if (settings->given >> i & 1) {
            return apr_psprintf(pool, "expected each option once, got \"%s\" again", option->name);
        }
        settings->given |= 1U << i;
        return option->set ? option->set(settings, value, pool)
                           : far_number(settings, option, value, pool);
    }
    return far_unknown(word, pool);
}

static const char *far_configure_url(far_settings_t *settings, apr_pool_t *pool)
{
    if (settings->url_text == NULL) {
        return "expected url=URL, got none";
    }
    const char *error =
        redis_url_parse(&settings->url, settings->url_text, settings->password, pool);

    if (error != NULL) {
        return error;
    }
    if (settings->url.kind != REDIS_SENTINEL &&
        (settings->sentinels.user != NULL || settings->sentinels.password != NULL)) {
        return "expected sentinel-user= and sentinel-password= with url=redis-sentinel:// or "
               "url=rediss-sentinel:// only";
    }
    if (settings->sentinels.user != NULL && settings->sentinels.password == NULL) {
        return "expected sentinel-password= with sentinel-user=, got none";
    }
    settings->url.sentinels = settings->sentinels;
    return NULL;
}

/* Certificates, read now: a child may not. */
static const char *far_configure_tls(far_settings_t *settings, apr_pool_t *pool)
{
    const redis_tls_settings_t *secure = &settings->secure;

    if (settings->url.tls) {
        return redis_tls_create(&settings->tls, secure, pool);
    }
    return secure->ca || secure->cert || secure->key || secure->name
               ? "expected tls-ca=, tls-cert=, tls-key= and tls-name= with url=rediss://, "
                 "url=rediss-sentinel:// or url=rediss-cluster:// only"
               : NULL;
}

const char *far_configure(void **made, const char *name, const char *const options[], int n,
                          apr_pool_t *pool)
{
    far_settings_t *settings = apr_pcalloc(pool, sizeof(*settings));
    const char *error = NULL;

    *settings = (far_settings_t){ .name = name,
                                  .prefix = "",
                                  .timeout = 30 * FAR_MS,
                                  .connect = 100 * FAR_MS,
                                  .recovery = 2 * RLP_SECOND,
                                  .threshold = 3 };
    *made = settings;
    for (int i = 0; i < n && error == NULL; i++) {
        error = far_option(settings, options[i], pool);
    }
    if (error == NULL) {
        error = far_configure_url(settings, pool);
    }
    settings->stands_in = settings->failure == FAR_LOCAL;
    if (error == NULL) {
        error = far_configure_tls(settings, pool);
    }
    if (error == NULL) {
        error = store_shm_provider.configure(&settings->local, name, NULL, 0, pool);
    }
    return error;
}

const char *store_redis_path(const void *made, apr_pool_t *pool)
{
    const far_settings_t *settings = made;

    return settings->stands_in ? store_shm_path(settings->local, pool) : NULL;
}

const char *far_limit(void *made, const rlp_limit_t *limit, rlp_time_t max_wait, apr_pool_t *pool)
{
    (void)made;
    return redis_store_limit_error(limit, max_wait, pool);
}

const char *far_digest(void *made)
{
    const far_settings_t *settings = made;

    return settings->secret ? NULL
                            : "expected secret=file:PATH or secret=env:NAME behind RateLimitStore, "
                              "the key of the digests that stand for its values in Redis, got none";
}

const char *far_terms(void *made, const rlp_terms_t *terms)
{
    far_settings_t *settings = made;

    settings->stands_in |= terms->failure == RLP_FAILURE_LOCAL;
    settings->leased |= terms->sync == RLP_SYNC_LEASE;
    return NULL;
}

const char *far_describe(void *made, apr_pool_t *pool)
{
    const far_settings_t *settings = made;
    const char *hosts = "";

    if (settings->failure == FAR_LOCAL && settings->hosts == 0) {
        hosts = ", one of the hosts that live";
    } else if (settings->failure == FAR_LOCAL && settings->hosts > 1) {
        hosts = apr_psprintf(pool, ", one of %" APR_INT64_T_FMT " hosts", settings->hosts);
    }

    return apr_psprintf(pool, "Redis at %s%s; failure=%s%s", redis_url_print(&settings->url, pool),
                        settings->leases ? "; sync=lease" : "", far_failures[settings->failure],
                        hosts);
}
