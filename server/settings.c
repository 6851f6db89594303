/* Options: see settings.h. */
#include "server/settings.h"

#include <string.h>

#include "base/log.h"
#include "base/opts.h"

static const char ABOUT[] =
    "headway-server: serves a multi-token-prediction language model over an OpenAI-compatible "
    "HTTP interface.";

static int parse(struct settings *s, int argc, char **argv, struct err *err)
{
    const char *config = opts_early("config", argc, argv);
    const struct opt table[] = {
        {"config", OPT_STRING, &config, 0, 0, NULL,
         "file of lines like \"max-queue = 100\"; options may also come as HEADWAY_MAX_QUEUE from "
         "the "
         "environment, which goes before the file, as the command line goes before both"},
        {"model", OPT_STRING, &s->engine.model, 0, 0, NULL, "folder or file of the model"},
        {"m", OPT_STRING, &s->engine.model, 0, 0, NULL, "the same"},
        {"alias", OPT_STRING, &s->alias, 0, 0, NULL,
         "name that clients know the model by, in place of its file's"},
        {"heads", OPT_STRING, &s->engine.heads, 0, 0, NULL,
         "folder of prediction heads that were trained for the model; those that the file names "
         "beside its model are left out when the command line names another"},
        {"host", OPT_STRING, &s->host, 0, 0, NULL, "address to listen on"},
        {"port", OPT_INT, &s->port, 0, 65535, NULL, "port to listen on, 0 = a free one"},
        {"threads", OPT_INT, &s->engine.threads, 0, 1024, NULL, "compute threads, 0 = all cores"},
        {"t", OPT_INT, &s->engine.threads, 0, 1024, NULL, "the same"},
        {"isa", OPT_CHOICE, &s->engine.isa, 0, 0, ENGINE_ISAS, "kernels"},
        {"type", OPT_CHOICE, &s->engine.weights, 0, 0, "stored|f32|bf16|q8|q4",
         "of the matrices in memory; other than stored: converted while loading"},
        {"kv", OPT_CHOICE, &s->engine.kv, 0, 0, "bf16|f32", "of cached keys and values in memory"},
        {"kv-memory", OPT_INT, &s->kv_memory, 0, 1 << 24, NULL,
         "MiB of cached keys and values, 0 = automatic"},
        {"prefix-memory", OPT_INT, &s->prefix_memory, 0, 1 << 24, NULL,
         "MiB of these that ended texts may leave for prompts that begin alike"},
        {"prefix-apart", OPT_FLAG, &s->prefix_apart, 0, 0, NULL,
         "different API keys, or addresses where there are none, share nothing of these"},
        {"max-sequences", OPT_INT, &s->engine.max_sequences, 1, 1024, NULL,
         "sequences decoded at the same time"},
        {"max-queue", OPT_INT, &s->engine.max_queue, 1, 100000, NULL,
         "requests that may wait; beyond it they get 429"},
        {"context", OPT_INT, &s->engine.context, 0, 1 << 24, NULL,
         "positions per sequence, prompt and completion, 0 = the model's"},
        {"c", OPT_INT, &s->engine.context, 0, 1 << 24, NULL, "the same"},
        {"prompt-chunk", OPT_INT, &s->engine.prompt_chunk, 0, 1 << 16, NULL,
         "prompt tokens prefilled in one step, 0 = automatic"},
        {"api-key", OPT_STRING, &s->key, 0, 0, NULL,
         "API key, asked for under /v1/ and by every POST; better in HEADWAY_API_KEY, because "
         "others see the words of a command"},
        {"api-key-file", OPT_STRING, &s->key_file, 0, 0, NULL,
         "file with one API key per line, read again on SIGHUP"},
        {"tls-cert", OPT_STRING, &s->tls_cert, 0, 0, NULL,
         "PEM file of the certificate and those between it and a root; with it HTTPS is served; "
         "read again on SIGHUP, with the key"},
        {"tls-key", OPT_STRING, &s->tls_key, 0, 0, NULL, "PEM file of its private key"},
        {"capture", OPT_STRING, &s->capture, 0, 0, NULL,
         "file that keeps the tokens of all prompts and answers, for headway-train; without it "
         "none are kept"},
        {"capture-limit", OPT_INT, &s->capture_limit, 1, 1 << 24, NULL, "MiB that it may grow to"},
        {"audit", OPT_REAL, &s->audit, 0, 1, NULL,
         "part of the answers that are decoded again plainly, later, and compared"},
        {"audit-file", OPT_STRING, &s->audit_file, 0, 0, NULL,
         "file that gets a line for each that differs, by which it can be repeated"},
        {"allow-origin", OPT_STRING, &s->allow_origin, 0, 0, NULL,
         "web pages that may use the server (CORS), empty = none"},
        {"max-body", OPT_INT, &s->max_body, 1024, 1 << 26, NULL, "bytes of a request's body"},
        {"max-bodies", OPT_INT, &s->max_bodies, 1, 1 << 16, NULL,
         "MiB of requests' bodies held at the same time; beyond it large ones get 503"},
        {"max-unread", OPT_INT, &s->max_unread, 1 << 14, 1 << 28, NULL,
         "bytes of a stream its client may leave unread before it pauses"},
        {"max-connections", OPT_INT, &s->max_connections, 1, 65536, NULL,
         "connections at the same time"},
        {"max-per-address", OPT_INT, &s->max_per_address, 0, 65536, NULL,
         "of them from one address, 0 = half of all"},
        {"timeout", OPT_INT, &s->timeout, 1, 3600, NULL,
         "seconds to send a request, to idle, or to leave a response unread"},
        {"max-tokens", OPT_INT, &s->max_tokens, 0, 1 << 24, NULL,
         "tokens written for one text, whatever it asks for; 0 = what fits the context"},
        {"max-seconds", OPT_INT, &s->max_seconds, 0, 1 << 24, NULL,
         "that a request may take, waiting included; then it ends with what it has; 0 = any"},
        {"stall", OPT_INT, &s->stall, 1, 3600, NULL,
         "seconds without a decode step after which /health says 503"},
        {"drain-seconds", OPT_INT, &s->drain, 0, 86400, NULL,
         "that requests may go on after SIGTERM; then they end with a sentence"},
        {"log-level", OPT_CHOICE, &s->log_level, 0, 0, LOG_LEVELS,
         "lines of at least this weight; info has one for each request"},
        {"log-format", OPT_CHOICE, &s->log_format, 0, 0, "text|json", "of the log's lines"},
        {0}};
    const char *unnamed = s->engine.model;
    int rc = opts_settings(table, config, err);
    if (rc)
        return rc;
    const char *model = s->engine.model, *heads = s->engine.heads;
    rc = opts_parse(table, ABOUT, argc, argv, NULL, 0, NULL, err);
    /* Heads named beside a model in the file or the environment are not for another one. */
    if (model != unnamed && strcmp(s->engine.model, model) && s->engine.heads == heads)
        s->engine.heads = NULL;
    return rc;
}

int settings_read(struct settings *s, int argc, char **argv, struct err *err)
{
    *s = (struct settings){.engine = {.model = "weights/demo",
                                      .max_sequences = 16,
                                      .max_queue = 256,
                                      .isa = "auto",
                                      .weights = "stored"},
                           .host = "127.0.0.1",
                           .allow_origin = "*",
                           .port = 8080,
                           .capture_limit = 1024,
                           .prefix_memory = 1024,
                           .max_body = 1 << 20,
                           .max_bodies = 64,
                           .max_unread = 1 << 20,
                           .max_connections = 512,
                           .timeout = 30,
                           .stall = 30,
                           .drain = 30,
                           .log_level = "info",
                           .log_format = "text"};
    return parse(s, argc, argv, err);
}
