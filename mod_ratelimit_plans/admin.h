/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef ADMIN_H
#define ADMIN_H

/*
 * What the pages share that tell people of limits and change what is counted: probe.c asks what the
 * configuration would do with a request, quota.c tells callers their own limits, admin.c lets
 * people in and answers, admin_target.c finds whom they speak of, admin_action.c, admin_order.c and
 * admin_explain.c do what they ask for, ordered.c has bans and plans given for a time.
 */

#include "json.h"
#include "override.h"
#include "private.h"

#pragma GCC visibility push(hidden)

/* --- ordered.c */

/* Finds the table in the annex, in the parent. What came from a Redis that is no longer the first
   store's ends. */
void ordered_open(apr_pool_t *pool);

/* Where those of all hosts come from, for override_mark(). */
uint64_t ordered_source(void);

/* The table; NULL: there is none. */
const override_table_t *ordered_table(void);

/* The plan of that hash; NULL: it is not configured. */
const plan_t *ordered_plan(uint64_t hash);

/* Now on the time line that the table's moments are of. */
rlp_time_t ordered_now(void);

/* Whom an identity's text stands for there. */
override_key_t ordered_key(const char *text, size_t len);

/* What somebody wants: a ban, or a plan for a time; the other of the two stays as it is. */
typedef struct {
    const char *text;  /* whom, as it is counted */
    const char *shown; /* as the log may have it */
    const plan_t *plan;
    bool is_plan;
    rlp_time_t until; /* 0: what there is ends */
} order_t;

/* Is it for all hosts that count in the Redis of the first store? */
bool ordered_is_shared(void);

/* Puts it in force. */
override_result_t ordered_put(const order_t *order, apr_pool_t *pool);

#ifdef RLP_REDIS
/* Which Redis the first store is, and what of it. */
const char *store_redis_where(apr_pool_t *pool);

/* The same in the Redis of the first store, and then here (store_redis_orders.c). */
override_result_t store_redis_order(const order_t *order, apr_pool_t *pool);
#endif

/* --- probe.c */

/* A request that nobody makes. */
typedef struct {
    const char *method;
    const char *path; /* with arguments; begins with a slash */
    const server_rec *host;
    const char *ip;       /* NULL: that of the asking request */
    const char *user;     /* NULL: none */
    apr_table_t *headers; /* what it would send */
    apr_table_t *env;     /* variables that it would have */
} probe_t;

/* Makes it: mapped, and with the sections merged that it would meet; nothing of it is run. *status
   is OK or what httpd would answer before any rule. NULL: ip is no address. */
request_rec *probe_request(int *status, request_rec *r, const probe_t *probe);

/* What rules would answer it. */
typedef struct {
    const char *action; /* as RATELIMIT_ACTION; NULL: no rule counts it */
    int status;         /* of a refusal; 0 */
    rlp_time_t retry;
    rlp_time_t banned; /* for so long; 0: not */
    rlp_time_t at;     /* when the store was asked */
    bool failed;       /* the store could not be asked */
} probe_answer_t;

/* Asks, and charges nothing; header fields of the answer are in err_headers_out. */
probe_answer_t probe_ask(request_rec *made, const dir_conf_t *conf);

/* Why a rule does not speak of it, in a word: of one that does not. */
const char *probe_because(const rule_t *rule, request_rec *made, const dir_conf_t *conf);

/* Whom the rule would count, and the limits as items of an array that is open. False: nobody. */
typedef struct {
    const char *identity; /* NULL: none */
    const char *plan;     /* NULL: none applies */
} probe_rule_t;
probe_rule_t probe_limits(json_out_t *out, request_rec *made, const dir_conf_t *conf, int rule);

/* The rules of the section that apply to it, a bit each. */
uint64_t probe_rules(request_rec *made, const dir_conf_t *conf);

/* One limit as an item of an array. name: as the header fields have it. */
void probe_limit(json_out_t *out, const rule_t *rule, const variant_t *variant, int limit,
                 const rlp_decision_t *decision);

/* --- quota.c */

/* For SetHandler. */
extern const char quota_handler_name[];

/* Tells the caller his own limits. */
int quota_handler(request_rec *r);

/* --- admin.c */

/* For SetHandler. */
extern const char admin_handler_name[];

/* What people ask, and what they are answered. */
typedef struct {
    request_rec *r;
    const json_t *ask;
    json_out_t out;
    int status;        /* of a refusal */
    const char *audit; /* what was changed, for the log; NULL: nothing */
} admin_t;

/* Lets people in who may, and does what they ask for. */
int admin_handler(request_rec *r);

/* Answers with application/problem+json; what a handler returns. */
int admin_problem(request_rec *r, int status, const char *detail);

/* Answers with a text of JSON. */
int admin_answer(request_rec *r, int status, const char *type, json_out_t *out);

/* Is the peer of the connection on this machine, and speaks for itself? */
bool admin_is_local(request_rec *r);

/* --- admin_target.c */

/* Whom an action speaks of. */
typedef struct {
    const char *text;  /* as it is counted */
    const char *shown; /* as the log may have it */
    const identity_t *identity;
    const char *values[RLP_PARTS_MAX]; /* of its parts, as plan maps know them; NULL: not known */
} admin_target_t;

/* Reads "identity" and "secret". NULL, or what was expected. */
const char *admin_target(admin_target_t *target, admin_t *admin);

/* The identity that has the label which the text begins with, of some chain; NULL: none. */
const identity_t *admin_identity(const char *text, size_t label_len);

/* Reads "for" or "until": a moment of the store's time. NULL, or what was expected. */
const char *admin_moment(rlp_time_t *moment, admin_t *admin);

/* A member that is a string; NULL: there is none. *error: it is something else. */
const char *admin_text(const admin_t *admin, const char *name, const char **error);

/* The plan that "plan" names; NULL: there is none such member. */
const plan_t *admin_plan(const admin_t *admin, const char **error);

/* The moment in ISO 8601, or NULL for 0. */
const char *admin_time(rlp_time_t moment, apr_pool_t *pool);

/* --- admin_action.c. Each writes members of the answer. NULL, or what was expected; then status is
   set if it is not 400. */

/* What is left under each limit; all of it is there again; so much is. */
const char *admin_get(admin_t *admin);
const char *admin_reset(admin_t *admin);
const char *admin_grant(admin_t *admin);

/* --- admin_order.c: the same of bans, and plans given for a time */

/* What there is of the target. False: neither a ban nor a plan. */
bool admin_override(const admin_target_t *target, override_t *found);

/* Tells whom it is about, and what there is. */
void admin_tell_override(admin_t *admin, const admin_target_t *target);

/* A ban; its end; a plan for a time, or its end. */
const char *admin_ban(admin_t *admin);
const char *admin_unban(admin_t *admin);
const char *admin_set_plan(admin_t *admin);

/* Which of them are in force. */
const char *admin_list(admin_t *admin);

/* --- admin_explain.c */

/* What is configured; who is refused most; what would become of a request. */
const char *admin_plans(admin_t *admin);
const char *admin_top(admin_t *admin);
const char *admin_explain(admin_t *admin);

#pragma GCC visibility pop

#endif
