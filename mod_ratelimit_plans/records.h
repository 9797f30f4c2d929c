/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef RECORDS_H
#define RECORDS_H

/*
 * The records of the module: identities, plans, rules, what was decided, the configuration. The
 * latter is made while it is read, in its pool, and read-only from then on.
 */

#include "glob.h"
#include "mod_ratelimit_plans.h"
#include "rlp.h"

#include <ap_expr.h>
#include <http_config.h>
#include <httpd.h>

#include <apr_hash.h>
#include <apr_tables.h>

#define RLP_RULES_MAX 16 /* of one section */
#define RLP_PARTS_MAX 4  /* of a joined identity */
#define RLP_UNSET (-1)

/* --- identities */

typedef enum {
    SOURCE_USER,
    SOURCE_IP,
    SOURCE_VHOST,
    SOURCE_GLOBAL,
    SOURCE_ANONYMOUS,
    SOURCE_CERT,
    SOURCE_PROVIDER /* NAME=PROVIDER:ARGUMENT */
} source_t;

/* A type of identity, known by its name in the whole server. */
typedef struct {
    const char *name;
    source_t source;
    const rlp_identity_provider_t *provider; /* of SOURCE_PROVIDER */
    const char *provider_name;
    const char *argument; /* behind header: and the like */
    void *settings;       /* what the provider has made of it */
    bool chosen;        /* the client writes what it likes: counts only when a plan map knows it */
    bool authenticated; /* there is none before authentication */
    bool always;        /* every request has it */
    const char *file;   /* where it was declared; NULL: built in */
    int line;
} identity_type_t;

typedef struct {
    const char *name;            /* as written, without bits */
    const identity_type_t *type; /* found when everything is read */
    int bits4;
    int bits6;
} identity_part_t;

/* One identity of a chain: one type, or several joined. */
typedef struct {
    const char *label; /* the printed type, with the ":" behind it */
    size_t label_len;
    bool usual_ip; /* ip alone, with the usual bits: kept with the connection */
    int n;
    identity_part_t parts[RLP_PARTS_MAX];
} identity_t;

/* The identities of RateLimitIdentity or key=, in order of preference. */
typedef struct {
    int n;
    identity_t *items;
    const char *file;
    int line;
} chain_t;

typedef struct plan_t plan_t;

#define RLP_WHO_MAX (RLP_PARTS_MAX * 280)

/* Whom a request is counted for. */
typedef struct {
    const chain_t *chain; /* by which it was found */
    const plan_t *plan;   /* what a map says; NULL: nothing */
    bool found;
    int refuse;        /* a map says: unknown=deny, with this status; else 0 */
    rlp_time_t banned; /* for so long, by what people have ordered; 0: not */
    const char *text;  /* "TYPE:VALUE", secrets digested */
    size_t len;
    uint64_t fingerprint; /* of the text; 0: not known */
    char room[RLP_WHO_MAX];
} who_t;

/* --- plans, rules */

struct plan_t {
    rlp_plan_t *limits;
    const plan_t *then; /* takes over when a quota is used up; NULL: none */
    int index;          /* from 1; 0 stands for a rule's own limits */
    bool used;          /* something can give it to somebody */
    const char *file;
    int line;
};

/* One limit as the header fields say it. */
typedef struct {
    const char *name;   /* "pro-day" */
    const char *policy; /* "\"pro-day\";q=1000;w=86400" */
    size_t policy_len;
    const char *left; /* "\"pro-day\";r=", readable for a word beyond its end */
    size_t left_len;
} label_t;

#define RLP_LABEL_WORD 8
#define RLP_NUMBER_MAX 20 /* digits */
#define RLP_NUMBERS_ROOM \
    ((size_t)3 * (RLP_NUMBER_MAX + 1) + 1) /* for those of X-RateLimit fields */

/* A rule under one plan. */
typedef struct variant_t variant_t;

struct variant_t {
    const char *plan_name;
    const char *scope; /* of the rule; with the plan, where each has counters of its own */
    const rlp_plan_t *plan;
    const variant_t *then; /* of the plan that takes over; NULL: none */
    uint64_t *counted;     /* statistics (stats_counts()); NULL: not looked for yet */
    bool plain; /* nothing to do for it but to ask: no branch, hold, calendar or large state */
    uint64_t signatures[2][RLP_LIMITS_MAX]; /* enforced; dry run */
    uint32_t sizes[RLP_LIMITS_MAX];         /* of the states, the same for equal signatures */
    label_t labels[2][RLP_LIMITS_MAX];      /* plain; with "@RULE" */
    size_t room;                            /* for its part of RateLimit, in bytes */
};

/* What a request costs. */
typedef struct cost_t cost_t;

struct cost_t {
    rlp_units_t units;          /* known beforehand, or reserved until the response says */
    const ap_expr_info_t *expr; /* its text is the number; NULL: none */
    const char *header;         /* of the response; NULL: none */
    bool local;                 /* of .htaccess: never less than outside */
    const cost_t *outer;        /* of a local one, what is said outside; NULL: one unit */
};

typedef struct dir_conf_t dir_conf_t;

typedef enum { CHOICE_AUTO, CHOICE_NONE, CHOICE_NAMED } choice_t;

/* What takes a closer look where one rule of a section, or the section, has it. */
enum {
    TRAIT_PATH = 1U << 0,
    TRAIT_PRIORITY = 1U << 1,
    TRAIT_APART = 1U << 2,  /* refuses nobody, is judged by itself */
    TRAIT_EARLY = 1U << 3,  /* phase=early */
    TRAIT_LOCAL = 1U << 4,  /* of .htaccess */
    TRAIT_CHOOSY = 1U << 5, /* off, or speaks of some requests only, whatever their path */
    TRAIT_MORE = 1U << 6,   /* a section with a cost, a refund, exemptions or RateLimitEnv */
};

/* httpd numbers methods from 0 to 62, and HEAD as GET */
#define METHOD_HEAD 63
#define METHOD_BIT(number) (UINT64_C(1) << (number))

typedef struct {
    const char *name;
    bool off;
    rlp_plan_t *own; /* NULL: no limits of its own */
    choice_t choice;
    const char *plan_name;
    const chain_t *key;                /* NULL: the chain of the section */
    const apr_array_header_t *methods; /* of const char *; NULL: all */
    uint64_t method_bits; /* METHOD_BIT() of those that the rule speaks of; none if it is off */
    bool methods_negated;
    const path_glob_t *path; /* NULL: all */
    const ap_expr_info_t *condition;
    int priority;             /* among alternatives */
    unsigned traits;          /* TRAIT_* */
    const cost_t *cost;       /* NULL: that of the section */
    const dir_conf_t *beside; /* what else the same section says, as it is before sections merge */
    const ap_expr_info_t *counts; /* count=response:; a response that does not meet it is given
                                     back; NULL: all count */
    bool dry;                     /* mode=log */
    bool marks;                   /* action=mark */
    bool delays;                  /* action=delay */
    rlp_time_t max_wait;          /* behind it; RLP_TIME_NEVER: as RateLimitDelay says */
    bool plain; /* counts every request once, at once, and for good, whatever comes of it */
    const variant_t *usual; /* what judges addresses without a plan, if there is nothing else to be
                               done where the rule matches; NULL: it takes a closer look */
    uint64_t *bystanders; /* statistics of requests whose plan was not looked for; NULL: none yet */
    unsigned options;     /* those given, a bit each */
    const char *store_name;   /* store=; NULL: the first store */
    const rlp_terms_t *terms; /* what it wants for its charges; NULL: what is usual */
    server_rec *server;
    const char *directory; /* of the .htaccess it is from; NULL: of the server's configuration */
    const char *section;   /* "<Location "/api">", or NULL for none */
    const char *file;
    int line;
    const char *scope;    /* the name with its scope; one pointer for each text, but in .htaccess */
    variant_t **variants; /* by plan_t.index; NULL where it cannot apply, or in .htaccess has not
                             applied yet */
} rule_t;

typedef enum { UNKNOWN_NEXT, UNKNOWN_DEFAULT, UNKNOWN_DENY } unknown_t;

typedef struct plan_map_state_t plan_map_state_t;

typedef struct {
    const char *type;
    const char *words; /* "PROVIDER:ARGUMENT" */
    const char *name;  /* of the provider, as it was written */
    const rlp_plan_map_provider_t *provider;
    void *settings;          /* what it has made of the words */
    server_rec *server;      /* where it was declared */
    rlp_time_t ttl;          /* how long an answer is taken; 0: none is kept */
    rlp_time_t timeout;      /* how long a request waits for one; 0: it asks itself */
    plan_map_state_t *state; /* what is in memory */
    unknown_t unknown;
    bool unknown_given;
    int status;
    const char *file;
    int line;
} plan_map_t;

/* --- what was decided */

/* One limit of one rule, as it was judged; lives as long as the request. */
typedef struct {
    const rule_t *rule;
    const variant_t *variant;
    int limit;   /* index in the variant's plan */
    bool untold; /* charged in a section without header fields */
    rlp_decision_t decision;
} outcome_t;

#define RLP_FIELDS_N 5 /* header fields of ours */

typedef struct verdict_t verdict_t;
typedef struct after_t after_t;

/* What was decided for a client request. After an internal redirect there is one more, which knows
   the one before. A request that just passes, and has nothing to tell, shares the one of its
   section. */
struct verdict_t {
    const dir_conf_t *conf; /* whose rules were judged */
    const char *path;       /* as request_rec.uri was then; not copied */
    uint64_t judged;        /* which of them, a bit each */
    uint64_t unidentified;  /* which of them found nobody to count */
    const verdict_t *before;
    const char *action;
    bool denied;
    int64_t bandwidth;    /* bytes a second; 0: none */
    after_t *after;       /* what is still to be done; NULL: nothing */
    int status;           /* denied: what is answered */
    rlp_time_t retry;     /* 0: none */
    rlp_time_t at;        /* when the store was asked, monotonic; 0: it was not */
    const char *identity; /* NULL: nobody reads it */
    int n;
    outcome_t *outcomes;        /* of all redirects, in the order of the fields */
    outcome_t apart;            /* of rules that refuse nobody, the tightest; no rule: none; no
                                   variant: a map refuses */
    const char *apart_identity; /* NULL: nobody reads it */
    const char **fields;        /* RLP_FIELDS_N values; NULL: none is sent */
    const char *own_fields[RLP_FIELDS_N];
    char *text;  /* room for the fields' text */
    size_t room; /* of it */
};

/* --- configuration records */

typedef enum { ENGINE_OFF, ENGINE_ON, ENGINE_LOG_ONLY } engine_t;
typedef enum { FIELDS_OFF = 0, FIELDS_IETF = 1, FIELDS_LEGACY = 2, FIELDS_BOTH = 3 } fields_t;

/* merged: every field has its line in config_merge_dir() */
struct dir_conf_t {
    apr_array_header_t *rules; /* of const rule_t * */
    unsigned traits;           /* of all of them, and of those replaced */
    const chain_t *chain;      /* NULL: the default */
    int engine;                /* engine_t */
    int fields;                /* fields_t */
    int fields_epoch;          /* X-RateLimit-Reset is an instant */
    int fields_denied;         /* only on refusals */
    int deny_status;
    int env_always;
    const cost_t *cost;           /* NULL: one unit */
    const ap_expr_info_t *refund; /* a response that meets it costs nothing; NULL: none */
    apr_array_header_t *exempts;  /* of const exempt_t *; NULL: nobody */
    verdict_t passed;             /* all rules were judged and let the request pass */
    verdict_t exempted;           /* none was judged: the request is exempt */
};

/* merged: every field has its line in config_merge_server() */
typedef struct {
    apr_array_header_t *maps; /* of plan_map_t * */
    const char *default_name;
    plan_t *plan_default;
    int default_line;
    const char *default_file;
    int plan_reset;
    rlp_time_t delay_max;  /* RLP_UNSET, or the longest wait; 0: none */
    int delay_budget;      /* RLP_UNSET, or percent of the threads that may wait at once */
    int key_plain;         /* users and the like stand in the log as they are */
    rlp_time_t key_repeat; /* RLP_UNSET, or how long a refusal of theirs is not told again */
} server_conf_t;

/* Where a record of a section was written. */
typedef struct {
    const dir_conf_t *conf;
    const server_rec *server;
    const char *section; /* "<Location "/api">", or NULL for none */
    const char *file;
    int line;
} place_t;

#define RLP_DELAY_BUDGET 10 /* percent */
#define RLP_KEY_REPEAT (60 * RLP_SECOND)

/* A store of the server. */
typedef struct {
    const char *name;
    const rlp_store_provider_t *provider;
    void *settings;   /* what it has made of its options */
    const char *file; /* of its directive; NULL: there is none */
    int line;
    rlp_store_t *store; /* NULL: not open */
    rlp_hold_t owner;   /* this child in it, for concurrency limits */
} depot_t;

typedef struct ordered_t ordered_t;
typedef struct turns_t turns_t;
typedef struct denials_t denials_t;
typedef struct cache_t cache_t;
typedef struct askers_t askers_t;

/* Hooks that are there only where the configuration needs them: no other request pays for them. */
enum {
    HOOK_EARLY = 1U << 0,     /* rules before authentication */
    HOOK_BANDWIDTH = 1U << 1, /* the filter of stock mod_ratelimit */
    HOOK_AFTER = 1U << 2,     /* charges corrected by what the response was */
    HOOK_HEARS = 1U << 3,     /* by header fields of it, which Header may take out */
    HOOK_FIELDS = 1U << 4,    /* identities from header fields, which RequestHeader may change */
    HOOK_STATUS =
        1U << 5, /* charges corrected by its status, which another may take the place of */
};

/* What one reading of the configuration has declared for the whole server. */
typedef struct {
    apr_pool_t *pool;
    apr_hash_t *plans;             /* name -> plan_t */
    apr_array_header_t *plan_list; /* of plan_t * */
    apr_hash_t *identity_types;    /* name -> identity_type_t */
    apr_array_header_t *rules;     /* of rule_t *, all */
    apr_array_header_t *chains;    /* of chain_t *, all */
    apr_array_header_t *maps;      /* of plan_map_t *, all */
    apr_array_header_t *places;    /* of place_t *, those of all sections with directives of ours */
    apr_hash_t *placed;            /* dir_conf_t -> place_t */
    apr_hash_t *scopes;            /* text -> the same text */
    apr_hash_t *kinds;             /* signature of a limit without a scope -> uint32_t, the largest
                                      state of it in any plan */
    bool engaged;                  /* the engine is on somewhere */
    bool defaults;                 /* some host has a RateLimitPlanDefault */
    rlp_time_t longest_wait;       /* that any host allows */
    const chain_t *default_chain;
    apr_array_header_t *depots; /* of depot_t, in the order of RateLimitStore; the first is that of
                                   all rules that name none, and is there if none is declared */
    const char *store_name;     /* of the first; NULL: not declared */
    const rlp_store_provider_t *store_provider; /* of the first */
    const char *store_fault; /* why the store that need not be declared cannot be had, or NULL */
    void *store_settings;    /* ... what it has made of its options */
    apr_array_header_t
        *segments; /* of int: the numbers of those of shared memory that stores have */
    const rlp_algorithm_t *const *algorithms; /* of algorithm= */
    rlp_store_t *store;                       /* all of them as one; NULL: no rule needs it */
    void *annex;                              /* of one segment (annex.h) */
    rlp_store_t *annexed;                     /* the store in it; NULL: there is no segment */
    int annexed_at;                           /* its number */
    uint64_t *capacities;                     /* what concurrent= gives today; NULL: not known */
    ordered_t *ordered;                       /* bans, and plans given for a time; NULL: none */
    const uint32_t *ordered_count;            /* of those that may be in force; never NULL */
    rlp_hold_t owner;                         /* this child in the first, for concurrency limits */
    const rlp_owners_t *living;               /* ... and all children */
    turns_t *turns;                           /* of this child, for those who wait */
    denials_t *denials;                       /* of this child, what its log has */
    cache_t *cache;                           /* answers of slow plan maps; NULL: there are none */
    askers_t *askers; /* of this child, threads that ask sources that block; NULL: there are none */
    char *(*ssl_value)(apr_pool_t *, server_rec *, conn_rec *, request_rec *,
                       char *); /* of mod_ssl; NULL: it is not here */
    apr_uint32_t cost_logged;   /* second of the latest line about a cost */
    apr_uint32_t damage_logged; /* times that a counter was damaged in this child */
    bool corrects; /* this child has charges to correct: its hook has something to look for */
    bool cut_off;  /* this child, without threads, ends wherever it is: nothing is asked any more */
    unsigned needs; /* HOOK_* */
    unsigned hears; /* HOOK_HEARS and HOOK_STATUS, if needed or if a .htaccess may need them */
    int owners;     /* processes that may hold places at once */
    const rlp_clock_provider_t *clock;
} world_t;

#endif
