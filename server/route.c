/* Routes: see route.h. */
#include "server/route.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/opts.h" /* the version */
#include "server/json_text.h"
#include "server/page.h"
#include "server/speculation_json.h"
#include "server/props.h"
#include "server/text_api.h"

#define MODELS_PREFIX "/v1/models/"

static const struct {
    const char *path;
    enum route route;
    bool post;
} ROUTES[] = {
    {"/health", ROUTE_HEALTH, false},
    {"/ready", ROUTE_READY, false},
    {"/metrics", ROUTE_METRICS, false},
    {"/v1/models", ROUTE_MODELS, false},
    {"/models", ROUTE_MODELS, false},
    {"/props", ROUTE_PROPS, false},
    {"/version", ROUTE_VERSION, false},
    {"/v1/completions", ROUTE_COMPLETIONS, true},
    {"/v1/chat/completions", ROUTE_CHAT, true},
    {"/v1/responses", ROUTE_RESPONSES, true},
    {"/v1/messages", ROUTE_MESSAGES, true},
    {"/v1/messages/count_tokens", ROUTE_COUNT_TOKENS, true},
    {"/infill", ROUTE_INFILL, true},
    {"/v1/speedup", ROUTE_SPEEDUP, true},
    {"/tokenize", ROUTE_TOKENIZE, true},
    {"/detokenize", ROUTE_DETOKENIZE, true},
    {"/apply-template", ROUTE_APPLY_TEMPLATE, true},
};

const char *route_path(const char *target)
{
    if (strncasecmp(target, "http://", 7) && strncasecmp(target, "https://", 8))
        return target;
    const char *path = strchr(strstr(target, "://") + 3, '/');
    return path ? path : "/";
}

const char *route_label(enum route route)
{
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++)
        if (ROUTES[i].route == route)
            return ROUTES[i].path;
    return route == ROUTE_MODEL ? MODELS_PREFIX : route == ROUTE_PREFLIGHT ? "preflight" : "none";
}

static enum route find(const char *path, bool *post)
{
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++)
        if (!strcmp(path, ROUTES[i].path)) {
            *post = ROUTES[i].post;
            return ROUTES[i].route;
        }
    *post = false;
    if (page_has(path))
        return ROUTE_PAGE;
    return strncmp(path, MODELS_PREFIX, strlen(MODELS_PREFIX)) ? ROUTE_NONE : ROUTE_MODEL;
}

enum route route_of(const char *path)
{
    bool post;
    return find(path, &post);
}

/* What has no type is refused too: a web page of another origin may send that without asking. */
static bool is_json(const char *type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return type && (!strncasecmp(type, json, n) && (!type[n] || strchr("; \t", type[n])));
}

static enum route refuse_method(bool post, const char *method, const char *path,
                                struct response *response)
{
    response_error(response, 405, NULL, "method_not_allowed",
                   "%.20s is not allowed on %.100s: use %s.", method, path, post ? "POST" : "GET");
    response->allow = post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS";
    return ROUTE_NONE;
}

void route_too_large(const struct app *app, struct response *response)
{
    response_error(response, 413, NULL, "body_too_large",
                   "The request's body is larger than the %zu bytes this server takes.",
                   app->max_body);
}

static bool admit_post(const struct app *app, const struct headers *headers,
                       struct response *response)
{
    if (!is_json(headers->content_type))
        response_error(response, 415, NULL, "unsupported_media_type",
                       "The Content-Type is %s%.100s%s, but must be application/json.",
                       headers->content_type ? "'" : "",
                       headers->content_type ? headers->content_type : "missing",
                       headers->content_type ? "'" : "");
    else if (headers->length > app->max_body)
        route_too_large(app, response);
    else if (app->draining) {
        response_error(response, 503, NULL, "shutting_down", "The server is shutting down.");
        response->retry_after = 5;
    }
    return !response->status;
}

/* What browsers and watchers get without a key. */
static bool is_open(enum route route)
{
    return route == ROUTE_PAGE || route == ROUTE_HEALTH || route == ROUTE_READY ||
           route == ROUTE_METRICS || route == ROUTE_VERSION;
}

enum route route_admit(const struct app *app, const char *method, const char *path,
                       const struct headers *headers, struct response *response)
{
    bool post;
    enum route route = find(path, &post);
    if (route == ROUTE_NONE) {
        response_error(response, 404, NULL, "unknown_url", "There is nothing at %.10s %.100s.",
                       method, path);
        return ROUTE_NONE;
    }
    response->anthropic = route == ROUTE_MESSAGES || route == ROUTE_COUNT_TOKENS;
    if (!strcmp(method, "OPTIONS"))
        return ROUTE_PREFLIGHT;
    if (strcmp(method, post ? "POST" : "GET") && (post || strcmp(method, "HEAD")))
        return refuse_method(post, method, path, response);
    if (!is_open(route) && !keys_allow(&app->keys, headers->authorization, headers->api_key)) {
        response_error(response, 401, NULL, "invalid_api_key",
                       "The API key is missing or wrong: send 'Authorization: Bearer KEY'.");
        return ROUTE_NONE;
    }
    return post && !admit_post(app, headers, response) ? ROUTE_NONE : route;
}

bool route_completes(enum route route, enum api_kind *kind)
{
    *kind = route == ROUTE_CHAT        ? API_CHAT
            : route == ROUTE_RESPONSES ? API_RESPONSES
            : route == ROUTE_MESSAGES  ? API_MESSAGES
            : route == ROUTE_INFILL    ? API_INFILL
            : route == ROUTE_SPEEDUP   ? API_SPEEDUP
                                       : API_COMPLETION;
    return *kind != API_COMPLETION || route == ROUTE_COMPLETIONS;
}

bool route_wants_body(enum route route)
{
    enum api_kind kind;
    return route_completes(route, &kind) || route == ROUTE_COUNT_TOKENS ||
           route == ROUTE_TOKENIZE || route == ROUTE_DETOKENIZE || route == ROUTE_APPLY_TEMPLATE;
}

/* ---- responses ---- */

/* What each drafter was right about, since the start. */
static void add_drafters(const struct app *app, const struct engine_stats *stats, struct buf *out)
{
    buf_puts(out, ",\"drafters\":[");
    speculation_json_drafter(out, 0, stats->lookup_tried, stats->lookup_accepted);
    for (int i = 1; i < app->info->n_predict && i <= ENGINE_DRAFTS_MAX; i++) {
        buf_puts(out, ",");
        speculation_json_drafter(out, i, stats->heads[i - 1].tried, stats->heads[i - 1].accepted);
    }
    buf_puts(out, "]");
}

struct sentences {
    struct buf *out;
    const char *comma;
};

static void add_sentence(void *arg, const char *sentence)
{
    struct sentences *list = arg;
    buf_puts(list->out, list->comma);
    json_write(list->out, sentence, strlen(sentence));
    list->comma = ",";
}

static void add_model(const struct app *app, struct buf *out)
{
    const char *id = app->model.id;
    struct engine_stats stats;
    struct sentences advice = {out, ""};
    engine_stats(app->engine, &stats);
    buf_puts(out, "{\"id\":");
    json_write(out, id, strlen(id));
    buf_printf(out,
               ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"headway\","
               "\"max_model_len\":%d,\"prediction_heads\":%d,\"chat\":%s",
               (int64_t)app->started, app->info->context, app->info->n_predict,
               app->model.template ? "true" : "false");
    add_drafters(app, &stats, out);
    buf_puts(out, ",\"advice\":[");
    engine_advise(app->info, &stats, add_sentence, &advice);
    buf_puts(out, "]}");
}

static void respond_models(const struct app *app, struct response *response)
{
    struct buf *out = response_begin(response, 200, "application/json");
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    add_model(app, out);
    buf_puts(out, "]}\n");
}

static int hex(char c)
{
    return c >= '0' && c <= '9'                 ? c - '0'
           : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                : -1;
}

/* A name of a path, which a client may have escaped; "%00" stays as it is. */
static void unescape(const char *from, char *to, size_t size)
{
    size_t n = 0;
    for (; *from && n + 1 < size; n++) {
        bool escaped = *from == '%' && hex(from[1]) >= 0 && hex(from[2]) >= 0 &&
                       (from[1] != '0' || from[2] != '0');
        to[n] = escaped ? (char)(hex(from[1]) * 16 + hex(from[2])) : *from;
        from += escaped ? 3 : 1;
    }
    to[n] = '\0';
}

static void respond_model(const struct app *app, const char *path, struct response *response)
{
    char name[512];
    unescape(path + strlen(MODELS_PREFIX), name, sizeof name);
    if (strcmp(name, app->model.id)) {
        response_error(response, 404, "model", "model_not_found",
                       "The model '%.100s' does not exist here: this server serves '%s'.", name,
                       app->model.id);
        return;
    }
    add_model(app, response_begin(response, 200, "application/json"));
    buf_puts(&response->body, "\n");
}

static void respond_health(const struct app *app, struct response *response)
{
    struct engine_stats stats;
    engine_stats(app->engine, &stats);
    bool alive = stats.heartbeat_age <= app->stall;
    buf_printf(response_begin(response, alive ? 200 : 503, "application/json"),
               "{\"status\":\"%s\",\"heartbeat_age\":%.3f}\n", alive ? "ok" : "stalled",
               stats.heartbeat_age);
}

static void respond_ready(const struct app *app, struct response *response)
{
    buf_printf(response_begin(response, app->draining ? 503 : 200, "application/json"),
               "{\"status\":\"%s\"}\n", app->draining ? "shutting down" : "ready");
}

static void respond_metrics(const struct app *app, struct response *response)
{
    struct engine_stats stats;
    engine_stats(app->engine, &stats);
    metrics_write(&app->metrics, app->info, &stats, &app->capture, &app->audits,
                  response_begin(response, 200, "text/plain; version=0.0.4; charset=utf-8"));
}

void route_respond(struct app *app, enum route route, const char *path, const struct buf *body,
                   struct response *response)
{
    switch (route) {
    case ROUTE_PAGE:
        page_respond(path, response);
        break;
    case ROUTE_HEALTH:
        respond_health(app, response);
        break;
    case ROUTE_READY:
        respond_ready(app, response);
        break;
    case ROUTE_METRICS:
        respond_metrics(app, response);
        break;
    case ROUTE_MODELS:
        respond_models(app, response);
        break;
    case ROUTE_MODEL:
        respond_model(app, path, response);
        break;
    case ROUTE_PROPS:
        props_write(app, response_begin(response, 200, "application/json"));
        break;
    case ROUTE_VERSION:
        buf_puts(response_begin(response, 200, "application/json"),
                 "{\"version\":\"" HEADWAY_VERSION "\"}\n");
        break;
    case ROUTE_TOKENIZE:
        text_api_tokenize(&app->model, body->data, body->len, response);
        break;
    case ROUTE_DETOKENIZE:
        text_api_detokenize(&app->model, body->data, body->len, response);
        break;
    case ROUTE_COUNT_TOKENS:
        text_api_count_tokens(&app->model, body->data, body->len, response);
        break;
    case ROUTE_APPLY_TEMPLATE:
        text_api_apply_template(&app->model, body->data, body->len, response);
        break;
    default:
        response_begin(response, 204, NULL); /* ROUTE_PREFLIGHT */
    }
}
