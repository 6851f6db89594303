/* See scores.h. */
#include "train/scores.h"

#include <math.h>
#include <string.h>

void scores_of_texts(struct trainer *t, const struct texts *texts, struct head_score *mean)
{
    double rows = 0;
    float *soft = t->loss.soft;
    t->loss.soft = NULL;
    memset(mean, 0, HEADS_MAX * sizeof *mean);
    for (int at = 0; at < texts->n; at += t->sequences) {
        int n = texts->n - at < t->sequences ? texts->n - at : t->sequences;
        trainer_samples(t, texts->samples + at, n);
        trainer_evaluate(t);
        rows += t->n_learned;
        for (int h = 0; h < t->model.config.n_predict; h++) {
            mean[h].nats += t->n_learned * t->score[h].nats;
            mean[h].top1 += t->n_learned * t->score[h].top1;
            mean[h].run += t->n_learned * t->score[h].run;
        }
    }
    t->loss.soft = soft;
    for (int h = 0; h < t->model.config.n_predict; h++) {
        mean[h].nats /= rows;
        mean[h].top1 /= rows;
        mean[h].run /= rows;
    }
}

void scores_print_texts(FILE *log, int step, const struct head_score *score, int n)
{
    double before = 1, tokens = 1;
    printf("held-out at step %d\n  head  nats    top-1  accepted  tokens/forward\n", step);
    if (log)
        fprintf(log, "{\"step\":%d,\"held_out\":[", step);
    for (int h = 1; h < n; h++) {
        double accepted = before > 0 ? score[h].run / before : 0;
        before = score[h].run;
        tokens += score[h].run;
        printf("  %4d  %6.3f %5.1f %%   %5.1f %%  %.3f\n", h, score[h].nats, 100 * score[h].top1,
               100 * accepted, tokens);
        if (log)
            fprintf(log,
                    "%s{\"head\":%d,\"nats\":%.6f,\"top1\":%.6f,\"accepted\":%.6f,"
                    "\"tokens_per_forward\":%.6f}",
                    h > 1 ? "," : "", h, score[h].nats, score[h].top1, accepted, tokens);
    }
    fflush(stdout);
    if (log) {
        fprintf(log, "]}\n");
        fflush(log);
    }
}

void scores_of_corpus(struct trainer *t, const struct corpus *text, int windows, int32_t *window,
                      struct head_score *mean)
{
    size_t length = (size_t)(t->context + t->model.config.n_predict);
    size_t all = text->size / length, n = windows && (size_t)windows < all ? (size_t)windows : all;
    size_t batches = n / (size_t)t->sequences ? n / (size_t)t->sequences : 1;
    memset(mean, 0, HEADS_MAX * sizeof *mean);
    n = batches * (size_t)t->sequences;
    for (size_t i = 0; i < n; i++) {
        corpus_tokens(text, (all * i / n % all) * length, length, window);
        trainer_window(t, (int)(i % (size_t)t->sequences), window);
        if ((i + 1) % (size_t)t->sequences)
            continue;
        trainer_evaluate(t);
        for (int h = 0; h < t->model.config.n_predict; h++) {
            mean[h].nats += t->score[h].nats / (double)batches;
            mean[h].top1 += t->score[h].top1 / (double)batches;
        }
    }
}

void scores_print(FILE *log, int step, const struct head_score *score, int n)
{
    printf("held-out at step %d\n  head  bits/byte   top-1\n", step);
    for (int h = 0; h < n; h++)
        printf("  %4d  %9.4f  %5.1f %%\n", h + 1, score[h].nats / M_LN2, 100 * score[h].top1);
    fflush(stdout);
    if (!log)
        return;
    fprintf(log, "{\"step\":%d,\"held_out\":[", step);
    for (int h = 0; h < n; h++)
        fprintf(log, "%s{\"head\":%d,\"bits_per_byte\":%.6f,\"top1\":%.6f}", h ? "," : "", h + 1,
                score[h].nats / M_LN2, score[h].top1);
    fprintf(log, "]}\n");
    fflush(log);
}
