/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#ifndef LEASE_HOSTS_H
#define LEASE_HOSTS_H

/*
 * Hosts with leases, asked as a module asks any store, against a real server.
 */

#include "redis/lease_store.h"

#define HOSTS 2

extern rlp_store_t *stores[HOSTS];
extern rlp_store_t *exacts[HOSTS]; /* behind them */
extern lease_table_t *tables[HOSTS];
extern unsigned never; /* no change comes meanwhile */

/* What all processes of a host have in common. */
lease_table_t *table_open(rlp_time_t patience);

/* Each test has hosts and counters of its own. */
void hosts_fresh(void);

/* How often Redis has been asked since. */
int hosts_asked(void);

/* A charge of one unit. */
void charge_init(rlp_charge_t *charge, const char *identity, const char *rule, const char *words);

rlp_question_t question_now(void);

/* Charges all or none. */
rlp_answer_t host_take(int host, rlp_charge_t charges[], int n);

/* How many of so many requests pass. */
int host_admits(int host, int requests, const char *words);

/* Corrects a charge of the first host. */
void host_settle(rlp_charge_t charge, rlp_units_t cost);

#endif
