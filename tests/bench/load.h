/* What load.c (clients, the run) and load_backend.c (backend, bulk) share. */
#ifndef LOAD_H
#define LOAD_H

#include <stdint.h>

#define MESSAGE         64
#define BATCH           32              /* datagrams a system call */

#define HEADER_MAX      256             /* of the PROXY protocol, as far as contenders send it */

enum work { CONNECT, ANNOUNCED, NAMED, PINGPONG, UP, DOWN, BOTH, IDLE, UDP, CHURN, FLOOD, WORKS };

/* One socket of either end.  A client is opened again after it closed; a backend's is freed. */
struct peer {
    void          (*handler)(struct peer *p, uint32_t events);
    struct peer    *next_closed;        /* the stack of clients to open */
    int             is_begun;           /* a first answer came since it was opened */
    int             is_sent;
    int             is_client;
    int             fd;
    unsigned        received;           /* bytes of the answer, or of the backend's request */
    uint64_t        started_ns;         /* 0 while no operation is under way */
    char            request[HEADER_MAX + MESSAGE];
    char            answer[MESSAGE + 1];
};

extern enum work work;
extern unsigned in_flight;              /* operations, or datagrams of a flood, not answered yet */
extern uint64_t operations, progress_ns;
extern char bulk[256 * 1024];
extern const char header[28];           /* what clients of ANNOUNCED send first */

/* load.c */
uint64_t now_ns(void);
void die(const char *what);
void watch(struct peer *p, int operation, uint32_t events);
void begin(struct peer *p);
void fail(struct peer *p);

/* load_backend.c */
int work_is_bulk(void);
int work_is_udp(void);
uint32_t bulk_interest(int is_client);
void bulk_handler(struct peer *p, uint32_t events);
void accept_handler(struct peer *listener, uint32_t events);
void datagram_handler(struct peer *p, uint32_t events);

#endif
