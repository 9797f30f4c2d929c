/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * ratelimit-admin about bans, and plans given for a time: of one identity, and all of them.
 */

#include "admin.h"

#include <apr_strings.h>

#include <string.h>

bool admin_override(const admin_target_t *target, override_t *found)
{
    const override_key_t key = ordered_key(target->text, strlen(target->text));

    *found = (override_t){ .ban = 0 };
    if (ordered_table() == NULL || !override_find(ordered_table(), &key, ordered_now(), found)) {
        *found = (override_t){ .ban = 0 };
        return false;
    }
    return true;
}

/* What there is of somebody, as members of the object that is open. */
static void order_tell(json_out_t *out, const char *identity, const override_t *found)
{
    const plan_t *plan = found->plan ? ordered_plan(found->plan) : NULL;

    json_string(out, "identity", identity);
    json_string(out, "banned_until", admin_time(found->ban, out->pool));
    json_string(out, "set_plan", plan ? plan->limits->name : NULL);
    json_string(out, "set_plan_until", admin_time(found->until, out->pool));
}

void admin_tell_override(admin_t *admin, const admin_target_t *target)
{
    override_t found;

    (void)admin_override(target, &found);
    order_tell(&admin->out, target->text, &found);
}

/* --- orders */

/* What is told of a result: why it is an error, and how the audit's line of a change ends. */
typedef struct {
    int status;
    const char *error; /* NULL: it is none */
    const char *audit; /* NULL: nothing was changed */
} order_result_t;

static const order_result_t order_results[] = {
    [OVERRIDE_DONE] = { HTTP_OK, NULL, "" },
    [OVERRIDE_NONE] = { HTTP_OK, NULL, NULL },
    [OVERRIDE_FULL] = { HTTP_INSUFFICIENT_STORAGE,
                        "expected fewer than 4096 bans and plans in force: end some, or wait for "
                        "the ends of others",
                        NULL },
    [OVERRIDE_BUSY] = { HTTP_SERVICE_UNAVAILABLE,
                        "expected no other change under way for a second: try again", NULL },
    [OVERRIDE_AWAY] = { HTTP_SERVICE_UNAVAILABLE,
                        "expected an answer of Redis, which has bans and plans for all hosts: "
                        "nothing was changed",
                        NULL },
    [OVERRIDE_LOST] = { HTTP_SERVICE_UNAVAILABLE,
                        "expected an answer of Redis, which has bans and plans for all hosts: "
                        "nothing was changed here, but it comes into force if Redis has carried it "
                        "out",
                        ", without an answer of Redis" },
    [OVERRIDE_LATE] = { HTTP_SERVICE_UNAVAILABLE,
                        "expected room among the bans and plans of this host, and no other change "
                        "under way for a second: it was ordered for all hosts, and comes into "
                        "force here as soon as it can",
                        ", not in force on this host yet" },
};

/* Puts in force what is wanted of the target, and tells what then is. */
static const char *order_run(admin_t *admin, const admin_target_t *target, order_t *order,
                             const char *audit)
{
    if (ordered_table() == NULL) {
        admin->status = HTTP_SERVICE_UNAVAILABLE;
        return "expected a store with room for bans and plans";
    }
    order->text = target->text;
    order->shown = target->shown;
    const override_result_t done = ordered_put(order, admin->r->pool);
    const order_result_t *result = &order_results[done];

    if (result->audit != NULL) {
        admin->audit = apr_pstrcat(admin->r->pool, audit, result->audit, NULL);
    }
    if (result->error != NULL) {
        admin->status = result->status;
        return result->error;
    }
    json_bool(&admin->out, "changed", done == OVERRIDE_DONE);
    admin_tell_override(admin, target);
    return NULL;
}

const char *admin_ban(admin_t *admin)
{
    admin_target_t target;
    order_t order = { .is_plan = false };
    const char *error = admin_target(&target, admin);

    error = error ? error : admin_moment(&order.until, admin);
    if (error != NULL) {
        return error;
    }
    return order_run(admin, &target, &order,
                     apr_psprintf(admin->r->pool, "ban %s until %s", target.shown,
                                  admin_time(order.until, admin->r->pool)));
}

const char *admin_unban(admin_t *admin)
{
    admin_target_t target;
    order_t order = { .is_plan = false };
    const char *error = admin_target(&target, admin);

    return error ? error
                 : order_run(admin, &target, &order,
                             apr_psprintf(admin->r->pool, "unban %s", target.shown));
}

/* "plan": null ends what was set. */
static bool order_ends_plan(const admin_t *admin)
{
    const json_t *plan = json_member(admin->ask, "plan");

    return plan != NULL && plan->kind == JSON_NULL;
}

static const char *order_end_plan(admin_t *admin, const admin_target_t *target)
{
    order_t order = { .is_plan = true };

    if (json_member(admin->ask, "for") != NULL || json_member(admin->ask, "until") != NULL) {
        return "expected no \"for\" and no \"until\" with \"plan\": null, which ends what was set "
               "at once";
    }
    return order_run(admin, target, &order,
                     apr_psprintf(admin->r->pool, "set-plan of %s ends", target->shown));
}

const char *admin_set_plan(admin_t *admin)
{
    admin_target_t target;
    order_t order = { .is_plan = true };
    const char *error = admin_target(&target, admin);

    if (error != NULL || order_ends_plan(admin)) {
        return error ? error : order_end_plan(admin, &target);
    }
    order.plan = admin_plan(admin, &error);
    if (error == NULL && order.plan == NULL) {
        error = "expected \"plan\": the name of a plan, or null to end what was set";
    }
    error = error ? error : admin_moment(&order.until, admin);
    if (error != NULL) {
        return error;
    }
    return order_run(admin, &target, &order,
                     apr_psprintf(admin->r->pool, "set-plan of %s to %s until %s", target.shown,
                                  order.plan->limits->name,
                                  admin_time(order.until, admin->r->pool)));
}

/* --- all of them */

static void order_list_one(void *baton, const override_key_t *key, const char *shown,
                           const override_t *found)
{
    json_out_t *out = baton;

    (void)key;
    json_open(out, NULL, '{');
    order_tell(out, shown, found);
    json_close(out, '}');
}

const char *admin_list(admin_t *admin)
{
    json_number(&admin->out, "room", OVERRIDES_MAX);
    json_open(&admin->out, "overrides", '[');
    if (ordered_table() != NULL) {
        override_visit(ordered_table(), ordered_now(), order_list_one, &admin->out);
    }
    json_close(&admin->out, ']');
    return NULL;
}
