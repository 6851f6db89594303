/* headway-server's options: what they are called, what they mean, and their defaults. Used once, by
 * main.c, before there are threads. */
#ifndef SERVER_SETTINGS_H
#define SERVER_SETTINGS_H

#include "base/err.h"
#include "engine/engine.h"

struct settings {
    struct engine_options engine;
    const char *host, *alias, *key, *key_file, *tls_cert, *tls_key, *allow_origin, *capture,
        *log_level, *log_format;
    const char *audit_file;
    double audit;
    bool prefix_apart;
    int capture_limit, kv_memory, prefix_memory, port, max_body, max_bodies, max_unread,
        max_connections, max_per_address, max_tokens, max_seconds, timeout, stall, drain;
};

/* Fills in defaults, then reads the configuration file, the environment and the words. Returns 0; 1
 * when --help or --version was printed; ERR_INVALID, ERR_IO. */
int settings_read(struct settings *settings, int argc, char **argv, struct err *err);

#endif
