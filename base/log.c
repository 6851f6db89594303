/* Log lines, each written with one call so that lines of different threads don't mix. */
#include "base/log.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE 2048 /* bytes; what is longer is cut, in JSON behind a whole member */

static enum log_level least = LOG_INFO;
static bool as_json;

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_configure(const char *level, bool json)
{
    for (int i = 0; i < 4; i++)
        if (!strcmp(level, names[i]))
            least = (enum log_level)i;
    as_json = json;
}

struct line {
    char text[LINE];
    size_t n;
};

/* Leaves room for the end of the line. */
static void add(struct line *l, const char *format, ...)
{
    va_list args;
    size_t room = sizeof l->text - 4 - l->n;
    va_start(args, format);
    int n = vsnprintf(l->text + l->n, room, format, args);
    va_end(args);
    if (n > 0)
        l->n += (size_t)n < room ? (size_t)n : room - 1;
}

/* Stops where another escape and the quote behind it might not fit. */
static void add_escaped(struct line *l, const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    for (; *c && l->n < sizeof l->text - 16; c++)
        if (*c == '"' || *c == '\\')
            add(l, "\\%c", *c);
        else if (*c < 0x20 || *c >= 0x7f)
            add(l, "\\u%04x", *c);
        else
            add(l, "%c", *c);
}

/* In text only what would not end at a space is quoted. */
static void add_value(struct line *l, const char *text)
{
    bool plain = *text;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        plain &= *c > 0x20 && *c < 0x7f && *c != '"' && *c != '\\' && *c != '=';
    if (plain && !as_json) {
        add(l, "%s", text);
        return;
    }
    add(l, "\"");
    add_escaped(l, text);
    add(l, "\"");
}

static void begin(struct line *l, enum log_level level)
{
    struct timespec t;
    struct tm tm;
    char now[32];
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S", &tm);
    l->n = 0;
    add(l, as_json ? "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\"" : "%s.%03ldZ %s", now,
        t.tv_nsec / 1000000, names[level]);
}

static void end(struct line *l)
{
    if (as_json)
        l->text[l->n++] = '}';
    l->text[l->n++] = '\n';
    if (write(STDERR_FILENO, l->text, l->n) < 0)
        return; /* nowhere left to complain */
}

static void log_line(enum log_level level, const char *format, va_list args)
{
    char message[LINE / 2];
    struct line l;
    if (level < least)
        return;
    vsnprintf(message, sizeof message, format, args);
    begin(&l, level);
    if (as_json) {
        add(&l, ",\"message\":");
        add_value(&l, message);
    } else {
        add(&l, " %s", message);
    }
    end(&l);
}

void log_info(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(LOG_INFO, format, args);
    va_end(args);
}

void log_warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(LOG_WARN, format, args);
    va_end(args);
}

void log_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_line(LOG_ERROR, format, args);
    va_end(args);
}

static void add_field(struct line *l, const struct log_field *f)
{
    add(l, as_json ? ",\"%s\":" : " %s=", f->name);
    if (f->text)
        add_value(l, f->text);
    else
        add(l, "%.10g", f->number);
}

void log_event(enum log_level level, const char *event, const struct log_field *fields, int n)
{
    struct line l;
    if (level < least)
        return;
    begin(&l, level);
    add(&l, as_json ? ",\"event\":\"%s\"" : " %s", event);
    for (int i = 0; i < n; i++) {
        size_t before = l.n;
        if (!fields[i].text && isnan(fields[i].number))
            continue;
        add_field(&l, &fields[i]);
        if (l.n >= sizeof l.text - 24) { /* perhaps cut: it goes as a whole */
            l.n = before;
            break;
        }
    }
    end(&l);
}
