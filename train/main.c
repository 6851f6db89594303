/* headway-train: trains a multi-token model on a corpus of bytes. Owns the options, the loop, the
 * log and the signals; a step is trainer.c's, files are checkpoint.c's. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/rng.h"
#include "model/kernels/grad.h"
#include "train/checkpoint.h"
#include "train/corpus.h"
#include "train/fit.h"
#include "train/frozen.h"
#include "train/ranks.h"
#include "train/scores.h"
#include "text/vocab.h"

static const char about[] =
    "headway-train trains a byte-level language model that predicts several tokens at once, or,\n"
    "with --trunk, heads for a model that exists, on text that it wrote itself (headway-write).\n"
    "It writes OUT/model.safetensors and OUT/config.json for headway-server, OUT/log.jsonl, and\n"
    "OUT/checkpoint.safetensors, from which --resume continues to the same bytes as a run that\n"
    "never stopped. SIGINT or SIGTERM saves and stops. Under mpirun each process takes its part "
    "of\n"
    "every batch.";

struct options {
    const char *trunk, *from, *corpus, *held_out, *out, *kind, *head_weights, *precision, *isa,
        *save_type, *targets, *aux_layers;
    int heads, head_layers, head_hidden, layers, total_layers, dim, n_heads, kv_heads, hidden,
        vocab, context, batch, steps, draft_vocab, fit;
    int warmup, seed, threads, eval_every, eval_windows, save_every, stop_after;
    double rate, final_rate, cooldown, momentum, decay, beta1, beta2, clip, rope_theta;
    bool resume, evaluate, tied, next_token, bigram, prefix_layer, eagle3;
};

/* SIGINT and SIGTERM wait until the loop over steps looks for them. A handler's frame would be
 * written wherever the stack pointer leads, and in oneDNN's products that is not always a stack:
 * the heap was overwritten. Before threads start, which inherit it. */
static void hold_signals(void)
{
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, NULL);
    signal(SIGINT, SIG_DFL); /* a shell starts background jobs with SIGINT ignored */
}

static bool stop_asked(void)
{
    sigset_t come;
    bool asked =
        !sigpending(&come) && (sigismember(&come, SIGINT) == 1 || sigismember(&come, SIGTERM) == 1);
    return ranks_sum_long(asked) > 0; /* all of them stop, or none */
}

static int read_options(struct options *o, int argc, char **argv, struct err *err)
{
    *o = (struct options){.kind = "parallel",
                          .head_weights = "1",
                          .precision = "auto",
                          .isa = "auto",
                          .save_type = "bf16",
                          .targets = "soft",
                          .aux_layers = "",
                          .heads = 4,
                          .draft_vocab = 8192,
                          .fit = 400,
                          .head_layers = 1,
                          .layers = 4,
                          .dim = 256,
                          .n_heads = 0,
                          .kv_heads = 0,
                          .hidden = 0,
                          .vocab = BYTE_VOCAB,
                          .context = 512,
                          .batch = 8,
                          .steps = 1000,
                          .warmup = 100,
                          .seed = 1,
                          .eval_every = 500,
                          .eval_windows = 128,
                          .save_every = 500,
                          .rate = 1e-3,
                          .final_rate = 0.03,
                          .momentum = 0.95,
                          .decay = 0.1,
                          .beta1 = 0.9,
                          .beta2 = 0.95,
                          .clip = 1,
                          .rope_theta = 10000};
    const struct opt table[] = {
        {"trunk", OPT_STRING, &o->trunk, 0, 0, 0,
         "folder or file of a model that stays as it is and gets heads: those that draft; its "
         "shapes "
         "are theirs"},
        {"corpus", OPT_STRING, &o->corpus, 0, 0, 0,
         "training text, documents ended by NUL bytes; with --trunk, a file of headway-write's"},
        {"from", OPT_STRING, &o->from, 0, 0, 0,
         "with --trunk: folder of heads whose weights are the first ones, and whose draft "
         "vocabulary stays"},
        {"draft-vocab", OPT_INT, &o->draft_vocab, 0, 1048576, 0,
         "with --trunk: tokens that heads choose from, the most frequent of the corpus; 0 = all"},
        {"aux-layers", OPT_STRING, &o->aux_layers, 0, 0, 0,
         "with --trunk: layers of it, as 8,20, whose input heads read besides its output"},
        {"next-token", OPT_FLAG, &o->next_token, 0, 0, 0,
         "with --trunk: heads read the embedding of the token behind their row too, as recurrent "
         "ones do anyway"},
        {"prefix-layer", OPT_FLAG, &o->prefix_layer, 0, 0, 0,
         "with --trunk: a layer before all heads, which they read instead of the trunk's output"},
        {"bigram", OPT_FLAG, &o->bigram, 0, 0, 0,
         "with --trunk: heads that don't know the draft before their own learn what it adds"},
        {"eagle3", OPT_FLAG, &o->eagle3, 0, 0, 0,
         "with --trunk: recurrent heads of EAGLE-3's structure, which headway-convert writes for "
         "other servers too; without --aux-layers they read layers 2, L/2 and L-3 of L"},
        {"targets", OPT_CHOICE, &o->targets, 0, 0, "soft|hard",
         "with --trunk: heads learn the trunk's probabilities, or the text's tokens alone"},
        {"held-out", OPT_STRING, &o->held_out, 0, 0, 0, "text for evaluation only"},
        {"out", OPT_STRING, &o->out, 0, 0, 0, "folder for the model, the log and checkpoints"},
        {"kind", OPT_STRING, &o->kind, 0, 0, 0, "architecture of the heads:" HEAD_KIND_NAMES},
        {"heads", OPT_INT, &o->heads, 1, HEADS_MAX, 0, "prediction heads, next token included"},
        {"head-layers", OPT_INT, &o->head_layers, 1, 8, 0,
         "transformer layers per head, for kinds made of layers"},
        {"head-weights", OPT_STRING, &o->head_weights, 0, 0, 0,
         "of the heads' losses in the sum: numbers separated by commas, the last one also for the "
         "heads after it"},
        {"head-hidden", OPT_INT, &o->head_hidden, 0, 65536, 0,
         "with --trunk: width of the feed-forward layer of heads made of layers; 0 = the trunk's"},
        {"layers", OPT_INT, &o->layers, 0, 512, 0, "transformer layers of the trunk"},
        {"total-layers", OPT_INT, &o->total_layers, 0, 1024, 0,
         "of trunk and heads together: the trunk has what the heads leave, so that models of "
         "different heads cost the same; 0 = count the trunk's by --layers"},
        {"dim", OPT_INT, &o->dim, 16, 16384, 0, "width"},
        {"n-heads", OPT_INT, &o->n_heads, 0, 256, 0, "attention heads; 0 = dim / 64, at least 1"},
        {"kv-heads", OPT_INT, &o->kv_heads, 0, 256, 0, "key/value heads; 0 = as many as n-heads"},
        {"hidden", OPT_INT, &o->hidden, 0, 65536, 0,
         "width of the feed-forward layer; 0 = 8/3 dim, rounded up to a multiple of 32"},
        {"vocab", OPT_INT, &o->vocab, BYTE_VOCAB, 1048576, 0,
         "size of the vocabulary; bytes use the first 257"},
        {"tied", OPT_FLAG, &o->tied, 0, 0, 0, "the unembedding is the embedding"},
        {"context", OPT_INT, &o->context, 2, 65536, 0, "tokens of a training sequence"},
        {"rope-theta", OPT_REAL, &o->rope_theta, 1, 1e9, 0, "base of the rotary positions"},
        {"batch", OPT_INT, &o->batch, 1, 4096, 0, "sequences per step"},
        {"fit", OPT_INT, &o->fit, 0, 1e9, 0,
         "with --trunk: texts by which linear and recurrent heads get their first weights, by "
         "least "
         "squares; 0 = random ones"},
        {"steps", OPT_INT, &o->steps, 0, 1e9, 0,
         "optimiser steps of the whole run; 0 = with --trunk, each text once"},
        {"warmup", OPT_INT, &o->warmup, 0, 1e9, 0, "steps of linear warm-up"},
        {"rate", OPT_REAL, &o->rate, 0, 1, 0, "peak learning rate"},
        {"final-rate", OPT_REAL, &o->final_rate, 0, 1, 0, "fraction of it at the end"},
        {"cooldown", OPT_REAL, &o->cooldown, 0, 1, 0,
         "part of the steps in which the rate falls; before them it stays at its peak, so that "
         "--resume may go on with more steps and a corpus that has grown; 0 = it falls from the "
         "first on (cosine)"},
        {"weight-decay", OPT_REAL, &o->decay, 0, 10, 0, "decoupled, on matrices only"},
        {"momentum", OPT_REAL, &o->momentum, 0, 0.9999, 0,
         "with --trunk: Muon's, which then takes the matrices; 0 = AdamW takes all"},
        {"beta1", OPT_REAL, &o->beta1, 0, 0.9999, 0, "Adam's decay of the mean"},
        {"beta2", OPT_REAL, &o->beta2, 0, 0.99999, 0, "Adam's decay of the square"},
        {"clip", OPT_REAL, &o->clip, 1e-6, 1e9, 0, "largest norm of the gradient"},
        {"seed", OPT_INT, &o->seed, 0, 2147483647, 0, "of initial values and of what is read when"},
        {"threads", OPT_INT, &o->threads, 0, TEAM_MAX, 0, "0 = all; results do not depend on it"},
        {"precision", OPT_CHOICE, &o->precision, 0, 0, "auto|f32|bf16",
         "of the products; bf16 needs AVX512_BF16 or AMX"},
        {"isa", OPT_CHOICE, &o->isa, 0, 0, "auto|" KERNELS_CHOICES, "kernels"},
        {"save-type", OPT_CHOICE, &o->save_type, 0, 0, "f32|bf16", "of the exported matrices"},
        {"eval-every", OPT_INT, &o->eval_every, 1, 1e9, 0, "steps between evaluations"},
        {"eval-windows", OPT_INT, &o->eval_windows, 0, 1e9, 0,
         "sequences of the held-out text per evaluation, spread evenly; 0 = all"},
        {"save-every", OPT_INT, &o->save_every, 1, 1e9, 0, "steps between checkpoints"},
        {"stop-after", OPT_INT, &o->stop_after, 0, 1e9, 0, "save and stop at this step; 0 = never"},
        {"resume", OPT_FLAG, &o->resume, 0, 0, 0, "continue from OUT/checkpoint.safetensors"},
        {"evaluate", OPT_FLAG, &o->evaluate, 0, 0, 0,
         "only evaluate OUT/model.safetensors on the held-out text (shape options from its "
         "config)"},
        {0}};
    int rc = opts_parse(table, about, argc, argv, NULL, 0, NULL, err);
    if (rc)
        return rc;
    if (!o->out)
        return err_set(err, ERR_INVALID, "--out is missing: name a folder for the model");
    if (!o->corpus && !o->evaluate)
        return err_set(err, ERR_INVALID, "--corpus is missing: train/corpus.py makes one");
    if (!o->held_out && o->evaluate)
        return err_set(err, ERR_INVALID, "--evaluate needs --held-out");
    if (!o->steps && !o->trunk)
        return err_set(err, ERR_INVALID, "--steps 0 is for --trunk: say how many steps to train");
    if (o->steps && o->warmup >= o->steps && !o->evaluate)
        return err_set(err, ERR_INVALID, "--warmup %d leaves none of --steps %d: use a shorter one",
                       o->warmup, o->steps);
    return 0;
}

static int check_ranks(const struct options *o, struct err *err)
{
    if (o->batch % ranks_count())
        return err_set(err, ERR_INVALID, "--batch %d cannot be shared evenly by %d ranks", o->batch,
                       ranks_count());
    return 0;
}

static int make_config(const struct options *o, struct config *c, struct err *err)
{
    if (o->evaluate)
        return config_read(c, o->out, err);
    int heads = o->n_heads ? o->n_heads : o->dim < 64 ? 1 : o->dim / 64;
    *c = (struct config){.dim = o->dim,
                         .n_layers = o->layers,
                         .n_heads = heads,
                         .n_kv_heads = o->kv_heads ? o->kv_heads : heads,
                         .hidden = o->hidden ? o->hidden : (o->dim * 8 / 3 + 31) / 32 * 32,
                         .vocab = o->vocab,
                         .context = o->context,
                         .norm_eps = 1e-5f,
                         .rope_theta = (float)o->rope_theta,
                         .tied = o->tied,
                         .n_predict = o->heads,
                         .head_layers = o->head_layers,
                         .bos = BYTE_TOKEN_END,
                         .eos = BYTE_TOKEN_END};
    int rc = head_kind_parse(o->kind, &c->kind, err);
    if (rc)
        return err_prefix(err, rc, "--kind");
    if (head_kind_tensors(c->kind) != HEAD_LAYERS)
        c->head_layers = 0;
    if (o->total_layers) {
        c->n_layers = o->total_layers - c->n_predict * c->head_layers;
        if (c->n_layers < 0)
            return err_set(err, ERR_INVALID,
                           "--total-layers %d leaves none for the trunk: %d heads have %d layers",
                           o->total_layers, c->n_predict, c->n_predict * c->head_layers);
    }
    return config_check(c, err);
}

/* "1,0.5" to a weight for every head. */
static int read_weights(const char *text, int heads, float *weight, struct err *err)
{
    char *end;
    for (int i = 0; i < heads; i++) {
        double w = strtod(text, &end);
        if (end == text || (*end && *end != ',') || !(w >= 0 && w <= 1000))
            return err_set(err, ERR_INVALID,
                           "--head-weights: '%.20s' is no number between 0 and 1000 with a comma "
                           "or nothing behind it",
                           text);
        weight[i] = (float)w;
        if (*end)
            text = end + 1;
    }
    if (*end)
        return err_set(err, ERR_INVALID, "--head-weights has more numbers than the %d heads",
                       heads);
    return 0;
}

/* Everything the final bytes depend on. */
static void settings_text(const struct options *o, const struct config *c, size_t corpus_size,
                          char *text, size_t size)
{
    bool fixed = !o->cooldown; /* what comes may change while the rate is the same */
    snprintf(
        text, size,
        "kind=%s heads=%d head-layers=%d head-weights=%s layers=%d dim=%d n-heads=%d "
        "kv-heads=%d hidden=%d "
        "vocab=%d tied=%d context=%d rope-theta=%g batch=%d steps=%d warmup=%d rate=%g "
        "final-rate=%g weight-decay=%g beta1=%g beta2=%g clip=%g seed=%d precision=%s "
        "corpus-bytes=%zu trunk=%016" PRIx64
        " draft-vocab=%d fit=%d targets=%s aux-layers=%s cooldown=%g momentum=%g ranks=%d next=%d "
        "bigram=%d prefix=%d%s",
        o->kind, c->n_predict, c->head_layers, o->head_weights, c->n_layers, c->dim, c->n_heads,
        c->n_kv_heads, c->hidden, c->vocab, c->tied, c->context, o->rope_theta, o->batch,
        fixed ? o->steps : 0, o->warmup, o->rate, o->final_rate, o->decay, o->beta1, o->beta2,
        o->clip, o->seed, gemm_precision() == GEMM_BF16 ? "bf16" : "f32", fixed ? corpus_size : 0,
        c->trunk, c->trunk ? o->draft_vocab : 0, c->trunk ? o->fit : 0,
        c->trunk ? o->targets : "hard", o->aux_layers, o->cooldown, o->momentum, ranks_count(),
        o->next_token, o->bigram, o->prefix_layer, o->eagle3 ? " eagle3=1" : "");
}

/* ---- the loop ---- */

struct run {
    struct options o;
    struct trainer t;
    struct corpus corpus, held_out;
    struct model trunk; /* with --trunk, and then: */
    struct texts texts, held_texts;
    int32_t *window;
    FILE *log;
    char settings[1024];
    int step;
};

static void progress_heads(const struct run *r, double seconds, int steps, double tokens)
{
    int n = r->t.model.config.n_predict;
    double left = (r->o.steps - r->step) * seconds / steps;
    fprintf(stderr,
            "step %d/%d  head 1 %.3f nats, right %.1f %%; norm %.2f  %.0f tokens/s  "
            "ETA %dh%02dm%02ds\n",
            r->step, r->o.steps, r->t.score[1].nats, 100 * r->t.score[1].run, r->t.grad_norm,
            tokens / seconds, (int)(left / 3600), (int)(left / 60) % 60, (int)left % 60);
    fprintf(r->log, "{\"step\":%d,\"grad_norm\":%.4f,\"tokens_per_second\":%.0f,\"nats\":[",
            r->step, r->t.grad_norm, tokens / seconds);
    for (int h = 1; h < n; h++)
        fprintf(r->log, "%s%.5f", h > 1 ? "," : "", r->t.score[h].nats);
    fprintf(r->log, "]}\n");
    fflush(r->log);
}

static void progress(const struct run *r, double seconds, int steps)
{
    double bytes = (double)steps * r->t.rows / seconds, loss = r->t.score[0].nats / M_LN2;
    double left = (r->o.steps - r->step) * seconds / steps, sum = 0;
    for (int h = 0; h < r->t.model.config.n_predict; h++)
        sum += r->t.score[h].nats / M_LN2;
    fprintf(stderr,
            "step %d/%d  loss %.4f bits/byte (mean of heads %.4f)  norm %.2f  %.0f bytes/s  ETA "
            "%dh%02dm%02ds\n",
            r->step, r->o.steps, loss, sum / r->t.model.config.n_predict, r->t.grad_norm, bytes,
            (int)(left / 3600), (int)(left / 60) % 60, (int)left % 60);
    fprintf(r->log,
            "{\"step\":%d,\"bits_per_byte\":%.6f,\"mean_of_heads\":%.6f,\"grad_norm\":%.4f,"
            "\"bytes_per_second\":%.0f}\n",
            r->step, loss, sum / r->t.model.config.n_predict, r->t.grad_norm, bytes);
    fflush(r->log);
}

static int save(struct run *r, struct err *err)
{
    enum dtype type = strcmp(r->o.save_type, "f32") ? DTYPE_BF16 : DTYPE_F32;
    if (ranks_own()) /* all have the same */
        return 0;
    /* --resume reads the folder's config and draft vocabulary too: they are there before the
     * checkpoint is. */
    int rc = checkpoint_export(&r->t, r->o.out, type, err);
    return rc ? rc : checkpoint_write(&r->t, r->o.out, r->step, r->settings, err);
}

/* Window b of a step begins anywhere in the corpus: a function of seed, step and b alone, so that a
 * resumed run reads what the other would have read. */
static void read_batch(struct run *r)
{
    int64_t first = (int64_t)r->step * r->o.batch + ranks_own() * r->t.sequences;
    if (r->t.frozen) {
        struct sample some[4096]; /* --batch goes no further */
        for (int b = 0; b < r->t.sequences; b++)
            some[b] = r->texts.samples[(first + b) % r->texts.n];
        trainer_samples(&r->t, some, r->t.sequences);
        return;
    }
    size_t length = (size_t)(r->t.context + r->t.model.config.n_predict);
    for (int b = 0; b < r->t.sequences; b++) {
        uint64_t index = (uint64_t)(first + b);
        size_t at = rng_below((uint64_t)r->o.seed, 1u << 20, index, r->corpus.size - length + 1);
        corpus_tokens(&r->corpus, at, length, r->window);
        trainer_window(&r->t, b, r->window);
    }
}

static int train(struct run *r, struct err *err)
{
    const struct options *o = &r->o;
    struct schedule schedule = {
        o->rate, o->final_rate, o->beta1, o->beta2,    o->decay,
        o->clip, o->warmup,     o->steps, o->cooldown, o->trunk ? o->momentum : 0};
    struct head_score mean[HEADS_MAX];
    double last = clock_seconds();
    double rows = 0;
    int last_step = r->step, rc, first = config_first_head(&r->t.model.config);
    while (r->step < o->steps && !stop_asked()) {
        read_batch(r);
        trainer_step(&r->t, &schedule, r->step);
        r->step++;
        rows += r->t.rows;
        if (!isfinite(r->t.score[first].nats))
            return err_set(err, ERR_INVALID,
                           "the loss is no longer a number at step %d: use a lower --rate",
                           r->step);
        bool end = r->step == o->steps || r->step == o->stop_after;
        double now = clock_seconds();
        if (!ranks_own() && (end || now - last >= 5)) {
            if (r->t.frozen)
                progress_heads(r, now - last, r->step - last_step, rows);
            else
                progress(r, now - last, r->step - last_step);
            last = now;
            rows = 0;
            last_step = r->step;
        }
        if (!ranks_own() && r->held_texts.n && (end || r->step % o->eval_every == 0)) {
            scores_of_texts(&r->t, &r->held_texts, mean);
            scores_print_texts(r->log, r->step, mean, r->t.model.config.n_predict);
            last += clock_seconds() - now;
        }
        if (!ranks_own() && r->held_out.bytes && (end || r->step % o->eval_every == 0)) {
            scores_of_corpus(&r->t, &r->held_out, o->eval_windows, r->window, mean);
            scores_print(r->log, r->step, mean, r->t.model.config.n_predict);
            last += clock_seconds() - now;
        }
        if (r->step % o->save_every == 0 && !end && (rc = save(r, err)))
            return rc;
        if (r->step == o->stop_after)
            break;
    }
    rc = save(r, err);
    if (!rc && !ranks_own() && r->step < o->steps)
        log_info("saved at step %d of %d: --resume continues", r->step, o->steps);
    return rc;
}

/* What a run begins with: the trainer and its texts. */
static int open_whole(struct run *r, struct team *team, struct err *err)
{
    const struct options *o = &r->o;
    struct config config;
    int rc = make_config(o, &config, err);
    if (rc)
        return rc;
    size_t length = (size_t)(config.context + config.n_predict);
    if ((o->corpus && !o->evaluate && (rc = corpus_open(&r->corpus, o->corpus, length, err))) ||
        (o->held_out && (rc = corpus_open(&r->held_out, o->held_out, length, err))) ||
        (rc = trainer_init(&r->t, &config, o->batch / ranks_count(), (uint64_t)o->seed, team, err)))
        return rc;
    r->window = calloc(length, sizeof *r->window);
    if (!r->window)
        return err_set(err, ERR_MEMORY, "no memory for a window of %zu tokens", length);
    return 0;
}

/* "8,20" */
static int read_layers(const char *text, struct config *c, struct err *err)
{
    char *end;
    for (; *text; text = *end ? end + 1 : end) {
        long layer = strtol(text, &end, 10);
        if (end == text || (*end && *end != ',') || c->n_aux == AUX_LAYERS_MAX || layer < 1 ||
            layer > 511)
            return err_set(err, ERR_INVALID,
                           "--aux-layers: wanted are at most %d layers of the trunk, from 1, with "
                           "commas between them, not '%.40s'",
                           AUX_LAYERS_MAX, text);
        c->aux_layers[c->n_aux++] = (int)layer;
    }
    return 0;
}

/* EAGLE-3's structure, with its authors' choice of layers where none were chosen. */
static int make_eagle3(struct config *c, int layers, struct err *err)
{
    const int usual[] = {2, layers / 2, layers - 3};
    if (c->kind != HEAD_RECURRENT || c->fuse_next)
        return err_set(err, ERR_INVALID,
                       "--eagle3 is a structure of recurrent heads: add --kind recurrent%s",
                       c->fuse_next ? ", leave --next-token out" : "");
    if (!c->n_aux && (usual[1] <= usual[0] || usual[2] <= usual[1]))
        return err_set(err, ERR_INVALID,
                       "a trunk of %d layers is too shallow for layers 2, L/2 and L-3: say with "
                       "--aux-layers which the heads read",
                       layers);
    for (int i = 0; !c->n_aux && i < 3; i++)
        c->aux_layers[i] = usual[i];
    c->n_aux = c->n_aux ? c->n_aux : 3;
    c->joined_attention = c->fuse_raw = true;
    return 0;
}

static int make_heads(const struct options *o, const struct model *trunk, struct config *c,
                      struct err *err)
{
    enum head_kind kind;
    int rc = head_kind_parse(o->kind, &kind, err);
    if (rc)
        return err_prefix(err, rc, "--kind");
    if ((rc = frozen_config(c, trunk, kind, o->heads, o->head_layers, o->context, err)) ||
        (rc = read_layers(o->aux_layers, c, err)))
        return rc;
    if (o->head_hidden)
        c->hidden = o->head_hidden;
    c->fuse_next = o->next_token;
    c->bigram = o->bigram;
    c->prefix_layer = o->prefix_layer;
    if (o->eagle3 && (rc = make_eagle3(c, trunk->config.n_layers, err)))
        return rc;
    if (c->n_aux && c->aux_layers[c->n_aux - 1] >= trunk->config.n_layers)
        return err_set(err, ERR_INVALID, "--aux-layers %s: %s has layers 0 to %d", o->aux_layers,
                       o->trunk, trunk->config.n_layers - 1);
    return config_check(c, err);
}

static int open_heads(struct run *r, struct team *team, struct err *err)
{
    struct options *o = &r->o;
    struct config config;
    struct draft_targets targets = {.soft = !strcmp(o->targets, "soft")};
    int rc;
    if (o->evaluate)
        return err_set(err, ERR_INVALID,
                       "--evaluate is for whole models: headway-bench --heads measures heads");
    if ((rc = model_open(&r->trunk, o->trunk, NULL, WEIGHT_STORED, 0, team, err)) ||
        (rc = make_heads(o, &r->trunk, &config, err)) ||
        (rc = texts_open(&r->texts, o->corpus, config.vocab, err)) ||
        (o->held_out && (rc = texts_open(&r->held_texts, o->held_out, config.vocab, err))))
        return rc;
    if (!o->steps)
        o->steps = (r->texts.n + o->batch - 1) / o->batch;
    int32_t *ids = calloc((size_t)config.vocab, sizeof *ids);
    if (!ids)
        return err_set(err, ERR_MEMORY, "no memory for a draft vocabulary");
    if (o->resume || o->from)
        rc = checkpoint_draft_ids(o->resume ? o->out : o->from, config.vocab, ids, &targets.n, err);
    else if (o->draft_vocab && o->draft_vocab < config.vocab)
        rc = texts_draft_ids(&r->texts, o->draft_vocab, ids, &targets.n, err);
    targets.ids = ids;
    if (!rc)
        rc = trainer_init_frozen(&r->t, &config, &r->trunk, &targets, o->batch / ranks_count(),
                                 (uint64_t)o->seed, team, err);
    free(ids);
    int some = r->texts.n < o->fit ? r->texts.n : o->fit;
    if (rc || o->resume)
        return rc;
    if (o->from)
        return checkpoint_import_heads(&r->t, o->from, err);
    if (some && fit_possible(config.kind))
        rc = fit_heads(&r->t, r->texts.samples, some, err);
    return rc;
}

static int open_out(struct run *r, struct err *err)
{
    const struct options *o = &r->o;
    char path[4096];
    if (ranks_own())
        return 0;
    if (mkdir(o->out, 0777) && errno != EEXIST)
        return err_set(err, ERR_IO, "--out %s could not be made: %s", o->out, strerror(errno));
    if ((size_t)snprintf(path, sizeof path, "%s/log.jsonl", o->out) >= sizeof path)
        return err_set(err, ERR_INVALID, "--out is longer than %zu bytes", sizeof path);
    r->log = fopen(path, o->resume ? "a" : "w");
    return r->log ? 0 : err_set(err, ERR_IO, "%s could not be written: %s", path, strerror(errno));
}

static int run(struct run *r, struct team *team, struct err *err)
{
    const struct options *o = &r->o;
    int rc = o->trunk ? open_heads(r, team, err) : open_whole(r, team, err);
    if (rc)
        return rc;
    const struct config *c = &r->t.model.config;
    if ((rc = read_weights(o->head_weights, c->n_predict, r->t.heads.weight, err)))
        return rc;
    if (o->evaluate) {
        struct head_score mean[HEADS_MAX];
        if ((rc = checkpoint_import(&r->t, o->out, err)))
            return rc;
        scores_of_corpus(&r->t, &r->held_out, o->eval_windows, r->window, mean);
        scores_print(NULL, 0, mean, c->n_predict);
        return 0;
    }
    settings_text(o, c, o->trunk ? r->texts.file.n_words * sizeof(int32_t) : r->corpus.size,
                  r->settings, sizeof r->settings);
    if (o->resume && (rc = checkpoint_read(&r->t, o->out, &r->step, r->settings, err)))
        return rc;
    if ((rc = open_out(r, err)))
        return rc;
    if (!ranks_own())
        log_info("%zu parameters, %s heads: %d, %d threads of %d ranks, %s products, %s kernels",
                 r->t.model.params.count, head_kind_name(c->kind), c->n_predict, team->n,
                 ranks_count(), gemm_precision() == GEMM_BF16 ? "bf16" : "f32", kernels.name);
    return train(r, err);
}

int main(int argc, char **argv)
{
    static struct run r;
    static struct team team;
    struct err err;
    int rc = read_options(&r.o, argc, argv, &err);
    if (rc > 0)
        return 0;
    hold_signals();
    if (!rc && !(rc = ranks_init(&err)))
        rc = check_ranks(&r.o, &err);
    if (!rc && !(rc = kernels_init(r.o.isa, &err)) && !(rc = gemm_init(r.o.precision, &err)) &&
        !(rc = team_init(&team, r.o.threads, &err))) {
        grad_kernels_init();
        rc = run(&r, &team, &err);
        team_release(&team);
    }
    if (r.log)
        fclose(r.log);
    trainer_release(&r.t);
    model_release(&r.trunk);
    texts_release(&r.texts);
    texts_release(&r.held_texts);
    corpus_release(&r.corpus);
    corpus_release(&r.held_out);
    free(r.window);
    if (rc)
        fprintf(stderr, "headway-train: %s\n", err.text);
    ranks_release(rc != 0);
    return rc ? 1 : 0;
}
