/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Who asks: what a request says of a chain of identity types.
 */

#include "private.h"
#include "value.h"

#include <http_core.h>

#include <apr_strings.h>

#include <string.h>

#define IDENTITY_VALUE_MAX 64 /* longer ones become a digest */

static void identity_put(who_t *who, const char *text, size_t len)
{
    memcpy(who->room + who->len, text, len);
    who->len += len;
}

/* The digest of a value that is secret or too long; "#" marks the latter, no escaped value has
   one. */
static void identity_put_digest(who_t *who, const char *value, size_t len, bool secret)
{
    char digest[33];

    rlp_store_digest(rlp_world->store, value, len, digest);
    if (!secret) {
        identity_put(who, "#", 1);
    }
    identity_put(who, digest, 32);
}

static void identity_put_value(who_t *who, const char *value)
{
    const size_t len = strlen(value);

    if (len > IDENTITY_VALUE_MAX) {
        identity_put_digest(who, value, len, false);
    } else {
        who->len += value_escape(who->room + who->len, value);
    }
}

static void identity_put_address(who_t *who, const identity_part_t *part, const request_rec *r)
{
    if (part->bits4 == 32 && strchr(r->useragent_ip, ':') == NULL) {
        identity_put(who, r->useragent_ip, strnlen(r->useragent_ip, INET_ADDRSTRLEN));
        return;
    }
    const size_t written =
        value_address(who->room + who->len, r->useragent_ip, part->bits4, part->bits6);

    if (written > 0) {
        who->len += written;
    } else {
        identity_put_value(who, r->useragent_ip);
    }
}

/* Is a value of that type said plainly to everybody? Digests of secrets are. */
static bool identity_is_public(const char *name, size_t len)
{
    const identity_type_t *type = apr_hash_get(rlp_world->identity_types, name, (apr_ssize_t)len);

    return type->always || type->chosen;
}

/* No name has one of the signs between names and values, and no value has "+". */
const char *identity_logged(const char *identity, bool plain, apr_pool_t *pool)
{
    const char *value = strchr(identity, ':') + 1;
    const char *name = identity;
    const char *text = apr_pstrmemdup(pool, identity, (apr_size_t)(value - identity));

    if (plain) {
        return identity;
    }
    while (true) {
        const size_t len = strcspn(value, "+");
        char digest[33];

        if (identity_is_public(name, strcspn(name, "/+:"))) {
            text = apr_pstrcat(pool, text, apr_pstrmemdup(pool, value, len), NULL);
        } else {
            rlp_store_digest(rlp_world->store, value, len, digest);
            text = apr_pstrcat(pool, text, digest, NULL);
        }
        if (value[len] == '\0') {
            return text;
        }
        text = apr_pstrcat(pool, text, "+", NULL);
        value += len + 1;
        name += strcspn(name, "+") + 1;
    }
}

static const char *identity_ssl(request_rec *r, char *name)
{
    return rlp_world->ssl_value ? rlp_world->ssl_value(r->pool, r->server, r->connection, r, name)
                                : NULL;
}

/* Where certificates need not be verified, anybody can make one in another's name. */
static const char *identity_certificate(request_rec *r)
{
    char verify[] = "SSL_CLIENT_VERIFY";
    char subject[] = "SSL_CLIENT_S_DN";
    const char *verified = identity_ssl(r, verify);

    return verified != NULL && strcmp(verified, "SUCCESS") == 0 ? identity_ssl(r, subject) : NULL;
}

/* Behind a redirect inside httpd, whom authentication found before it; where that ended in an
   error, it may have found nobody. */
static const char *identity_user(const request_rec *r)
{
    const char *user = r->user;

    for (const request_rec *prev = r->prev; prev != NULL; prev = prev->prev) {
        if (prev->status >= HTTP_BAD_REQUEST) {
            return r->user;
        }
        user = user ? user : prev->user;
    }
    return user;
}

const char identity_all[] = "global";

/* What the request says of a type; NULL or empty for nothing. */
static const char *identity_value(const identity_type_t *type, request_rec *r)
{
    switch (type->source) {
    case SOURCE_USER:
        return identity_user(r);
    case SOURCE_IP:
        return r->useragent_ip;
    case SOURCE_VHOST:
        return r->server->server_hostname;
    case SOURCE_CERT:
        return identity_certificate(r);
    case SOURCE_PROVIDER:
        return type->provider->value(type->settings, r);
    case SOURCE_GLOBAL:
    case SOURCE_ANONYMOUS:
        break;
    }
    return identity_all;
}

/* What the map of the type says of the value; false: this identity does not count. */
static bool identity_known(who_t *who, const identity_type_t *type, const char *value,
                           request_rec *r, const server_conf_t *server)
{
    const plan_map_t *map = server->maps->nelts ? plan_map_of(server, type->name) : NULL;
    const plan_t *plan = map ? plan_map_find(map, value, r) : NULL;

    if (plan != NULL) {
        if (who->plan == NULL) {
            who->plan = plan;
        }
        return true;
    }
    if (map != NULL && map->unknown == UNKNOWN_DENY) {
        who->refuse = map->status;
    }
    return !(type->chosen || (map != NULL && map->unknown != UNKNOWN_DEFAULT));
}

static bool identity_try(who_t *who, const identity_t *identity, request_rec *r,
                         const server_conf_t *server)
{
    who->plan = NULL;
    who->text = who->room;
    who->fingerprint = 0;
    who->len = 0;
    identity_put(who, identity->label, identity->label_len);
    for (int i = 0; i < identity->n; i++) {
        const identity_part_t *part = &identity->parts[i];
        const char *value = identity_value(part->type, r);

        if (value == NULL || *value == '\0' || !identity_known(who, part->type, value, r, server)) {
            return false;
        }
        if (i > 0) {
            identity_put(who, "+", 1);
        }
        if (part->type->source == SOURCE_IP) {
            identity_put_address(who, part, r);
        } else if (part->type->chosen) {
            identity_put_digest(who, value, strlen(value), true);
        } else {
            identity_put_value(who, value);
        }
    }
    return true;
}

/* The address of the connection alone, and no map has plans for addresses. What is kept of it, now
   or before; NULL: another case, or too long. */
static const address_t *identity_keep_address(const identity_t *identity, request_rec *r,
                                              const server_conf_t *server)
{
    const conn_rec *c = r->connection;
    address_t *address;
    who_t who;

    if (!identity->usual_ip || r->useragent_ip != c->client_ip ||
        (server->maps->nelts > 0 && plan_map_of(server, "ip") != NULL)) {
        return NULL;
    }
    address = ap_get_module_config(c->conn_config, &ratelimit_plans_module);
    if (address != NULL) {
        return address->ip == c->client_ip ? address : NULL;
    }
    if (identity_try(&who, identity, r, server) && who.len <= sizeof(address->text)) {
        address = apr_palloc(c->pool, sizeof(*address));
        address->ip = c->client_ip;
        memcpy(address->text, who.room, who.len);
        address->len = who.len;
        address->fingerprint = rlp_store_fingerprint(rlp_world->store, who.room, who.len);
        ap_set_module_config(c->conn_config, &ratelimit_plans_module, address);
    }
    return address;
}

bool identity_meet(const identity_t *identity, request_rec *r, const server_conf_t *server)
{
    return ap_get_module_config(r->connection->conn_config, &ratelimit_plans_module) == NULL &&
           identity_keep_address(identity, r, server) != NULL;
}

static bool identity_find_one(who_t *who, const identity_t *identity, request_rec *r,
                              const server_conf_t *server)
{
    const address_t *address = identity_keep_address(identity, r, server);

    if (address == NULL) {
        return identity_try(who, identity, r, server);
    }
    who->plan = NULL;
    who->text = address->text;
    who->len = address->len;
    who->fingerprint = address->fingerprint;
    return true;
}

void identity_find(who_t *who, const chain_t *chain, request_rec *r, const server_conf_t *server)
{
    who->chain = chain;
    who->refuse = 0;
    who->banned = 0;
    who->found = false;
    for (int i = 0; i < chain->n && !who->found && !who->refuse; i++) {
        who->found = identity_find_one(who, &chain->items[i], r, server);
    }
}
