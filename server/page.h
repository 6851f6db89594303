/* The page behind GET /: a prompt box that streams. One string, no other files. Used by route.c. */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

extern const char PAGE[];

#endif
