/* Failing, counting, building text, passing arguments. */
#include "text/template_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text/template_chars.h"

struct value run_fail(struct run *r, const char *format, ...)
{
    if (!r->rc) {
        char what[400];
        va_list args;
        va_start(args, format);
        vsnprintf(what, sizeof what, format, args);
        va_end(args);
        chars_mend(what);
        r->rc = err_set(r->err, ERR_INVALID, "line %d of the chat template: %s", r->line, what);
    }
    return NONE;
}

void *run_take(struct run *r, size_t count, size_t size)
{
    void *taken = r->rc ? NULL : pool_take(&r->pool, count, size);
    if (!taken && !r->rc) {
        run_fail(r, "its values take more than %zu MiB", r->pool.limit >> 20);
        if (!r->pool.full)
            r->rc = err_set(r->err, ERR_MEMORY, "memory ran out for a chat template's values");
    }
    return taken;
}

bool run_step(struct run *r, size_t n)
{
    if (r->steps < n)
        run_fail(r, "it takes more than %d steps", RUN_STEPS);
    else
        r->steps -= n;
    return !r->rc;
}

bool run_bytes(struct run *r, size_t n)
{
    return run_step(r, n / RUN_STEP_BYTES);
}

bool run_chars(struct run *r, size_t n)
{
    return run_step(r, n / RUN_STEP_CHARS);
}

bool run_enter(struct run *r)
{
    if (++r->depth > RUN_DEPTH)
        run_fail(r, "it is nested more than %d deep", RUN_DEPTH);
    return !r->rc;
}

/* ---- text ---- */

static bool make_room(struct builder *b, size_t more)
{
    if (b->limit && more > b->limit - b->len)
        run_fail(b->run, "its output is longer than %zu MiB", b->limit >> 20);
    if (b->run->rc)
        return false;
    if (more <= b->room - b->len)
        return true;
    size_t room = b->room * 2 > b->len + more ? b->room * 2 : b->len + more + 32;
    char *bytes = run_take(b->run, room, 1);
    char *marks = b->marks ? run_take(b->run, room, 1) : NULL;
    if (b->run->rc)
        return false;
    if (b->len) {
        memcpy(bytes, b->bytes, b->len);
        if (marks)
            memcpy(marks, b->marks, b->len);
    }
    b->bytes = bytes;
    b->marks = marks;
    b->room = room;
    return true;
}

/* Marks for what is there already and what comes: the pool gives zeros. */
static bool make_marks(struct builder *b)
{
    if (!b->marks)
        b->marks = run_take(b->run, b->room, 1);
    return b->marks;
}

void builder_add(struct builder *b, const char *bytes, const char *marks, size_t len)
{
    if (!len || !make_room(b, len) || (marks && !make_marks(b)))
        return;
    run_bytes(b->run, len);
    memcpy(b->bytes + b->len, bytes, len);
    if (marks)
        memcpy(b->marks + b->len, marks, len);
    b->len += len;
}

void builder_puts(struct builder *b, const char *text)
{
    builder_add(b, text, NULL, strlen(text));
}

void builder_value(struct builder *b, struct value string)
{
    if (!b->run->rc)
        builder_add(b, string.string->bytes, string.string->marks, string.string->len);
}

void builder_char(struct builder *b, int32_t code, bool mark)
{
    char bytes[4];
    builder_add(b, bytes, mark ? "\1\1\1\1" : NULL, chars_encode(bytes, code));
}

struct value builder_string(struct builder *b)
{
    struct marked *marked = run_take(b->run, 1, sizeof *marked);
    if (!marked)
        return NONE;
    *marked = (struct marked){.bytes = b->bytes ? b->bytes : "", .marks = b->marks, .len = b->len};
    return (struct value){.kind = VALUE_STRING, .string = marked};
}

/* ---- arguments ---- */

const struct builtin *builtin_find(const struct builtin *table, const char *name)
{
    for (; table->name; table++)
        if (!strcmp(table->name, name))
            return table;
    return NULL;
}

static int find_param(const struct builtin *b, const char *name)
{
    for (int i = 0; i < MAX_PARAMS && b->params[i]; i++)
        if (!strcmp(b->params[i], name))
            return i;
    return -1;
}

static int n_params(const struct builtin *b)
{
    int n = 0;
    while (n < MAX_PARAMS && b->params[n])
        n++;
    return n;
}

struct value builtin_call(struct run *r, const struct builtin *b, struct value self,
                          const struct args *args)
{
    struct call call = {.self = self, .args = args};
    size_t n = (size_t)n_params(b);
    if (args->n > n && !b->variadic)
        return run_fail(r, "%s takes at most %zu arguments, not %zu", b->name, n, args->n);
    for (size_t i = 0; i < args->n && i < n; i++)
        call.a[i] = args->values[i];
    for (size_t i = 0; i < args->n_named; i++) {
        int at = find_param(b, args->named[i].name);
        if (at >= 0 && call.a[at].kind == VALUE_ABSENT)
            call.a[at] = args->named[i].value;
        else if (!b->variadic)
            return run_fail(r, "%s takes no argument \"%s\", or has it already", b->name,
                            args->named[i].name);
    }
    for (int i = 0; i < b->required; i++)
        if (call.a[i].kind == VALUE_ABSENT)
            return run_fail(r, "%s needs its argument \"%s\"", b->name, b->params[i]);
    return r->rc ? NONE : b->fn(r, &call);
}
