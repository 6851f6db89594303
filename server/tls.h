/* The certificate and the key of HTTPS: read and checked here, spoken with by libmicrohttpd through
 * GnuTLS. Used by main.c and http.c, on the loop thread. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "base/err.h"

/* What is spoken: TLS 1.2 and 1.3, in GnuTLS' words. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls {
    char *cert, *key; /* PEM texts, owned; NULL: HTTP is served */
};

/* Both paths or none. ERR_IO, ERR_INVALID: a file that cannot be read, is no PEM, or the key is not
 * the certificate's. */
int tls_read(struct tls *tls, const char *cert, const char *key, struct err *err);
void tls_release(struct tls *tls);

#endif
