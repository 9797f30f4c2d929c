/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What the members of a request to ratelimit-admin say: whom, until when, which plan.
 */

#include "admin.h"
#include "instant.h"
#include "value.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define TARGET_VALUE_MAX 64 /* longer ones are counted by a digest (identity_find.c) */
#define TARGET_DIGEST 32
#define TARGET_YEARS (INT64_C(10) * 366 * 86400 * RLP_SECOND)

const char *admin_text(const admin_t *admin, const char *name, const char **error)
{
    const json_t *member = json_member(admin->ask, name);

    if (member == NULL || member->kind == JSON_STRING) {
        return member ? member->text : NULL;
    }
    *error = apr_psprintf(admin->r->pool, "expected a string as \"%s\"", name);
    return NULL;
}

/* --- whom */

static const identity_t *target_identity_of(const chain_t *chain, const char *text,
                                            size_t label_len)
{
    for (int i = 0; i < chain->n; i++) {
        const identity_t *identity = &chain->items[i];

        if (identity->label_len == label_len && memcmp(identity->label, text, label_len) == 0) {
            return identity;
        }
    }
    return NULL;
}

const identity_t *admin_identity(const char *text, size_t label_len)
{
    const identity_t *found = NULL;

    for (int i = 0; found == NULL && i < rlp_world->chains->nelts; i++) {
        found = target_identity_of(APR_ARRAY_IDX(rlp_world->chains, i, const chain_t *), text,
                                   label_len);
    }
    return found;
}

/* Adds those of a chain that are not in the list. */
static const char *target_labels_of(const char *list, const chain_t *chain, apr_hash_t *seen,
                                    apr_pool_t *pool)
{
    for (int i = 0; i < chain->n; i++) {
        const char *label = chain->items[i].label;

        if (apr_hash_get(seen, label, APR_HASH_KEY_STRING) == NULL) {
            apr_hash_set(seen, label, APR_HASH_KEY_STRING, label);
            list = apr_pstrcat(pool, list, *list ? ", " : "", label, NULL);
        }
    }
    return list;
}

/* "user:, ip:" and so on. */
static const char *target_labels(apr_pool_t *pool)
{
    apr_hash_t *seen = apr_hash_make(pool);
    const char *list = "";

    for (int i = 0; i < rlp_world->chains->nelts; i++) {
        list = target_labels_of(list, APR_ARRAY_IDX(rlp_world->chains, i, const chain_t *), seen,
                                pool);
    }
    return list;
}

/* The bytes of the plain sign or the escape that the text begins with; 0: it is neither. */
static size_t target_sign(const char *text)
{
    if (*text == '%') {
        return apr_isxdigit(text[1]) && apr_isxdigit(text[2]) ? 3 : 0;
    }
    return apr_isalnum(*text) || strchr("_.:@-#+", *text) != NULL ? 1 : 0;
}

/* As identities are written: no sign that has to be escaped, and no "%" without its digits. */
static bool target_is_escaped(const char *value)
{
    while (*value != '\0' && target_sign(value) > 0) {
        value += target_sign(value);
    }
    return *value == '\0';
}

/* What stands behind the escapes. */
static const char *target_unescape(const char *value, apr_pool_t *pool)
{
    char *text = apr_pstrdup(pool, value);
    char *to = text;

    for (const char *at = value; *at != '\0'; at++, to++) {
        *to = *at;
        if (*at == '%') {
            const char digits[] = { at[1], at[2], '\0' };

            *to = (char)apr_strtoi64(digits, NULL, 16);
            at += 2;
        }
    }
    *to = '\0';
    return text;
}

static const char *target_digest(const char *value, apr_pool_t *pool)
{
    char digest[TARGET_DIGEST + 1];

    rlp_store_digest(rlp_world->store, value, strlen(value), digest);
    return apr_pstrdup(pool, digest);
}

/* The value as it is counted, from one as people write it. NULL: it is none of that kind. */
static const char *target_address(const identity_part_t *part, const char *value, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, VALUE_ADDRESS_MAX + 1);
    const size_t len = value_address(text, target_unescape(value, pool), part->bits4, part->bits6);

    text[len] = '\0';
    return len ? text : NULL;
}

static const char *target_plain(admin_target_t *target, const char *value, apr_pool_t *pool)
{
    if (*value == '#' && target_is_escaped(value)) {
        return value; /* a digest of a long one */
    }
    const char *plain = target_is_escaped(value) ? target_unescape(value, pool) : value;

    target->values[0] = plain;
    if (strlen(plain) > TARGET_VALUE_MAX) {
        return apr_pstrcat(pool, "#", target_digest(plain, pool), NULL);
    }
    char *text = apr_palloc(pool, 3 * strlen(plain) + 1);

    text[value_escape(text, plain)] = '\0';
    return text;
}

/* All are one. */
static bool target_is_all(const identity_part_t *part)
{
    return part->type->source == SOURCE_GLOBAL || part->type->source == SOURCE_ANONYMOUS;
}

/* A value that a client chooses is counted by its digest. */
static const char *target_chosen(const char *value)
{
    return strlen(value) == TARGET_DIGEST && strspn(value, "0123456789abcdef") == TARGET_DIGEST
               ? value
               : NULL;
}

/* The value of an identity of one part. NULL: *error says what was expected. */
static const char *target_single(admin_target_t *target, const identity_t *identity,
                                 const char *value, const char **error, apr_pool_t *pool)
{
    const identity_part_t *part = &identity->parts[0];
    const char *text = NULL;

    if (part->type->source == SOURCE_IP) {
        target->values[0] = target_unescape(value, pool);
        text = target_address(part, value, pool);
        *error =
            text ? NULL : apr_psprintf(pool, "expected an address behind \"%s\"", identity->label);
    } else if (part->type->chosen) {
        text = target_chosen(value);
        *error = text ? NULL
                      : apr_psprintf(pool,
                                     "expected the digest of a value behind \"%s\", 32 "
                                     "digits as in the log; or \"identity\": \"%s\" and "
                                     "the value as \"secret\"",
                                     identity->label, part->name);
    } else if (target_is_all(part) && strcmp(value, identity_all) != 0) {
        *error = apr_psprintf(pool, "expected \"identity\": \"%s%s\", as which all are counted",
                              identity->label, identity_all);
    } else {
        text = target_plain(target, value, pool);
    }
    return text;
}

/* What a plan map knows a part by; NULL: a digest, or a network, does not tell. */
static const char *target_part(const identity_part_t *part, const char *value, apr_pool_t *pool)
{
    const bool network = part->type->source == SOURCE_IP &&
                         (strchr(value, ':') ? part->bits6 < 128 : part->bits4 < 32);

    return network || part->type->chosen || *value == '#' ? NULL : target_unescape(value, pool);
}

/* The values of an identity of several parts, none of which has a "+". False: they are not as
   many. */
static bool target_several(admin_target_t *target, const identity_t *identity, const char *value,
                           apr_pool_t *pool)
{
    char *rest = NULL;
    const char *part = apr_strtok(apr_pstrdup(pool, value), "+", &rest);
    int n = 0;

    for (; part != NULL && n < identity->n; part = apr_strtok(NULL, "+", &rest)) {
        target->values[n] = target_part(&identity->parts[n], part, pool);
        n++;
    }
    return part == NULL && n == identity->n;
}

/* "identity": "TYPE" and "secret": what its client sends. */
static const char *target_secret(admin_target_t *target, const char *type, const char *secret,
                                 apr_pool_t *pool)
{
    const char *label = apr_pstrcat(pool, type, ":", NULL);
    const identity_t *identity = admin_identity(label, strlen(label));

    if (identity == NULL || identity->n != 1 || !identity->parts[0].type->chosen || !*secret) {
        return apr_psprintf(pool,
                            "expected \"secret\" with \"identity\": \"TYPE\" alone, and a type "
                            "whose values clients choose");
    }
    target->identity = identity;
    target->values[0] = secret;
    target->text = apr_pstrcat(pool, label, target_digest(secret, pool), NULL);
    return NULL;
}

static const char *target_read(admin_target_t *target, const char *text, apr_pool_t *pool)
{
    const char *colon = strchr(text, ':');
    const size_t label_len = colon ? (size_t)(colon - text) + 1 : 0;
    const identity_t *identity = colon ? admin_identity(text, label_len) : NULL;
    const char *error = NULL;
    const char *value = NULL;

    if (identity == NULL || colon[1] == '\0') {
        return apr_psprintf(pool,
                            "expected \"identity\": TYPE:VALUE with a type that is counted (%s)",
                            target_labels(pool));
    }
    if (strstr(colon, "%00") != NULL) { /* what stands before it is somebody else */
        error = "expected an identity without %00, which no value has; a \"%\" is written %25";
    } else if (identity->n == 1) {
        value = target_single(target, identity, colon + 1, &error, pool);
    } else if (target_is_escaped(colon + 1) && target_several(target, identity, colon + 1, pool)) {
        value = colon + 1;
    } else {
        error = "expected an identity of several parts as it stands in RATELIMIT_IDENTITY";
    }
    target->identity = identity;
    target->text = value ? apr_pstrcat(pool, identity->label, value, NULL) : NULL;
    return value != NULL && strlen(target->text) > sizeof(((who_t *)NULL)->room)
               ? "expected an identity no longer than any that is counted"
               : error;
}

const char *admin_target(admin_target_t *target, admin_t *admin)
{
    apr_pool_t *pool = admin->r->pool;
    const server_conf_t *server = server_conf(admin->r->server);
    const char *error = NULL;
    const char *text = admin_text(admin, "identity", &error);
    const char *secret = admin_text(admin, "secret", &error);

    *target = (admin_target_t){ .text = NULL };
    if (error != NULL) {
        return error;
    }
    error = secret != NULL && text != NULL ? target_secret(target, text, secret, pool)
                                           : target_read(target, text ? text : "", pool);
    if (error == NULL) {
        target->shown = identity_logged(target->text, server->key_plain == 1, pool);
    }
    return error;
}

/* --- until when */

/* How long from now; 0 or below: it is past, or no moment. */
static rlp_time_t target_span(const char *span, const char *until, apr_pool_t *pool)
{
    rlp_time_t left = 0;

    if (span != NULL) {
        return rlp_duration_parse(&left, span, pool) == NULL ? left : 0;
    }
    left = instant_read(until);
    return left > 0 ? left - rlp_world->clock->wall() : 0;
}

const char *admin_moment(rlp_time_t *moment, admin_t *admin)
{
    const char *error = NULL;
    const char *span = admin_text(admin, "for", &error);
    const char *until = admin_text(admin, "until", &error);

    if (error != NULL) {
        return error;
    }
    const rlp_time_t left =
        (span != NULL) != (until != NULL) ? target_span(span, until, admin->r->pool) : 0;

    if (left <= 0 || left > TARGET_YEARS) {
        return "expected either \"for\": a span such as \"90s\" or \"2h\", or \"until\": a moment "
               "to come such as \"2026-12-31T23:59:59Z\", ten years away at most";
    }
    *moment = ordered_now() + left;
    return NULL;
}

const char *admin_time(rlp_time_t moment, apr_pool_t *pool)
{
    return moment == 0 ? NULL
                       : instant_write(rlp_world->clock->wall() + (moment - ordered_now()), pool);
}

/* --- which plan */

const plan_t *admin_plan(const admin_t *admin, const char **error)
{
    const char *name = admin_text(admin, "plan", error);
    const plan_t *plan = name ? apr_hash_get(rlp_world->plans, name, APR_HASH_KEY_STRING) : NULL;

    if (name != NULL && plan == NULL) {
        *error = apr_psprintf(admin->r->pool,
                              "expected a plan that RateLimitPlan declares, got "
                              "\"%s\"%s",
                              name, rule_near_plan(name, admin->r->pool));
    }
    return plan;
}
