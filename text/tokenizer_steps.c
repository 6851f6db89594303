/* Normalizer, pre_tokenizer, decoder and post_processor: see tokenizer_steps.h. */
#include "text/tokenizer_steps.h"

#include <string.h>

#include "text/pretokenizer.h"
#include "text/sentencepiece.h"

#define DEPTH_MOST 8 /* of sequences in sequences */
#define GPT2_PIECES                                                                                \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PUNCTUATION "[\\p{P}$+<=>^`|~]"

const char *json_text(const json_t *object, const char *field)
{
    return json_string_value(json_object_get(object, field));
}

bool json_flag(const json_t *object, const char *field, bool otherwise)
{
    const json_t *value = json_object_get(object, field);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static bool is(const char *text, const char *expected)
{
    return text && !strcmp(text, expected);
}

static int refuse(struct tokenizer_steps *s, const char *step, const json_t *at, const char *why)
{
    const char *type = json_text(at, "type");
    return err_set(s->err, ERR_INVALID, "%s: %s '%.60s' is not supported%s%s", s->where, step,
                   type ? type : "without a type", *why ? ": " : "", why);
}

typedef int step_function(struct tokenizer_steps *s, const json_t *step);

/* Calls `function` for the steps of a field, which may be null, one or sequences of them in the
 * field `list`. */
static int each(struct tokenizer_steps *s, const json_t *step, const char *list, int depth,
                step_function *function)
{
    if (!step || json_is_null(step))
        return 0;
    if (!is(json_text(step, "type"), "Sequence"))
        return function(s, step);
    const json_t *steps = json_object_get(step, list), *one;
    size_t i;
    int rc = 0;
    if (depth == DEPTH_MOST || !json_is_array(steps))
        return err_set(s->err, ERR_INVALID,
                       "%s: a Sequence needs '%s', an array, and no more than %d in one another",
                       s->where, list, DEPTH_MOST);
    json_array_foreach(steps, i, one)
    {
        rc = each(s, one, list, depth + 1, function);
        if (rc)
            break;
    }
    return rc;
}

/* ---- normalizer ---- */

static int normalizer(struct tokenizer_steps *s, const json_t *step)
{
    const char *type = json_text(step, "type");
    if (is(type, "NFC")) {
        s->nfc = true;
    } else if (is(type, "Prepend")) {
        if (s->prepend || s->replace || !is(json_text(step, "prepend"), SPACE_MARK))
            return refuse(s, "normalizer", step, "only U+2581 once, before spaces are replaced");
        s->prepend = true;
    } else if (is(type, "Replace")) {
        if (!is(json_text(json_object_get(step, "pattern"), "String"), " ") ||
            !is(json_text(step, "content"), SPACE_MARK))
            return refuse(s, "normalizer", step, "only spaces by U+2581");
        s->replace = true;
    } else {
        return refuse(s, "normalizer", step, "");
    }
    return 0;
}

/* ---- pre_tokenizer ---- */

static int add_expression(struct tokenizer_steps *s, char keep, const char *expression)
{
    buf_append(&s->expressions, &keep, 1);
    buf_append(&s->expressions, expression, strlen(expression) + 1);
    return s->expressions.failed ? err_set(s->err, ERR_MEMORY, "%s: no memory left", s->where) : 0;
}

/* A text as the expression that matches just it. */
static int add_literal(struct tokenizer_steps *s, char keep, const char *text)
{
    buf_append(&s->expressions, &keep, 1);
    for (; *text; text++) {
        if (strchr("\\^$.|?*+()[]{}-&", *text))
            buf_puts(&s->expressions, "\\");
        buf_append(&s->expressions, text, 1);
    }
    buf_append(&s->expressions, "", 1);
    return s->expressions.failed ? err_set(s->err, ERR_MEMORY, "%s: no memory left", s->where) : 0;
}

static int split(struct tokenizer_steps *s, const json_t *step)
{
    const json_t *pattern = json_object_get(step, "pattern");
    const char *behavior = json_text(step, "behavior");
    const char *regex = json_text(pattern, "Regex"), *text = json_text(pattern, "String");
    bool invert = json_flag(step, "invert", false);
    if (is(text, " ") && s->replace) { /* Gemma: the normalizer left none */
        s->split_at_space = true;
        return 0;
    }
    if (!is(behavior, "Isolated") && !is(behavior, "Removed"))
        return refuse(s, "pre_tokenizer", step, "only with behavior Isolated or Removed");
    if (!regex && (!text || !*text))
        return refuse(s, "pre_tokenizer", step, "it needs a Regex or a String as its pattern");
    char keep = is(behavior, "Isolated") ? 'i' : invert ? 'm' : 'g';
    return regex ? add_expression(s, keep, regex) : add_literal(s, keep, text);
}

static int pre_tokenizer(struct tokenizer_steps *s, const json_t *step)
{
    const char *type = json_text(step, "type");
    if (s->byte_level)
        return refuse(s, "pre_tokenizer", step, "ByteLevel must be the last");
    if (is(type, "Split"))
        return split(s, step);
    if (is(type, "Digits"))
        return add_expression(s, 'i',
                              json_flag(step, "individual_digits", false) ? PRETOKENIZER_DIGIT
                                                                          : PRETOKENIZER_DIGIT "+");
    if (is(type, "Punctuation")) {
        const char *behavior = json_text(step, "behavior");
        if (behavior && !is(behavior, "Isolated") && !is(behavior, "Contiguous"))
            return refuse(s, "pre_tokenizer", step, "only with behavior Isolated or Contiguous");
        return add_expression(s, 'i', is(behavior, "Contiguous") ? PUNCTUATION "+" : PUNCTUATION);
    }
    if (is(type, "ByteLevel")) {
        if (json_flag(step, "add_prefix_space", true))
            return refuse(s, "pre_tokenizer", step, "only with add_prefix_space false");
        s->byte_level = true;
        return json_flag(step, "use_regex", true) ? add_expression(s, 'i', GPT2_PIECES) : 0;
    }
    if (is(type, "Metaspace")) {
        const char *mark = json_text(step, "replacement");
        if (s->metaspace || (mark && !is(mark, SPACE_MARK)))
            return refuse(s, "pre_tokenizer", step, "only U+2581 once");
        s->metaspace = step;
        return 0;
    }
    return refuse(s, "pre_tokenizer", step, "");
}

/* ---- decoder ---- */

/* Decoding follows from the kind; what would decode otherwise is refused. */
static int decoder(struct tokenizer_steps *s, const json_t *step)
{
    static const char *const bytes[] = {"ByteLevel"};
    static const char *const marks[] = {"Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"};
    const char *type = json_text(step, "type");
    const char *const *known = s->byte_level ? bytes : marks;
    size_t n = s->byte_level ? sizeof bytes / sizeof *bytes : sizeof marks / sizeof *marks;
    for (size_t i = 0; i < n; i++)
        if (is(type, known[i]))
            return 0;
    return refuse(s, "decoder", step, s->byte_level ? "with pre_tokenizer ByteLevel" : "");
}

int tokenizer_steps_read(struct tokenizer_steps *steps, const json_t *root)
{
    int rc = each(steps, json_object_get(root, "normalizer"), "normalizers", 0, normalizer);
    if (!rc)
        rc = each(steps, json_object_get(root, "pre_tokenizer"), "pretokenizers", 0, pre_tokenizer);
    if (!rc)
        rc = each(steps, json_object_get(root, "decoder"), "decoders", 0, decoder);
    return rc;
}

/* ---- what follows from them ---- */

static int apply_marks(struct tokenizer_steps *s, struct vocab *vocab)
{
    struct vocab_rules *rules = &vocab->rules;
    vocab->kind = VOCAB_SENTENCEPIECE;
    rules->add_space_prefix = s->prepend;
    if (!s->metaspace)
        return 0;
    const char *scheme = json_text(s->metaspace, "prepend_scheme");
    if (scheme && !is(scheme, "always") && !is(scheme, "first") && !is(scheme, "never"))
        return refuse(s, "pre_tokenizer", s->metaspace, "its prepend_scheme is unknown");
    rules->add_space_prefix =
        scheme ? !is(scheme, "never") : json_flag(s->metaspace, "add_prefix_space", true);
    rules->prefix_first_only = is(scheme, "first");
    rules->prefix_missing_only = true;
    rules->split_words = json_flag(s->metaspace, "split", true);
    return 0;
}

int tokenizer_steps_apply(struct tokenizer_steps *steps, struct vocab *vocab)
{
    bool marks = steps->metaspace || steps->replace;
    vocab->rules.nfc = steps->nfc;
    if (steps->byte_level && !marks && !steps->prepend) {
        vocab->kind = VOCAB_BPE;
        buf_append(&steps->expressions, "", 1);
        if (steps->expressions.failed)
            return err_set(steps->err, ERR_MEMORY, "%s: no memory left", steps->where);
        vocab->rules.expressions = steps->expressions.data;
        steps->expressions = (struct buf){0};
        return 0;
    }
    if (!steps->byte_level && marks && !steps->expressions.len &&
        !(steps->metaspace && (steps->replace || steps->prepend)))
        return apply_marks(steps, vocab);
    return err_set(steps->err, ERR_INVALID,
                   "%s: normalizer and pre_tokenizer are not supported together: they must end in "
                   "ByteLevel, or else only replace spaces by U+2581",
                   steps->where);
}

/* The id in a SpecialToken of a template. */
static int template_token(struct tokenizer_steps *s, const json_t *processor, const json_t *item,
                          const struct vocab *vocab, int *id)
{
    const char *name = json_text(json_object_get(item, "SpecialToken"), "id");
    const json_t *special =
        name ? json_object_get(json_object_get(processor, "special_tokens"), name) : NULL;
    const json_t *ids = json_object_get(special, "ids");
    const json_t *first = json_array_get(ids, 0);
    if (json_array_size(ids) != 1 || !json_is_integer(first) || json_integer_value(first) < 0 ||
        json_integer_value(first) >= vocab->n_tokens)
        return refuse(s, "post_processor", processor,
                      "its special tokens must be one token of the vocabulary each");
    *id = (int)json_integer_value(first);
    return 0;
}

static int template(struct tokenizer_steps *s, const json_t *processor, struct vocab *vocab)
{
    const json_t *single = json_object_get(processor, "single"), *item;
    int bos = -1, eos = -1, sequences = 0, rc = 0;
    size_t i;
    json_array_foreach(single, i, item)
    {
        int *id = sequences ? &eos : &bos;
        if (json_object_get(item, "Sequence"))
            sequences++;
        else if (*id >= 0)
            rc = refuse(s, "post_processor", processor, "only one token before and one behind");
        else
            rc = template_token(s, processor, item, vocab, id);
        if (rc)
            return rc;
    }
    if (sequences != 1)
        return refuse(s, "post_processor", processor, "'single' needs one Sequence");
    vocab->add_bos = bos >= 0;
    vocab->add_eos = eos >= 0;
    vocab->bos = bos;
    vocab->eos = eos;
    return 0;
}

static int post_processor(struct tokenizer_steps *s, const json_t *root, const json_t *step,
                          struct vocab *vocab, int depth)
{
    const char *type = json_text(step, "type");
    const json_t *one;
    size_t i;
    int rc = 0;
    if (!step || json_is_null(step) || is(type, "ByteLevel"))
        return 0; /* about places in the text only */
    if (is(type, "TemplateProcessing"))
        return template(s, step, vocab);
    if (!is(type, "Sequence") || depth == DEPTH_MOST)
        return refuse(s, "post_processor", step, "");
    json_array_foreach(json_object_get(step, "processors"), i, one)
    {
        rc = post_processor(s, root, one, vocab, depth + 1);
        if (rc)
            break;
    }
    return rc;
}

int tokenizer_steps_ends(struct tokenizer_steps *steps, const json_t *root, struct vocab *vocab)
{
    return post_processor(steps, root, json_object_get(root, "post_processor"), vocab, 0);
}

void tokenizer_steps_release(struct tokenizer_steps *steps)
{
    buf_release(&steps->expressions);
}
