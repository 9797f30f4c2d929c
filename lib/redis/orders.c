/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "redis/orders.h"

#include "redis/key.h"

#include <apr_strings.h>

#include <string.h>

#define ORDERS_KEY "rlp:orders"
#define ORDERS_NONE "-" /* in the place of a plan's name */
#define ORDERS_DIGITS 17
#define ORDERS_IDENTITY_MAX ((size_t)3 * REDIS_ORDERS_IDENTITY_MAX) /* as it stands there */
#define ORDERS_FAR (REDIS_ORDERS_SPAN / 1000 + 86400000)            /* ms; the day is for clocks */

/* Both scripts: the server's time in milliseconds, what stands there, and its version. A value that
   is too large for one reply is none of ours. GET and SET alone: whom Redis allowed to count until
   now is allowed this, too. */
#define ORDERS_BEGIN                                                              \
    "local time = redis.call('TIME')\n"                                           \
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"                   \
    "local value = redis.pcall('GET', KEYS[1])\n"                                 \
    "if type(value) ~= 'string' or #value > 950000 then value = '' end\n"         \
    "local version = string.match(string.sub(value, 1, 24), '^rlpo1 (%d+)\\n')\n" \
    "if not version or #version > 16 then version, value = '0', '' end\n"

#define ORDERS_LOOK                                                                 \
    "if ARGV[1] ~= 'all' then return { string.format('%.0f', now), version } end\n" \
    "return { string.format('%.0f', now), version, value }"

/* Keeps the lines of others that are in force, and puts the new one behind them. What
   redis_orders_read() does not understand is dropped, and whom it takes for the same is the same.
 */
#define ORDERS_CHANGE                                                                          \
    "local kind, who, span, name = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]\n"             \
    "local function ends(digits)\n"                                                            \
    "  local moment = tonumber(digits)\n"                                                      \
    "  if #digits > 17 or moment > now + 3661 * 86400000 then return nil end\n"                \
    "  return moment > now and moment or 0\n"                                                  \
    "end\n"                                                                                    \
    "local needless = {}\n"                                                                    \
    "for byte = 33, 126 do\n"                                                                  \
    "  needless[string.format('%%%02X', byte)] = string.char(byte)\n"                          \
    "end\n"                                                                                    \
    "needless['%25'], needless['%7B'], needless['%7D'] = nil, nil, nil\n"                      \
    "local function plain(identity)\n"                                                         \
    "  if not string.find(identity, '[%%{}]') then return identity end\n"                      \
    "  local rest = string.gsub(identity, '%%[0-9A-F][0-9A-F]', '')\n"                         \
    "  if string.find(rest, '[%%{}]') or string.find(identity, '%%00') then return nil end\n"  \
    "  return (string.gsub(identity, '%%[2-7]%x', needless))\n"                                \
    "end\n"                                                                                    \
    "local function is_name(text)\n"                                                           \
    "  return text == '-' or #text <= 64 and string.find(text, '^%a[%w_.-]*$')\n"              \
    "end\n"                                                                                    \
    "local lines, bytes, latest = { '' }, 0, now + 60000\n"                                    \
    "local ban, till, plan = 0, 0, '-'\n"                                                      \
    "for line in string.gmatch(value, '[^\\n]*\\n') do\n"                                      \
    "  local identity, b, t, p = string.match(line, '^([%w%p]+) (%d+) (%d+) ([%w%p]+)\\n$')\n" \
    "  identity = identity and #identity <= 3600 and is_name(p) and plain(identity)\n"         \
    "  if identity then b, t = ends(b), ends(t) end\n"                                         \
    "  if identity and b and t and (b > 0 or t > 0) then\n"                                    \
    "    if identity == who then\n"                                                            \
    "      ban, till, plan = b, t, p\n"                                                        \
    "    else\n"                                                                               \
    "      lines[#lines + 1] = line\n"                                                         \
    "      bytes = bytes + #line\n"                                                            \
    "      latest = math.max(latest, b, t)\n"                                                  \
    "    end\n"                                                                                \
    "  end\n"                                                                                  \
    "end\n"                                                                                    \
    "local had = kind == 'ban' and ban or till\n"                                              \
    "local wanted = span > 0 and now + span or 0\n"                                            \
    "if kind == 'ban' then ban = wanted else till, plan = wanted, name end\n"                  \
    "if till == 0 then plan = '-' end\n"                                                       \
    "local line = ''\n"                                                                        \
    "if ban > 0 or till > 0 then\n"                                                            \
    "  line = string.format('%s %.0f %.0f %s\\n', who, ban, till, plan)\n"                     \
    "end\n"                                                                                    \
    "local result = had == 0 and wanted == 0 and 'none' or 'done'\n"                           \
    "if wanted > 0 and (#lines > 4096 or bytes + #line > 900000) then\n"                       \
    "  result, line = 'full', ''\n"                                                            \
    "end\n"                                                                                    \
    "if result == 'done' then\n"                                                               \
    "  local after = tonumber(version) + 1\n"                                                  \
    "  if after > 9e15 then after = 0 end\n"                                                   \
    "  after = math.max(after, time[1] * 1000000 + time[2])\n"                                 \
    "  lines[1] = string.format('rlpo1 %.0f\\n', after)\n"                                     \
    "  lines[#lines + 1] = line\n"                                                             \
    "  latest = math.max(latest, ban, till)\n"                                                 \
    "  redis.call('SET', KEYS[1], table.concat(lines), 'PX', string.format('%.0f', latest - "  \
    "now))\n"                                                                                  \
    "end\n"                                                                                    \
    "return { result, string.format('%.0f', now), line }"

static const char orders_look[] = ORDERS_BEGIN ORDERS_LOOK;
static const char orders_change[] = ORDERS_BEGIN ORDERS_CHANGE;

static void orders_ask(redis_orders_call_t *made, const char *prefix, const char *script, int argc,
                       apr_pool_t *pool)
{
    made->argv[0] = "EVAL";
    made->argv[1] = script;
    made->argv[2] = "1";
    made->argv[3] = apr_pstrcat(pool, prefix, ORDERS_KEY, NULL);
    for (int i = 0; i < argc; i++) {
        made->lens[i] = strlen(made->argv[i]);
    }
    made->call = (redis_call_t){ .key = made->argv[3],
                                 .key_len = made->lens[3],
                                 .argc = argc,
                                 .argv = made->argv,
                                 .argv_len = made->lens };
}

void redis_orders_look(redis_orders_call_t *made, const char *prefix, bool whole, apr_pool_t *pool)
{
    made->argv[4] = whole ? "all" : "version";
    orders_ask(made, prefix, orders_look, 5, pool);
}

void redis_orders_change(redis_orders_call_t *made, const char *prefix, const char *identity,
                         const char *plan, rlp_time_t span, apr_pool_t *pool)
{
    const size_t len = strlen(identity);
    char *who = apr_palloc(pool, 3 * len + 1);

    *redis_key_escape(who, identity, len) = '\0';
    made->argv[4] = plan ? "plan" : "ban";
    made->argv[5] = who;
    made->argv[6] = apr_psprintf(pool, "%" APR_INT64_T_FMT, (apr_int64_t)((span + 999) / 1000));
    made->argv[7] = plan && *plan ? plan : ORDERS_NONE;
    orders_ask(made, prefix, orders_change, 8, pool);
}

/* --- answers */

/* A whole number; false: it is none. */
static bool orders_number(uint64_t *number, const char *text)
{
    const size_t len = strspn(text, "0123456789");

    *number = 0;
    if (len == 0 || len > ORDERS_DIGITS || text[len] != '\0') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        *number = *number * 10 + (uint64_t)(text[i] - '0');
    }
    return true;
}

/* The text of an element of the answer; NULL: it is none. A NUL becomes a sign that no line has. */
static char *orders_text(const redisReply *reply, size_t at)
{
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || at >= reply->elements ||
        reply->element[at]->type != REDIS_REPLY_STRING) {
        return NULL;
    }
    char *text = reply->element[at]->str;
    const size_t len = (size_t)reply->element[at]->len;

    for (size_t i = strlen(text); i < len; i += strlen(text + i)) {
        text[i] = '\1';
    }
    return text;
}

/* Cuts off what stands before the sign. NULL: the sign is not there. */
static char *orders_cut(char **at, char sign)
{
    char *word = *at;
    char *end = strchr(word, sign);

    if (end == NULL) {
        return NULL;
    }
    *end = '\0';
    *at = end + 1;
    return word;
}

/* How long until the moment; 0: it is past. False: it is no number, or too far away. */
static bool orders_left(rlp_time_t *left, const char *text, uint64_t now)
{
    uint64_t moment;

    if (!orders_number(&moment, text)) {
        return false;
    }
    *left = moment > now ? (rlp_time_t)(moment - now) : 0;
    if (*left > ORDERS_FAR) {
        return false;
    }
    *left *= 1000;
    return true;
}

/* Reads a line without its end, in place. False: it is none of ours. */
static bool orders_line(redis_order_t *order, char *line, uint64_t now, apr_pool_t *pool)
{
    char *identity = orders_cut(&line, ' ');
    const char *ban = identity ? orders_cut(&line, ' ') : NULL;
    const char *until = ban ? orders_cut(&line, ' ') : NULL;

    if (until == NULL || strlen(identity) > ORDERS_IDENTITY_MAX || !redis_key_unescape(identity) ||
        !orders_left(&order->ban, ban, now) || !orders_left(&order->until, until, now)) {
        return false;
    }
    const bool none = strcmp(line, ORDERS_NONE) == 0;

    if (!none && rlp_name_check(line, pool) != NULL) {
        return false;
    }
    order->identity = identity;
    order->plan = none || order->until == 0 ? "" : line;
    order->until = none ? 0 : order->until;
    return true;
}

static void orders_read_all(redis_orders_t *list, char *value, uint64_t now, apr_pool_t *pool)
{
    apr_pool_t *scratch; /* of what is wrong with names */
    char *line = NULL;

    (void)orders_cut(&value, '\n');
    apr_pool_create(&scratch, pool);
    while ((line = orders_cut(&value, '\n')) != NULL) {
        redis_order_t order;

        if (list->n == REDIS_ORDERS_MAX || !orders_line(&order, line, now, scratch)) {
            list->bad++;
            apr_pool_clear(scratch);
        } else if (order.ban > 0 || order.until > 0) {
            list->orders[list->n++] = order;
        }
    }
    list->bad += *value != '\0';
}

redis_orders_t *redis_orders_read(redisReply *reply, apr_pool_t *pool)
{
    const char *time = orders_text(reply, 0);
    const char *version = orders_text(reply, 1);
    redis_orders_t *list = apr_palloc(pool, sizeof(*list));
    uint64_t now;

    list->n = 0;
    list->bad = 0;
    if (time == NULL || version == NULL || !orders_number(&now, time) ||
        !orders_number(&list->version, version)) {
        return NULL;
    }
    list->whole = reply->elements > 2;
    if (list->whole) {
        char *value = orders_text(reply, 2);

        if (value == NULL) {
            return NULL;
        }
        orders_read_all(list, value, now, pool);
    }
    return list;
}

redis_ordered_t redis_orders_changed(redis_order_t *now, redisReply *reply, apr_pool_t *pool)
{
    static const char *const results[] = {
        [REDIS_ORDERED] = "done", [REDIS_ORDERED_NONE] = "none", [REDIS_ORDERED_FULL] = "full"
    };
    const char *result = orders_text(reply, 0);
    const char *time = orders_text(reply, 1);
    char *line = orders_text(reply, 2);
    uint64_t moment;
    int i = 0;

    *now = (redis_order_t){ .plan = "" };
    if (result == NULL || time == NULL || line == NULL || !orders_number(&moment, time)) {
        return REDIS_ORDERED_UNCLEAR;
    }
    if (*line != '\0') {
        char *own = orders_cut(&line, '\n');

        if (own == NULL || !orders_line(now, own, moment, pool)) {
            *now = (redis_order_t){ .plan = "" };
            return REDIS_ORDERED_UNCLEAR;
        }
    }
    while (i < REDIS_ORDERED_UNCLEAR && strcmp(result, results[i]) != 0) {
        i++;
    }
    return (redis_ordered_t)i;
}
