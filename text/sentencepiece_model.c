/* tokenizer.model: see sentencepiece_model.h. */
#include "text/sentencepiece_model.h"

#include <stdint.h>
#include <string.h>

/* One field of a message: a number, or bytes. */
struct field {
    unsigned number;
    uint64_t value; /* of a whole number; 32 bits of a float */
    const unsigned char *bytes;
    size_t size;
};

struct message {
    const unsigned char *at, *end;
};

static bool read_varint(struct message *m, uint64_t *out)
{
    *out = 0;
    for (unsigned shift = 0; shift < 64 && m->at < m->end; shift += 7) {
        unsigned char byte = *m->at++;
        *out |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128))
            return true;
    }
    return false;
}

static bool read_fixed(struct message *m, size_t size, uint64_t *out)
{
    if ((size_t)(m->end - m->at) < size)
        return false;
    *out = 0;
    for (size_t i = size; i-- > 0;)
        *out = *out << 8 | m->at[i];
    m->at += size;
    return true;
}

/* The next field; false at the end of the message and, with *broken, where it makes no sense. */
static bool next_field(struct message *m, struct field *f, bool *broken)
{
    uint64_t key, size;
    if (m->at == m->end)
        return false;
    *f = (struct field){0};
    *broken = true;
    if (!read_varint(m, &key) || key >> 3 == 0 || key >> 3 > 536870911)
        return false;
    f->number = (unsigned)(key >> 3);
    switch (key & 7) {
    case 0:
        *broken = !read_varint(m, &f->value);
        break;
    case 1:
        *broken = !read_fixed(m, 8, &f->value);
        break;
    case 5:
        *broken = !read_fixed(m, 4, &f->value);
        break;
    case 2:
        if (!read_varint(m, &size) || size > (uint64_t)(m->end - m->at))
            return false;
        f->bytes = m->at;
        f->size = (size_t)size;
        m->at += size;
        *broken = false;
    }
    return !*broken;
}

static struct message inner(const struct field *f)
{
    return (struct message){f->bytes, f->bytes + f->size};
}

/* SentencePiece: piece 1, score 2, type 3 (normal 1, unknown, control, user-defined, unused, byte).
 */
static int add_piece(struct vocab *vocab, const struct field *piece, bool *broken, struct err *err)
{
    static const enum token_kind kinds[] = {TOKEN_TEXT,  TOKEN_TEXT,   TOKEN_UNKNOWN, TOKEN_CONTROL,
                                            TOKEN_ADDED, TOKEN_UNUSED, TOKEN_BYTE};
    struct message m = piece->bytes ? inner(piece) : (struct message){0};
    struct field f, text = {0};
    uint64_t type = 1;
    float score = 0;
    while (next_field(&m, &f, broken)) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1)
            text = f;
        else if (f.number == 2)
            memcpy(&score, &bits, sizeof score);
        else if (f.number == 3)
            type = f.value;
    }
    *broken |= !text.bytes || type >= sizeof kinds / sizeof *kinds || score != score;
    if (*broken)
        return 0;
    if (kinds[type] == TOKEN_UNKNOWN)
        vocab->unknown = vocab->n_tokens;
    return vocab_add(vocab, (const char *)text.bytes, text.size, kinds[type], score, err);
}

/* TrainerSpec: model_type 3 (unigram 1, bpe 2, word 3, char 4), byte_fallback 35, unk_id 40,
 * bos_id 41, eos_id 42. */
static int read_trainer(struct vocab *vocab, const struct field *spec, const char *where,
                        bool *broken, struct err *err)
{
    struct message m = spec->bytes ? inner(spec) : (struct message){0};
    struct field f;
    uint64_t type = 1;
    while (next_field(&m, &f, broken)) {
        if (f.number == 3)
            type = f.value;
        else if (f.number == 35)
            vocab->rules.byte_fallback = f.value != 0;
        else if (f.number == 41)
            vocab->bos = (int)(int32_t)f.value;
        else if (f.number == 42)
            vocab->eos = (int)(int32_t)f.value;
    }
    return type == 2 || *broken
               ? 0
               : err_set(err, ERR_INVALID,
                         "%s: tokenizer.model is of SentencePiece's kind %ju, but only BPE (2) is "
                         "supported yet",
                         where, (uintmax_t)type);
}

/* NormalizerSpec: precompiled_charsmap 2, add_dummy_prefix 3, remove_extra_whitespaces 4. */
static int read_normalizer(struct vocab *vocab, const struct field *spec, const char *where,
                           bool *broken, struct err *err)
{
    struct message m = spec->bytes ? inner(spec) : (struct message){0};
    struct field f;
    bool map = false, squeeze = true;
    while (next_field(&m, &f, broken)) {
        if (f.number == 2)
            map = f.size > 0;
        else if (f.number == 3)
            vocab->rules.add_space_prefix = f.value != 0;
        else if (f.number == 4)
            squeeze = f.value != 0;
    }
    if ((!map && !squeeze) || *broken)
        return 0;
    return err_set(err, ERR_INVALID, "%s: tokenizer.model %s, which is not supported yet", where,
                   map ? "normalises characters" : "takes white space away");
}

static int read_model(struct vocab *vocab, struct message *m, const char *where, bool *broken,
                      struct err *err)
{
    struct field f, trainer = {0}, normalizer = {0};
    int rc = 0;
    while (!rc && next_field(m, &f, broken)) {
        if (f.number == 1)
            rc = add_piece(vocab, &f, broken, err);
        else if (f.number == 2)
            trainer = f;
        else if (f.number == 3)
            normalizer = f;
        if (*broken)
            return 0;
    }
    vocab->rules.add_space_prefix = true;
    if (!rc && !*broken)
        rc = read_trainer(vocab, &trainer, where, broken, err);
    if (!rc && !*broken)
        rc = read_normalizer(vocab, &normalizer, where, broken, err);
    return rc;
}

int sentencepiece_model_parse(struct vocab *vocab, const char *bytes, size_t size,
                              const char *where, struct err *err)
{
    struct message m = {(const unsigned char *)bytes, (const unsigned char *)bytes + size};
    bool broken = false;
    vocab->kind = VOCAB_SENTENCEPIECE;
    vocab->unknown = -1;
    vocab->bos = 1;
    vocab->eos = 2;
    int rc = read_model(vocab, &m, where, &broken, err);
    if (!rc && broken)
        rc = err_set(err, ERR_INVALID,
                     "%s: tokenizer.model is no SentencePiece model: it is broken", where);
    if (!rc && (vocab->bos >= vocab->n_tokens || vocab->eos >= vocab->n_tokens))
        rc = err_set(err, ERR_INVALID,
                     "%s: tokenizer.model has %d tokens, but bos is %d and eos is %d", where,
                     vocab->n_tokens, vocab->bos, vocab->eos);
    vocab->add_bos = vocab->bos >= 0;
    if (!rc && vocab->eos >= 0)
        vocab->ends[vocab->n_ends++] = vocab->eos;
    if (rc)
        vocab_release(vocab);
    return rc;
}
