/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef PRIVATE_H
#define PRIVATE_H

/*
 * What the files of the module do for each other, file by file.
 */

#include "records.h"

extern module AP_MODULE_DECLARE_DATA ratelimit_plans_module;

/* from here on nothing is seen outside the module, so no call need go through a table */
#pragma GCC visibility push(hidden)

/* The world of the configuration in force. */
extern world_t *rlp_world;

/* What the module has of a host. */
static inline server_conf_t *server_conf(const server_rec *server)
{
    return ap_get_module_config(server->module_config, &ratelimit_plans_module);
}

/* --- config.c */

/* What the record of the module names. */
extern const command_rec rlp_commands[];

/* --- config_merge.c */

/* A new world, before the configuration is read. */
void config_begin(apr_pool_t *pool);

/* The section that a directive stands in, as "<Location "/api">"; NULL: none. */
const char *config_section(const cmd_parms *cmd);

/* Takes note of the section that a directive stands in. NULL, or that it may not stand there (flags
   of ap_check_cmd_context()). */
const char *config_enter(cmd_parms *cmd, const dir_conf_t *conf, unsigned forbidden);

/* The index of the rule of that name (const rule_t *), or -1. */
int config_rule_index(const apr_array_header_t *rules, const char *name);

/* What the record of the module names: making and merging of configurations. */
void *config_create_dir(apr_pool_t *pool, char *path);
void *config_merge_dir(apr_pool_t *pool, void *base, void *add);
void *config_create_server(apr_pool_t *pool, server_rec *server);
void *config_merge_server(apr_pool_t *pool, void *base, void *add);

/* --- config_words.c */

/* "DIRECTIVE: expected ..., got ...". */
const char *config_expected(cmd_parms *cmd, const char *expected, const char *got);

/* The same, with the word of a list ended by NULL that it is most like, if any. */
const char *config_unknown_word(cmd_parms *cmd, const char *expected, const char *got,
                                const char *const known[]);

/* The error with the directive's name; NULL stays NULL. */
const char *config_prefix(cmd_parms *cmd, const char *error);

/* The index of the word in a list ended by NULL, or -1. */
int config_word(const char *word, const char *const words[]);

/* The first option ("name=value") from a word on that an earlier one has given already, or NULL. */
const char *config_repeated(int argc, char *const argv[], int from);

/* All words of a directive that may have any number of them; how many. */
int config_all_words(char ***words, const cmd_parms *cmd);

/* Is it a directive of .htaccess? What it makes lives as long as the request, and must not be found
   through rlp_world. */
bool config_is_htaccess(const cmd_parms *cmd);

/* A status from 400 to 599; else 0. */
int config_status(const char *text);

/* Parses the expression behind a word such as "if="; flags are those of ap_expr. NULL, or what was
   expected. */
const char *config_expression(const ap_expr_info_t **expr, cmd_parms *cmd, const char *name,
                              const char *value, unsigned flags);

/* Notes that a directive of the server's configuration needs hooks (HOOK_*). */
void config_needs(const cmd_parms *cmd, unsigned hooks);

/* The hook that an expression needs which may ask for fields of the response. */
unsigned config_hears(const char *expression);

/* Is there a directive of that name anywhere in the server's configuration? While it is checked. */
bool config_is_said(const char *name);

/* httpd honours quotes at the start of a word only: what to write instead of if="EXPR", or NULL if
   the word is not of that kind. */
const char *config_quotes(const char *word, apr_pool_t *pool);

/* The same without what is in the quotes, which may be a password. */
const char *config_secret_quotes(const char *word, apr_pool_t *pool);

/* The word without a password: what stands before the "@" of a URL, or behind "password=" or
   "secret=". Whoever leaves a word out has it in the place of another. */
const char *config_shown(const char *word, apr_pool_t *pool);

/* " (NAME?)" for the known name (list ended by NULL, each with its "=" or ":") that the word is
   most like, up to its own "=" or ":", or nothing. And the same for the whole word. */
const char *config_near(const char *word, const char *const known[], apr_pool_t *pool);
const char *config_near_whole(const char *word, const char *const known[], apr_pool_t *pool);

/* The same for a key of the hash. */
const char *config_near_key(const char *word, apr_hash_t *known, apr_pool_t *pool);

/* --- stores.c */

/* Adds a store; the first declared takes the place of the one that is there without any. NULL, or
   what was expected. */
const char *stores_add(cmd_parms *cmd, const char *name, const rlp_store_provider_t *provider,
                       void *settings);

/* Begins with the store there is without a directive, which is the world's first. */
void stores_begin(world_t *world);

/* Do no two stores have the same file? NULL, or what was expected of which one. */
const char *stores_check(const depot_t **wrong, apr_pool_t *pool);

/* Does one have its counters in that file? */
bool stores_have(const char *path, apr_pool_t *pool);

/* The store in which a rule counts. */
const depot_t *stores_of(const rule_t *rule);

/* Reads store=, failure= and sync= behind RateLimitRule. NULL, or what was expected. */
const char *stores_rule_store(rule_t *rule, cmd_parms *cmd, const char *value);
const char *stores_rule_failure(rule_t *rule, cmd_parms *cmd, const char *value);
const char *stores_rule_sync(rule_t *rule, cmd_parms *cmd, const char *value);

/* Finds the store that a rule names, and asks it whether it can have what the rule wants. NULL, or
   what was expected. */
const char *stores_rule_check(rule_t *rule, apr_pool_t *pool);

/* What the rule says of its store, in words: ", in the store near". */
const char *stores_rule_describe(const rule_t *rule, apr_pool_t *pool);

/* NULL, or why no store of the server can have identities whose values are digested. */
const char *stores_digest_error(void);

/* Opens all, in the parent. NULL, or what went wrong. */
const char *stores_open(server_rec *server, apr_pool_t *pool);

/* Makes ready for a child. */
void stores_child(apr_pool_t *pchild, server_rec *server);

/* In the parent: a child is gone. */
void stores_child_gone(pid_t pid);

/* What the dead have held comes back; false: there was nobody. */
bool stores_sweep(void);

/* --- rule.c */

/* Parses "NAME WORD..." behind RateLimitRule. NULL, or what was expected. */
const char *rule_parse(rule_t **rule, cmd_parms *cmd, int argc, char *const argv[]);

/* Does the rule speak of this request, by path and condition? */
bool rule_matches_closely(const rule_t *rule, request_rec *r);

/* The number of a method that httpd does not know. To it "post" is no POST, but to many an
   application. */
int rule_odd_method(const request_rec *r);

/* Does it, by method, path and condition? */
static inline bool rule_matches(const rule_t *rule, request_rec *r)
{
    if (rule->traits == 0) {
        return true;
    }
    const int method = r->header_only                  ? METHOD_HEAD
                       : r->method_number == M_INVALID ? rule_odd_method(r)
                                                       : r->method_number;

    return (rule->method_bits & METHOD_BIT(method)) != 0 && rule_matches_closely(rule, r);
}

/* Does the rule count apart (decide_is_dry())? As its own section says, or else its host: which
   other sections a request is in is not known here. */
bool rule_is_dry(const rule_t *rule);

/* The rule's limits for this identity, NULL if it has none. The pool is the request's. */
const variant_t *rule_variant(const rule_t *rule, const who_t *who, const server_conf_t *server,
                              apr_pool_t *pool);

/* Do both count on the same counters? */
bool rule_same_scope(const rule_t *a, const rule_t *b);

/* --- rule_compile.c */

/* Works out signatures and labels of a rule under each plan that can apply. */
void rule_compile(rule_t *rule, apr_pool_t *pool);

/* The same for a rule of .htaccess, whose other variants are made when they are asked for. */
void rule_compile_local(rule_t *rule, apr_pool_t *pool);
variant_t *rule_compile_late(const rule_t *rule, const plan_t *plan, apr_pool_t *pool);

/* Works out the sizes of the states, again after rlp_plan_owners() has changed some. */
void rule_size_all(apr_pool_t *pool);

/* --- rule_check.c */

/* " (NAME?)" for the plan whose name is most like it, or nothing. */
const char *rule_near_plan(const char *name, apr_pool_t *pool);

/* What is wrong with a rule whose identities are known, or NULL. */
const char *rule_fault(const rule_t *rule, apr_pool_t *pool);

/* Can the limits that the rule names ever admit what costs so much? NULL, or what was expected. */
const char *rule_check_cost(const rule_t *rule, const cost_t *cost, apr_pool_t *pool);

/* Finds all that rules, chains and maps refer to, and compiles the rules. False with errors
   logged. */
bool rule_check_all(server_rec *server, apr_pool_t *pool);

/* --- rule_doubt.c */

/* Logs warnings of what is hardly meant, when all has been checked. */
void rule_doubt_all(server_rec *server, apr_pool_t *pool);

/* --- room.c */

/* Compares the quotas of the values that plan maps have with the sizes of stores, from *next (0 at
   first) on. NULL, or how the first of them is too small; *map says where, and *next is behind it.
   counts, empty at first, keeps what maps have. */
const char *room_doubt(int *next, const plan_map_t **map, apr_hash_t *counts, apr_pool_t *pool);

/* --- dump.c */

/* Prints the configuration in words, for -D DUMP_RATELIMIT. */
void dump_print(const server_rec *servers, apr_pool_t *pool);

/* What the store is, and what a rule does. */
const char *dump_store_words(apr_pool_t *pool);
const char *dump_rule_words(const rule_t *rule, apr_pool_t *pool);

/* --- identity.c */

/* Parses the words of a chain. NULL, or what was expected. */
const char *identity_parse_chain(const chain_t **chain, cmd_parms *cmd, int argc,
                                 const char *const argv[]);

/* Adds the built-in types and the default chain to a new world. */
void identity_begin(world_t *world);

/* " (TYPE?)" for the known type that the name is most like, or nothing. */
const char *identity_near(const char *name, apr_pool_t *pool);

/* Finds the types of all parts. NULL, or what is wrong; *chain says where. */
const char *identity_resolve(const chain_t **chain, apr_pool_t *pool);

/* --- identity_find.c */

/* The address of a connection as an identity, found once and kept with it. */
typedef struct {
    const char *ip; /* of the connection then, which lives as long */
    size_t len;
    uint64_t fingerprint;
    char text[64];
} address_t;

/* The most common case is one look at the connection: nobody but the address is counted, and there
   are no maps. NULL: it has to be found out. mod_remoteip puts another address into the request,
   other modules another text alone, there or into the connection, too: the text is what counts. */
static inline const address_t *identity_known_address(const identity_t *identity,
                                                      const request_rec *r,
                                                      const server_conf_t *server)
{
    const address_t *address =
        identity->usual_ip && server->maps->nelts == 0
            ? ap_get_module_config(r->connection->conn_config, &ratelimit_plans_module)
            : NULL;

    return address != NULL && address->ip == r->useragent_ip ? address : NULL;
}

/* Finds it out, where that is the case and the connection new. True: it is known from now on. */
bool identity_meet(const identity_t *identity, request_rec *r, const server_conf_t *server);

/* Whom the request is counted for by this chain; who->found is false for nobody. */
void identity_find(who_t *who, const chain_t *chain, request_rec *r, const server_conf_t *server);

/* The value of types that count all as one. */
extern const char identity_all[];

/* An identity as the error log has it: users and the like as digests unless they may be plain;
   addresses and hosts always are. */
const char *identity_logged(const char *identity, bool plain, apr_pool_t *pool);

/* --- exempt.c */

/* Who is exempt, by one directive. */
typedef struct exempt_t exempt_t;

/* Parses the words behind RateLimitExempt, of which there is one at least. NULL, or what was
   expected. */
const char *exempt_parse(const exempt_t **exempt, cmd_parms *cmd, int argc, char *const argv[]);

/* Who they are, in words. */
const char *exempt_describe(const exempt_t *exempt, apr_pool_t *pool);

/* Is the request one of those (exempt_t *)? */
bool exempt_matches(const apr_array_header_t *exempts, request_rec *r);

/* --- denial.c */

/* Makes ready for the log lines of this child. */
void denial_begin(apr_pool_t *pchild);

/* Tells that a rule of .htaccess does not count, unless it was told lately. */
void denial_log_ignored(const rule_t *rule, const char *why);

/* Tells of a refusal by a ban, unless it was told lately. */
void denial_log_banned(const request_rec *r, const char *identity, const server_conf_t *server);

/* Is this, which clients can cause, to be told now? Once a minute of each host. */
bool denial_tells(const request_rec *r, const char *what);

/* Tells that an expression has failed, unless it was told lately: what and name say which. */
void denial_log_expression(const request_rec *r, const char *what, const char *name,
                           const char *error);

/* Tells of a refusal, unless it was told lately or there is too much to tell. */
void denial_log(const request_rec *r, const verdict_t *verdict, const server_conf_t *server);

/* --- plan_map_words.c */

/* Parses the source of a map, such as "txt:FILE". NULL, or what was expected. */
const char *plan_map_source(plan_map_t *map, cmd_parms *cmd, const char *word);

/* Parses ttl= or timeout=, if it is one; *known says so. NULL, or what was expected. */
const char *plan_map_option(plan_map_t *map, cmd_parms *cmd, const char *word, bool *known);

/* --- plan_map.c */

/* Opens the map's source. NULL, or what is wrong. */
const char *plan_map_load(plan_map_t *map, apr_pool_t *pool);

/* Opens what children share of slow maps, in the parent. What is in the pool need not last. */
apr_status_t plan_map_open(apr_pool_t *pool);

/* Makes ready for a child, which looks for what changes. */
void plan_map_begin(apr_pool_t *pchild, server_rec *server);

/* What the map's source is called. */
const char *plan_map_describe(const plan_map_t *map);

/* The map of that type for this server, NULL for none. */
const plan_map_t *plan_map_of(const server_conf_t *server, const char *type);

/* Adds how many of its values have each plan to counts, by plan_t.index, as far as it is known. */
void plan_map_count(const plan_map_t *map, uint32_t counts[], apr_pool_t *pool);

/* The plan that the map says the value has; NULL: the value is unknown. */
const plan_t *plan_map_find(const plan_map_t *map, const char *value, request_rec *r);

/* --- cost.c */

/* Parses the words behind RateLimitCost, or a rule's cost= and reserve=. NULL, or what was
   expected. */
const char *cost_parse(cost_t **cost, cmd_parms *cmd, const char *word, const char *reserve);

/* Units as people write them. */
const char *cost_text(rlp_units_t units, apr_pool_t *pool);

/* The cost by which the rule charges in this section; NULL: one unit. */
const cost_t *cost_of(const rule_t *rule, const dir_conf_t *conf);

/* Does the response say what it costs? */
bool cost_is_late(const cost_t *cost);

/* What the request is charged when it is decided; cost is NULL for one unit. Logs what is no
   number and counts one unit then. */
rlp_units_t cost_before(const cost_t *cost, request_rec *r);

/* What it costs by its response, which r has got last; charged is what it was charged. Logs what is
   no number and leaves the charge. */
rlp_units_t cost_after(const cost_t *cost, request_rec *r, rlp_units_t charged);

/* --- after.c */

/* Keeps n charges just made, of one question, for what comes after: a response may change the cost,
   places come back with the request's end. owners are their rules. */
struct after_t {
    const dir_conf_t *conf;
    rlp_time_t charged_at; /* on the store's time line */
    int n;
    rlp_charge_t *charges;
    const rule_t **rules;
    int status;                  /* with which a response began; 0: none did */
    bool gone;                   /* the client had hung up when there was an error */
    const request_rec *answered; /* whose response these fields are; NULL: none is known */
    apr_table_t *fields;
    after_t *next; /* of an earlier decision of the same client request */
};

/* Gives back what n charges made at the instant now cost and hold: nobody waits for them any
   more. */
void after_undo(rlp_charge_t charges[], int n, rlp_time_t now);

/* Takes note of n charges that were made at the instant now if anything is to be done after
   them. */
void after_remember(verdict_t *verdict, request_rec *r, const rlp_charge_t charges[],
                    const rule_t *const rules[], int n, rlp_time_t now);

/* Hook: corrects charges by the response. */
int after_log(request_rec *r);

/* There is an error to be answered. Whether the client is there has to be asked now: a stream of
   HTTP/2 that has been answered looks as if it was not. */
void after_error(const request_rec *r, const verdict_t *verdict);

/* Lets the status and the fields of the response be remembered, if a charge may depend on them. */
void after_insert_filter(request_rec *r);

/* Registers what remembers them. */
void after_register_filter(void);

/* --- capacity.c */

/* In the parent: writes down what concurrent= gives by the configuration that has been read. */
void capacity_open(apr_pool_t *temp);

/* COUNT of a limit of a rule by the configuration that was read last, of which this child may know
   nothing. */
int64_t capacity_today(const variant_t *variant, int i);

/* --- turn.c */

typedef enum { TURN_CAME, TURN_GONE, TURN_STOPPED } turn_t;

/* Makes ready for those who wait in this child. */
void turn_begin(apr_pool_t *pchild, server_rec *server);

/* May one more request of this child wait? If so, turn_leave() is due. */
bool turn_enter(const server_conf_t *server);
void turn_leave(const server_conf_t *server);

/* Waits so long; the client may go away meanwhile, or the server stop. */
turn_t turn_wait(const request_rec *r, rlp_time_t span);

/* One that waits for a place, in the order of coming among those of its key. */
typedef struct turn_queue_t turn_queue_t;

struct turn_queue_t {
    uint64_t key;
    turn_queue_t *next;
};

/* Enters the queue; leaves it. */
void turn_join(turn_queue_t *self);
void turn_quit(const turn_queue_t *self);

/* Does anybody of this process wait for a place of that key? */
bool turn_is_waited_for(uint64_t key);

/* Does nobody wait for its key before one that is in the queue? */
bool turn_first(const turn_queue_t *self);

/* Hook: the child stops; those who wait are woken unless it is graceful. */
void turn_stop(apr_pool_t *pchild, int graceful);

/* --- respond.c */

/* Is the first outcome to be told before the second? */
bool respond_tighter(const outcome_t *a, const outcome_t *b);

/* Puts the outcomes into the order of the fields: the refusing one, then the smallest rest, then
   the longest time. */
void respond_sort(verdict_t *verdict);

/* The header fields of a decision, by the section's settings. */
void respond_fields(request_rec *r, verdict_t *verdict, const dir_conf_t *conf);

/* RATELIMIT_* of a decision. */
void respond_env(request_rec *r, const verdict_t *verdict);

/* Takes back what they said of one that was exempt. */
void respond_env_none(request_rec *r);

/* The bandwidth of a decision, as stock mod_ratelimit reads it; and the hook that sees to its
   filter. */
void respond_bandwidth(request_rec *r, const verdict_t *verdict);
void respond_insert_filter(request_rec *r);

/* A number as text, in the pool; seconds, or what is left. */
const char *respond_number(int64_t number, apr_pool_t *pool);

/* The names of a limit: with the rule's where another rule has the same plan. */
const label_t *respond_label(const verdict_t *verdict, const outcome_t *outcome);

/* The names of the header fields, in the order of verdict_t.fields; sends those that have a value.
   Each is in a place of its own: names are compared so many bytes at once, and one by one where a
   page ends among them. */
#define RESPOND_NAME 32
extern const char respond_names[RLP_FIELDS_N][RESPOND_NAME];
void respond_send(request_rec *r, const char *const fields[]);

/* --- refuse.c */

/* Refuses a request over its limit: what a hook returns. In a handler, an answer in JSON is written
   at once. */
int refuse_limited(request_rec *r, verdict_t *verdict, const dir_conf_t *conf, bool in_handler);

/* Refuses a request, of an unknown identity for one: what a hook returns. */
int refuse_request(request_rec *r, int status);

/* Says after which time to come again: one second at least. */
void refuse_retry(request_rec *r, rlp_time_t span);

/* The handler behind a refusal in JSON: its name, and what it does. */
extern const char refuse_handler_name[];
int refuse_write_json(request_rec *r, const verdict_t *verdict);

/* --- place.c */

/* Keeps a backend's fields of the same names from going out beside ours. */
void place_guard(request_rec *r, const verdict_t *verdict);
void place_register_filter(void);

/* Before the first fields of a request: makes room. */
void place_begin(request_rec *r);

/* Now that it is known who answers: what has fields of its own is guarded, and those of a file
   stand where errors drop them, as httpd need not merge two tables then. */
void place_response(request_rec *r, const verdict_t *verdict);

/* Sends the fields once more, alone, behind a redirect: it drops the guard. Hook: the same for what
   httpd answers in place of a handler. */
void place_again(request_rec *r, const verdict_t *verdict);
void place_error(request_rec *r);

/* --- request.c */

/* The verdict of the client's request so far, from before an internal redirect too; NULL: none. */
const verdict_t *request_verdict_so_far(const request_rec *r);

/* Does SetHandler give it to a page of ours that is never charged? Before authentication that is
   not in the request yet. */
bool request_will_be_own(request_rec *r);

/* Hook: judges a request before authentication. */
int request_header_parser(request_rec *r);

/* Hooks: judges a request; answers a refusal in JSON, and judges what mod_dir put in its place. */
int request_fixups(request_rec *r);
int request_handler(request_rec *r);
int request_propose(conn_rec *c, request_rec *r, server_rec *s, const apr_array_header_t *offers,
                    apr_array_header_t *proposals);

#pragma GCC visibility pop

#endif
