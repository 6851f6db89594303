/* See chat_frame.h. */
#include "text/chat_frame.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/template.h"
#include "text/tokens.h"

#define MARK "Headway's question"

static const char *control_text(const struct tokenizer *tokenizer, int32_t token, char *to,
                                size_t size)
{
    size_t len;
    const char *text = tokenizer_written(tokenizer, token, &len);
    snprintf(to, size, "%.*s", (int)len, text);
    return to;
}

static int render(const struct tokenizer *tokenizer, const char *source, size_t len,
                  struct rendered *rendered, struct err *err)
{
    char bos[256], eos[256];
    struct template *template;
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", MARK);
    if (!messages)
        return err_set(err, ERR_MEMORY, "no memory for a conversation");
    struct template_input input = {
        .messages = messages,
        .add_generation_prompt = true,
        .bos_token = control_text(tokenizer, tokenizer_bos(tokenizer), bos, sizeof bos),
        .eos_token = control_text(tokenizer, tokenizer_eos(tokenizer), eos, sizeof eos),
        .now = time(NULL)};
    int rc = template_parse(&template, source, len, err);
    if (!rc) {
        rc = template_render(template, &input, rendered, err);
        template_free(template);
    }
    json_decref(messages);
    return rc;
}

int chat_frame_init(struct chat_frame *frame, const struct tokenizer *tokenizer,
                    const char *template, size_t len, struct err *err)
{
    struct encode_options options = {.add_special = !len, .parse_special = true};
    struct rendered rendered = {0};
    memset(frame, 0, sizeof *frame);
    if (!len)
        return tokenizer_encode(tokenizer, "", 0, &options, &frame->before, err);
    int rc = render(tokenizer, template, len, &rendered, err);
    const char *text = rendered.text.data, *mark = rc || !text ? NULL : strstr(text, MARK);
    if (!rc && !mark)
        rc = err_set(err, ERR_INVALID, "the chat template does not show a user's message as it is");
    if (!rc)
        rc =
            tokenizer_encode(tokenizer, text, (size_t)(mark - text), &options, &frame->before, err);
    if (!rc)
        rc = tokenizer_encode(tokenizer, mark + strlen(MARK), strlen(mark + strlen(MARK)), &options,
                              &frame->behind, err);
    rendered_release(&rendered);
    if (rc)
        chat_frame_release(frame);
    return rc;
}

void chat_frame_release(struct chat_frame *frame)
{
    free(frame->before.ids);
    free(frame->behind.ids);
    memset(frame, 0, sizeof *frame);
}

int tokens_append(struct tokens *to, const int32_t *ids, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (tokens_push(to, ids[i], err))
            return ERR_MEMORY;
    return 0;
}
