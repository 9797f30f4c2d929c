/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "httpd.h"

#include <ap_expr.h>
#include <ap_mpm.h>
#include <ap_provider.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>

#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PROVIDERS_MAX 64
#define WORDS_MAX 64

/* The record that the module's own file has: without its hooks. */
module ratelimit_plans_module = { .module_index = 0 };
ap_directive_t *ap_conftree;
server_rec *ap_server_conf;

const char *httpd_file;

/* --- time: none passes */

rlp_time_t rlp_clock_wall(void)
{
    return INT64_C(1700000000) * RLP_SECOND;
}

rlp_time_t rlp_clock_monotonic(void)
{
    return rlp_clock_wall();
}

void rlp_clock_read(rlp_clock_t *clock)
{
    *clock = (rlp_clock_t){ .monotonic = rlp_clock_monotonic(), .wall = rlp_clock_wall() };
}

/* --- text */

int ap_cstr_casecmp(const char *s1, const char *s2)
{
    return strcasecmp(s1, s2);
}

int ap_cstr_casecmpn(const char *s1, const char *s2, apr_size_t n)
{
    return strncasecmp(s1, s2, n);
}

char *ap_strcasestr(const char *s1, const char *s2)
{
    return strcasestr(s1, s2);
}

void ap_str_toupper(char *s)
{
    for (; *s != '\0'; s++) {
        *s = (char)apr_toupper(*s);
    }
}

void ap_bin2hex(const void *src, apr_size_t srclen, char *dest)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *bytes = src;

    for (apr_size_t i = 0; i < srclen; i++) {
        *dest++ = digits[bytes[i] >> 4];
        *dest++ = digits[bytes[i] & 15];
    }
    *dest = '\0';
}

const char *ap_scan_http_token(const char *ptr)
{
    while (apr_isalnum(*ptr) || (*ptr != '\0' && strchr("!#$%&'*+-.^_`|~", *ptr) != NULL)) {
        ptr++;
    }
    return ptr;
}

char *ap_make_dirstr_parent(apr_pool_t *p, const char *s)
{
    const char *slash = strrchr(s, '/');

    return slash != NULL ? apr_pstrmemdup(p, s, (apr_size_t)(slash - s) + 1) : apr_pstrdup(p, "");
}

int ap_method_number_of(const char *method)
{
    static const char *const names[] = { "GET",     "PUT",     "POST",  "DELETE",
                                         "CONNECT", "OPTIONS", "TRACE", "PATCH" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(method, names[i]) == 0) {
            return (int)i;
        }
    }
    return M_INVALID;
}

const char *ap_get_status_line(int status)
{
    static const char *const lines[] = { "400 Bad Request", "403 Forbidden", "404 Not Found",
                                         "429 Too Many Requests", "503 Service Unavailable" };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (atoi(lines[i]) == status) {
            return lines[i];
        }
    }
    return "500 Internal Server Error";
}

/* Where there is nothing: a configuration reads files. */
char *ap_server_root_relative(apr_pool_t *p, const char *fname)
{
    if (httpd_file != NULL && strcmp(fname, "FILE") == 0) {
        return apr_pstrdup(p, httpd_file);
    }
    return strlen(fname) < 4000 ? apr_pstrcat(p, "/nonexistent/", fname, NULL) : NULL;
}

char *ap_runtime_dir_relative(apr_pool_t *p, const char *fname)
{
    return ap_server_root_relative(p, fname);
}

/* --- the log: that it is told what it is told */

static void httpd_log(const char *fmt, va_list args)
{
    char text[MAX_STRING_LEN];

    apr_vsnprintf(text, sizeof(text), fmt, args);
}

void ap_log_error_(const char *file, int line, int module_index, int level, apr_status_t status,
                   const server_rec *s, const char *fmt, ...)
{
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)level;
    (void)status;
    (void)s;
    va_start(args, fmt);
    httpd_log(fmt, args);
    va_end(args);
}

void ap_log_rerror_(const char *file, int line, int module_index, int level, apr_status_t status,
                    const request_rec *r, const char *fmt, ...)
{
    va_list args;

    (void)file;
    (void)line;
    (void)module_index;
    (void)level;
    (void)status;
    (void)r;
    va_start(args, fmt);
    httpd_log(fmt, args);
    va_end(args);
}

/* --- providers, and what outlives a configuration */

static struct {
    const char *group;
    const char *name;
    const char *version;
    const void *provider;
} httpd_providers[PROVIDERS_MAX];

static int httpd_providers_n;

apr_status_t ap_register_provider(apr_pool_t *pool, const char *provider_group,
                                  const char *provider_name, const char *provider_version,
                                  const void *provider)
{
    (void)pool;
    if (httpd_providers_n == PROVIDERS_MAX) {
        abort();
    }
    httpd_providers[httpd_providers_n].group = provider_group;
    httpd_providers[httpd_providers_n].name = provider_name;
    httpd_providers[httpd_providers_n].version = provider_version;
    httpd_providers[httpd_providers_n++].provider = provider;
    return APR_SUCCESS;
}

static bool httpd_provides(int i, const char *group, const char *version)
{
    return strcmp(httpd_providers[i].group, group) == 0 &&
           strcmp(httpd_providers[i].version, version) == 0;
}

void *ap_lookup_provider(const char *provider_group, const char *provider_name,
                         const char *provider_version)
{
    for (int i = 0; i < httpd_providers_n; i++) {
        if (httpd_provides(i, provider_group, provider_version) &&
            strcmp(httpd_providers[i].name, provider_name) == 0) {
            return (void *)(uintptr_t)httpd_providers[i].provider;
        }
    }
    return NULL;
}

apr_array_header_t *ap_list_provider_names(apr_pool_t *pool, const char *provider_group,
                                           const char *provider_version)
{
    apr_array_header_t *names = apr_array_make(pool, 8, sizeof(ap_list_provider_names_t));

    for (int i = 0; i < httpd_providers_n; i++) {
        if (httpd_provides(i, provider_group, provider_version)) {
            APR_ARRAY_PUSH(names, ap_list_provider_names_t) =
                (ap_list_provider_names_t){ .provider_name = httpd_providers[i].name };
        }
    }
    return names;
}

apr_array_header_t *ap_list_provider_groups(apr_pool_t *pool)
{
    apr_array_header_t *groups = apr_array_make(pool, 8, sizeof(ap_list_provider_groups_t));

    for (int i = 0; i < httpd_providers_n; i++) {
        APR_ARRAY_PUSH(groups, ap_list_provider_groups_t) =
            (ap_list_provider_groups_t){ .provider_group = httpd_providers[i].group,
                                         .provider_version = httpd_providers[i].version };
    }
    return groups;
}

static struct {
    const char *key;
    void *data;
} httpd_retained[PROVIDERS_MAX];

void *ap_retained_data_get(const char *key)
{
    int i = 0;

    while (i < PROVIDERS_MAX && httpd_retained[i].key != NULL &&
           strcmp(httpd_retained[i].key, key) != 0) {
        i++;
    }
    return i < PROVIDERS_MAX ? httpd_retained[i].data : NULL;
}

void *ap_retained_data_create(const char *key, apr_size_t size)
{
    int i = 0;

    while (i < PROVIDERS_MAX && httpd_retained[i].key != NULL) {
        i++;
    }
    if (i == PROVIDERS_MAX) {
        abort();
    }
    httpd_retained[i].key = strdup(key);
    httpd_retained[i].data = calloc(1, size);
    return httpd_retained[i].data;
}

apr_status_t ap_mpm_query(int query_code, int *result)
{
    *result = query_code == AP_MPMQ_MAX_THREADS ? 25 : 16;
    return APR_SUCCESS;
}

ap_filter_rec_t *ap_get_output_filter_handle(const char *name)
{
    (void)name;
    return NULL;
}

/* --- expressions: only whether there is one */

ap_expr_info_t *ap_expr_parse_cmd_mi(const cmd_parms *cmd, const char *expr, unsigned int flags,
                                     const char **err, ap_expr_lookup_fn_t *lookup_fn,
                                     int module_index)
{
    ap_expr_info_t *info = apr_pcalloc(cmd->pool, sizeof(*info));

    (void)lookup_fn;
    *err = strchr(expr, '`') != NULL ? "syntax error" : NULL;
    info->flags = flags;
    info->module_index = module_index;
    return *err ? NULL : info;
}

int ap_expr_exec(request_rec *r, const ap_expr_info_t *expr, const char **err)
{
    (void)r;
    (void)expr;
    *err = NULL;
    return 0;
}

const char *ap_expr_str_exec(request_rec *r, const ap_expr_info_t *expr, const char **err)
{
    (void)r;
    (void)expr;
    *err = NULL;
    return "";
}

/* --- reading */

/* Where the reader is. */
static struct {
    httpd_conf_t *conf;
    apr_pool_t *pool;
    apr_pool_t *temp_pool;
    server_rec *server;
    dir_conf_t *dir;         /* of the section or the .htaccess; NULL: there is none */
    ap_directive_t *section; /* that has begun it */
    bool htaccess;
    int line;
} reader;

const char *ap_check_cmd_context(cmd_parms *cmd, unsigned forbidden)
{
    const bool inside = reader.dir != NULL;

    if (((forbidden & NOT_IN_HTACCESS) && reader.htaccess) ||
        ((forbidden & NOT_IN_DIR_LOC_FILE) == NOT_IN_DIR_LOC_FILE && inside) ||
        ((forbidden & NOT_IN_VIRTUALHOST) && reader.server->is_virtual)) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name, " cannot occur here", NULL);
    }
    return NULL;
}

/* A word as httpd has it: quotes around it whole, backslashes before quotes. NULL: none. */
static char *reader_word(const char **line)
{
    const char *at = *line + strspn(*line, " \t");
    const bool quoted = *at == '"' || *at == '\'';
    const char quote = *at;
    char *word = apr_pcalloc(reader.pool, strlen(at) + 1);
    size_t n = 0;

    if (quote == '\0') {
        return NULL;
    }
    at += quoted;
    while (*at != '\0' && (quoted ? *at != quote : !apr_isspace(*at))) {
        at += quoted && *at == '\\' && (at[1] == quote || at[1] == '\\');
        word[n++] = *at++;
    }
    *line = at + (quoted && *at == quote);
    return word;
}

char *ap_getword_conf(apr_pool_t *pool, const char **line)
{
    char *word = reader_word(line);

    if (word == NULL) {
        *line += strlen(*line);
        word = apr_pstrdup(pool, "");
    }
    return word;
}

static server_rec *reader_host(bool is_virtual)
{
    server_rec *server = apr_pcalloc(reader.pool, sizeof(*server));
    void **config = apr_pcalloc(reader.pool, sizeof(*config));
    void **dir = apr_pcalloc(reader.pool, sizeof(*dir));

    *config = config_create_server(reader.pool, server);
    *dir = config_create_dir(reader.pool, NULL);
    server->module_config = (struct ap_conf_vector_t *)config;
    server->lookup_defaults = (struct ap_conf_vector_t *)dir;
    server->is_virtual = is_virtual ? 1 : 0;
    server->server_hostname = apr_psprintf(reader.pool, "host%d", reader.line);
    server->names = apr_array_make(reader.pool, 1, sizeof(char *));
    server->wild_names = apr_array_make(reader.pool, 1, sizeof(char *));
    return server;
}

static dir_conf_t *reader_dir(void)
{
    dir_conf_t *dir = config_create_dir(reader.pool, NULL);

    APR_ARRAY_PUSH(reader.conf->places, dir_conf_t *) = dir;
    return dir;
}

static ap_directive_t *reader_directive(const char *name, const char *args)
{
    ap_directive_t *directive = apr_pcalloc(reader.pool, sizeof(*directive));

    directive->directive = name;
    directive->args = args;
    directive->filename = "fuzz.conf";
    directive->line_num = reader.line;
    directive->parent = reader.section;
    return directive;
}

/* Takes a line that begins or ends a section. */
static void reader_section(const char *line)
{
    const bool host = strncasecmp(line, "<VirtualHost", 12) == 0;

    reader.htaccess = false;
    reader.dir = NULL;
    reader.section = NULL;
    if (line[1] == '/') {
        reader.server = strncasecmp(line, "</V", 3) == 0 ? reader.conf->main : reader.server;
    } else if (host) {
        reader.server = reader_host(true);
        reader.server->next = reader.conf->main->next;
        reader.conf->main->next = reader.server;
    } else {
        const size_t len = strcspn(line, " \t");

        reader.section =
            reader_directive(apr_pstrmemdup(reader.pool, line, len), line + len + (line[len] != 0));
        reader.dir = reader_dir();
    }
}

static const char *reader_call(cmd_parms *cmd, void *dir, char *const words[], int n)
{
    switch (cmd->cmd->args_how) {
    case TAKE1:
        return n == 1 ? cmd->cmd->AP_TAKE1(cmd, dir, words[0])
                      : apr_pstrcat(cmd->pool, cmd->cmd->name, " takes one argument", NULL);
    case TAKE12:
        return n == 1 || n == 2
                   ? cmd->cmd->AP_TAKE2(cmd, dir, words[0], n == 2 ? words[1] : NULL)
                   : apr_pstrcat(cmd->pool, cmd->cmd->name, " takes 1-2 arguments", NULL);
    case TAKE_ARGV:
        return cmd->cmd->AP_TAKE_ARGV(cmd, dir, n, words);
    default:
        abort();
    }
}

/* What may stand where the reader is. */
static int reader_override(void)
{
    if (reader.htaccess) {
        return OR_LIMIT;
    }
    return OR_ALL | (reader.dir != NULL ? ACCESS_CONF : RSRC_CONF);
}

static const char *reader_run(const command_rec *command, const char *line)
{
    char *words[WORDS_MAX];
    int n = 0;
    void *dir = reader.dir != NULL ? reader.dir : *(void **)reader.server->lookup_defaults;
    cmd_parms parms = { .cmd = command,
                        .pool = reader.pool,
                        .temp_pool = reader.htaccess ? reader.pool : reader.temp_pool,
                        .server = reader.server,
                        .path = reader.dir != NULL ? apr_pstrdup(reader.pool, "/srv/www/") : NULL,
                        .override = reader_override(),
                        .directive = reader_directive(command->name, line) };

    if ((command->req_override & parms.override) == 0) {
        return apr_pstrcat(reader.pool, command->name, " not allowed here", NULL);
    }
    for (char *word = reader_word(&line); word != NULL && n < WORDS_MAX;
         word = reader_word(&line)) {
        words[n++] = word;
    }
    return reader_call(&parms, dir, words, n);
}

/* Takes one line. */
static void reader_line(char *line)
{
    const char *rest = line + strspn(line, " \t");
    const size_t len = strcspn(rest, " \t");
    const command_rec *command = rlp_commands;

    if (*rest == '<') {
        reader_section(rest);
        return;
    }
    if (strcmp(rest, ".htaccess") == 0) {
        reader.htaccess = true;
        reader.section = NULL;
        reader.dir = reader_dir();
        return;
    }
    while (command->name != NULL &&
           (strncasecmp(command->name, rest, len) != 0 || command->name[len] != '\0')) {
        command++;
    }
    if (command->name == NULL) {
        reader.dir = reader.htaccess ? NULL : reader.dir;
        reader.htaccess = false;
        return;
    }
    reader.conf->error = reader_run(command, rest + len);
    reader.conf->directive = command->name;
}

void httpd_read(httpd_conf_t *conf, const char *text, apr_pool_t *pool)
{
    char *rest = apr_pstrdup(pool, text);

    if (httpd_providers_n == 0) {
        provider_register(pool);
    }
    memset(&reader, 0, sizeof(reader));
    *conf = (httpd_conf_t){ .places = apr_array_make(pool, 4, sizeof(dir_conf_t *)) };
    reader.conf = conf;
    reader.pool = pool;
    if (apr_pool_create(&reader.temp_pool, pool) != APR_SUCCESS) {
        abort();
    }
    ap_conftree = NULL;
    config_begin(pool);
    reader.server = reader_host(false);
    conf->main = reader.server;
    ap_server_conf = conf->main;
    while (conf->error == NULL && rest != NULL) {
        char *line = rest;

        rest = strchr(line, '\n');
        if (rest != NULL) {
            *rest++ = '\0';
        }
        reader.line++;
        reader_line(line);
    }
}
