/* Answers of models: the parts do not depend on how the text was cut, calls have a name and JSON,
 * and without a call no byte is lost. The first byte is the size of a piece, the second the format.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/answer.h"

static char *names[] = {"add", "now"};

static void feed(struct answer *answer, const char *text, size_t len, size_t piece)
{
    for (size_t at = 0; at < len; at += piece)
        answer_add(answer, text + at, piece < len - at ? piece : len - at);
    answer_end(answer);
}

static void check_call(const struct answer_part *part)
{
    json_t *arguments = json_loadb(part->text.data, part->text.len, JSON_ALLOW_NUL, NULL);
    if (!part->name.len || !part->id[0] || !json_is_object(arguments))
        abort();
    json_decref(arguments);
}

static void check_same(const struct buf *a, const struct buf *b)
{
    if (a->len != b->len || (a->len && memcmp(a->data, b->data, a->len)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const templates[] = {"<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "x"};
    if (size < 3 || size > 8192 || !data[0])
        return 0;
    const char *template = templates[data[1] % 4], *text = (const char *)data + 2;
    struct answer_tools tools = {.format = call_format_of(template, strlen(template)),
                                 .names = names,
                                 .n = 2,
                                 .one_call = data[1] & 4};
    struct answer whole = {.tools = &tools}, cut = {.tools = &tools};
    size_t len = size - 2, said = 0;
    feed(&whole, text, len, len);
    feed(&cut, text, len, data[0]);
    if (whole.n_parts != cut.n_parts || whole.failed || cut.failed)
        abort();
    for (size_t i = 0; i < whole.n_parts; i++) {
        check_same(&whole.parts[i].text, &cut.parts[i].text);
        check_same(&whole.parts[i].name, &cut.parts[i].name);
        if (whole.parts[i].is_call)
            check_call(&whole.parts[i]);
        else
            said += whole.parts[i].text.len;
    }
    if (!whole.n_calls && (said != len || (len && memcmp(whole.parts[0].text.data, text, len))))
        abort();
    answer_release(&whole);
    answer_release(&cut);
    return 0;
}
