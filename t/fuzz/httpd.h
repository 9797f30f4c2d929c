/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef FUZZ_HTTPD_H
#define FUZZ_HTTPD_H

/*
 * What of httpd a configuration needs, without a server: stand-ins that do as the real ones do
 * where the module can tell, and a reader of its directives.
 */

#include "provider.h"

#include "json.h"

#include <http_config.h>
#include <httpd.h>

/* What a configuration has become, in a pool. */
typedef struct {
    server_rec *main;           /* with its hosts behind it */
    apr_array_header_t *places; /* dir_conf_t *: of each section and .htaccess */
    const char *error;          /* what the first wrong directive is told; NULL: none was wrong */
    const char *directive;      /* its name */
} httpd_conf_t;

/* What the path FILE stands for in it; NULL: nothing, like all others. */
extern const char *httpd_file;

/* Reads a configuration: directives of this module, VirtualHost and other sections; a line with
   ".htaccess" begins such a file, which the next line without a directive of this module ends. */
void httpd_read(httpd_conf_t *conf, const char *text, apr_pool_t *pool);

/* --- httpd_request.c */

/* Opens what a configuration that is sound needs for requests, with a store in memory. */
void httpd_open(const httpd_conf_t *conf, apr_pool_t *pool);

/* A POST by a user whom the configuration demands, from 192.0.2.9. */
request_rec *httpd_post(const httpd_conf_t *conf, const char *body, apr_size_t len,
                        apr_pool_t *pool);

/* What has been written to the request that was made last. */
const char *httpd_written(apr_size_t *len);

#endif
