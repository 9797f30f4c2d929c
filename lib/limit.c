/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The grammar of limits (docs/directives.md, "Limits"). What a step cannot represent exactly is
 * refused here.
 */

#include "limit.h"

#include "algorithm/algorithms.h"

#include <apr_strings.h>

#include <string.h>
#include <strings.h>
#include <time.h>

#define LIMIT_DIGITS "0123456789"
#define LIMIT_DRAIN_MAX (INT64_C(100) * 366 * 86400 * RLP_SECOND)

/* A limit in the making: what was written, and which of its optional words. */
typedef struct {
    rlp_limit_t limit;
    const char *text; /* the word that began it; NULL: none has */
    unsigned given;   /* RLP_TAKES_* */
    unsigned words;   /* of limit_words, a bit each: which stand behind it */
} draft_t;

typedef struct {
    rlp_limit_t *limits;
    int n;
    draft_t draft;
    const char *const *words;
    int nwords;
    rlp_time_t wall;
    apr_pool_t *pool;
} parser_t;

static const char *limit_error(const parser_t *parser, const char *expected, const char *got)
{
    return apr_psprintf(parser->pool, "expected %s, got \"%s\"", expected, got);
}

/* A count: 1 to 15 digits. -1 if it is none. */
static int64_t limit_count(const char *text, size_t len)
{
    return len > 0 && len <= 15 && strspn(text, LIMIT_DIGITS) >= len ? apr_atoi64(text) : -1;
}

static const char *limit_algorithm_names(const char *names[], apr_pool_t *pool)
{
    const char *list = "";
    int n = 0;

    for (; rlp_algorithms[n] != NULL; n++) {
        names[n] = rlp_algorithms[n]->name;
        list = apr_pstrcat(pool, list, n ? ", " : "", names[n], NULL);
    }
    names[n] = NULL;
    return list;
}

static const char *limit_rate(parser_t *parser, const char *word, const char *value)
{
    const char *slash = strchr(value, '/');
    const int64_t count = limit_count(value, slash ? (size_t)(slash - value) : 0);
    rlp_limit_t *limit = &parser->draft.limit;

    if (count == 0) {
        return apr_psprintf(parser->pool,
                            "expected a count above 0 (a slower rate takes a longer period, as in "
                            "rate=4/5s; quota=0 blocks), got \"%s\"",
                            word);
    }
    if (count < 0 || slash[1] == '\0') {
        return limit_error(parser, "rate=COUNT/PERIOD with a whole number, such as rate=10/min",
                           word);
    }
    const char *error = rlp_duration_parse(&limit->period, slash + 1, parser->pool);

    limit->algorithm = rlp_algorithms[0];
    limit->count = count;
    limit->burst = count * RLP_UNIT;
    return error ? apr_psprintf(parser->pool, "%s in \"%s\"", error, word) : NULL;
}

/* quota=COUNT is never renewed; COUNT/day and so on are well-formed, but not in this version. */
static const char *limit_quota(parser_t *parser, const char *word, const char *value)
{
    static const char *const periods[] = { "day", "week", "month", "year", NULL };
    const size_t digits = strspn(value, LIMIT_DIGITS);
    const int64_t count = limit_count(value, digits);
    rlp_limit_t *limit = &parser->draft.limit;

    for (int i = 0; value[digits] == '/' && periods[i] != NULL; i++) {
        const size_t len = strlen(periods[i]);
        const char *zone = value + digits + 1 + len;

        if (strncasecmp(value + digits + 1, periods[i], len) == 0 &&
            (*zone == '\0' || (*zone == '@' && zone[1] != '\0'))) {
            return apr_psprintf(parser->pool,
                                "expected quota=COUNT, which is never renewed (this version has no "
                                "calendar quotas; rate=%.*s/%s algorithm=fixed-window is the "
                                "nearest), got \"%s\"",
                                (int)digits, value, i < 2 ? periods[i] : "30days", word);
        }
    }
    if (count < 0 || value[digits] != '\0') {
        return limit_error(parser, "quota=COUNT with a whole number, 0 to block", word);
    }
    limit->algorithm = &rlp_quota;
    limit->count = count;
    limit->burst = count * RLP_UNIT;
    return NULL;
}

static const char *limit_concurrent(parser_t *parser, const char *word, const char *value)
{
    const char *wanted = limit_count(value, strlen(value)) > 0
                             ? "rate= or quota= (this version has no concurrency limits)"
                             : "concurrent=N with a whole number above 0";

    return limit_error(parser, wanted, word);
}

static const char *limit_lease(parser_t *parser, const char *word, const char *value)
{
    (void)value;
    return limit_error(parser, "concurrent=N before lease= (this version has neither)", word);
}

static const char *limit_bandwidth(parser_t *parser, const char *word, const char *value)
{
    (void)value;
    return limit_error(parser, "rate= or quota= (this version has no bandwidth=)", word);
}

static const char *limit_burst(parser_t *parser, const char *word, const char *value)
{
    const char *error = rlp_units_parse(&parser->draft.limit.burst, value, parser->pool);

    parser->draft.given |= RLP_TAKES_BURST;
    if (error != NULL || parser->draft.limit.burst == 0) {
        return limit_error(parser, "burst=N above 0, with at most three decimals", word);
    }
    return NULL;
}

static const char *limit_initial(parser_t *parser, const char *word, const char *value)
{
    parser->draft.given |= RLP_TAKES_INITIAL;
    return rlp_units_parse(&parser->draft.limit.initial, value, parser->pool) == NULL
               ? NULL
               : limit_error(parser, "initial=N with at most three decimals", word);
}

static const rlp_algorithm_t *limit_find_algorithm(const char *name)
{
    for (int i = 0; rlp_algorithms[i] != NULL; i++) {
        if (strcasecmp(rlp_algorithms[i]->name, name) == 0) {
            return rlp_algorithms[i];
        }
    }
    return NULL;
}

static const char *limit_algorithm(parser_t *parser, const char *word, const char *value)
{
    const rlp_algorithm_t *algorithm = limit_find_algorithm(value);
    const char *names[32];

    if (algorithm == NULL) {
        const char *list = limit_algorithm_names(names, parser->pool);
        const char *nearest = rlp_nearest(value, names);

        return apr_psprintf(parser->pool, "expected algorithm=NAME with one of %s, got \"%s\"%s",
                            list, word,
                            nearest ? apr_psprintf(parser->pool, " (%s?)", nearest) : "");
    }
    if (parser->draft.limit.algorithm == &rlp_quota) {
        return limit_error(parser, "algorithm= after a rate=, not after a quota=", word);
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
            return tm.tm_mday == day;
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
    return *start <= parser->wall ? NULL
                                  : limit_error(parser, "a start that is not in the future", word);
}

static const struct limit_word {
    const char *name; /* with its "=" */
    bool begins;      /* a limit of its own, not an option of the one before */
    const char *(*parse)(parser_t *parser, const char *word, const char *value);
} limit_words[] = {
    { "rate=", true, limit_rate },
    { "quota=", true, limit_quota },
    { "concurrent=", true, limit_concurrent },
    { "bandwidth=", true, limit_bandwidth },
    { "burst=", false, limit_burst },
    { "initial=", false, limit_initial },
    { "algorithm=", false, limit_algorithm },
    { "start=", false, limit_start },
    { "lease=", false, limit_lease },
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
    for (int i = 0; i < parser->nwords; i++) {
        if (strncasecmp(parser->words[i], name, strlen(name)) == 0) {
            return parser->words[i] + strlen(name);
        }
    }
    return NULL;
}

/* Words of other systems and typos get an answer that says what to write. */
static const char *limit_unknown(const parser_t *parser, const char *word)
{
    const char *limit = limit_value(parser, "limit=");
    const char *window = limit_value(parser, "window=");
    const char *names[LIMIT_WORDS + 1] = { NULL };

    if (limit != NULL && window != NULL) {
        const char *unit = window[strspn(window, LIMIT_DIGITS)] == '\0' ? "s" : "";

        return apr_psprintf(parser->pool, "expected rate=%s/%s%s, got \"limit=%s window=%s\"",
                            limit, window, unit, limit, window);
    }
    if (strchr(word, '/') != NULL && strchr(word, '=') == NULL) {
        return apr_psprintf(parser->pool, "expected rate=%s, got \"%s\"", word, word);
    }
    for (int i = 0; i < LIMIT_WORDS; i++) {
        names[i] = limit_words[i].name;
    }
    const size_t equals = strcspn(word, "=");
    const char *nearest =
        rlp_nearest(apr_pstrmemdup(parser->pool, word, equals + (word[equals] == '=')), names);

    return apr_psprintf(parser->pool,
                        "expected rate=COUNT/PERIOD or quota=COUNT with burst=, initial=, "
                        "algorithm= or start= behind it, got \"%s\"%s",
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
    return NULL;
}

static unsigned limit_ordinal(const parser_t *parser, const rlp_limit_t *limit)
{
    unsigned ordinal = 0;

    for (int i = 0; i < parser->n; i++) {
        ordinal += limit_same_kind(&parser->limits[i], limit);
    }
    return ordinal;
}

/* Works out what steps calculate with: the time from empty to full again, and credit. */
static const char *limit_derive(const parser_t *parser, rlp_limit_t *limit)
{
    if (limit->period == 0) {
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

    if (draft->text == NULL) {
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
    limit->state_size = limit->algorithm->state_size;
    error = limit_derive(parser, limit);
    if (error != NULL) {
        return error;
    }
    if (parser->n == RLP_LIMITS_MAX) {
        return limit_error(parser, "at most 8 limits in one plan", draft->text);
    }
    limit->ordinal = limit_ordinal(parser, limit);
    parser->limits[parser->n++] = *limit;
    *draft = (draft_t){ .text = NULL };
    return NULL;
}

static const char *limit_parse_word(parser_t *parser, const char *text)
{
    const struct limit_word *word = limit_find_word(text);

    if (word == NULL) {
        return limit_unknown(parser, text);
    }
    if (word->begins) {
        const char *error = limit_finish(parser);

        if (error != NULL) {
            return error;
        }
        parser->draft.text = text;
    } else if (parser->draft.text == NULL) {
        return limit_error(parser, "rate=COUNT/PERIOD before it", text);
    }
    const unsigned bit = 1U << (word - limit_words);

    if (parser->draft.words & bit) {
        return apr_psprintf(parser->pool, "expected %s once behind \"%s\", got \"%s\"", word->name,
                            parser->draft.text, text);
    }
    parser->draft.words |= bit;
    return word->parse(parser, text, text + strlen(word->name));
}

const char *limit_parse_words(rlp_limit_t *limits, int *n, const char *const words[], int nwords,
                              rlp_time_t wall, apr_pool_t *pool)
{
    parser_t parser = {
        .limits = limits, .words = words, .nwords = nwords, .wall = wall, .pool = pool
    };

    for (int i = 0; i < nwords; i++) {
        const char *error = limit_parse_word(&parser, words[i]);

        if (error != NULL) {
            return error;
        }
    }
    const char *error = limit_finish(&parser);

    *n = parser.n;
    return error;
}

bool limit_same_kind(const rlp_limit_t *a, const rlp_limit_t *b)
{
    return a->algorithm == b->algorithm && a->period == b->period && a->start == b->start;
}

int64_t rlp_seconds(rlp_time_t span)
{
    return span <= RLP_SECOND ? 1 : (span - 1) / RLP_SECOND + 1;
}

int64_t rlp_limit_quota(const rlp_limit_t *limit)
{
    return limit->burst / RLP_UNIT;
}

int64_t rlp_limit_window(const rlp_limit_t *limit)
{
    return limit->drain > 0 ? rlp_seconds(limit->drain) : 0;
}

/* ceil(units * period / count): spending them evenly over it is the rate itself. */
static rlp_time_t limit_pace(const rlp_limit_t *limit, int64_t units)
{
    const uint64_t count = (uint64_t)limit->count;
    uint64_t credit;

    if (!__builtin_mul_overflow((uint64_t)units, (uint64_t)limit->period, &credit)) {
        return (rlp_time_t)(credit / count + (credit % count != 0));
    }
    __extension__ const unsigned __int128 wide =
        (unsigned __int128)(uint64_t)units * (uint64_t)limit->period;

    return (rlp_time_t)((wide + count - 1) / count);
}

int64_t rlp_limit_effective(const rlp_limit_t *limit, const rlp_decision_t *decision)
{
    rlp_time_t span = decision->reset;

    if (decision->remaining == 0) {
        span = decision->next;
    } else if (!limit->algorithm->windowed) {
        span = limit_pace(limit, decision->remaining);
    }
    return span == RLP_TIME_NEVER ? -1 : rlp_seconds(span);
}
