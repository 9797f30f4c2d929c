/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A LogFormat of httpd, compiled once. A line is a row of fields, each followed by a literal: a
 * field ends where its literal comes, a quoted one at the first quote that is not escaped, and a
 * moment where it is read to its end.
 */

#include "log_format.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <string.h>

#define FORMAT_FIELDS_MAX 64

typedef struct {
    const char *directive; /* without modifiers; NULL: a piece of a moment */
    const char *literal;   /* what follows */
    size_t literal_len;
    bool quoted;
    bool number;      /* or a dash */
    bool clf_follows; /* its literal is followed by the [ of a moment: values may have blanks */
    int wanted;       /* where its value goes; -1: nowhere */
    log_time_part_t part;
    bool idle; /* a moment that nobody asks for: that of the end */
} format_field_t;

struct log_format_t {
    const char *first; /* before the fields */
    size_t first_len;
    int n;
    format_field_t fields[FORMAT_FIELDS_MAX];
    int wanted;
    unsigned parts; /* of moments, a bit each */
    rlp_time_t tick;
    log_time_seen_t seen;
    apr_pool_t *pool;
};

static const struct {
    const char *name;
    const char *text;
} format_names[] = {
    { "common", "%h %l %u %t \"%r\" %>s %b" },
    { "combined", "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"" },
    { "vhost_combined", "%v:%p %h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" },
    { "ratelimit", "%a %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\" %{usec}t "
                   "%{RATELIMIT_ACTION}e %{RATELIMIT_IDENTITY}e %{RATELIMIT_TIME}e" },
};

/* --- compiling */

static char format_escaped(char c)
{
    if (c == 't') {
        return '\t';
    }
    if (c == 'n') {
        return '\n';
    }
    return c;
}

/* As httpd reads it: \" \\ \n \t stand for one character. */
static char *format_plain(const char *text, apr_pool_t *pool)
{
    char *plain = apr_palloc(pool, strlen(text) + 1);
    char *to = plain;

    for (; *text; text++) {
        const bool escaped = *text == '\\' && text[1] != '\0';

        text += escaped;
        *to = *text;
        if (escaped) {
            *to = format_escaped(*text);
        }
        to++;
    }
    *to = '\0';
    return plain;
}

/* Adds a character to the literal at the end. */
static void format_literal(log_format_t *format, char c)
{
    const char **literal = format->n ? &format->fields[format->n - 1].literal : &format->first;
    size_t *len = format->n ? &format->fields[format->n - 1].literal_len : &format->first_len;

    *literal = apr_psprintf(format->pool, "%s%c", *literal, c);
    (*len)++;
}

static const char *format_add(log_format_t *format, const char *directive, log_time_part_t part)
{
    const format_field_t *before = format->n ? &format->fields[format->n - 1] : NULL;

    if (format->n == FORMAT_FIELDS_MAX) {
        return "expected at most 64 fields in a log format";
    }
    if (before != NULL && before->literal_len == 0 && before->part == LOG_TIME_NONE) {
        return apr_psprintf(format->pool, "expected something between %s and what follows it",
                            before->directive);
    }
    const bool number =
        directive != NULL && directive[2] == '\0' && strchr("sbBOISDT", directive[1]) != NULL;

    format->fields[format->n++] = (format_field_t){
        .directive = directive, .literal = "", .wanted = -1, .part = part, .number = number
    };
    return NULL;
}

static const char *format_time_letter(log_format_t *format, char letter, bool idle)
{
    char between = '\0';
    const log_time_part_t *parts = log_time_letter(letter, &between);
    const char *error = NULL;

    if (parts == NULL) {
        return apr_psprintf(format->pool,
                            "expected one of %%Y %%y %%m %%b %%d %%e %%H %%M %%S %%s %%z %%T %%R "
                            "%%F %%D in %%{...}t, got \"%%%c\"",
                            letter);
    }
    for (int i = 0; i < 4 && parts[i] != LOG_TIME_NONE && error == NULL; i++) {
        if (i > 0) {
            format_literal(format, between);
        }
        error = format_add(format, NULL, parts[i]);
        format->fields[format->n - 1].idle = idle;
    }
    return error;
}

static const char *format_strftime(log_format_t *format, const char *text, bool idle)
{
    const char *error = NULL;

    for (; error == NULL && *text; text++) {
        if (*text != '%') {
            format_literal(format, *text);
        } else if (text[1] == '%') {
            format_literal(format, *++text);
        } else {
            error = format_time_letter(format, *++text, idle);
        }
    }
    return error;
}

/* %t, or %{words}t */
static const char *format_time(log_format_t *format, const char *words)
{
    static const struct {
        const char *word;
        log_time_part_t part;
    } known[] = {
        { "", LOG_TIME_CLF },
        { "sec", LOG_TIME_SEC },
        { "msec", LOG_TIME_MSEC },
        { "usec", LOG_TIME_USEC },
        { "msec_frac", LOG_TIME_MSEC_FRAC },
        { "usec_frac", LOG_TIME_USEC_FRAC },
    };
    const bool idle = strncmp(words, "end:", 4) == 0;
    const char *rest = idle ? words + 4 : strncmp(words, "begin:", 6) == 0 ? words + 6 : words;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(rest, known[i].word) == 0) {
            const char *error = format_add(format, NULL, known[i].part);

            format->fields[format->n - 1].idle = idle;
            return error;
        }
    }
    return format_strftime(format, rest, idle);
}

/* One directive behind its percent sign; *text is moved behind it. */
static const char *format_directive(log_format_t *format, const char **text)
{
    const char *at = *text + strspn(*text, "!<>,0123456789");
    const char *argument = "";

    if (*at == '{') {
        const char *end = strchr(at, '}');

        if (end == NULL) {
            return "expected a } behind each { of a log format";
        }
        argument = apr_pstrmemdup(format->pool, at + 1, (apr_size_t)(end - at - 1));
        at = end + 1 + strspn(end + 1, "!<>,0123456789");
    }
    const size_t letters = *at == '^' ? 3 : 1; /* %{NAME}^ti */

    if (strnlen(at, letters) < letters) {
        return "expected a letter behind each % of a log format";
    }
    *text = at + letters;
    if (*at == 't') {
        return format_time(format, argument);
    }
    if (strcmp(argument, "RATELIMIT_TIME") == 0 && *at == 'e') {
        return format_add(format, NULL, LOG_TIME_DECIDED);
    }
    const char *name = apr_pstrmemdup(format->pool, at, letters);

    return format_add(format,
                      *argument ? apr_pstrcat(format->pool, "%{", argument, "}", name, NULL)
                                : apr_pstrcat(format->pool, "%", name, NULL),
                      LOG_TIME_NONE);
}

static const char *format_parse(log_format_t *format, const char *text)
{
    const char *error = NULL;

    while (*text && error == NULL) {
        if (*text != '%') {
            format_literal(format, *text++);
        } else if (text[1] == '%') {
            format_literal(format, '%');
            text += 2;
        } else {
            text++;
            error = format_directive(format, &text);
        }
    }
    return error;
}

/* What the fields are to each other. */
static void format_relate(log_format_t *format)
{
    const char *before = format->first;
    size_t before_len = format->first_len;

    for (int i = 0; i < format->n; i++) {
        format_field_t *field = &format->fields[i];

        field->quoted = before_len > 0 && before[before_len - 1] == '"' && field->literal[0] == '"';
        field->clf_follows = i + 1 < format->n && field[1].part == LOG_TIME_CLF;
        if (!field->idle) {
            format->parts |= 1U << field->part;
        }
        before = field->literal;
        before_len = field->literal_len;
    }
}

static bool format_has(const log_format_t *format, log_time_part_t part)
{
    return (format->parts >> part & 1) != 0;
}

/* How exactly it tells the time; 0 if it does not. */
static rlp_time_t format_tick(const log_format_t *format)
{
    const bool date =
        (format_has(format, LOG_TIME_YEAR) || format_has(format, LOG_TIME_SHORT_YEAR)) &&
        (format_has(format, LOG_TIME_MONTH) || format_has(format, LOG_TIME_MONTH_NAME)) &&
        format_has(format, LOG_TIME_DAY) && format_has(format, LOG_TIME_HOUR) &&
        format_has(format, LOG_TIME_MINUTE) && format_has(format, LOG_TIME_SECOND);
    const bool whole = date || format_has(format, LOG_TIME_CLF) ||
                       format_has(format, LOG_TIME_SEC) || format_has(format, LOG_TIME_MSEC);

    if (format_has(format, LOG_TIME_USEC) || format_has(format, LOG_TIME_DECIDED) ||
        (whole && format_has(format, LOG_TIME_USEC_FRAC))) {
        return 1;
    }
    if (format_has(format, LOG_TIME_MSEC) || (whole && format_has(format, LOG_TIME_MSEC_FRAC))) {
        return 1000;
    }
    return whole ? RLP_SECOND : 0;
}

/* Of several moments the most exact is read: what is less so is only looked at. */
static void format_choose(log_format_t *format)
{
    static const log_time_part_t since[] = { LOG_TIME_USEC, LOG_TIME_MSEC, LOG_TIME_SEC,
                                             LOG_TIME_CLF };
    log_time_part_t best = LOG_TIME_NONE;

    for (size_t i = 0; i < sizeof(since) / sizeof(since[0]) && best == LOG_TIME_NONE; i++) {
        best = format_has(format, since[i]) ? since[i] : LOG_TIME_NONE;
    }
    const bool exact = format_has(format, LOG_TIME_USEC_FRAC) || best == LOG_TIME_MSEC;

    for (int i = 0; i < format->n; i++) {
        format_field_t *field = &format->fields[i];

        field->idle |=
            (best == LOG_TIME_USEC && field->part != best && field->part != LOG_TIME_DECIDED) ||
            (best != LOG_TIME_NONE && field->part <= LOG_TIME_USEC && field->part != best) ||
            (exact && field->part == LOG_TIME_MSEC_FRAC);
    }
    format->parts = best == LOG_TIME_NONE ? 0 : 1U << best;
}

const char *log_format_compile(log_format_t **format, const char *text, apr_pool_t *pool)
{
    log_format_t *made = apr_pcalloc(pool, sizeof(*made));

    for (size_t i = 0; i < sizeof(format_names) / sizeof(format_names[0]); i++) {
        if (strcmp(text, format_names[i].name) == 0) {
            text = format_names[i].text;
        }
    }
    made->pool = pool;
    made->first = "";
    const char *error = format_parse(made, format_plain(text, pool));

    if (error != NULL) {
        return error;
    }
    format_relate(made);
    made->tick = format_tick(made);
    if (made->tick == 0) {
        return apr_psprintf(pool,
                            "expected common, combined, vhost_combined, ratelimit or a LogFormat "
                            "with %%t, got \"%s\"",
                            text);
    }
    format_choose(made);
    *format = made;
    return NULL;
}

int log_format_want(log_format_t *format, const char *directive)
{
    for (int i = 0; i < format->n; i++) {
        format_field_t *field = &format->fields[i];

        if (field->directive == NULL || strcmp(field->directive, directive) != 0) {
            continue;
        }
        if (field->wanted < 0 && format->wanted < LOG_WANTED_MAX) {
            field->wanted = format->wanted++;
        }
        return field->wanted;
    }
    return -1;
}

rlp_time_t log_format_tick(const log_format_t *format)
{
    return format->tick;
}

/* --- matching */

/* Is the character escaped that comes here? The text begins at start. */
static bool match_escaped(const char *at, const char *start)
{
    const char *p = at;

    while (p > start && p[-1] == '\\') {
        p--;
    }
    return ((at - p) & 1) != 0;
}

static bool match_literal(const format_field_t *field, const char *at, const char *end)
{
    const size_t len = field->literal_len;
    const char *behind = at + len;

    return (size_t)(end - at) >= len && memcmp(at, field->literal, len) == 0 &&
           (!field->clf_follows || (behind < end && *behind == '['));
}

static bool match_number(const char *text, const char *end)
{
    const char *at = text;

    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return (at == end && at > text) || (end - text == 1 && *text == '-');
}

/* The end of a field, where its literal begins; NULL if that does not come. */
static const char *match_field(const format_field_t *field, const char *text, const char *end)
{
    if (field->literal_len == 0) {
        return end;
    }
    for (const char *at = text; at < end; at++) {
        at = memchr(at, field->literal[0], (size_t)(end - at));
        if (at == NULL) {
            return NULL;
        }
        if (!(field->quoted && match_escaped(at, text)) && match_literal(field, at, end)) {
            return at;
        }
        if (field->quoted && !match_escaped(at, text)) {
            return NULL;
        }
    }
    return NULL;
}

/* The moment of all pieces. */
static rlp_time_t match_time(const log_format_t *format, const log_time_t *time)
{
    if (time->decided > 0) {
        return time->decided;
    }
    if (format->parts == 0) {
        const rlp_time_t since = log_time_since(time);

        return since < 0 ? -1 : since + time->fraction;
    }
    return format->tick == 1 && format_has(format, LOG_TIME_MSEC)
               ? time->since - time->since % RLP_SECOND + time->fraction
               : time->since + time->fraction;
}

/* One field and its literal; behind them, or NULL. */
static const char *match_one(log_format_t *format, const format_field_t *field, const char *at,
                             const char *end, log_line_t *said, log_time_t *time)
{
    log_time_t unused;
    const char *behind;

    if (field->part == LOG_TIME_NONE) {
        behind = match_field(field, at, end);
    } else {
        behind = log_time_read(field->idle ? &unused : time, field->part, at, end, &format->seen);
        if (behind != NULL && !match_literal(field, behind, end)) {
            return NULL;
        }
    }
    if (behind == NULL || (field->number && !match_number(at, behind))) {
        return NULL;
    }
    if (field->wanted >= 0) {
        said->values[field->wanted] = (log_text_t){ at, (size_t)(behind - at) };
    }
    return behind + field->literal_len;
}

bool log_format_match(log_format_t *format, const char *line, size_t len, log_line_t *said)
{
    const char *const end = line + len;
    const char *at = line + format->first_len;
    log_time_t time = { .month = 1, .day = 1 };

    if (len < format->first_len || memcmp(line, format->first, format->first_len) != 0) {
        return false;
    }
    for (int i = 0; i < format->n; i++) {
        at = match_one(format, &format->fields[i], at, end, said, &time);
        if (at == NULL) {
            return false;
        }
    }
    said->at = match_time(format, &time);
    return at == end && said->at >= 0;
}

/* --- values */

static int unescape_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (apr_tolower(c) - 'a') + 10;
}

/* One escaped character behind its backslash; behind it. */
static const char *unescape_one(char *to, const char *at, const char *end)
{
    static const char letters[] = "n\nt\tr\rb\bv\vf\f";
    const char *letter = memchr(letters, *at, sizeof(letters) - 1);

    if (*at == 'x' && end - at >= 3 && apr_isxdigit(at[1]) && apr_isxdigit(at[2])) {
        *to = (char)(unescape_digit(at[1]) * 16 + unescape_digit(at[2]));
        return at + 3;
    }
    *to = *at;
    if (letter != NULL && (letter - letters) % 2 == 0) {
        *to = letter[1];
    }
    return at + 1;
}

size_t log_unescape(char *to, log_text_t value)
{
    const char *const end = value.text + value.len;
    const char *at = value.text;
    char *const start = to;

    while (at < end) {
        if (*at == '\\' && at + 1 < end) {
            at = unescape_one(to++, at + 1, end);
        } else {
            *to++ = *at++;
        }
    }
    return (size_t)(to - start);
}
