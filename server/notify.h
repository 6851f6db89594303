/* Telling the service manager (systemd, Type=notify) how the server is: a datagram to the socket
 * that the environment names, or nothing. Loop thread. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* state: "READY=1", "STOPPING=1"; man sd_notify. */
void notify_manager(const char *state);

#endif
