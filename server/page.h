/* The page behind GET /, server/web/page.html as one string: chats when the model can, and
 * continues texts when it cannot. Used by route.c. */
#ifndef SERVER_PAGE_H
#define SERVER_PAGE_H

extern const char PAGE[];

#endif
