/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis_ctl.h"

#include "redis/slot.h"
#include "rlp.h"

#include <apr_signal.h>
#include <apr_strings.h>
#include <apr_time.h>

#include <stdio.h>
#include <string.h>

#define REDIS_PATIENCE (5 * RLP_SECOND)
#define REDIS_NAP (RLP_SECOND / 50)

/* What went wrong last, of the servers there are. */
const char *redis_ctl_why(const redis_ctl_t *ctl, redis_fault_t fault, apr_pool_t *pool)
{
    redis_server_t *servers = apr_pcalloc(pool, sizeof(*servers) * REDIS_NODES_MAX);
    const int n = redis_endpoint_servers(ctl->endpoint, servers, REDIS_NODES_MAX);
    const char *why = redis_remedy(fault)->text;

    for (int i = 0; i < n; i++) {
        why = servers[i].why[0] != '\0' ? servers[i].why : why;
    }
    if (fault == REDIS_FAULT_ERROR && ctl->told[0] != '\0') {
        why = ctl->told;
    }
    return apr_pstrcat(pool, "Redis: ", why, NULL);
}

/* A store keeps to itself what its script was answered with. */
static void ctl_tell(void *baton, const char *server, const char *why)
{
    redis_ctl_t *ctl = baton;

    (void)server;
    apr_cpystrn(ctl->told, why, sizeof(ctl->told));
}

/* May it be better in a moment? */
static bool ctl_is_early(redis_fault_t fault)
{
    return fault == REDIS_FAULT_NAME || fault == REDIS_FAULT_MOVED || fault == REDIS_FAULT_ASK;
}

const char *redis_ctl_error(const redisReply *reply, apr_pool_t *pool)
{
    char why[REDIS_WHY_MAX];

    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) {
        return NULL;
    }
    redis_reply_why(reply, why);
    return apr_pstrcat(pool, "Redis: ", why, NULL);
}

void redis_ctl_free(redis_call_t calls[], int n)
{
    for (int i = 0; i < n; i++) {
        if (calls[i].reply != NULL) {
            freeReplyObject(calls[i].reply);
            calls[i].reply = NULL;
        }
    }
}

/* Asks those of the calls that have no answer yet. How many have none now, but may have one in a
   moment; *fault is what another one met. */
static int ctl_round(redis_ctl_t *ctl, redis_call_t calls[], int n, rlp_time_t deadline,
                     redis_fault_t *fault)
{
    redis_call_t asked[REDIS_CALLS_MAX];
    int places[REDIS_CALLS_MAX];
    int early = 0;
    int count = 0;

    for (int i = 0; i < n; i++) {
        if (calls[i].reply == NULL) {
            places[count] = i;
            asked[count++] = calls[i];
        }
    }
    redis_endpoint_exchange(ctl->endpoint, asked, count, deadline);
    for (int i = 0; i < count; i++) {
        redis_call_t *call = &calls[places[i]];
        const redis_fault_t met = asked[i].fault;
        const bool answers =
            asked[i].reply != NULL && (met == REDIS_FAULT_NONE || met == REDIS_FAULT_ERROR);

        if (answers) {
            call->reply = asked[i].reply;
            continue;
        }
        redis_ctl_free(&asked[i], 1);
        early += ctl_is_early(met);
        *fault = ctl_is_early(met) ? *fault : met;
    }
    return early;
}

const char *redis_ctl_ask(redis_ctl_t *ctl, redis_call_t calls[], int n, apr_pool_t *pool)
{
    const rlp_time_t deadline = rlp_clock_monotonic() + REDIS_PATIENCE;
    redis_fault_t fault = REDIS_FAULT_NONE;
    int early = n;

    while (early > 0 && fault == REDIS_FAULT_NONE) {
        redis_endpoint_maintain(ctl->endpoint);
        early = ctl_round(ctl, calls, n, deadline, &fault);
        if (early > 0 && rlp_clock_monotonic() >= deadline) {
            fault = REDIS_FAULT_NAME;
        } else if (early > 0) {
            apr_sleep(REDIS_NAP); /* where the servers are is asked for once a second */
        }
    }
    return fault == REDIS_FAULT_NONE ? NULL : redis_ctl_why(ctl, fault, pool);
}

const char *redis_ctl_ask_key(redis_ctl_t *ctl, redisReply **reply, const char *command,
                              const script_key_t *key, apr_pool_t *pool)
{
    const char *argv[] = { command, key->bytes };
    const size_t lens[] = { strlen(command), key->len };
    redis_call_t call = {
        .key = key->bytes, .key_len = key->len, .argc = 2, .argv = argv, .argv_len = lens
    };
    const char *error = redis_ctl_ask(ctl, &call, 1, pool);

    *reply = call.reply;
    return error ? error : redis_ctl_error(call.reply, pool);
}

script_key_t redis_ctl_key(const redis_ctl_t *ctl, const rlp_charge_t *charge, apr_pool_t *pool)
{
    script_key_t key;

    *redis_key_make(&key, apr_palloc(pool, redis_key_room(ctl->prefix, charge) + 1), ctl->prefix,
                    charge) = '\0';
    return key;
}

/* A password is no argument; a user of the URL has one all the same. */
static const char *ctl_login_odd(const redis_login_t *login, const option_place_t *place)
{
    if (login->password != NULL) {
        return "expected no password in the URL, which others can see, but --password=file:PATH or "
               "--password=env:NAME";
    }
    return login->user != NULL && place->password == NULL
               ? "expected --password=file:PATH or --password=env:NAME with the user of the URL"
               : NULL;
}

/* The URL, and how its servers are spoken to. */
static const char *ctl_read(redis_url_t *url, redis_tls_t **tls, const option_place_t *place,
                            apr_pool_t *pool)
{
    const redis_tls_settings_t secure = {
        .ca = place->tls_ca, .cert = place->tls_cert, .key = place->tls_key, .name = place->tls_name
    };

    /* a user without a password is an error here, and none with the password of its own option */
    (void)redis_url_parse(url, place->url, NULL, pool);
    const char *error = ctl_login_odd(&url->login, place);

    error = error ? error : redis_url_parse(url, place->url, place->password, pool);
    if (error == NULL && url->tls) {
        (void)apr_signal(SIGPIPE, SIG_IGN); /* OpenSSL writes as it is */
        error = redis_tls_create(tls, &secure, pool);
    } else if (error == NULL && option_has_tls(place)) {
        error = "expected --tls-...= with --store=rediss://, --store=rediss-sentinel:// or "
                "--store=rediss-cluster:// only";
    }
    return error;
}

static const char *ctl_connect(redis_ctl_t *ctl, const option_place_t *place, apr_pool_t *pool)
{
    redis_settings_t settings = { .session = { .connect = REDIS_PATIENCE },
                                  .breaker = { .threshold = 1000,
                                               .recovery = RLP_SECOND,
                                               .longest = RLP_SECOND,
                                               .probe = RLP_SECOND },
                                  .error = ctl_tell,
                                  .baton = ctl };
    redis_url_t url = { .n = 0 };
    redis_tls_t *tls = NULL;
    const char *error = ctl_read(&url, &tls, place, pool);

    settings.session.tls = tls;
    if (error == NULL && redis_endpoint_create(&ctl->endpoint, &url, &settings, &ctl->breaker, 1,
                                               pool) != APR_SUCCESS) {
        error = "out of memory";
    }
    ctl->cluster = url.kind == REDIS_CLUSTER;
    return error;
}

const char *redis_ctl_open(redis_ctl_t **made, const option_place_t *place, apr_pool_t *pool)
{
    redis_ctl_t *ctl = apr_pcalloc(pool, sizeof(*ctl));
    const char *error = ctl_connect(ctl, place, pool);

    *made = ctl;
    ctl->prefix = place->prefix ? place->prefix : "";
    return error;
}

/* The store there, by the server's clock or by the question's. */
void redis_ctl_make_store(redis_ctl_t *ctl, bool told_time, apr_pool_t *pool)
{
    const redis_store_settings_t settings = { .endpoint = ctl->endpoint,
                                              .prefix = ctl->prefix,
                                              .timeout = REDIS_PATIENCE,
                                              .owners = &ctl->owners,
                                              .secret = ctl->secret,
                                              .told_time = told_time };

    ctl->store = redis_store_create(&settings, pool);
}

/* --- all keys */

/* Some text that lies in a slot. */
static script_key_t masters_key(int slot, apr_pool_t *pool)
{
    char text[24];
    int number = 0;

    do {
        apr_snprintf(text, sizeof(text), "%d", number++);
    } while (redis_slot(text, strlen(text)) != slot);
    return (script_key_t){ .bytes = apr_pstrdup(pool, text), .len = strlen(text) };
}

/* "HOST:PORT" of the master of one range of CLUSTER SLOTS, and the first slot. NULL: it is no such
   range. */
static const char *masters_name(const redisReply *range, int *slot, apr_pool_t *pool)
{
    const redisReply *master =
        range->type == REDIS_REPLY_ARRAY && range->elements >= 3 ? range->element[2] : NULL;

    if (master == NULL || range->element[0]->type != REDIS_REPLY_INTEGER ||
        range->element[0]->integer < 0 || range->element[0]->integer >= REDIS_SLOTS ||
        master->type != REDIS_REPLY_ARRAY || master->elements < 2 ||
        master->element[1]->type != REDIS_REPLY_INTEGER) {
        return NULL;
    }
    const redisReply *host = master->element[0];

    *slot = (int)range->element[0]->integer;
    return apr_psprintf(pool, "%s:%d",
                        host->type == REDIS_REPLY_STRING && host->str != NULL ? host->str : "",
                        (int)master->element[1]->integer);
}

/* Takes note of one range. */
static const char *masters_take(redis_masters_t *masters, const char *names[],
                                const redisReply *range, apr_pool_t *pool)
{
    int slot = 0;
    int i = 0;
    const char *name = masters_name(range, &slot, pool);

    if (name == NULL) {
        return "Redis: expected CLUSTER SLOTS to tell ranges";
    }
    while (i < masters->n && strcmp(names[i], name) != 0) {
        i++;
    }
    if (i == REDIS_NODES_MAX) {
        return "Redis: expected no more than 128 masters";
    }
    if (i == masters->n) {
        names[masters->n] = name;
        masters->keys[masters->n++] = masters_key(slot, pool);
    }
    masters->text = apr_psprintf(pool, "%s%d %s\n", masters->text, slot, name);
    return NULL;
}

const char *redis_ctl_masters(redis_ctl_t *ctl, redis_masters_t *masters, apr_pool_t *pool)
{
    const char *argv[] = { "CLUSTER", "SLOTS" };
    const size_t lens[] = { 7, 5 };
    const char **names = apr_pcalloc(pool, sizeof(*names) * REDIS_NODES_MAX);
    redis_call_t call = { .argc = 2, .argv = argv, .argv_len = lens };

    *masters = (redis_masters_t){ .n = 1, .text = "" };
    if (!ctl->cluster) {
        return NULL;
    }
    masters->n = 0;
    const char *error = redis_ctl_ask(ctl, &call, 1, pool);

    error = error ? error : redis_ctl_error(call.reply, pool);
    if (error == NULL && (call.reply == NULL || call.reply->type != REDIS_REPLY_ARRAY)) {
        error = "Redis: expected CLUSTER SLOTS to tell ranges";
    }
    for (size_t i = 0; error == NULL && i < call.reply->elements; i++) {
        error = masters_take(masters, names, call.reply->element[i], pool);
    }
    redis_ctl_free(&call, 1);
    return error;
}

const char *redis_ctl_pattern(const char *prefix, const char *text, apr_pool_t *pool)
{
    const char *plain = apr_pstrcat(pool, prefix, text, NULL);
    char *pattern = apr_palloc(pool, 2 * strlen(plain) + 2);
    char *to = pattern;

    for (; *plain != '\0'; plain++) {
        if (strchr("*?[]\\^-", *plain) != NULL) {
            *to++ = '\\';
        }
        *to++ = *plain;
    }
    *to++ = '*';
    *to = '\0';
    return pattern;
}

/* A scan of one server. */
typedef struct {
    redis_ctl_t *ctl;
    const char *pattern;
    redis_keys_fn *take;
    void *baton;
    const script_key_t *home;
    char cursor[24];
} scan_t;

#define SCAN_COUNT "200" /* keys that are looked at in one step */

/* The keys of one answer. */
static const char *scan_take(scan_t *scan, const redisReply *reply, apr_pool_t *pool)
{
    const redisReply *cursor =
        reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2
            ? reply->element[0]
            : NULL;
    const redisReply *list = cursor != NULL ? reply->element[1] : NULL;

    if (list == NULL || cursor->type != REDIS_REPLY_STRING || list->type != REDIS_REPLY_ARRAY) {
        return "Redis: expected a cursor and keys of SCAN";
    }
    script_key_t *keys = apr_palloc(pool, sizeof(*keys) * (list->elements + 1));
    int n = 0;

    apr_cpystrn(scan->cursor, cursor->str, sizeof(scan->cursor));
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *key = list->element[i];

        if (key->type == REDIS_REPLY_STRING) {
            keys[n++] = (script_key_t){ .bytes = key->str, .len = (size_t)key->len };
        }
    }
    return n > 0 ? scan->take(scan->baton, keys, n, pool) : NULL;
}

/* One step; the cursor is 0 after the last one. */
static const char *scan_step(scan_t *scan, apr_pool_t *pool)
{
    const char *argv[] = { "SCAN", scan->cursor, "MATCH", scan->pattern, "COUNT", SCAN_COUNT };
    const size_t lens[] = {
        4, strlen(scan->cursor), 5, strlen(scan->pattern), 5, strlen(SCAN_COUNT)
    };
    redis_call_t call = { .key = scan->home->bytes,
                          .key_len = scan->home->len,
                          .argc = 6,
                          .argv = argv,
                          .argv_len = lens };
    const char *error = redis_ctl_ask(scan->ctl, &call, 1, pool);

    error = error ? error : redis_ctl_error(call.reply, pool);
    error = error ? error : scan_take(scan, call.reply, pool);
    redis_ctl_free(&call, 1);
    return error;
}

/* All of one server. What goes wrong is told from the caller's pool. */
static const char *scan_server(scan_t *scan, apr_pool_t *pool)
{
    const char *error = NULL;
    apr_pool_t *step;

    apr_pool_create(&step, pool);
    strcpy(scan->cursor, "0");
    do {
        apr_pool_clear(step);
        error = scan_step(scan, step);
    } while (error == NULL && strcmp(scan->cursor, "0") != 0);
    error = error ? apr_pstrdup(pool, error) : NULL;
    apr_pool_destroy(step);
    return error;
}

const char *redis_ctl_scan(redis_ctl_t *ctl, const char *pattern, redis_keys_fn *take, void *baton,
                           apr_pool_t *pool)
{
    scan_t scan = { .ctl = ctl, .pattern = pattern, .take = take, .baton = baton };
    redis_masters_t *before = apr_pcalloc(pool, sizeof(*before));
    redis_masters_t *after = apr_pcalloc(pool, sizeof(*after));
    const char *error = redis_ctl_masters(ctl, before, pool);

    for (int i = 0; error == NULL && i < before->n; i++) {
        scan.home = &before->keys[i];
        error = scan_server(&scan, pool);
    }
    error = error ? error : redis_ctl_masters(ctl, after, pool);
    if (error == NULL && strcmp(before->text, after->text) != 0) {
        error = "Redis: slots have moved meanwhile: try again";
    }
    return error;
}
