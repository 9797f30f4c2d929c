/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Who asks: chains of identity types, as they are declared. What a request says of them is in
 * identity_find.c.
 */

#include "provider.h"

#include <http_core.h>
#include <mod_ssl.h>

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

static const identity_type_t identity_built_in[] = {
    { .name = "user", .source = SOURCE_USER, .authenticated = true },
    { .name = "ip", .source = SOURCE_IP, .always = true },
    { .name = "vhost", .source = SOURCE_VHOST, .always = true },
    { .name = "global", .source = SOURCE_GLOBAL, .always = true },
    { .name = "anonymous", .source = SOURCE_ANONYMOUS, .always = true },
    { .name = "cert", .source = SOURCE_CERT },
};

#define IDENTITY_BUILT_IN (sizeof(identity_built_in) / sizeof(identity_built_in[0]))

/* ip, ip/24 or ip/24,48 */
static const char *identity_bits(identity_part_t *part, const char *text, apr_pool_t *pool)
{
    char *end;
    const long bits4 = strtol(text, &end, 10);
    const long bits6 = *end == ',' ? strtol(end + 1, &end, 10) : 64;

    if (*text < '0' || *text > '9' || *end != '\0' || bits4 < 1 || bits4 > 32 || bits6 < 1 ||
        bits6 > 128) {
        return apr_psprintf(pool,
                            "expected ip/BITS4,BITS6 with 1 to 32 and 1 to 128, got \"ip/%s\"",
                            text);
    }
    part->bits4 = (int)bits4;
    part->bits6 = (int)bits6;
    return NULL;
}

static bool identity_same(const identity_type_t *a, const identity_type_t *b)
{
    if (a->provider != b->provider || a->argument == NULL) {
        return false;
    }
    return b->provider->any_case ? ap_cstr_casecmp(a->argument, b->argument) == 0
                                 : strcmp(a->argument, b->argument) == 0;
}

/* "NAME=header:NAME, NAME=cookie:NAME or NAME=expr:EXPR" */
static const char *identity_usage(const char *name, const char *const providers[], apr_pool_t *pool)
{
    const char *usage = "";

    for (int i = 0; providers[i] != NULL; i++) {
        const rlp_identity_provider_t *provider =
            provider_find(&provider_identities, providers[i], pool);
        const char *comma = providers[i + 1] ? ", " : " or ";

        usage = apr_pstrcat(pool, usage, i ? comma : "", name, "=", providers[i], ":",
                            provider->argument ? provider->argument : "ARGUMENT", NULL);
    }
    return usage;
}

/* Finds the provider of "PROVIDER:ARGUMENT". NULL, or what was expected. */
static const char *identity_provider(const rlp_identity_provider_t **provider, const char *name,
                                     const char *source, apr_pool_t *pool)
{
    const size_t len = strcspn(source, ":");
    const char *const *names = provider_names(&provider_identities, pool);
    const char *word = apr_pstrmemdup(pool, source, len);

    *provider = source[len] == ':' ? provider_find(&provider_identities, word, pool) : NULL;
    if (*provider != NULL) {
        return (*provider)->value
                   ? NULL
                   : apr_psprintf(pool, "expected an identity with value, got \"%s\"", source);
    }
    const char *other = provider_other_version(&provider_identities, word, pool);

    return other ? other
                 : apr_psprintf(pool, "expected %s, got \"%s=%s\"%s",
                                identity_usage(name, names, pool), name, source,
                                provider_near(word, names, ":", pool));
}

/* Has the provider read its argument. NULL, or what was expected. */
static const char *identity_configure(identity_type_t *type, cmd_parms *cmd)
{
    if (type->provider->configure != NULL) {
        return type->provider->configure(&type->settings, type->name, type->argument, cmd);
    }
    type->settings = apr_pstrdup(cmd->pool, type->argument);
    return *type->argument
               ? NULL
               : apr_psprintf(cmd->pool, "expected a name behind the colon, got \"%s=%s:\"",
                              type->name, type->provider_name);
}

/* Remembers NAME=PROVIDER:ARGUMENT for the whole server. */
static const char *identity_declare(const char *name, const char *source, cmd_parms *cmd)
{
    identity_type_t *type = apr_pcalloc(cmd->pool, sizeof(*type));
    const identity_type_t *known =
        apr_hash_get(rlp_world->identity_types, name, APR_HASH_KEY_STRING);
    const rlp_identity_provider_t *provider = NULL;
    const char *error = rlp_name_check(name, cmd->pool);

    if (known != NULL && known->file == NULL) {
        return apr_psprintf(cmd->pool, "expected another name than \"%s\": it is built in", name);
    }
    if (error == NULL) {
        error = identity_provider(&provider, name, source, cmd->pool);
    }
    if (error != NULL || provider == NULL) {
        return error;
    }
    *type =
        (identity_type_t){ .name = name,
                           .source = SOURCE_PROVIDER,
                           .provider = provider,
                           .provider_name = apr_pstrmemdup(cmd->pool, source, strcspn(source, ":")),
                           .argument = strchr(source, ':') + 1,
                           .chosen = provider->chosen,
                           .authenticated = provider->authenticated,
                           .file = cmd->directive->filename,
                           .line = cmd->directive->line_num };
    config_needs(cmd, provider->chosen ? HOOK_FIELDS : 0);
    error = identity_configure(type, cmd);
    if (error != NULL) {
        return error;
    }
    if (known != NULL && !identity_same(known, type)) {
        return apr_psprintf(cmd->pool,
                            "expected another name than \"%s\": it is declared otherwise on line "
                            "%d of %s",
                            name, known->line, known->file);
    }
    apr_hash_set(rlp_world->identity_types, name, APR_HASH_KEY_STRING, type);
    return NULL;
}

/* A source without a name is the commonest slip. NULL, or what was expected. */
static const char *identity_check_name(const char *text, const cmd_parms *cmd)
{
    const size_t len = strcspn(text, ":");
    const char *word = apr_pstrmemdup(cmd->pool, text, len);

    return text[len] == ':' && !config_is_htaccess(cmd) &&
                   provider_find(&provider_identities, word, cmd->pool) != NULL
               ? apr_psprintf(cmd->pool,
                              "expected a name before the source, as in id=%s, got \"%s\"", text,
                              text)
               : rlp_name_check(text, cmd->pool);
}

static const char *identity_parse_part(identity_t *identity, const char *text, cmd_parms *cmd)
{
    identity_part_t *part = &identity->parts[identity->n];
    const char *equals = strchr(text, '=');

    if (identity->n == RLP_PARTS_MAX) {
        return "expected at most 4 parts joined with \"+\"";
    }
    part->bits4 = 32;
    part->bits6 = 64;
    part->name = equals ? apr_pstrmemdup(cmd->pool, text, (apr_size_t)(equals - text)) : text;
    identity->n++;
    if (equals != NULL && config_is_htaccess(cmd)) {
        return apr_psprintf(cmd->pool,
                            "expected an identity that the server's configuration has declared, "
                            "got \"%s\"",
                            text);
    }
    if (equals != NULL) {
        return identity_declare(part->name, equals + 1, cmd);
    }
    if (strncmp(text, "ip/", 3) == 0) {
        part->name = "ip";
        return identity_bits(part, text + 3, cmd->pool);
    }
    return identity_check_name(text, cmd);
}

/* The printed type: names without sources, bits only where they are not the usual ones. */
static void identity_label(identity_t *identity, apr_pool_t *pool)
{
    const char *label = "";

    for (int i = 0; i < identity->n; i++) {
        const identity_part_t *part = &identity->parts[i];
        const char *bits = part->bits4 == 32 && part->bits6 == 64
                               ? ""
                               : apr_psprintf(pool, "/%d,%d", part->bits4, part->bits6);

        label = apr_pstrcat(pool, label, i ? "+" : "", part->name, bits, NULL);
    }
    identity->label = apr_pstrcat(pool, label, ":", NULL);
    identity->label_len = strlen(identity->label);
    identity->usual_ip = strcmp(label, "ip") == 0;
}

/* Cuts the next part off. An expression takes all the rest, "+" too. */
static char *identity_next_part(char **rest)
{
    char *part = *rest;
    char *plus = strchr(part, '+');
    const char *equals = strchr(part, '=');

    if (equals != NULL && (plus == NULL || equals < plus) &&
        ap_cstr_casecmpn(equals + 1, "expr:", 5) == 0) {
        plus = NULL;
    }
    *rest = plus ? plus + 1 : NULL;
    if (plus != NULL) {
        *plus = '\0';
    }
    return part;
}

static const char *identity_parse(identity_t *identity, const char *text, cmd_parms *cmd)
{
    char *rest = apr_pstrdup(cmd->pool, text);
    const char *error = config_quotes(text, cmd->pool);

    while (rest != NULL && error == NULL) {
        const char *part = identity_next_part(&rest);

        error = *part ? identity_parse_part(identity, part, cmd)
                      : apr_psprintf(cmd->pool, "expected TYPE or TYPE+TYPE, got \"%s\"", text);
    }
    if (error == NULL) {
        identity_label(identity, cmd->pool);
    }
    return error;
}

const char *identity_near(const char *name, apr_pool_t *pool)
{
    return config_near_key(name, rlp_world->identity_types, pool);
}

static const char *identity_unknown_type(const char *name, apr_pool_t *pool)
{
    return apr_psprintf(pool,
                        "expected an identity type: user, ip, vhost, global, anonymous, cert, or "
                        "one declared as NAME=header:FIELD, NAME=cookie:NAME, NAME=env:VARIABLE "
                        "or NAME=expr:EXPR, got \"%s\"%s",
                        name, identity_near(name, pool));
}

static const char *identity_resolve_one(identity_t *identity, apr_pool_t *pool)
{
    for (int i = 0; i < identity->n; i++) {
        identity_part_t *part = &identity->parts[i];

        part->type = apr_hash_get(rlp_world->identity_types, part->name, APR_HASH_KEY_STRING);
        if (part->type == NULL) {
            return identity_unknown_type(part->name, pool);
        }
    }
    return NULL;
}

static const char *identity_resolve_chain(const chain_t *chain, apr_pool_t *pool)
{
    const char *error = NULL;

    for (int i = 0; i < chain->n && error == NULL; i++) {
        error = identity_resolve_one(&chain->items[i], pool);
    }
    return error;
}

const char *identity_parse_chain(const chain_t **chain, cmd_parms *cmd, int argc,
                                 const char *const argv[])
{
    chain_t *made = apr_pcalloc(cmd->pool, sizeof(*made));

    made->items = apr_pcalloc(cmd->pool, sizeof(identity_t) * (apr_size_t)argc);
    made->file = cmd->directive->filename;
    made->line = cmd->directive->line_num;
    for (; made->n < argc; made->n++) {
        const char *error = identity_parse(&made->items[made->n], argv[made->n], cmd);

        if (error != NULL) {
            return error;
        }
    }
    *chain = made;
    if (config_is_htaccess(cmd)) {
        return identity_resolve_chain(made, cmd->pool);
    }
    APR_ARRAY_PUSH(rlp_world->chains, const chain_t *) = made;
    return NULL;
}

void identity_begin(world_t *world)
{
    static const char *const usual[] = { "user", "ip" };
    chain_t *chain = apr_pcalloc(world->pool, sizeof(*chain));

    world->identity_types = apr_hash_make(world->pool);
    for (size_t i = 0; i < IDENTITY_BUILT_IN; i++) {
        apr_hash_set(world->identity_types, identity_built_in[i].name, APR_HASH_KEY_STRING,
                     &identity_built_in[i]);
    }
    chain->items = apr_pcalloc(world->pool, 2 * sizeof(identity_t));
    for (chain->n = 0; chain->n < 2; chain->n++) {
        identity_t *identity = &chain->items[chain->n];

        identity->n = 1;
        identity->parts[0] = (identity_part_t){ .name = usual[chain->n], .bits4 = 32, .bits6 = 64 };
        identity_label(identity, world->pool);
    }
    world->default_chain = chain;
    APR_ARRAY_PUSH(world->chains, const chain_t *) = chain;
}

const char *identity_resolve(const chain_t **chain, apr_pool_t *pool)
{
    const char *error = NULL;

    rlp_world->ssl_value = APR_RETRIEVE_OPTIONAL_FN(ssl_var_lookup);
    for (int i = 0; i < rlp_world->chains->nelts && error == NULL; i++) {
        *chain = APR_ARRAY_IDX(rlp_world->chains, i, const chain_t *);
        error = identity_resolve_chain(*chain, pool);
    }
    return error;
}
