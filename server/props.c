/* GET /props: see props.h. */
#include "server/props.h"

#include <string.h>

#include "base/opts.h" /* the version */
#include "server/json_text.h"

static void text(struct buf *out, const char *key, const char *value, size_t len)
{
    buf_printf(out, ",\"%s\":", key);
    json_write(out, value, len);
}

/* What a request without a field gets, as sampling.c and api.c have it. */
static void write_defaults(const struct app *app, struct buf *out)
{
    buf_printf(out,
               "{\"default_generation_settings\":{\"n_ctx\":%d,\"params\":{\"temperature\":1.0,"
               "\"top_k\":0,\"top_p\":1.0,\"min_p\":0.0,\"repeat_penalty\":1.0,"
               "\"presence_penalty\":0.0,\"frequency_penalty\":0.0,\"stream\":false}}",
               app->info->context);
}

void props_write(const struct app *app, struct buf *out)
{
    const struct engine_info *info = app->info;
    write_defaults(app, out);
    buf_printf(out, ",\"total_slots\":%d", info->max_sequences);
    text(out, "model_path", info->model, strlen(info->model));
    text(out, "model_alias", app->model.id, strlen(app->model.id));
    text(out, "chat_template", info->chat_template_len ? info->chat_template : "",
         info->chat_template_len);
    buf_puts(out, ",\"modalities\":{\"vision\":false,\"audio\":false}");
    text(out, "build_info", "headway " HEADWAY_VERSION, strlen("headway " HEADWAY_VERSION));
    buf_puts(out, "}\n");
}
