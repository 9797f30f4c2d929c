/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Bans, and plans given for a time, where requests meet them.
 */

#include "admin.h"
#include "decide.h"
#include "stats.h"

#include <apr_strings.h>

void ordered_apply(who_t *who)
{
    const override_table_t *table = ordered_table();
    const override_key_t key = ordered_key(who->text, who->len);
    const rlp_time_t now = ordered_now();
    override_t found;

    override_tidy(table, now);
    if (!override_find(table, &key, now, &found)) {
        return;
    }
    const plan_t *plan = found.plan ? ordered_plan(found.plan) : NULL;

    who->banned = found.ban ? found.ban - now : 0;
    who->plan = plan ? plan : who->plan;
}

int ordered_refuse(const decide_t *d, bool in_handler)
{
    const char *identity = apr_pstrmemdup(d->r->pool, d->banned->text, d->banned->len);

    d->verdict->retry = d->banned->banned;
    decide_refuse_whom(d, identity);
    denial_log_banned(d->r, identity, d->server);
    return refuse_limited(d->r, d->verdict, d->conf, in_handler);
}
