/* Routes: see route.h. */
#include "server/route.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "server/page.h"

#define MODELS_PREFIX "/v1/models/"

static const struct {
    const char *path;
    enum route route;
    bool post;
} ROUTES[] = {
    {"/", ROUTE_PAGE, false},
    {"/health", ROUTE_HEALTH, false},
    {"/ready", ROUTE_READY, false},
    {"/metrics", ROUTE_METRICS, false},
    {"/v1/models", ROUTE_MODELS, false},
    {"/v1/completions", ROUTE_COMPLETIONS, true},
    {"/v1/chat/completions", ROUTE_CHAT, true},
};

static enum route find(const char *path, bool *post)
{
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++)
        if (!strcmp(path, ROUTES[i].path)) {
            *post = ROUTES[i].post;
            return ROUTES[i].route;
        }
    *post = false;
    return strncmp(path, MODELS_PREFIX, strlen(MODELS_PREFIX)) ? ROUTE_NONE : ROUTE_MODEL;
}

static bool is_json(const char *type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return !type || (!strncasecmp(type, json, n) && (!type[n] || strchr("; \t", type[n])));
}

static enum route refuse_method(bool post, const char *method, const char *path,
                                struct reply *reply)
{
    reply_error(reply, 405, NULL, "method_not_allowed", "%.20s is not allowed on %.100s: use %s.",
                method, path, post ? "POST" : "GET");
    reply->allow = post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
    return ROUTE_NONE;
}

void route_too_large(const struct app *app, struct reply *reply)
{
    reply_error(reply, 413, NULL, "body_too_large",
                "The request's body is larger than the %zu bytes this server takes.",
                app->max_body);
}

static bool admit_post(const struct app *app, const struct headers *headers, struct reply *reply)
{
    if (!is_json(headers->content_type))
        reply_error(reply, 415, NULL, "unsupported_media_type",
                    "The Content-Type is '%.100s', but must be application/json.",
                    headers->content_type);
    else if (headers->length > app->max_body)
        route_too_large(app, reply);
    else if (app->draining) {
        reply_error(reply, 503, NULL, "shutting_down", "The server is shutting down.");
        reply->retry_after = 5;
    }
    return !reply->status;
}

enum route route_admit(const struct app *app, const char *method, const char *path,
                       const struct headers *headers, struct reply *reply)
{
    bool post;
    enum route route = find(path, &post);
    if (route == ROUTE_NONE) {
        reply_error(reply, 404, NULL, "unknown_url", "There is nothing at %.10s %.100s.", method,
                    path);
        return ROUTE_NONE;
    }
    if (!strcmp(method, "OPTIONS"))
        return ROUTE_PREFLIGHT;
    if (strcmp(method, post ? "POST" : "GET") && (post || strcmp(method, "HEAD")))
        return refuse_method(post, method, path, reply);
    if (!strncmp(path, "/v1/", 4) && !keys_allow(&app->keys, headers->authorization)) {
        reply_error(reply, 401, NULL, "invalid_api_key",
                    "The API key is missing or wrong: send 'Authorization: Bearer KEY'.");
        return ROUTE_NONE;
    }
    return post && !admit_post(app, headers, reply) ? ROUTE_NONE : route;
}

bool route_wants_body(enum route route)
{
    return route == ROUTE_COMPLETIONS;
}

/* ---- answers ---- */

static void add_model(const struct app *app, struct buf *out)
{
    const char *id = app->model.id;
    buf_puts(out, "{\"id\":");
    json_text(out, id, strlen(id));
    buf_printf(out,
               ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"headway\","
               "\"max_model_len\":%d,\"prediction_heads\":%d}",
               (int64_t)app->started, app->info->context, app->info->n_predict);
}

static void answer_models(const struct app *app, struct reply *reply)
{
    struct buf *out = reply_begin(reply, 200, "application/json");
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    add_model(app, out);
    buf_puts(out, "]}\n");
}

static void answer_model(const struct app *app, const char *path, struct reply *reply)
{
    const char *name = path + strlen(MODELS_PREFIX);
    if (strcmp(name, app->model.id)) {
        reply_error(reply, 404, "model", "model_not_found",
                    "The model '%.100s' does not exist here: this server serves '%s'.", name,
                    app->model.id);
        return;
    }
    add_model(app, reply_begin(reply, 200, "application/json"));
    buf_puts(&reply->body, "\n");
}

static void answer_health(const struct app *app, struct reply *reply)
{
    struct engine_stats stats;
    engine_stats(app->engine, &stats);
    bool alive = stats.heartbeat_age <= app->stall;
    buf_printf(reply_begin(reply, alive ? 200 : 503, "application/json"),
               "{\"status\":\"%s\",\"heartbeat_age\":%.3f}\n", alive ? "ok" : "stalled",
               stats.heartbeat_age);
}

static void answer_ready(const struct app *app, struct reply *reply)
{
    buf_printf(reply_begin(reply, app->draining ? 503 : 200, "application/json"),
               "{\"status\":\"%s\"}\n", app->draining ? "shutting down" : "ready");
}

static void answer_metrics_page(const struct app *app, struct reply *reply)
{
    struct engine_stats stats;
    engine_stats(app->engine, &stats);
    metrics_write(&app->metrics, app->info, &stats,
                  reply_begin(reply, 200, "text/plain; version=0.0.4; charset=utf-8"));
}

void route_answer(struct app *app, enum route route, const char *path, struct reply *reply)
{
    if (route == ROUTE_PAGE)
        buf_puts(reply_begin(reply, 200, "text/html; charset=utf-8"), PAGE);
    else if (route == ROUTE_HEALTH)
        answer_health(app, reply);
    else if (route == ROUTE_READY)
        answer_ready(app, reply);
    else if (route == ROUTE_METRICS)
        answer_metrics_page(app, reply);
    else if (route == ROUTE_MODELS)
        answer_models(app, reply);
    else if (route == ROUTE_MODEL)
        answer_model(app, path, reply);
    else if (route == ROUTE_PREFLIGHT)
        reply_begin(reply, 204, NULL);
    else
        reply_error(reply, 400, NULL, "no_chat_template",
                    "This model has no chat template: use /v1/completions.");
}
