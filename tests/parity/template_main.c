/* Renders chat templates for compare_templates.py: one request of JSON a line on standard input,
 * one answer a line on standard output. A request has "template" (the source) and the fields of
 * struct template_input; an answer has "text" and "literal", or "error". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template.h"

static json_t *render(const json_t *request)
{
    struct template *template;
    struct rendered rendered;
    struct err err = {""};
    const json_t *source = json_object_get(request, "template");
    const json_t *now = json_object_get(request, "now");
    struct template_input input = {
        .messages = json_object_get(request, "messages"),
        .tools = json_object_get(request, "tools"),
        .extra = json_object_get(request, "extra"),
        .add_generation_prompt = json_is_true(json_object_get(request, "add_generation_prompt")),
        .bos_token = json_string_value(json_object_get(request, "bos_token")),
        .eos_token = json_string_value(json_object_get(request, "eos_token")),
        .now = now ? (time_t)json_integer_value(now) : 0,
    };
    if (template_parse(&template, json_string_value(source), json_string_length(source), &err))
        return json_pack("{s:s, s:b}", "error", err.text, "parse", 1);
    if (template_render(template, &input, &rendered, &err)) {
        template_free(template);
        return json_pack("{s:s}", "error", err.text);
    }
    json_t *ranges = json_array();
    for (size_t i = 0; i < rendered.n_literal; i++)
        json_array_append_new(ranges, json_pack("[I, I]", (json_int_t)rendered.literal[i].begin,
                                                (json_int_t)rendered.literal[i].end));
    json_t *answer = json_pack("{s:s%, s:o}", "text", rendered.text.data ? rendered.text.data : "",
                               rendered.text.len, "literal", ranges);
    rendered_release(&rendered);
    template_free(template);
    return answer;
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        json_error_t error;
        json_t *request = json_loads(line, JSON_ALLOW_NUL, &error);
        json_t *answer = request ? render(request) : NULL;
        if (!answer) {
            fprintf(stderr, "a request or an answer is no JSON: %s\n", error.text);
            return 1;
        }
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(answer);
        json_decref(request);
    }
    free(line);
    return 0;
}
