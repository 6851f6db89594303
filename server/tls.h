/* The certificate and the key of HTTPS: read and checked here, and read again on SIGHUP, spoken
 * with by libmicrohttpd through GnuTLS. A connection keeps those that it began with. Used by main.c
 * and http.c, on the loop thread. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include <gnutls/gnutls.h>

#include "base/err.h"

/* What is spoken: TLS 1.2 and 1.3, in GnuTLS' words. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct tls_pair; /* a certificate and its key, as long as somebody holds them */

struct tls {
    char *cert, *key;      /* PEM texts, owned; NULL: HTTP is served */
    struct tls_pair *pair; /* what they say, for connections that begin now */
};

/* Both paths or none. Releases what was read before. ERR_IO, ERR_INVALID, ERR_MEMORY: a file that
 * cannot be read, is no PEM, or the key is not the certificate's; then all is as before. */
int tls_read(struct tls *tls, const char *cert, const char *key, struct err *err);
void tls_release(struct tls *tls);

/* Has a session that has not begun its handshake use the pair of now, which the caller holds until
 * the session has ended. NULL: GnuTLS has no memory for that; the session is to be closed. */
struct tls_pair *tls_hold(const struct tls *tls, gnutls_session_t session);
void tls_let_go(struct tls_pair *pair); /* NULL is allowed */

#endif
