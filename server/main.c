/* headway-server: options, the life of the process, signals. Owns the loop and struct app; the
 * HTTP side is in http.c, the model behind engine/engine.h.
 *
 * Threads: this one runs the loop and everything in server/. The engine's decode thread calls
 * on_notify only, and on_notify only uv_async_send, the one call libuv allows from another thread.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opts.h" /* the version */
#include "server/body.h"
#include "server/completion.h"
#include "server/http.h"
#include "server/notify.h"
#include "server/settings.h"

#define PROGRESS_SECONDS 10
#define EXTRA_DESCRIPTORS 128 /* beside connections: the model's files, epoll, the log */

struct server {
    uv_loop_t loop;
    uv_async_t events; /* some wait in the engine */
    uv_signal_t interrupt, terminate, hangup;
    struct settings settings;
    uv_timer_t progress;
    struct engine_stats reported; /* what the last line of throughput knew */
    struct app app;
    struct http http;
    bool loop_ready;
    struct template *template; /* of the model's chats, NULL = none */
    struct err template_err;
};

/* ---- callbacks ---- */

/* Decode thread. */
static void on_notify(void *async)
{
    uv_async_send(async);
}

static void on_events(uv_async_t *async)
{
    struct server *server = async->data;
    completions_poll(&server->app);
    http_pump(&server->http);
}

/* Under load, what the server does, every so often. */
static void on_progress(uv_timer_t *timer)
{
    struct server *server = timer->data;
    struct engine_stats now, *last = &server->reported;
    engine_stats(server->app.engine, &now);
    double drafted = (double)(now.speculation.drafted - last->speculation.drafted);
    double tokens = (double)(now.generation_tokens - last->generation_tokens);
    double prompts = (double)(now.prompt_tokens - last->prompt_tokens);
    double accepted = (double)(now.speculation.accepted - last->speculation.accepted);
    struct log_field fields[] = {
        {"tokens_per_second", NULL, tokens / PROGRESS_SECONDS},
        {"prompt_tokens_per_second", NULL, prompts / PROGRESS_SECONDS},
        {"running", NULL, now.running},
        {"waiting", NULL, now.waiting},
        {"accepted", NULL, drafted > 0 ? round(accepted / drafted * 1e3) / 1e3 : NAN},
        {"kv_used", NULL, round(now.kv_used * 1e3) / 1e3},
    };
    if (tokens > 0 || prompts > 0)
        log_event(LOG_INFO, "throughput", fields, sizeof fields / sizeof fields[0]);
    *last = now;
}

static void on_signal(uv_signal_t *handle, int signal)
{
    struct server *server = handle->data;
    if (server->app.draining) {
        log_warn("second signal: leaving at once");
        _exit(128 + signal);
    }
    notify_manager("STOPPING=1");
    log_info("shutting down: %zu requests are still open", server->http.n_exchanges);
    http_drain(&server->http);
}

static void reload_keys(struct server *server)
{
    const struct settings *s = &server->settings;
    struct err err;
    if (keys_read(&server->app.keys, s->key, s->key_file, &err))
        log_error("SIGHUP: the API keys stay as they were, because %s", err.text);
    else
        log_info("SIGHUP: %d API keys are valid now", server->app.keys.n);
}

static void reload_certificate(struct server *server)
{
    const struct settings *s = &server->settings;
    struct err err;
    if (tls_read(&server->http.tls, s->tls_cert, s->tls_key, &err))
        log_error("SIGHUP: the certificate stays as it was, because %s", err.text);
    else
        log_info("SIGHUP: new connections get the certificate that is in %s now", s->tls_cert);
}

static void on_reload(uv_signal_t *handle, int signal)
{
    struct server *server = handle->data;
    const struct settings *s = &server->settings;
    (void)signal;
    if (s->key_file)
        reload_keys(server);
    if (s->tls_cert)
        reload_certificate(server);
    if (!s->key_file && !s->tls_cert)
        log_warn("SIGHUP: there is no --api-key-file and no --tls-cert to read again");
}

/* A mapped file that has become shorter, or a disk that fails, shows as this signal in whichever
 * thread reads it. Nothing can go on without the model. */
static void on_bus_error(int signal)
{
    static const char text[] =
        "headway-server: the model's file cannot be read any more: it was cut short or replaced "
        "while "
        "it is served, or its disk fails. Replace models by renaming new files over old ones.\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(128 + signal);
    _exit(1);
}

/* While it loads there is nothing to finish. As a container's process 1 it would not even end:
 * there a signal without a handler is ignored. */
static void on_early_signal(int signal)
{
    (void)signal;
    _exit(0);
}

/* ---- life ---- */

static void set_model_id(struct app *app, const char *alias)
{
    if (alias) {
        app->model.id = strdup(alias);
        return;
    }
    char *folder = realpath(app->info->model, NULL);
    const char *path = folder ? folder : app->info->model, *slash = strrchr(path, '/');
    app->model.id = strdup(slash && slash[1] ? slash + 1 : path);
    free(folder);
}

/* A model without a template that can be used still continues texts. */
static void open_template(struct server *server)
{
    struct api_model *model = &server->app.model;
    const struct engine_info *info = model->info;
    if (!info->chat_template_len)
        return;
    if (template_parse(&server->template, info->chat_template, info->chat_template_len,
                       &server->template_err)) {
        model->template_fault = server->template_err.text;
        log_warn("no chats, because the model's template cannot be used: %s",
                 model->template_fault);
    }
    model->template = server->template;
    if (model->template)
        model->calls = call_format_of(info->chat_template, info->chat_template_len);
}

static int open_app(struct server *server, const struct settings *s, struct err *err)
{
    struct app *app = &server->app;
    app->allow_origin = s->allow_origin;
    app->prefix_apart = s->prefix_apart;
    app->audits.share = s->audit;
    app->audits.file = s->audit_file;
    app->max_body = (size_t)s->max_body;
    app->max_bodies = (size_t)s->max_bodies << 20;
    app->max_unread = (size_t)s->max_unread;
    app->stall = s->stall;
    app->max_seconds = s->max_seconds;
    app->started = time(NULL);
    int rc = engine_open(&app->engine, &s->engine, err);
    if (rc)
        return rc;
    app->info = engine_info(app->engine);
    set_model_id(app, s->alias);
    app->model.info = app->info;
    app->model.max_tokens = s->max_tokens;
    open_template(server);
    return app->model.id ? 0 : err_set(err, ERR_MEMORY, "memory ran out");
}

static int open_loop(struct server *server, struct err *err)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error, no end */
    signal(SIGBUS, on_bus_error);
    setenv("UV_THREADPOOL_SIZE", "1", 1); /* large bodies are read one at a time */
    body_open();
    json_object_seed(0); /* and not seeded by two threads */
    if (uv_loop_init(&server->loop))
        return err_set(err, ERR_IO, "the event loop could not be started");
    server->loop_ready = true;
    server->http.app = &server->app;
    server->http.loop = &server->loop;
    server->http.listen_fd = -1;
    server->events.data = server->interrupt.data = server->terminate.data = server->hangup.data =
        server;
    server->progress.data = server;
    if (uv_async_init(&server->loop, &server->events, on_events) ||
        uv_signal_init(&server->loop, &server->interrupt) ||
        uv_signal_init(&server->loop, &server->terminate) ||
        uv_signal_init(&server->loop, &server->hangup) ||
        uv_timer_init(&server->loop, &server->progress))
        return err_set(err, ERR_IO, "the event loop could not be started");
    return 0;
}

/* Each connection needs a descriptor; the usual soft limit of 1024 may be too low. */
static void raise_descriptor_limit(int max_connections)
{
    struct rlimit limit;
    rlim_t want = (rlim_t)max_connections + EXTRA_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= want)
        return;
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur < want)
        log_warn("only %ju descriptors are allowed for %d connections", (uintmax_t)limit.rlim_cur,
                 max_connections);
}

static void announce(const struct app *app, const char *http, const char *host, int port)
{
    const struct engine_info *info = app->info;
    const char *left = strchr(host, ':') ? "[" : "", *right = *left ? "]" : "";
    char heads[64] = "no heads that draft";
    if (info->n_predict > 1)
        snprintf(heads, sizeof heads, "%s, %d prediction heads", info->kind, info->n_predict);
    printf("headway %s: model %s, %s, %.1f M parameters, %s kernels, %d threads, "
           "%s://%s%s%s:%d\n",
           HEADWAY_VERSION, app->model.id, heads, (double)info->parameters / 1e6, info->isa,
           info->threads, http, left, host, right, port);
    printf("curl %s://%s%s%s:%d/v1/%s -H 'Content-Type: application/json' -d '{%s}'\n", http, left,
           host, right, port, app->model.template ? "chat/completions" : "completions",
           app->model.template ? "\"messages\": [{\"role\": \"user\", \"content\": \"Who are "
                                 "you?\"}], \"max_tokens\": 256"
                               : "\"prompt\": \"Once upon a time\", \"max_tokens\": 64");
    fflush(stdout);
}

static void log_advice(void *arg, const char *sentence)
{
    (void)arg;
    log_info("speculation: %s", sentence);
}

/* What warm-up says of drafts; /v1/models knows more once texts were decoded. */
static void advise(const struct app *app)
{
    struct engine_stats stats;
    engine_stats(app->engine, &stats);
    engine_advise(app->info, &stats, log_advice, NULL);
}

static int serve(struct server *server, const struct settings *s, struct err *err)
{
    int port = s->port;
    raise_descriptor_limit(s->max_connections);
    int rc = keys_read(&server->app.keys, s->key, s->key_file, err);
    if (!rc)
        rc = tls_read(&server->http.tls, s->tls_cert, s->tls_key, err);
    if (!rc)
        rc = open_loop(server, err);
    if (!rc)
        rc = http_bind(&server->http, s->host, &port, err);
    if (!rc)
        rc = open_app(server, s, err);
    if (!rc && s->capture)
        rc = capture_open(&server->app.capture, s->capture, server->app.info->vocab,
                          (uint64_t)s->capture_limit << 20, err);
    if (!rc)
        rc = http_open(&server->http, err);
    if (rc)
        return rc;
    uv_signal_start(&server->interrupt, on_signal, SIGINT);
    uv_signal_start(&server->terminate, on_signal, SIGTERM);
    uv_signal_start(&server->hangup, on_reload, SIGHUP);
    uv_timer_start(&server->progress, on_progress, PROGRESS_SECONDS * 1000,
                   PROGRESS_SECONDS * 1000);
    advise(&server->app);
    announce(&server->app, s->tls_cert ? "https" : "http", s->host, port);
    notify_manager("READY=1");
    uv_run(&server->loop, UV_RUN_DEFAULT);
    return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* The engine is closed before the loop: its last notify must still find the async handle. */
static void close_all(struct server *server)
{
    http_close(&server->http);
    engine_close(server->app.engine);
    capture_close(&server->app.capture);
    template_free(server->template);
    free((char *)server->app.model.id);
    if (!server->loop_ready)
        return;
    uv_walk(&server->loop, close_handle, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    uv_loop_close(&server->loop);
}

int main(int argc, char **argv)
{
    struct err err;
    static struct server server;
    struct settings *s = &server.settings;
    signal(SIGTERM, on_early_signal);
    signal(SIGINT, on_early_signal);
    int rc = settings_read(s, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (!rc) {
        s->engine.kv_limit = (size_t)s->kv_memory << 20;
        s->engine.kv_kept = (size_t)s->prefix_memory << 20;
        s->engine.notify = on_notify;
        s->engine.notify_arg = &server.events;
        server.http.timeout = s->timeout;
        server.http.drain_seconds = s->drain;
        server.http.max_connections = s->max_connections;
        server.http.max_per_address =
            s->max_per_address ? s->max_per_address : (s->max_connections + 1) / 2;
        log_configure(s->log_level, !strcmp(s->log_format, "json"));
        rc = serve(&server, s, &err);
        close_all(&server);
    }
    if (rc)
        fprintf(stderr, "headway-server: %s\n", err.text);
    return rc ? 1 : 0;
}
