/* Chat templates: parsing, rendering, and the ranges of text that came from the conversation. */
#include "text/template.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/template_node.h"

#define MAX_SOURCE ((size_t)512 << 10)
#define PARSE_MEMORY ((size_t)256 << 20) /* a tree's, for the largest source many times over */

/* Line breaks are "\n" from here on, and a last one is dropped, as Jinja does. */
static size_t normalise(char *out, const char *source, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        bool cr = source[i] == '\r';
        out[n++] = cr ? '\n' : source[i];
        i += cr && i + 1 < len && source[i + 1] == '\n';
    }
    return n && out[n - 1] == '\n' ? n - 1 : n;
}

static int check(const char *source, size_t len, struct err *err)
{
    int line = 1;
    utf8proc_int32_t code;
    if (len > MAX_SOURCE)
        return err_set(err, ERR_INVALID, "the chat template has %zu bytes: at most %zu are read",
                       len, MAX_SOURCE);
    for (size_t at = 0; at < len;) {
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)source + at,
                                              (utf8proc_ssize_t)(len - at), &code);
        if (n < 1)
            return err_set(err, ERR_INVALID, "line %d of the chat template is not UTF-8", line);
        line += source[at] == '\n';
        at += (size_t)n;
    }
    return 0;
}

int template_parse(struct template **template, const char *source, size_t len, struct err *err)
{
    struct lexeme *lexemes = NULL;
    struct pool scratch = {.limit = PARSE_MEMORY};
    *template = NULL;
    int rc = check(source, len, err);
    if (rc)
        return rc;
    struct template *t = calloc(1, sizeof *t);
    if (t)
        t->source = malloc(len + 1);
    if (!t || !t->source) {
        template_free(t);
        return err_set(err, ERR_MEMORY, "memory ran out for a chat template");
    }
    t->pool.limit = PARSE_MEMORY;
    size_t n = normalise(t->source, source, len);
    rc = lex_template(&scratch, t->source, n, &lexemes, err);
    rc = rc ? rc : parse_tree(t, lexemes, err);
    pool_release(&scratch);
    if (rc)
        template_free(t);
    else
        *template = t;
    return rc;
}

void template_free(struct template *template)
{
    if (!template)
        return;
    pool_release(&template->pool);
    free(template->source);
    free(template);
}

/* How large the input is: the limits that a conversation presses on grow with it. */
static size_t size_of(const json_t *json, int depth)
{
    size_t size = 16, i;
    const char *key;
    json_t *item;
    if (depth > RUN_DEPTH)
        return size;
    if (json_is_string(json))
        size += json_string_length(json);
    json_array_foreach((json_t *)json, i, item) size += size_of(item, depth + 1);
    json_object_foreach((json_t *)json, key, item) size += strlen(key) + size_of(item, depth + 1);
    return size;
}

static int copy_text(const struct builder *out, struct rendered *rendered, struct err *err)
{
    size_t n = 0;
    buf_append(&rendered->text, out->bytes, out->len);
    for (size_t i = 0; out->marks && i < out->len; i++)
        n += out->marks[i] && (i == 0 || !out->marks[i - 1]);
    rendered->literal = n ? malloc(n * sizeof *rendered->literal) : NULL;
    if (rendered->text.failed || (n && !rendered->literal))
        return err_set(err, ERR_MEMORY, "memory ran out for a rendered chat template");
    for (size_t i = 0; n && i < out->len; i++) {
        if (!out->marks[i])
            continue;
        size_t begin = i;
        while (i < out->len && out->marks[i])
            i++;
        rendered->literal[rendered->n_literal++] = (struct text_range){begin, i};
    }
    return 0;
}

int template_render(const struct template *template, const struct template_input *input,
                    struct rendered *rendered, struct err *err)
{
    size_t size = size_of(input->messages, 0) + (input->tools ? size_of(input->tools, 0) : 0) +
                  (input->extra ? size_of(input->extra, 0) : 0);
    struct run run = {.pool = {.limit = RUN_MEMORY + 64 * size},
                      .err = err,
                      .line = 1,
                      .steps = RUN_STEPS,
                      .max_output = RUN_OUTPUT + 8 * size,
                      .input = input};
    struct builder out = {.run = &run, .limit = run.max_output};
    memset(rendered, 0, sizeof *rendered);
    run.out = &out;
    exec_template(&run, template);
    int rc = run.rc ? run.rc : copy_text(&out, rendered, err);
    if (rc)
        rendered_release(rendered);
    pool_release(&run.pool);
    return rc;
}

void rendered_release(struct rendered *rendered)
{
    buf_release(&rendered->text);
    free(rendered->literal);
    memset(rendered, 0, sizeof *rendered);
}
