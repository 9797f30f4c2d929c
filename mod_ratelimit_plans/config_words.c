/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The words behind a directive: what they are like, and what is said of wrong ones.
 */

#include "private.h"

#include <http_log.h>

#include <apr_strings.h>

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

APLOG_USE_MODULE(ratelimit_plans);

const char *config_expected(cmd_parms *cmd, const char *expected, const char *got)
{
    return apr_psprintf(cmd->pool, "%s: expected %s, got \"%s\"", cmd->cmd->name, expected, got);
}

const char *config_prefix(cmd_parms *cmd, const char *error)
{
    return error ? apr_psprintf(cmd->pool, "%s: %s", cmd->cmd->name, error) : NULL;
}

/* The index of the word in a list ended by NULL, or -1. */
int config_word(const char *word, const char *const words[])
{
    for (int i = 0; words[i] != NULL; i++) {
        if (ap_cstr_casecmp(word, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

bool config_is_htaccess(const cmd_parms *cmd)
{
    return cmd->pool == cmd->temp_pool;
}

/* The directive that comes next, be it inside or outside of a section; NULL at the end. */
static const ap_directive_t *config_next_directive(const ap_directive_t *directive)
{
    if (directive->first_child != NULL) {
        return directive->first_child;
    }
    while (directive != NULL && directive->next == NULL) {
        directive = directive->parent;
    }
    return directive ? directive->next : NULL;
}

bool config_is_said(const char *name)
{
    const ap_directive_t *directive = ap_conftree;

    while (directive != NULL && ap_cstr_casecmp(directive->directive, name) != 0) {
        directive = config_next_directive(directive);
    }
    return directive != NULL;
}

void config_needs(const cmd_parms *cmd, unsigned hooks)
{
    if (!config_is_htaccess(cmd)) { /* by then it is too late: plans_hook_needed() */
        rlp_world->needs |= hooks;
    }
}

unsigned config_hears(const char *expression)
{
    return ap_strcasestr(expression, "resp") != NULL ? HOOK_HEARS : 0;
}

/* Who is counted and refused is no matter of what the page is: caches need no Vary for it. */
const char *config_expression(const ap_expr_info_t **expr, cmd_parms *cmd, const char *name,
                              const char *value, unsigned flags)
{
    const unsigned restricted = config_is_htaccess(cmd) ? AP_EXPR_FLAG_RESTRICTED : 0;
    const char *error = *value ? NULL : "nothing is there";

    if (error == NULL) {
        *expr = ap_expr_parse_cmd(cmd, value, flags | restricted | AP_EXPR_FLAG_DONT_VARY, &error,
                                  NULL);
    }
    return error ? apr_psprintf(cmd->pool, "expected an expression behind %s, got \"%s\": %s", name,
                                value, error)
                 : NULL;
}

/* How many bytes of the word stand before its quotes; 0: it has none. */
static size_t config_before_quotes(const char *word)
{
    const size_t len = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-=:");

    return word[len] == '"' ? len : 0;
}

const char *config_secret_quotes(const char *word, apr_pool_t *pool)
{
    const int len = (int)config_before_quotes(word);

    return len == 0 ? NULL
                    : apr_psprintf(pool,
                                   "expected the quotes around the whole word: write \"%.*s...\", "
                                   "got %.*s\"...",
                                   len, word, len, word);
}

const char *config_quotes(const char *word, apr_pool_t *pool)
{
    const size_t len = config_before_quotes(word);

    if (len == 0) {
        return NULL;
    }
    const char *rest = word + len + 1;
    const char *end = strchr(rest, '"'); /* there if it is one word anyway */

    return apr_psprintf(pool,
                        "expected the quotes around the whole word: write \"%.*s%.*s%s\", got %s",
                        (int)len, word, (int)(end ? end - rest : (ptrdiff_t)strlen(rest)), rest,
                        end ? "" : "...", word);
}

/* Where a password may begin in the word; NULL: nowhere. */
static const char *config_password(const char *word)
{
    static const char *const begins[] = { "password=", "secret=", "//" };
    const char *found = NULL;

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]) && found == NULL; i++) {
        found = ap_strcasestr(word, begins[i]);
        found = found ? found + strlen(begins[i]) : NULL;
    }
    return found;
}

const char *config_shown(const char *word, apr_pool_t *pool)
{
    const char *from = config_password(word);
    const char *at = from ? strrchr(from, '@') : NULL;

    if (from == NULL || (at == NULL && from[-1] == '/')) {
        return word;
    }
    return apr_pstrcat(pool, apr_pstrmemdup(pool, word, (apr_size_t)(from - word)), "...",
                       at ? at : "", NULL);
}

const char *config_near_whole(const char *word, const char *const known[], apr_pool_t *pool)
{
    const char *nearest = rlp_nearest(word, known);

    return nearest ? apr_psprintf(pool, " (%s?)", nearest) : "";
}

const char *config_near_key(const char *word, apr_hash_t *known, apr_pool_t *pool)
{
    const char **keys = apr_pcalloc(pool, (apr_hash_count(known) + 1) * sizeof(char *));
    int n = 0;

    for (apr_hash_index_t *i = apr_hash_first(pool, known); i; i = apr_hash_next(i)) {
        keys[n++] = apr_hash_this_key(i);
    }
    return config_near_whole(word, keys, pool);
}

const char *config_near(const char *word, const char *const known[], apr_pool_t *pool)
{
    const size_t len = strcspn(word, "=:");

    return config_near_whole(apr_pstrmemdup(pool, word, len + (word[len] != '\0')), known, pool);
}

/* Is the option ("name=value") of the last word given between from and it, too? */
static bool config_given(char *const argv[], int from, int last)
{
    const size_t len = strcspn(argv[last], "=") + 1;

    for (int i = from; i < last; i++) {
        if (ap_cstr_casecmpn(argv[last], argv[i], len) == 0) {
            return true;
        }
    }
    return false;
}

/* The first option from a word on that an earlier one has given already, or NULL. */
const char *config_repeated(int argc, char *const argv[], int from)
{
    for (int i = from + 1; i < argc; i++) {
        if (config_given(argv, from, i)) {
            return argv[i];
        }
    }
    return NULL;
}

/* httpd hands over the first 64 and drops the others. */
int config_all_words(char ***words, const cmd_parms *cmd)
{
    apr_array_header_t *all = apr_array_make(cmd->pool, 16, sizeof(char *));
    const char *rest = cmd->directive->args;

    while (*rest != '\0') {
        char *word = ap_getword_conf(cmd->pool, &rest);

        if (*word != '\0' || *rest != '\0') {
            APR_ARRAY_PUSH(all, char *) = word;
        }
    }
    *words = (char **)all->elts;
    return all->nelts;
}

const char *config_unknown_word(cmd_parms *cmd, const char *expected, const char *got,
                                const char *const known[])
{
    return apr_pstrcat(cmd->pool, config_expected(cmd, expected, got),
                       config_near(got, known, cmd->pool), NULL);
}

int config_status(const char *text)
{
    const int status = strspn(text, "0123456789") == 3 && text[3] == '\0' ? atoi(text) : 0;

    return status >= 400 && status <= 599 ? status : 0;
}
