/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What clients can cause in the error log: one line for each identity and rule, or for each thing
 * that fails, in a while, and so many a second.
 */

#include "private.h"

#include <http_log.h>

#include <apr_strings.h>

#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

#define DENIAL_SETS 128 /* a power of two */
#define DENIAL_WAYS 8
#define DENIAL_LINES 50  /* in a second, of one child */
#define DENIAL_REPEAT 60 /* seconds until what fails, or does not count, is told of again */

/* Of one child, shared by its threads; each word is written as one. Seconds are 32 bits of the
   store's time. */
struct denials_t {
    uint64_t lines; /* second << 32 | lines that were due in it */
    /* second << 32 | the upper half of who was told of then */
    uint64_t told[DENIAL_SETS][DENIAL_WAYS];
};

void denial_begin(apr_pool_t *pchild)
{
    rlp_world->denials = apr_pcalloc(pchild, sizeof(*rlp_world->denials));
}

static bool denial_swap(uint64_t *at, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(at, &from, to, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

/* Where it stands who was told of, or the one told of longest ago; *before is what is there. */
static uint64_t *denial_find(uint64_t set[], uint32_t who, uint64_t *before)
{
    uint64_t *oldest = NULL;

    for (int i = 0; i < DENIAL_WAYS; i++) {
        const uint64_t told = __atomic_load_n(&set[i], __ATOMIC_RELAXED);
        const bool found = told != 0 && (uint32_t)told == who;

        if (oldest == NULL || found || told < *before) {
            oldest = &set[i];
            *before = told;
        }
        if (found) {
            break;
        }
    }
    return oldest;
}

/* Takes note that it is told now; *before is what stood there. NULL: it was told lately. */
static uint64_t *denial_mark(uint64_t set[], uint64_t mark, uint32_t repeat, uint64_t *before)
{
    const uint32_t now = (uint32_t)(mark >> 32);
    uint64_t *told;

    do {
        told = denial_find(set, (uint32_t)mark, before);
        if (*before != 0 && (uint32_t)*before == (uint32_t)mark &&
            now - (uint32_t)(*before >> 32) < repeat) {
            return NULL;
        }
    } while (!denial_swap(told, *before, mark));
    return told;
}

/* Is there room for a line in this second? *missed: lines that an earlier second had no room
   for. */
static bool denial_room(uint64_t *lines, uint32_t now, uint32_t *missed)
{
    uint64_t before;
    uint64_t next;

    do {
        before = __atomic_load_n(lines, __ATOMIC_RELAXED);
        next = before >> 32 == now ? before + 1 : (uint64_t)now << 32 | 1;
    } while (!denial_swap(lines, before, next));
    const uint32_t due = (uint32_t)before;

    *missed = before >> 32 != now && due > DENIAL_LINES ? due - DENIAL_LINES : 0;
    return (uint32_t)next <= DENIAL_LINES;
}

static uint64_t denial_fingerprint(const char *text)
{
    return rlp_store_fingerprint(rlp_world->store, text, strlen(text));
}

/* Is it to be told now of whom or what has this fingerprint? Tells how much was left out before. */
static bool denial_due(uint64_t who, uint32_t repeat, const server_rec *server)
{
    denials_t *denials = rlp_world->denials;
    const uint32_t now = (uint32_t)(rlp_world->clock->monotonic() / RLP_SECOND);
    const uint64_t mark = (uint64_t)now << 32 | who >> 32;
    uint32_t missed = 0;
    uint64_t before = 0;
    uint64_t *told = denial_mark(denials->told[who % DENIAL_SETS], mark, repeat, &before);

    if (told == NULL) {
        return false;
    }
    const bool room = denial_room(&denials->lines, now, &missed);

    if (!room) { /* the next of its kind tells it */
        (void)denial_swap(told, mark, before);
    }
    if (missed > 0) {
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, server,
                     "RLP009: %u lines were left out: at most %d a second", missed, DENIAL_LINES);
    }
    return room;
}

void denial_log(const request_rec *r, const verdict_t *verdict, const server_conf_t *server)
{
    const rule_t *rule = verdict->outcomes[0].rule;
    const rlp_time_t repeat = server->key_repeat == RLP_UNSET ? RLP_KEY_REPEAT : server->key_repeat;

    if (APLOG_R_IS_LEVEL(r, APLOG_INFO) &&
        denial_due(denial_fingerprint(verdict->identity) ^ denial_fingerprint(rule->scope),
                   (uint32_t)((repeat + RLP_SECOND - 1) / RLP_SECOND), r->server)) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "RLP001: rule %s, plan %s refuses %s",
                      rule->name, verdict->outcomes[0].variant->plan_name,
                      identity_logged(verdict->identity, server->key_plain == 1, r->pool));
    }
}

void denial_log_ignored(const rule_t *rule, const char *why)
{
    if (rlp_world->denials == NULL ||
        !denial_due(denial_fingerprint(rule->file) + (uint64_t)rule->line, DENIAL_REPEAT,
                    rule->server)) {
        return;
    }
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, rule->server,
                 "RLP020: line %d of %s: RateLimitRule %s%s is ignored: %s", rule->line, rule->file,
                 rule->name, rule->off ? " Off" : "", why);
}

bool denial_tells(const request_rec *r, const char *what)
{
    return rlp_world->denials != NULL &&
           denial_due(denial_fingerprint(what) + denial_fingerprint(r->server->server_hostname),
                      DENIAL_REPEAT, r->server);
}

void denial_log_expression(const request_rec *r, const char *what, const char *name,
                           const char *error)
{
    const char *whose = apr_pstrcat(r->pool, what, name, NULL);

    if (denial_tells(r, whose)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "RLP003: %s: %s", whose, error);
    }
}
