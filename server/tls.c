/* Certificates: see tls.h. */
#include "server/tls.h"

#include <errno.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct tls_pair {
    gnutls_certificate_credentials_t credentials;
    size_t holders; /* connections, and struct tls */
};

/* *to is a text of its own. */
static int read_text(const char *option, const char *path, char **to, struct err *err)
{
    char block[4096];
    struct buf text = {0};
    size_t n;
    FILE *file = fopen(path, "re");
    if (!file)
        return err_set(err, ERR_IO, "%s %s cannot be read: %s", option, path, strerror(errno));
    while ((n = fread(block, 1, sizeof block, file)))
        buf_append(&text, block, n);
    int rc = ferror(file)  ? err_set(err, ERR_IO, "%s %s cannot be read", option, path)
             : text.failed ? err_set(err, ERR_MEMORY, "memory ran out")
                           : 0;
    fclose(file);
    buf_append(&text, "", 1);
    if (!rc && text.failed)
        rc = err_set(err, ERR_MEMORY, "memory ran out");
    if (rc)
        buf_release(&text);
    *to = text.data;
    return rc;
}

/* GnuTLS' code, or 0 if text is a PEM list of certificates. */
static int check_certificates(const gnutls_datum_t *text)
{
    gnutls_x509_crt_t *list = NULL;
    unsigned n = 0;
    int rc = gnutls_x509_crt_list_import2(&list, &n, text, GNUTLS_X509_FMT_PEM, 0);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < n; i++)
        gnutls_x509_crt_deinit(list[i]);
    gnutls_free(list);
    return 0;
}

static int make_pair(struct tls *tls, const char *cert, const char *key, struct err *err)
{
    const gnutls_datum_t texts[] = {{(unsigned char *)tls->cert, (unsigned)strlen(tls->cert)},
                                    {(unsigned char *)tls->key, (unsigned)strlen(tls->key)}};
    struct tls_pair *pair = tls->pair = calloc(1, sizeof *pair);
    if (!pair)
        return err_set(err, ERR_MEMORY, "memory ran out");
    pair->holders = 1;
    int rc = gnutls_certificate_allocate_credentials(&pair->credentials);
    /* Of a certificate that it cannot read, gnutls_certificate_set_x509_key_mem (GnuTLS 3.7.9)
     * keeps some 10 kB for good: every SIGHUP with a half-written file would cost them. So it gets
     * none. */
    if (!rc)
        rc = check_certificates(&texts[0]);
    if (!rc)
        rc = gnutls_certificate_set_x509_key_mem(pair->credentials, &texts[0], &texts[1],
                                                 GNUTLS_X509_FMT_PEM);
    return rc < 0 ? err_set(err, ERR_INVALID, "--tls-cert %s and --tls-key %s cannot be used: %s",
                            cert, key, gnutls_strerror(rc))
                  : 0;
}

int tls_read(struct tls *tls, const char *cert, const char *key, struct err *err)
{
    struct tls found = {0};
    if (!cert && !key)
        return 0;
    if (!cert || !key)
        return err_set(err, ERR_INVALID, "--tls-cert and --tls-key belong together: give both");
    int rc = read_text("--tls-cert", cert, &found.cert, err);
    if (!rc)
        rc = read_text("--tls-key", key, &found.key, err);
    if (!rc)
        rc = make_pair(&found, cert, key, err);
    if (rc) {
        tls_release(&found);
        return rc;
    }
    tls_release(tls);
    *tls = found;
    return 0;
}

void tls_release(struct tls *tls)
{
    if (tls->key)
        explicit_bzero(tls->key, strlen(tls->key));
    free(tls->cert);
    free(tls->key);
    tls_let_go(tls->pair);
    memset(tls, 0, sizeof *tls);
}

struct tls_pair *tls_hold(const struct tls *tls, gnutls_session_t session)
{
    struct tls_pair *pair = tls->pair;
    if (gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, pair->credentials) < 0)
        return NULL;
    pair->holders++;
    return pair;
}

void tls_let_go(struct tls_pair *pair)
{
    if (!pair || --pair->holders)
        return;
    if (pair->credentials)
        gnutls_certificate_free_credentials(pair->credentials);
    free(pair);
}
