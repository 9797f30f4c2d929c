/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "ask.h"

#include "json.h"
#include "offline.h"
#include "option.h"
#include "outline.h"
#include "post.h"
#include "redis_orders.h"
#include "rlp.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define ASK_USAGE                                                                        \
    "usage: rlpctl COMMAND --url=http://HOST[:PORT]/PATH [OPTION]... [WORD]...\n"        \
    "\n"                                                                                 \
    "  get IDENTITY [--rule=NAME] [--plan=NAME]     what is left\n"                      \
    "  reset IDENTITY [--rule=NAME]                 all is left again\n"                 \
    "  grant IDENTITY UNITS [--rule=NAME] [--plan=NAME]\n"                               \
    "  ban IDENTITY WHEN                            WHEN: 2h, or 2026-12-31T23:59:59Z\n" \
    "  unban IDENTITY\n"                                                                 \
    "  set-plan IDENTITY PLAN WHEN                  or: set-plan IDENTITY none\n"        \
    "  overrides                                    bans and plans that were set\n"      \
    "  plans                                        what is configured\n"                \
    "  top                                          who is refused most\n"               \
    "  explain URL [--method=GET] [--ip=ADDRESS] [--user=NAME]\n"                        \
    "          [--header=\"NAME: VALUE\"]... [--env=NAME=VALUE]...\n"                    \
    "\n"                                                                                 \
    "IDENTITY is TYPE:VALUE, such as ip:192.0.2.1; of a secret: TYPE --secret, and\n"    \
    "the value on standard input.\n"                                                     \
    "  --socket=PATH      a UNIX socket in the place of HOST and PORT\n"                 \
    "  --host=NAME        the field Host\n"                                              \
    "  --login=NAME --password=FILE   for a server that demands a user (-: standard\n"   \
    "                     input)\n"                                                      \
    "  --file=PATH        a store's file in place of --url, but for plans, explain\n"    \
    "  --store=URL --prefix=TEXT  a Redis, but for plans, explain; rlpctl help stores\n" \
    "  --tls-ca=FILE --tls-cert=FILE --tls-key=FILE --tls-name=NAME  with rediss://\n"   \
    "  --json             the answer as it is\n"

#define ASK_SECRET_MAX 8192

typedef struct {
    const char *name;
    const char
        *words;   /* the members that its words are: i identity, u units, w when, p plan, l url */
    bool offline; /* has a meaning for a file */
} ask_command_t;

static const ask_command_t ask_commands[] = {
    { "get", "i", false },     { "reset", "i", true }, { "grant", "iu", false },
    { "ban", "iw", true },     { "unban", "i", true }, { "set-plan", "ipw", true },
    { "overrides", "", true }, { "plans", "", false }, { "top", "", true },
    { "explain", "l", false },
};

typedef struct {
    const ask_command_t *command;
    apr_pool_t *pool;
    bool json;
    bool secret;
    option_place_t place; /* in the place of a server; its password may be the server's */
    post_server_t server;
    const char *rule;
    const char *plan;
    const char *method;
    const char *ip;
    const char *user;
    apr_array_header_t *headers; /* const char *: NAME: VALUE */
    apr_array_header_t *env;     /* const char *: NAME=VALUE */
    apr_array_header_t *words;   /* const char * */
} ask_t;

static const ask_command_t *ask_command(const char *word)
{
    for (size_t i = 0; i < sizeof(ask_commands) / sizeof(ask_commands[0]); i++) {
        if (strcmp(word, ask_commands[i].name) == 0) {
            return &ask_commands[i];
        }
    }
    return NULL;
}

bool ask_is_command(const char *word)
{
    return ask_command(word) != NULL;
}

/* --- words */

static const char *ask_header(void *baton, const char *header)
{
    const ask_t *ask = baton;

    if (strchr(header, ':') == NULL) {
        return "expected NAME: VALUE";
    }
    APR_ARRAY_PUSH(ask->headers, const char *) = header;
    return NULL;
}

static const char *ask_env(void *baton, const char *env)
{
    const ask_t *ask = baton;

    if (strchr(env, '=') == NULL) {
        return "expected NAME=VALUE";
    }
    APR_ARRAY_PUSH(ask->env, const char *) = env;
    return NULL;
}

static bool ask_option(ask_t *ask, const char *word)
{
    const option_t options[] = { { .name = "--url=", .value = &ask->server.url },
                                 { .name = "--socket=", .value = &ask->server.socket },
                                 { .name = "--host=", .value = &ask->server.host },
                                 { .name = "--login=", .value = &ask->server.login },
                                 { .name = "--rule=", .value = &ask->rule },
                                 { .name = "--plan=", .value = &ask->plan },
                                 { .name = "--method=", .value = &ask->method },
                                 { .name = "--ip=", .value = &ask->ip },
                                 { .name = "--user=", .value = &ask->user },
                                 { .name = "--header=", .take = ask_header },
                                 { .name = "--env=", .take = ask_env },
                                 { .name = "--json", .flag = &ask->json },
                                 { .name = "--secret", .flag = &ask->secret },
                                 { .name = NULL } };

    return option_take(options, word, 1, ask) == NULL || option_place(&ask->place, word, 1) == NULL;
}

/* The first option that is there and means something to a server alone; NULL: there is none. */
static const char *ask_of_server(const ask_t *ask)
{
    const struct {
        const char *name;
        bool given;
    } options[] = { { "--url=", ask->server.url != NULL },
                    { "--socket=", ask->server.socket != NULL },
                    { "--host=", ask->server.host != NULL },
                    { "--login=", ask->server.login != NULL },
                    { "--password=", ask->place.url == NULL && ask->place.password != NULL },
                    { "--rule=", ask->rule != NULL },
                    { "--plan=", ask->plan != NULL },
                    { "--method=", ask->method != NULL },
                    { "--ip=", ask->ip != NULL },
                    { "--user=", ask->user != NULL },
                    { "--header=", ask->headers->nelts > 0 },
                    { "--env=", ask->env->nelts > 0 } };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (options[i].given) {
            return options[i].name;
        }
    }
    return NULL;
}

/* Of whom a secret is, if there is one. */
static const char *ask_secret_odd(const ask_t *ask)
{
    if (!ask->secret) {
        return NULL;
    }
    if (ask->command->words[0] != 'i') {
        return apr_psprintf(ask->pool, "expected no --secret with %s, which is of nobody",
                            ask->command->name);
    }
    if (ask->place.url != NULL) {
        return "expected --url= or --file=PATH with --secret: only a server knows what Redis "
               "counts it by";
    }
    return option_secret_odd(APR_ARRAY_IDX(ask->words, 0, const char *));
}

/* What does not go together. */
static const char *ask_odd(const ask_t *ask)
{
    const char *of_server = ask_of_server(ask);
    const char *secret = ask_secret_odd(ask);

    if (of_server != NULL && (ask->place.file != NULL || ask->place.url != NULL)) {
        return apr_psprintf(ask->pool, "expected no %s with %s, but with a server alone", of_server,
                            ask->place.file ? "--file=PATH" : "--store=URL");
    }
    if (ask->place.url != NULL && ask->place.file != NULL) {
        return "expected either --file=PATH or --store=URL";
    }
    if (secret != NULL) {
        return secret;
    }
    if (ask->place.url == NULL && (ask->place.prefix != NULL || option_has_tls(&ask->place))) {
        return "expected --store=URL with --prefix= or --tls-...=";
    }
    return option_prefix_odd(ask->place.prefix);
}

/* NULL, or what was expected. */
static const char *ask_read(ask_t *ask, int argc, const char *const argv[])
{
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            APR_ARRAY_PUSH(ask->words, const char *) = argv[i];
        } else if (!ask_option(ask, argv[i])) {
            return apr_psprintf(ask->pool,
                                "expected an option as rlpctl %s --help has it, got "
                                "\"%s\"",
                                argv[0], argv[i]);
        }
    }
    const int n = ask->words->nelts;
    const int most = (int)strlen(ask->command->words);
    /* of a plan that ends there is no moment */
    const bool ends =
        most == 3 && n >= 2 && strcmp(APR_ARRAY_IDX(ask->words, 1, const char *), "none") == 0;
    const int wanted = ends ? 2 : most;

    if (n != wanted) {
        return apr_psprintf(ask->pool, "expected %d words behind %s, got %d", wanted,
                            ask->command->name, n);
    }
    if ((ask->place.file != NULL || ask->place.url != NULL) && !ask->command->offline) {
        return apr_psprintf(ask->pool, "expected --url with %s: a %s knows no plans",
                            ask->command->name, ask->place.file ? "file" : "Redis");
    }
    return ask_odd(ask);
}

/* The first line of a file, or of standard input, without its end. NULL: there is none. */
static const char *ask_line(const char *path, apr_pool_t *pool)
{
    const bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "re");
    char *line = apr_pcalloc(pool, ASK_SECRET_MAX);
    const bool read = in != NULL && fgets(line, ASK_SECRET_MAX, in) != NULL;

    if (in != NULL && !standard) {
        (void)fclose(in);
    }
    line[strcspn(line, "\r\n")] = '\0';
    return read && *line != '\0' ? line : NULL;
}

/* Reads what is never an argument. */
static const char *ask_secrets(ask_t *ask, const char **secret)
{
    *secret = NULL;
    if (ask->place.url != NULL) { /* whose password is read with it */
        return NULL;
    }
    if (ask->server.login == NULL && ask->place.password != NULL) {
        return "expected --login=NAME with --password";
    }
    if (ask->server.login != NULL) {
        if (ask->place.password == NULL) {
            return "expected --password=FILE, or - for standard input, with --login";
        }
        ask->server.password = ask_line(ask->place.password, ask->pool);
        if (ask->server.password == NULL) {
            return apr_psprintf(ask->pool, "expected a password in the first line of %s",
                                ask->place.password);
        }
    }
    if (ask->secret) {
        *secret = ask_line("-", ask->pool);
        return *secret ? NULL : "expected a secret on standard input";
    }
    return NULL;
}

/* --- the question */

/* 2h, or a moment. */
static void ask_put_when(json_out_t *out, const char *when)
{
    json_string(out, strchr(when, 'T') != NULL && strchr(when, ':') != NULL ? "until" : "for",
                when);
}

/* JSON has a digit before each point, and no zeros before other digits. */
static void ask_put_units(json_out_t *out, const char *units)
{
    const char *figure = units + strspn(units, "0");
    rlp_units_t number;

    if (rlp_units_parse(&number, units, out->pool) == NULL) {
        json_figure(out, "units",
                    apr_pstrcat(out->pool, apr_isdigit(*figure) ? "" : "0", figure, NULL));
    } else {
        json_string(out, "units", units); /* the server says what it expected */
    }
}

static void ask_put_word(json_out_t *out, char member, const char *word)
{
    switch (member) {
    case 'i':
        json_string(out, "identity", word);
        break;
    case 'u':
        ask_put_units(out, word);
        break;
    case 'p':
        json_string(out, "plan", strcmp(word, "none") == 0 ? NULL : word);
        break;
    case 'l':
        json_string(out, "url", word);
        break;
    default:
        ask_put_when(out, word);
        break;
    }
}

static void ask_put_pairs(json_out_t *out, const char *name, const apr_array_header_t *pairs,
                          char sign)
{
    if (pairs->nelts == 0) {
        return;
    }
    json_open(out, name, '{');
    for (int i = 0; i < pairs->nelts; i++) {
        const char *pair = APR_ARRAY_IDX(pairs, i, const char *);
        const char *value = strchr(pair, sign);

        json_string(out, apr_pstrmemdup(out->pool, pair, (apr_size_t)(value - pair)),
                    value + 1 + strspn(value + 1, sign == ':' ? " " : ""));
    }
    json_close(out, '}');
}

static const char *ask_question(const ask_t *ask, const char *secret)
{
    const struct {
        const char *name;
        const char *value;
    } members[] = { { "secret", secret },      { "rule", ask->rule }, { "plan", ask->plan },
                    { "method", ask->method }, { "ip", ask->ip },     { "user", ask->user } };
    json_out_t out = json_out(ask->pool);

    out.raw = true; /* names and keys are whatever bytes clients send */
    json_open(&out, NULL, '{');
    json_string(&out, "action", ask->command->name);
    for (int i = 0; i < ask->words->nelts; i++) {
        ask_put_word(&out, ask->command->words[i], APR_ARRAY_IDX(ask->words, i, const char *));
    }
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (members[i].value != NULL) {
            json_string(&out, members[i].name, members[i].value);
        }
    }
    ask_put_pairs(&out, "headers", ask->headers, ':');
    ask_put_pairs(&out, "env", ask->env, '=');
    json_close(&out, '}');
    return apr_pstrmemdup(ask->pool, out.text, out.len);
}

/* --- the answer */

static int ask_status(int status)
{
    if (status == 200) {
        return EXIT_SUCCESS;
    }
    if (status == 401 || status == 403) {
        return EX_NOPERM;
    }
    return status >= 500 || status == 404 || status == 405 ? EX_UNAVAILABLE : EX_DATAERR;
}

/* A server's words, without what a terminal would obey. */
static const char *ask_plain(const char *text, apr_pool_t *pool)
{
    char *plain = apr_pstrdup(pool, text);

    for (char *at = plain; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
    return plain;
}

/* Of a server that gives no reason itself. */
static const char *ask_reason(int status)
{
    return status == 401   ? "expected --login=NAME and --password=FILE of a user whom it lets in"
           : status == 403 ? "it does not let you"
                           : "it is not ratelimit-admin that has this path";
}

static int ask_print(const ask_t *ask, const post_answer_t *answer)
{
    const json_t *value = NULL;
    const bool read = json_parse(&value, answer->body, answer->len, ask->pool) == NULL &&
                      value->kind == JSON_OBJECT;
    const json_t *detail = read ? json_member(value, "detail") : NULL;

    if (answer->status != 200 || !read) {
        return option_fail(apr_psprintf(ask->pool, "the server answers %d: %s", answer->status,
                                        detail && detail->kind == JSON_STRING
                                            ? ask_plain(detail->text, ask->pool)
                                            : ask_reason(answer->status)),
                           answer->status == 200 ? EX_UNAVAILABLE : ask_status(answer->status));
    }
    if (ask->json) {
        (void)fwrite(answer->body, 1, answer->len, stdout);
    } else {
        outline_print(value);
    }
    return option_end(EXIT_SUCCESS);
}

static int ask_server(ask_t *ask, const char *secret)
{
    post_answer_t answer = { .status = 0 };
    int unreachable = 0;

    if (ask->server.url == NULL) {
        ask->server.url = getenv("RLPCTL_URL");
    }
    if (ask->server.url == NULL && ask->server.socket == NULL) {
        return option_fail("expected --url=http://HOST[:PORT]/PATH of ratelimit-admin, or "
                           "RLPCTL_URL "
                           "in the environment",
                           EX_USAGE);
    }
    const char *error =
        post_json(&answer, &ask->server, ask_question(ask, secret), &unreachable, ask->pool);

    if (error != NULL) {
        return option_fail(error, unreachable ? EX_UNAVAILABLE : EX_USAGE);
    }
    return ask_print(ask, &answer);
}

/* What stands behind the command: whom, which plan, until when; NULL each if it has none. */
typedef struct {
    const char *identity;
    const char *plan;
    const char *when;
} ask_words_t;

static ask_words_t ask_words(const ask_t *ask)
{
    const char *words[3] = { NULL };
    const bool plan = ask->command->words[0] && ask->command->words[1] == 'p';

    for (int i = 0; i < ask->words->nelts; i++) {
        words[i] = APR_ARRAY_IDX(ask->words, i, const char *);
    }
    return (ask_words_t){ .identity = words[0],
                          .plan = plan ? words[1] : NULL,
                          .when = plan ? words[2] : words[1] };
}

/* As a server would: with the end of a line. */
static int ask_tell(const ask_t *ask, const char *error, int status, const json_out_t *out)
{
    if (error != NULL) {
        return option_fail(error, status);
    }
    const char *line = apr_psprintf(ask->pool, "%.*s\n", (int)out->len, out->text);

    return ask_print(ask, &(post_answer_t){ .status = 200, .body = line, .len = out->len + 1 });
}

/* The store of a file. */
static int ask_file(const ask_t *ask, const char *secret)
{
    const ask_words_t words = ask_words(ask);
    const offline_t job = { .path = ask->place.file,
                            .command = ask->command->name,
                            .identity = words.identity,
                            .secret = secret,
                            .plan = words.plan,
                            .when = words.when,
                            .pool = ask->pool };
    json_out_t out = json_out(ask->pool);

    return ask_tell(ask, offline_run(&job, &out), EX_DATAERR, &out);
}

/* A Redis, for all hosts. */
#ifdef RLP_REDIS
static int ask_redis(const ask_t *ask)
{
    const ask_words_t words = ask_words(ask);
    const orders_t job = { .place = &ask->place,
                           .command = ask->command->name,
                           .identity = words.identity,
                           .plan = words.plan,
                           .when = words.when,
                           .pool = ask->pool };
    json_out_t out = json_out(ask->pool);
    int status;
    const char *error = orders_run(&job, &out, &status);

    return ask_tell(ask, error, status, &out);
}
#else
static int ask_redis(const ask_t *ask)
{
    (void)ask;
    return option_fail("this program was built without Redis", EX_USAGE);
}
#endif

int ask_main(int argc, const char *const argv[], apr_pool_t *pool)
{
    ask_t ask = { .command = ask_command(argv[0]),
                  .pool = pool,
                  .headers = apr_array_make(pool, 4, sizeof(char *)),
                  .env = apr_array_make(pool, 4, sizeof(char *)),
                  .words = apr_array_make(pool, 4, sizeof(char *)) };
    const char *secret = NULL;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(ASK_USAGE, stdout);
        return EXIT_SUCCESS;
    }
    const char *error = ask_read(&ask, argc, argv);

    error = error ? error : ask_secrets(&ask, &secret);
    if (error != NULL) {
        return option_fail(error, EX_USAGE);
    }
    if (ask.place.url != NULL) {
        return ask_redis(&ask);
    }
    return ask.place.file ? ask_file(&ask, secret) : ask_server(&ask, secret);
}
