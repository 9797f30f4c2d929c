/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef HOSTS_STATE_H
#define HOSTS_STATE_H

/*
 * The state of the simulation: what its hosts (hosts_ask.c), and the world between them and Redis
 * (hosts_world.c), share.
 */

#include "hosts_parts.h"
#include "hosts_redis.h"
#include "hosts_world.h"
#include "redis/breaker.h"
#include "redis/denial.h"
#include "redis/lease.h"

#define LEASES ((size_t)16 * LEASE_TABLE_STEP) /* store_redis_lease.c */
#define SWEEP_EVERY (RLP_SECOND / 4)
#define STEPS 160

enum { REQUEST, AGAIN, RENEW, SWEEP, ARRIVAL, DECISION, REPLY, TIMEOUT, AWAY, BACK };

typedef enum { MAIL_CHECK, MAIL_LEASE, MAIL_SWEEP } mail_kind_t;

/* A question on its way, or its answer. */
typedef struct {
    mail_kind_t kind;
    uint32_t key;
    bool open;        /* the host waits for it */
    int events;       /* that will still come */
    rlp_time_t begun; /* the request */
    rlp_time_t sent;
    rlp_time_t decided;
    redis_ticket_t ticket;
    lease_question_t question;
    lease_answer_t answer;
    rlp_decision_t decision;
    uint32_t next; /* free */
} mail_t;

#define ASKING 64

typedef struct {
    rlp_time_t ahead; /* of its monotonic clock */
    double gap;       /* between two requests, on average */
    lease_table_t *table;
    redis_denials_t *denials;
    redis_breaker_t breaker;
    uint32_t asking[ASKING]; /* keys whose refusal has ended, + 1; 0: free */
    uint32_t cursor;         /* of its sweep */
    rlp_time_t *touched;     /* when each lease was */
    bool sweeps;
} host_t;

typedef struct {
    const world_settings_t *settings;
    world_result_t result;
    uint64_t random;
    rlp_time_t now;
    rlp_time_t end;
    zipf_t zipf;
    queue_t queue;
    host_t *hosts;
    redis_sim_t *redis;
    rlp_time_t busy_until;
    rlp_time_t worked;
    bool away;
    oracle_t promise;              /* charged with what passed */
    oracle_t ideal;                /* asked by each request as it comes */
    uint32_t *above;               /* by key */
    uint64_t (*passed)[WORLD_TOP]; /* by host */
    mail_t *mails;
    uint32_t mails_n;
    uint32_t free; /* + 1 */
    uint64_t waits[STEPS];
} world_t;

/* --- hosts_world.c */

/* Something will happen. */
void world_add(world_t *world, int kind, rlp_time_t at, uint32_t host, uint32_t index,
               rlp_time_t begun);

/* The host's clock. */
rlp_time_t world_clock(const world_t *world, uint32_t host);

/* A new mail, to be filled in and sent. */
uint32_t world_mail(world_t *world);

/* One of its events has come. */
void world_release(world_t *world, uint32_t index);

/* Sends what has been filled in of a mail; false: the breaker is open. */
bool world_send(world_t *world, uint32_t host, uint32_t index);

/* A request passes now, or at Redis; does the promise allow it? */
void world_passes(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun);
void world_charges(world_t *world, uint32_t key);

/* A request is refused. */
void world_refuses(world_t *world, uint32_t key, rlp_time_t begun);

/* --- hosts_ask.c */

/* A request, or one that comes again. */
void world_decide(world_t *world, uint32_t host, uint32_t key, rlp_time_t begun);

/* Nobody of the host asks about the key any more. */
void world_asked(world_t *world, uint32_t host, const mail_t *mail);

/* An answer to a request. */
void world_checked(world_t *world, uint32_t host, mail_t *mail);

/* An answer about a lease; NULL: there is none. */
void world_granted(world_t *world, uint32_t host, const mail_t *mail, const lease_answer_t *answer);

/* A lease is to be renewed; all are to be looked at. */
void world_renew(world_t *world, const event_t *event);
void world_look(world_t *world, uint32_t host);

#endif
