/* The page: server/web/, file by file as it is, with types and ETags. Used by route.c. */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

#include <stdbool.h>

#include "server/response.h"

/* Whether a file of the page is behind the path ("/" is page.html). */
bool page_has(const char *path);

/* The file that page_has() knows. */
void page_respond(const char *path, struct response *response);

#endif
