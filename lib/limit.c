/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The grammar of limits (docs/directives.md, "Limits"). What a step cannot represent exactly is
 * refused here.
 */

#include "limit.h"

#include "algorithm/algorithms.h"
#include "algorithm/second.h"
#include "calendar.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define LIMIT_DIGITS "0123456789"
#define LIMIT_LONG INT64_C(-2)
#define LIMIT_DRAIN_MAX (INT64_C(100) * 366 * 86400 * RLP_SECOND)
#define LIMIT_PLACES_MAX 1000000
#define LIMIT_EAST_END (24L * 3600)        /* strptime() takes up to 99 hours */
#define LIMIT_LEASE_MIN RLP_SECOND         /* shorter ones end before a process has renewed them */
#define LIMIT_BANDWIDTH_UNIT INT64_C(1024) /* what mod_ratelimit counts in */
#define LIMIT_BANDWIDTH_END (INT64_C(2) << 30)

/* A limit in the making: what was written, and which of its optional words. */
typedef struct {
    rlp_limit_t limit;
    const char *text; /* the word that began it; NULL: none has */
    unsigned given;   /* RLP_TAKES_* */
    unsigned words;   /* of limit_words, a bit each: which stand behind it */
} draft_t;

typedef struct {
    rlp_plan_t *plan;
    draft_t draft;
    unsigned words; /* of limit_words, a bit each: which the plan has */
    const rlp_plan_source_t *source;
    apr_pool_t *pool;
} parser_t;

static const char *limit_error(const parser_t *parser, const char *expected, const char *got)
{
    return apr_psprintf(parser->pool, "expected %s, got \"%s\"", expected, got);
}

static const char limit_long[] = "a count of at most 15 digits";

/* A count: 1 to 15 digits. -1 if it is none, LIMIT_LONG if it has more. */
static int64_t limit_count(const char *text, size_t len)
{
    if (len == 0 || strspn(text, LIMIT_DIGITS) < len) {
        return -1;
    }
    return len <= 15 ? apr_atoi64(text) : LIMIT_LONG;
}

/* Those that algorithm= may name, ended by NULL. */
static const rlp_algorithm_t *const *limit_algorithms(const parser_t *parser)
{
    return parser->source->algorithms ? parser->source->algorithms : rlp_algorithms;
}

static const char *limit_unknown_algorithm(const parser_t *parser, const char *word,
                                           const char *value)
{
    const rlp_algorithm_t *const *algorithms = limit_algorithms(parser);
    const char *list = "";
    int n = 0;

    while (algorithms[n] != NULL) {
        n++;
    }
    const char **names = apr_pcalloc(parser->pool, ((apr_size_t)n + 1) * sizeof(*names));

    for (int i = 0; i < n; i++) {
        names[i] = algorithms[i]->name;
        list = apr_pstrcat(parser->pool, list, i ? ", " : "", names[i], NULL);
    }
    const char *nearest = rlp_nearest(value, names);

    return apr_psprintf(parser->pool, "expected algorithm=NAME with one of %s, got \"%s\"%s", list,
                        word, nearest ? apr_psprintf(parser->pool, " (%s?)", nearest) : "");
}

static const char *limit_zero(const parser_t *parser, const char *text)
{
    return apr_psprintf(parser->pool,
                        "expected a count above 0 (a slower rate takes a longer period, as in "
                        "rate=4/5s; quota=0 blocks), got \"%s\"",
                        text);
}

/* The span of a rate. Months and years, and days of a time zone, are those of a quota. */
static const char *limit_period(const parser_t *parser, rlp_time_t *period, const char *value,
                                const char *word)
{
    const char *text = strchr(value, '/') + 1;
    const char *error = rlp_duration_parse(period, text, parser->pool);
    const rlp_calendar_t *calendar;

    if (error == NULL) {
        return NULL;
    }
    return calendar_parse(&calendar, period, text, parser->source, parser->pool) == NULL
               ? apr_psprintf(parser->pool, "expected quota=%s, got \"%s\"", value, word)
               : apr_psprintf(parser->pool, "%s in \"%s\"", error, word);
}

static const char *limit_rate(parser_t *parser, const char *word, const char *value)
{
    const char *slash = strchr(value, '/');
    const int64_t count = limit_count(value, slash ? (size_t)(slash - value) : 0);
    rlp_limit_t *limit = &parser->draft.limit;

    if (count == 0) {
        return limit_zero(parser, word);
    }
    if (count == LIMIT_LONG) {
        return limit_error(parser, limit_long, word);
    }
    if (slash == NULL || count < 0 || slash[1] == '\0') {
        return limit_error(parser, "rate=COUNT/PERIOD with a whole number, such as rate=10/min",
                           word);
    }
    limit->algorithm = limit_algorithms(parser)[0];
    limit->count = count;
    limit->burst = count * RLP_UNIT;
    return limit_period(parser, &limit->period, value, word);
}

static const char *limit_quota(parser_t *parser, const char *word, const char *value)
{
    const size_t digits = strspn(value, LIMIT_DIGITS);
    const int64_t count = limit_count(value, digits);
    rlp_limit_t *limit = &parser->draft.limit;

    if (count == LIMIT_LONG) {
        return limit_error(parser, limit_long, word);
    }
    if (count < 0 || (value[digits] != '\0' && value[digits] != '/')) {
        return limit_error(parser, "quota=COUNT with a whole number, 0 to block", word);
    }
    limit->algorithm = &rlp_quota;
    limit->count = count;
    limit->burst = count * RLP_UNIT;
    if (value[digits] == '\0') {
        return NULL;
    }
    const char *error = calendar_parse(&limit->calendar, &limit->period, value + digits + 1,
                                       parser->source, parser->pool);

    return error ? apr_psprintf(parser->pool, "%s in \"%s\"", error, word) : NULL;
}

static const char *limit_concurrent(parser_t *parser, const char *word, const char *value)
{
    const int64_t count = limit_count(value, strlen(value));
    rlp_limit_t *limit = &parser->draft.limit;

    if (count < 1 || count > LIMIT_PLACES_MAX) {
        return limit_error(parser, "concurrent=N with a whole number from 1 to 1000000", word);
    }
    for (int i = 0; i < parser->plan->n; i++) {
        if (parser->plan->limits[i].algorithm == &rlp_concurrency) {
            return limit_error(parser, "concurrent= once in a plan", word);
        }
    }
    limit->algorithm = &rlp_concurrency;
    limit->count = count;
    limit->burst = count * RLP_UNIT;
    return NULL;
}

static const char *limit_lease(parser_t *parser, const char *word, const char *value)
{
    rlp_limit_t *limit = &parser->draft.limit;

    if (limit->algorithm != &rlp_concurrency) {
        return limit_error(parser, "concurrent=N before it", word);
    }
    const char *error = rlp_duration_parse(&limit->lease, value, parser->pool);

    if (error != NULL) {
        return apr_psprintf(parser->pool, "%s in \"%s\"", error, word);
    }
    return limit->lease < LIMIT_LEASE_MIN
               ? limit_error(parser, "lease=PERIOD of at least 1s, so that it can be renewed", word)
               : NULL;
}

/* "512K/s" in bytes; -1 if it is none, or none that mod_ratelimit can keep to. */
static int64_t limit_size(const char *text)
{
    static const char letters[] = "KMGkmg";
    const size_t digits = strspn(text, LIMIT_DIGITS);
    int64_t size = limit_count(text, digits);
    const char *unit = text + digits;
    const char *letter = *unit ? strchr(letters, *unit) : NULL;

    if (letter != NULL && size < LIMIT_BANDWIDTH_END) {
        size *= INT64_C(1) << 10 * ((letter - letters) % 3 + 1);
        unit++;
    }
    return strcasecmp(unit, "/s") == 0 && size > 0 && size % LIMIT_BANDWIDTH_UNIT == 0 &&
                   size < LIMIT_BANDWIDTH_END
               ? size
               : -1;
}

static const char *limit_bandwidth(parser_t *parser, const char *word, const char *value)
{
    parser->plan->bandwidth = limit_size(value);
    return parser->plan->bandwidth > 0 ? NULL
                                       : limit_error(parser,
                                                     "bandwidth=SIZE/s with K, M or G, in whole "
                                                     "multiples of 1K and below 2G",
                                                     word);
}

static const char *limit_then(parser_t *parser, const char *word, const char *value)
{
    const char *error = rlp_name_check(value, parser->pool);

    parser->plan->then = apr_pstrdup(parser->pool, value);
    return error ? apr_psprintf(parser->pool, "%s in \"%s\"", error, word) : NULL;
}

/* NULL, or what is wrong with a number of units. */
static const char *limit_units(const parser_t *parser, rlp_units_t *units, const char *value,
                               const char *expected, const char *word)
{
    const bool exceeds = limit_count(value, strcspn(value, ".")) == LIMIT_LONG;

    return rlp_units_parse(units, value, parser->pool) == NULL
               ? NULL
               : limit_error(parser, exceeds ? limit_long : expected, word);
}

static const char *limit_burst(parser_t *parser, const char *word, const char *value)
{
    static const char expected[] = "burst=N above 0, with at most three decimals";
    rlp_units_t *burst = &parser->draft.limit.burst;
    const char *error = limit_units(parser, burst, value, expected, word);

    parser->draft.given |= RLP_TAKES_BURST;
    return error == NULL && *burst == 0 ? limit_error(parser, expected, word) : error;
}

static const char *limit_initial(parser_t *parser, const char *word, const char *value)
{
    parser->draft.given |= RLP_TAKES_INITIAL;
    return limit_units(parser, &parser->draft.limit.initial, value,
                       "initial=N with at most three decimals", word);
}

static const rlp_algorithm_t *limit_find_algorithm(const parser_t *parser, const char *name)
{
    const rlp_algorithm_t *const *algorithms = limit_algorithms(parser);

    for (int i = 0; algorithms[i] != NULL; i++) {
        if (strcasecmp(algorithms[i]->name, name) == 0) {
            return algorithms[i];
        }
    }
    return NULL;
}

static const char *limit_algorithm(parser_t *parser, const char *word, const char *value)
{
    const rlp_algorithm_t *algorithm = limit_find_algorithm(parser, value);

    if (algorithm == NULL) {
        return limit_unknown_algorithm(parser, word, value);
    }
    if (parser->draft.limit.algorithm == &rlp_quota) {
        return limit_error(parser, "algorithm= after a rate=, not after a quota=", word);
    }
    if (parser->draft.limit.algorithm == &rlp_concurrency) {
        return limit_error(parser, "algorithm= after a rate=, not after a concurrent=", word);
    }
    parser->draft.limit.algorithm = algorithm;
    return NULL;
}

/* Microseconds since the epoch. False if it is in none of the forms, or no day of the calendar. */
static bool limit_instant(rlp_time_t *instant, const char *text)
{
    static const char *const forms[] = { "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%d" };

    for (int i = 0; i < 3; i++) {
        struct tm tm = { 0 };
        const char *end = strptime(text, forms[i], &tm);

        if (end != NULL && *end == '\0') {
            const long east = tm.tm_gmtoff; /* timegm() forgets it */
            const int day = tm.tm_mday;     /* and makes March of the 30th of February */

            *instant = ((rlp_time_t)timegm(&tm) - east) * RLP_SECOND;
            return tm.tm_mday == day && labs(east) < LIMIT_EAST_END;
        }
    }
    return false;
}

static const char *limit_start(parser_t *parser, const char *word, const char *value)
{
    rlp_time_t *start = &parser->draft.limit.start;

    parser->draft.given |= RLP_TAKES_START;
    if (!limit_instant(start, value)) {
        return limit_error(parser,
                           "start=TIME such as 2026-01-31, 2026-01-31T06:00Z or "
                           "2026-01-31T06:00:00+02:00",
                           word);
    }
    return *start <= parser->source->wall
               ? NULL
               : limit_error(parser, "a start that is not in the future", word);
}

/* What a word stands for. */
typedef enum {
    LIMIT_BEGINS, /* a limit of its own */
    LIMIT_OPTION, /* an option of the limit before it */
    LIMIT_PLAN    /* something of the whole plan, wherever it stands */
} limit_kind_t;

static const struct limit_word {
    const char *name; /* with its "=" */
    limit_kind_t kind;
    const char *(*parse)(parser_t *parser, const char *word, const char *value);
} limit_words[] = {
    { "rate=", LIMIT_BEGINS, limit_rate },
    { "quota=", LIMIT_BEGINS, limit_quota },
    { "concurrent=", LIMIT_BEGINS, limit_concurrent },
    { "bandwidth=", LIMIT_PLAN, limit_bandwidth },
    { "then=", LIMIT_PLAN, limit_then },
    { "burst=", LIMIT_OPTION, limit_burst },
    { "initial=", LIMIT_OPTION, limit_initial },
    { "algorithm=", LIMIT_OPTION, limit_algorithm },
    { "start=", LIMIT_OPTION, limit_start },
    { "lease=", LIMIT_OPTION, limit_lease },
};

#define LIMIT_WORDS ((int)(sizeof(limit_words) / sizeof(limit_words[0])))

static const struct limit_word *limit_find_word(const char *word)
{
    for (int i = 0; i < LIMIT_WORDS; i++) {
        if (strncasecmp(word, limit_words[i].name, strlen(limit_words[i].name)) == 0) {
            return &limit_words[i];
        }
    }
    return NULL;
}

bool rlp_limit_word(const char *word)
{
    return limit_find_word(word) != NULL;
}

/* The value of name= among the words, or NULL. */
static const char *limit_value(const parser_t *parser, const char *name)
{
    for (int i = 0; i < parser->source->n; i++) {
        if (strncasecmp(parser->source->words[i], name, strlen(name)) == 0) {
            return parser->source->words[i] + strlen(name);
        }
    }
    return NULL;
}

/* What is meant for a rate. What is none is not proposed as one. */
static const char *limit_propose(const parser_t *parser, const char *rate, const char *text)
{
    parser_t trial = *parser;
    const char *error = limit_rate(&trial, text, rate);

    return error ? error : apr_psprintf(parser->pool, "expected rate=%s, got \"%s\"", rate, text);
}

/* Words of other systems and typos get an answer that says what to write. */
static const char *limit_unknown(const parser_t *parser, const char *word)
{
    const char *limit = limit_value(parser, "limit=");
    const char *window = limit_value(parser, "window=");
    const char *names[LIMIT_WORDS + 1] = { NULL };

    if (limit != NULL && window != NULL) {
        const char *unit = window[strspn(window, LIMIT_DIGITS)] == '\0' ? "s" : "";

        return limit_propose(parser, apr_pstrcat(parser->pool, limit, "/", window, unit, NULL),
                             apr_psprintf(parser->pool, "limit=%s window=%s", limit, window));
    }
    if (strchr(word, '/') != NULL && strchr(word, '=') == NULL) {
        return limit_propose(parser, word, word);
    }
    for (int i = 0; i < LIMIT_WORDS; i++) {
        names[i] = limit_words[i].name;
    }
    const size_t equals = strcspn(word, "=");
    const char *nearest =
        rlp_nearest(apr_pstrmemdup(parser->pool, word, equals + (word[equals] == '=')), names);

    return apr_psprintf(parser->pool,
                        "expected rate=COUNT/PERIOD, quota=COUNT or concurrent=N with burst=, "
                        "initial=, algorithm=, start= or lease= behind it, bandwidth= or then=, "
                        "got \"%s\"%s",
                        word, nearest ? apr_psprintf(parser->pool, " (%s?)", nearest) : "");
}

static const char *limit_misfit(const parser_t *parser)
{
    static const struct {
        unsigned flag;
        const char *name;
    } options[] = { { RLP_TAKES_BURST, "burst=" },
                    { RLP_TAKES_INITIAL, "initial=" },
                    { RLP_TAKES_START, "start=" } };
    const draft_t *draft = &parser->draft;

    for (int i = 0; i < 3; i++) {
        if (draft->given & options[i].flag & ~draft->limit.algorithm->takes) {
            return apr_psprintf(parser->pool, "expected no %s behind \"%s\": %s has none",
                                options[i].name, draft->text, draft->limit.algorithm->name);
        }
    }
    if (draft->limit.calendar != NULL && draft->given & RLP_TAKES_INITIAL) {
        return apr_psprintf(parser->pool,
                            "expected no initial= behind \"%s\": only a quota that is never "
                            "renewed "
                            "has one",
                            draft->text);
    }
    return NULL;
}

static unsigned limit_ordinal(const parser_t *parser, const rlp_limit_t *limit)
{
    unsigned ordinal = 0;

    for (int i = 0; i < parser->plan->n; i++) {
        ordinal += limit_same_kind(&parser->plan->limits[i], limit);
    }
    return ordinal;
}

/* Works out what steps calculate with: the time from empty to full again, and credit. */
static const char *limit_derive(const parser_t *parser, rlp_limit_t *limit)
{
    if (limit->period == 0 || limit->count == 0) {
        return NULL;
    }
    const int64_t most = limit->algorithm->count_max;

    if (most > 0 && limit->count > most) {
        return apr_psprintf(parser->pool,
                            "expected %s with COUNT of at most %" APR_INT64_T_FMT ", got \"%s\"",
                            limit->algorithm->name, most, parser->draft.text);
    }
    if (limit->algorithm->state_size_of != NULL) {
        limit->state_size = limit->algorithm->state_size_of(limit);
    }
    if ((parser->draft.given & RLP_TAKES_START) && limit->start == 0 &&
        !limit->algorithm->windowed) {
        limit->start = limit->period; /* as good as the epoch: 0 is that none is given */
    }
    limit->price = limit->period / RLP_UNIT;
    __extension__ const unsigned __int128 capacity =
        (unsigned __int128)(uint64_t)limit->burst * (uint64_t)limit->price;
    __extension__ const unsigned __int128 drain =
        (capacity + (uint64_t)limit->count - 1) / (uint64_t)limit->count;

    if (drain > LIMIT_DRAIN_MAX) {
        return limit_error(parser, "a burst that is full again within 100 years",
                           parser->draft.text);
    }
    limit->drain = (rlp_time_t)drain;
    limit->capacity = (uint64_t)capacity;
    limit->mark = second_mark(limit->burst, limit->count);
    if (limit->algorithm->credit && capacity > INT64_MAX) {
        return apr_psprintf(parser->pool,
                            "expected a burst of at most %" APR_INT64_T_FMT
                            " with this period and %s, got \"%s\"",
                            INT64_MAX / limit->period, limit->algorithm->name, parser->draft.text);
    }
    return NULL;
}

/* Closes the draft, if there is one. */
static const char *limit_finish(parser_t *parser)
{
    draft_t *draft = &parser->draft;
    rlp_limit_t *limit = &draft->limit;

    if (limit->algorithm == NULL) {
        return NULL;
    }
    const char *error = limit_misfit(parser);

    if (error != NULL) {
        return error;
    }
    if (!(draft->given & RLP_TAKES_INITIAL)) {
        limit->initial = limit->burst;
    }
    if (limit->initial > limit->burst) {
        return limit_error(parser, "an initial= of at most the burst or the quota behind it",
                           draft->text);
    }
    limit->state_size = limit->algorithm->holds ? RLP_OWNERS_USUAL * (uint32_t)sizeof(rlp_hold_t)
                                                : limit->algorithm->state_size;
    limit_weigh(limit);
    error = limit_derive(parser, limit);
    if (error != NULL) {
        return error;
    }
    if (parser->plan->n == RLP_LIMITS_MAX) {
        return limit_error(parser, "at most 8 limits in one plan", draft->text);
    }
    limit->ordinal = limit_ordinal(parser, limit);
    parser->plan->limits[parser->plan->n++] = *limit;
    *draft = (draft_t){ .text = NULL };
    return NULL;
}

/* Closes the limit before a word that begins one, and refuses an option without a limit. */
static const char *limit_place(parser_t *parser, const struct limit_word *word, const char *text)
{
    if (word->kind == LIMIT_BEGINS) {
        const char *error = limit_finish(parser);

        parser->draft.text = text;
        return error;
    }
    return word->kind == LIMIT_OPTION && parser->draft.text == NULL
               ? limit_error(parser,
                             word->parse == limit_lease ? "concurrent=N before it"
                                                        : "rate=COUNT/PERIOD before it",
                             text)
               : NULL;
}

static const char *limit_parse_word(parser_t *parser, const char *text)
{
    const struct limit_word *word = limit_find_word(text);

    if (word == NULL) {
        return limit_unknown(parser, text);
    }
    const char *error = limit_place(parser, word, text);
    unsigned *words = word->kind == LIMIT_PLAN ? &parser->words : &parser->draft.words;
    const unsigned bit = 1U << (word - limit_words);

    if (error != NULL) {
        return error;
    }
    if (*words & bit) {
        return word->kind == LIMIT_PLAN
                   ? apr_psprintf(parser->pool, "expected %s once in a plan, got \"%s\"",
                                  word->name, text)
                   : apr_psprintf(parser->pool, "expected %s once behind \"%s\", got \"%s\"",
                                  word->name, parser->draft.text, text);
    }
    *words |= bit;
    return word->parse(parser, text, text + strlen(word->name));
}

const char *limit_parse_words(rlp_plan_t *plan, const rlp_plan_source_t *source, apr_pool_t *pool)
{
    parser_t parser = { .plan = plan, .source = source, .pool = pool };

    for (int i = 0; i < source->n; i++) {
        const char *error = limit_parse_word(&parser, source->words[i]);

        if (error != NULL) {
            return error;
        }
    }
    return limit_finish(&parser);
}
