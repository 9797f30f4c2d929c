/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef CONFIG_SERVER_H
#define CONFIG_SERVER_H

/*
 * The directives of the server and of its hosts, for the table of them all in config.c.
 */

#include "private.h"

#pragma GCC visibility push(hidden)

#ifdef RLP_REDIS
#define CONFIG_MAPS "txt:FILE|dbm:FILE|\"dbd:SQL\"|\"expr:EXPR\"|\"redis:KEY\""
#else
#define CONFIG_MAPS "txt:FILE|dbm:FILE|\"dbd:SQL\"|\"expr:EXPR\""
#endif

/* RateLimitStore, RateLimitPlan. */
const char *config_store(cmd_parms *cmd, void *dir, int argc, char *const argv[]);
const char *config_plan(cmd_parms *cmd, void *dir, int argc, char *const argv[]);

/* RateLimitPlanDefault, RateLimitPlanChange, RateLimitPlanMap. */
const char *config_plan_default(cmd_parms *cmd, void *dir, const char *name);
const char *config_plan_change(cmd_parms *cmd, void *dir, const char *word);
const char *config_plan_map(cmd_parms *cmd, void *dir, int argc, char *const argv[]);

/* RateLimitDelay, RateLimitKeyLog. */
const char *config_delay(cmd_parms *cmd, void *dir, int argc, char *const argv[]);
const char *config_key_log(cmd_parms *cmd, void *dir, const char *how, const char *repeat);

#pragma GCC visibility pop

#endif
