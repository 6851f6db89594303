/* libFuzzer on chat templates: what parses renders within its limits, or says why not; ranges rise
 * and lie within the text, which is UTF-8; rendering twice gives the same. The input is a template,
 * and behind a NUL, if there is one, a conversation. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char usual[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be é🙂 <|im_end|>\"}, {\"role\": "
    "\"user\", "
    "\"content\": [{\"type\": \"text\", \"text\": \"a\\nb 'q' \\\"\"}, {\"type\": \"image\"}]}, "
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"abcdefghi\", "
    "\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1.5, \"y\": [true, null, -3]}}}]}, "
    "{\"role\": \"tool\", \"content\": \"<think>x</think> 7\"}, {\"role\": \"user\", \"content\": "
    "\" x \"}], "
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": "
    "{\"type\": "
    "\"object\", \"properties\": {\"x\": {\"type\": \"number\"}}}}}], \"extra\": {\"x\": 5, \"s\": "
    "\"text\", \"l\": [3, 1, 2], \"d\": {\"b\": 1, \"a\": 2}}}";

static void check(const struct rendered *rendered)
{
    size_t at = 0;
    for (size_t i = 0; i < rendered->n_literal; i++) {
        struct text_range range = rendered->literal[i];
        if (range.begin < at || range.end <= range.begin || range.end > rendered->text.len)
            abort();
        at = range.end + 1;
    }
    for (size_t k = 0; k < rendered->text.len;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)rendered->text.data + k,
                                              (utf8proc_ssize_t)(rendered->text.len - k), &code);
        if (n < 1)
            abort();
        k += (size_t)n;
    }
}

static bool same(const struct rendered *a, const struct rendered *b)
{
    return a->text.len == b->text.len && a->n_literal == b->n_literal &&
           (!a->text.len || !memcmp(a->text.data, b->text.data, a->text.len)) &&
           (!a->n_literal || !memcmp(a->literal, b->literal, a->n_literal * sizeof *a->literal));
}

static void render(const struct template *template, const json_t *json)
{
    struct rendered first, second;
    struct err err = {""}, again = {""};
    struct template_input input = {.messages = json_object_get(json, "messages"),
                                   .tools = json_object_get(json, "tools"),
                                   .extra = json_object_get(json, "extra"),
                                   .add_generation_prompt = true,
                                   .bos_token = "<s>",
                                   .now = 1772874302};
    int rc = template_render(template, &input, &first, &err);
    if (rc != template_render(template, &input, &second, &again) || !rc != !err.text[0] ||
        strcmp(err.text, again.text) || !same(&first, &second))
        abort();
    check(&first);
    rendered_release(&first);
    rendered_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *nul = size ? memchr(bytes, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - bytes) : size;
    struct template *template;
    struct err err = {""};
    if (template_parse(&template, (const char *)bytes, len, &err)) {
        if (!err.text[0] || template)
            abort();
        return 0;
    }
    json_t *json = nul ? json_loadb((const char *)nul + 1, size - len - 1, JSON_ALLOW_NUL, NULL)
                       : json_loads(usual, 0, NULL);
    if (json_is_array(json_object_get(json, "messages")))
        render(template, json);
    json_decref(json);
    template_free(template);
    return 0;
}
