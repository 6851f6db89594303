/* Errors as sentences. A fallible function returns 0 or a negative ERR_ code and fills the
 * struct err that is its last parameter with one sentence: what was wrong, where, what was
 * expected, what to do. The caller owns the struct; no memory is allocated. Any thread. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum {
    ERR_INVALID = -1, /* the input (file, field, option) is wrong: the sender can mend it */
    ERR_IO = -2,      /* the operating system refused */
    ERR_MEMORY = -3,  /* memory ran out */
    ERR_BUSY = -4,    /* no room just now: try again later */
};

struct err {
    char text[512];
};

/* Writes the sentence, cut at the buffer's end, and returns code. err may be NULL. */
int err_set(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before a sentence that is already there and returns code. */
int err_prefix(struct err *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
