/* Compiling and applying expressions with PCRE2. */
#include "text/pretokenizer.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/expression.h"
#include "text/utf8.h"

#define EXPRESSION_MOST 32768 /* bytes of one */
#define HEAP_KIB (64 * 1024)

/* Of one call. */
struct splitting {
    const struct pretokenizer *pretokenizer;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    piece_function *function;
    void *context;
    struct err *err;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "tokenizer: no memory left");
}

static int compile(struct pretokenizer_step *step, const char *expression, struct err *err)
{
    struct buf rewritten = {0};
    int rc = strlen(expression) > EXPRESSION_MOST
                 ? err_set(err, ERR_INVALID, "expression '%.100s...' has more than %d bytes",
                           expression, EXPRESSION_MOST)
                 : expression_rewrite(expression, &rewritten, err);
    if (!rc) {
        int code;
        size_t at;
        step->code =
            pcre2_compile((PCRE2_SPTR)(rewritten.data ? rewritten.data : ""), rewritten.len,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, NULL);
        if (!step->code) {
            char message[128] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
            rc = err_set(err, ERR_INVALID, "expression '%.200s': %s", expression, message);
        } else {
            pcre2_jit_compile(step->code, PCRE2_JIT_COMPLETE); /* slower without, the same */
        }
    }
    buf_release(&rewritten);
    return rc;
}

int pretokenizer_init(struct pretokenizer *pretokenizer, const char *expressions, struct err *err)
{
    *pretokenizer = (struct pretokenizer){0};
    for (const char *e = expressions; *e; e += strlen(e) + 1) {
        struct pretokenizer_step *step = &pretokenizer->steps[pretokenizer->n];
        if (pretokenizer->n == PRETOKENIZER_STEPS)
            return err_set(err, ERR_INVALID, "tokenizer: more than %d expressions",
                           PRETOKENIZER_STEPS);
        step->keep = *e;
        if (!strchr("img", *e))
            return err_set(err, ERR_INVALID, "tokenizer: expression '%.100s' has no letter", e);
        int rc = compile(step, e + 1, err);
        if (rc)
            return rc;
        pretokenizer->n++;
    }
    return 0;
}

void pretokenizer_release(struct pretokenizer *pretokenizer)
{
    for (int i = 0; i < pretokenizer->n; i++)
        pcre2_code_free(pretokenizer->steps[i].code);
    memset(pretokenizer, 0, sizeof *pretokenizer);
}

/* The next match at or behind `from`: 1 with its place, 0 for none. */
static int find(struct splitting *s, const struct pretokenizer_step *step, const char *text,
                size_t len, size_t from, size_t *begin, size_t *end)
{
    int rc = pcre2_match(step->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, s->match,
                         s->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's is the heap */
        rc = pcre2_match(step->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         s->match, s->limits);
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0) {
        char message[128] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof message);
        return err_set(s->err, rc == PCRE2_ERROR_NOMEMORY ? ERR_MEMORY : ERR_INVALID,
                       "tokenizer: an expression gave up on a text of %zu bytes: %s", len, message);
    }
    size_t *place = pcre2_get_ovector_pointer(s->match);
    *begin = place[0];
    *end = place[1];
    return 1;
}

static int split(struct splitting *s, int level, const char *text, size_t len);

/* Hands a match, or what is between two, to the next level. */
static int pass_on(struct splitting *s, int level, const char *text, size_t len, bool matched)
{
    char keep = s->pretokenizer->steps[level].keep;
    if (!len || (keep == 'm' && !matched) || (keep == 'g' && matched))
        return 0;
    return split(s, level + 1, text, len);
}

static int split(struct splitting *s, int level, const char *text, size_t len)
{
    if (level == s->pretokenizer->n)
        return s->function(s->context, text, len, s->err);
    const struct pretokenizer_step *step = &s->pretokenizer->steps[level];
    size_t done = 0, from = 0, begin = 0, end = 0;
    int rc = 0;
    while (from <= len && (rc = find(s, step, text, len, from, &begin, &end)) == 1) {
        rc = pass_on(s, level, text + done, begin - done, false);
        if (!rc)
            rc = pass_on(s, level, text + begin, end - begin, true);
        if (rc)
            return rc;
        done = from = end;
        if (begin == end) /* nothing matched here: it cuts all the same */
            from += end < len ? (size_t)utf8_decode(text + end, len - end, NULL) : 1;
    }
    return rc ? rc : pass_on(s, level, text + done, len - done, false);
}

int pretokenizer_split(const struct pretokenizer *pretokenizer, const char *text, size_t len,
                       piece_function *function, void *context, struct err *err)
{
    struct splitting s = {pretokenizer,
                          pcre2_match_data_create(1, NULL),
                          pcre2_match_context_create(NULL),
                          function,
                          context,
                          err};
    int rc = 0;
    if (!s.match || !s.limits) {
        rc = no_memory(err);
    } else {
        /* White space at the text's end is looked at twice by the longest alternatives; what takes
         * many times the text's length is an expression that someone made to be slow. */
        pcre2_set_match_limit(s.limits,
                              (uint32_t)(len < (size_t)1 << 28 ? 100000 + 8 * len : UINT32_MAX));
        pcre2_set_heap_limit(s.limits, HEAP_KIB);
        rc = split(&s, 0, text, len);
    }
    pcre2_match_data_free(s.match);
    pcre2_match_context_free(s.limits);
    return rc;
}
