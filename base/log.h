/* The log: one line per call to standard error, with time and level, as text or as a JSON object.
 * Any thread, but log_configure before there are others. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

#define LOG_LEVELS "debug|info|warn|error"

/* Lines below the level (one of LOG_LEVELS) are left out; without a call: info, text. */
void log_configure(const char *level, bool json);

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What an event is described by. A text may be anything: what is not printable is escaped. */
struct log_field {
    const char *name;
    const char *text; /* NULL: a number */
    double number;
};

/* A line that programs read: "time level event name=value ...", or members of the object. Fields of
 * which neither is set (text NULL, number NAN) are left out. */
void log_event(enum log_level level, const char *event, const struct log_field *fields, int n);

#endif
