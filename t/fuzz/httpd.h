/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#ifndef FUZZ_HTTPD_H
#define FUZZ_HTTPD_H

/*
 * What of httpd a configuration needs, without a server: stand-ins that do as the real ones do
 * where the module can tell, and a reader of its directives.
 */

#include "provider.h"

#include <http_config.h>

/* What a configuration has become, in a pool. */
typedef struct {
    server_rec *main;           /* with its hosts behind it */
    apr_array_header_t *places; /* dir_conf_t *: of each section and .htaccess */
    const char *error;          /* what the first wrong directive is told; NULL: none was wrong */
    const char *directive;      /* its name */
} httpd_conf_t;

/* Reads a configuration: directives of this module, VirtualHost and other sections; a line with
   ".htaccess" begins such a file, which the next line without a directive of this module ends. */
void httpd_read(httpd_conf_t *conf, const char *text, apr_pool_t *pool);

#endif
