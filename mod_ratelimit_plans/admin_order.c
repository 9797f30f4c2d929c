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

static const char *order_refused(admin_t *admin, override_result_t result)
{
    switch (result) {
    case OVERRIDE_FULL:
        admin->status = HTTP_INSUFFICIENT_STORAGE;
        return "expected fewer than 4096 bans and plans in force: end some, or wait for the ends "
               "of others";
    case OVERRIDE_BUSY:
        admin->status = HTTP_SERVICE_UNAVAILABLE;
        return "expected no other change under way for a second: try again";
    case OVERRIDE_AWAY:
        admin->status = HTTP_SERVICE_UNAVAILABLE;
        return "expected an answer of Redis, which has bans and plans for all hosts: nothing was "
               "changed";
    case OVERRIDE_LOST:
        admin->status = HTTP_SERVICE_UNAVAILABLE;
        return "expected an answer of Redis, which has bans and plans for all hosts: nothing was "
               "changed here, but it comes into force if Redis has carried it out";
    case OVERRIDE_LATE:
        admin->status = HTTP_SERVICE_UNAVAILABLE;
        return "expected room among the bans and plans of this host, and no other change under way "
               "for a second: it was ordered for all hosts, and comes into force here as soon as "
               "it can";
    case OVERRIDE_NONE:
    case OVERRIDE_DONE:
        break;
    }
    return NULL;
}

/* The line of what was changed, or may have been; NULL: nothing was. */
static const char *order_audit(override_result_t result, const char *audit, apr_pool_t *pool)
{
    switch (result) {
    case OVERRIDE_DONE:
        return audit;
    case OVERRIDE_LOST:
        return apr_pstrcat(pool, audit, ", without an answer of Redis", NULL);
    case OVERRIDE_LATE:
        return apr_pstrcat(pool, audit, ", not in force on this host yet", NULL);
    default:
        return NULL;
    }
}

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
    const override_result_t result = ordered_put(order, admin->r->pool);

    admin->audit = order_audit(result, audit, admin->r->pool);
    const char *error = order_refused(admin, result);

    if (error == NULL) {
        json_bool(&admin->out, "changed", result == OVERRIDE_DONE);
        admin_tell_override(admin, target);
    }
    return error;
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
