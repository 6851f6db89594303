/* Answers decoded again and compared: see audit.h. */
#include "server/audit.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/completion.h"
#include "server/json_text.h"
#include "server/token_list.h"

#define PATIENCE 2.0     /* s that an audit waits for the engine to be idle */
#define WAITING_MAX 1024 /* that wait; beyond it answers are not audited */

/* ---- the answer ---- */

void audit_choose(struct choice *choice, struct engine_request *request)
{
    struct audits *all = &choice->completion->app->audits;
    struct audit *audit = &choice->audit;
    if (choice->completion->request.rounds || !request->max_tokens)
        return;
    audit->proof = choice->completion->request.proof;
    all->owed += all->share;
    audit->wanted = audit->proof || all->owed >= 1;
    if (!audit->wanted)
        return;
    if (all->owed >= 1)
        all->owed -= 1;
    request->logprobs = true;
    for (int i = 0; i < 2 && audit->proof; i++)
        if (gnutls_hash_init((gnutls_hash_hd_t *)&audit->hash[i], GNUTLS_DIG_SHA256))
            audit->hash[i] = NULL;
}

static void hash_text(struct audit *audit, int which, const struct engine_event *event)
{
    unsigned char digest[32];
    if (!audit->hash[which])
        return;
    gnutls_hash(audit->hash[which], event->text, event->text_len);
    if (!event->finish)
        return;
    gnutls_hash_deinit(audit->hash[which], digest);
    audit->hash[which] = NULL;
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(audit->digest[which] + 2 * i, 3, "%02x", digest[i]);
}

void audit_note(struct choice *choice, const struct engine_event *event)
{
    struct audit *audit = &choice->audit;
    if (!audit->wanted)
        return;
    for (size_t i = 0; i < event->n_tokens; i++) {
        const struct audit_token token = {event->tokens[i].token, event->tokens[i].logprob};
        buf_append(&audit->said, (const char *)&token, sizeof token);
    }
    hash_text(audit, 0, event);
}

/* ---- its turn ---- */

/* Keys and values that others wrote are part of what is audited, so it uses none. */
static int replay(struct choice *choice, struct err *err)
{
    struct engine_request request = completion_request(choice);
    request.user |= AUDIT_USER;
    request.speculation = 0;
    request.logprobs = true;
    request.alone = ALONE_NOT;
    request.prefix_salt = (uintptr_t)choice | (uint64_t)1 << 63;
    return engine_submit(choice->completion->app->engine, &request, &choice->audit.id, err);
}

int audit_end(struct choice *choice, struct err *err)
{
    struct audits *all = &choice->completion->app->audits;
    struct audit *audit = &choice->audit;
    if (!audit->wanted)
        return 0;
    bool room = all->waiting < WAITING_MAX && !choice->completion->app->draining;
    if (audit->said.failed || (!audit->proof && !room)) {
        audit->wanted = false;
        all->skipped++;
        return audit->proof ? err_set(err, ERR_MEMORY, "memory ran out") : 0;
    }
    if (audit->proof) {
        int rc = replay(choice, err);
        choice->completion->pending += !rc;
        return rc;
    }
    audit->since = clock_seconds();
    choice->completion->held++;
    if (all->last)
        all->last->audit.next = choice;
    else
        all->first = choice;
    all->last = choice;
    all->waiting++;
    return 0;
}

static struct choice *take_first(struct audits *all)
{
    struct choice *choice = all->first;
    all->first = choice->audit.next;
    if (!all->first)
        all->last = NULL;
    all->waiting--;
    return choice;
}

static void leave_out(struct audits *all, struct choice *choice)
{
    all->skipped++;
    completion_let_go(choice->completion);
}

void audits_pump(struct app *app)
{
    struct audits *all = &app->audits;
    struct engine_stats stats;
    struct err err;
    if (all->running || !all->first)
        return;
    engine_stats(app->engine, &stats);
    if (stats.running + stats.waiting && clock_seconds() - all->first->audit.since < PATIENCE)
        return;
    struct choice *choice = take_first(all);
    if (replay(choice, &err))
        leave_out(all, choice);
    else
        all->running = choice;
}

void audits_drop(struct app *app)
{
    while (app->audits.first)
        leave_out(&app->audits, take_first(&app->audits));
    if (app->audits.running)
        engine_cancel(app->engine, app->audits.running->audit.id);
}

void audit_release(struct audit *audit)
{
    buf_release(&audit->said);
    for (int i = 0; i < 2; i++)
        if (audit->hash[i])
            gnutls_hash_deinit(audit->hash[i], NULL);
}

/* ---- the verdict ---- */

/* As far as the context leaves room, which may be another where it is repeated. */
static int length_of(const struct engine_request *r, int context)
{
    size_t room = (size_t)context - r->n_tokens;
    return (size_t)r->max_tokens < room ? r->max_tokens : (int)room;
}

static void add_request(struct buf *out, const struct engine_request *r, int context)
{
    buf_puts(out, "{\"prompt\":");
    token_list_write(out, r->tokens, r->n_tokens);
    buf_printf(out, ",\"max_tokens\":%d,\"min_tokens\":%d,\"ignore_eos\":%s,\"seed\":%" PRId64,
               length_of(r, context), r->min_tokens, r->ignore_eos ? "true" : "false",
               (int64_t)r->seed);
    buf_printf(out,
               ",\"temperature\":%.9g,\"top_k\":%d,\"top_p\":%.9g,\"min_p\":%.9g,"
               "\"frequency_penalty\":%.9g,\"presence_penalty\":%.9g,\"repetition_penalty\":%.9g",
               r->temperature, r->top_k, r->top_p, r->min_p, r->frequency_penalty,
               r->presence_penalty, r->repetition_penalty);
    buf_puts(out, ",\"stop\":[");
    for (int i = 0; i < r->n_stops; i++) {
        buf_puts(out, i ? "," : "");
        json_write(out, r->stops[i], r->stop_lens[i]);
    }
    buf_puts(out, "],\"logit_bias\":{");
    for (int i = 0; i < r->n_biases; i++)
        buf_printf(out, "%s\"%d\":%.9g", i ? "," : "", r->biases[i].token, r->biases[i].bias);
    buf_puts(out, "},\"stop_token_ids\":");
    token_list_write(out, r->stop_tokens, (size_t)r->n_stop_tokens);
    if (r->speculation > 0)
        buf_printf(out, ",\"speculation\":%d", r->speculation);
    if (r->n_allowed) {
        buf_puts(out, ",\"allowed_token_ids\":");
        token_list_write(out, r->allowed, r->n_allowed);
    }
}

/* What the answer was is in a field that the server ignores. */
static void write_line(const struct choice *choice)
{
    const struct audit *audit = &choice->audit;
    const char *path = choice->completion->app->audits.file;
    const struct engine_request request = completion_request(choice);
    const struct audit_token *said = (const void *)audit->said.data;
    struct buf out = {0};
    add_request(&out, &request, choice->completion->app->info->context);
    buf_printf(&out,
               ",\"metadata\":{\"id\":\"%s\",\"left_out\":\"%s\",\"differs_at\":%zu,\"said\":[",
               choice->completion->id,
               request.grammar ? "its structure"
               : request.n_bad ? "bad_words"
                               : "",
               audit->where);
    for (size_t i = 0; i < audit->said.len / sizeof *said; i++)
        buf_printf(&out, i ? ",%d" : "%d", said[i].token);
    buf_puts(&out, "]}}\n");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file)
        fwrite(out.data, 1, out.failed ? 0 : out.len, file);
    if (path && (!file || out.failed || fflush(file)))
        log_error("audit: %s could not be written: %s", path, strerror(errno));
    if (file)
        fclose(file);
    buf_release(&out);
}

static void judge(struct choice *choice)
{
    struct audits *all = &choice->completion->app->audits;
    struct audit *audit = &choice->audit;
    size_t n = audit->said.len / sizeof(struct audit_token);
    if (!audit->differs && audit->n != n) {
        audit->differs = true;
        audit->where = audit->n < n ? audit->n : n;
    }
    all->audited++;
    all->tokens += audit->n;
    all->mismatches += audit->differs;
    if (!audit->differs)
        return;
    log_error("audit: %s, choice %d, is not what plain decoding gives, from token %zu of %zu on: "
              "this is a bug, please report it%s%s",
              choice->completion->id, choice->index, audit->where, n,
              all->file ? " with the last line of " : "; --audit-file keeps what repeats it",
              all->file ? all->file : "");
    write_line(choice);
}

void audit_event(struct choice *choice, const struct engine_event *event)
{
    struct audits *all = &choice->completion->app->audits;
    struct audit *audit = &choice->audit;
    const struct audit_token *said = (const void *)audit->said.data;
    size_t n = audit->said.len / sizeof *said;
    for (size_t i = 0; i < event->n_tokens; i++, audit->n++) {
        const struct audit_token token = {event->tokens[i].token, event->tokens[i].logprob};
        if (audit->differs || (audit->n < n && !memcmp(&token, &said[audit->n], sizeof token)))
            continue;
        audit->differs = true;
        audit->where = audit->n;
    }
    hash_text(audit, 1, event);
    if (!event->finish)
        return;
    audit->ended = event->finish == FINISH_STOP || event->finish == FINISH_LENGTH;
    if (audit->ended)
        judge(choice);
    else
        all->skipped++;
    if (audit->proof)
        choice->completion->pending--;
    else
        choice->completion->held--;
    if (all->running == choice)
        all->running = NULL;
}

void audit_write(const struct completion *completion, struct buf *out)
{
    const char *comma = "";
    buf_puts(out, "[");
    for (size_t i = 0; i < completion->n_choices; i++) {
        const struct audit *audit = &completion->choices[i].audit;
        if (!audit->ended)
            continue;
        buf_printf(out,
                   "%s{\"index\":%d,\"identical\":%s,\"sha256\":\"%s\",\"plain_sha256\":\"%s\","
                   "\"tokens\":%zu}",
                   comma, completion->choices[i].index, audit->differs ? "false" : "true",
                   audit->digest[0], audit->digest[1], audit->n);
        comma = ",";
    }
    buf_puts(out, "]");
}
