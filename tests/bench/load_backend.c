/*
 * The load generator's backend, TCP and UDP, and the bulk pump that both ends run.  The clients
 * of the other works and the run itself are in load.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

int work_is_bulk(void)
{
    return work == UP || work == DOWN || work == BOTH;
}

int work_is_udp(void)
{
    return work == UDP || work == CHURN || work == FLOOD;
}

uint32_t bulk_interest(int is_client)
{
    enum work only_receives = is_client ? DOWN : UP, only_sends = is_client ? UP : DOWN;

    return (work != only_receives ? EPOLLOUT : 0) | (work != only_sends ? EPOLLIN : 0);
}

static void close_backend(struct peer *p)
{
    close(p->fd);
    free(p);
}

/* Sends and discards as its interest says; what arrives is counted, at whichever end. */
void bulk_handler(struct peer *p, uint32_t events)
{
    ssize_t n = 1;

    if (p->is_client) {
        begin(p);
    }
    if (events & EPOLLOUT) {
        n = send(p->fd, bulk, sizeof(bulk), MSG_NOSIGNAL);
    }
    if ((n > 0 || errno == EAGAIN) && events & EPOLLIN) {
        n = recv(p->fd, NULL, 1 << 30, MSG_TRUNC);
        operations += n > 0 ? (uint64_t) n : 0;
    }
    if ((n > 0 || (n < 0 && errno == EAGAIN)) && !(events & (EPOLLERR | EPOLLHUP))) {
        return;
    }
    if (p->is_client) {
        fail(p);
    } else {
        close_backend(p);
    }
}

/* How long the header, v1 or v2, or the ClientHello at the head of a request is; more than there
 * is if it goes on. */
static unsigned header_length(const struct peer *p)
{
    const unsigned char *bytes = (const unsigned char *) p->request;
    const char *end = memchr(p->request, '\n', p->received);

    if (p->received < 16) {
        return HEADER_MAX;
    }
    if (bytes[0] == 22) {
        return 5 + ((unsigned) bytes[3] << 8) + bytes[4];
    }
    if (memcmp(p->request, header, 12) == 0) {
        return 16 + ((unsigned) bytes[14] << 8) + bytes[15];
    }
    return end == NULL ? HEADER_MAX : (unsigned) (end + 1 - p->request);
}

/* Sends back the one message that comes behind a header. */
static void announced_handler(struct peer *p, uint32_t events)
{
    ssize_t n = recv(p->fd, p->request + p->received, sizeof(p->request) - p->received, 0);
    unsigned length;

    (void) events;
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) {
            close_backend(p);
        }
        return;
    }
    p->received += (unsigned) n;
    length = header_length(p);
    if (p->received == length + MESSAGE
        && send(p->fd, p->request + length, MESSAGE, MSG_NOSIGNAL) != MESSAGE) {
        close_backend(p);
    }
}

static void echo_handler(struct peer *p, uint32_t events)
{
    ssize_t n = recv(p->fd, p->request + p->received, MESSAGE - p->received, 0);

    (void) events;
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) {
            close_backend(p);
        }
        return;
    }
    p->received += (unsigned) n;
    if (p->received == MESSAGE) {
        p->received = 0;
        if (send(p->fd, p->request, MESSAGE, MSG_NOSIGNAL) != MESSAGE) {
            close_backend(p);           /* the client misses its answer and counts the error */
        }
    }
}

void accept_handler(struct peer *listener, uint32_t events)
{
    struct peer *p;
    int fd;

    (void) events;
    for (int i = 0; i < BATCH; i++) {
        fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK);
        if (fd < 0) {
            return;
        }
        p = calloc(1, sizeof(*p));
        if (p == NULL) {
            die("calloc()");
        }
        p->fd = fd;
        p->handler = work_is_bulk() ? bulk_handler
                     : work == ANNOUNCED || work == NAMED ? announced_handler : echo_handler;
        watch(p, EPOLL_CTL_ADD, work_is_bulk() ? bulk_interest(0) : EPOLLIN);
    }
}

void datagram_handler(struct peer *p, uint32_t events)
{
    static char data[BATCH][2 * MESSAGE];
    static struct sockaddr_in from[BATCH];
    static struct iovec iov[BATCH];
    static struct mmsghdr batch[BATCH];
    int n, sent;

    (void) events;
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec) { data[i], sizeof(data[i]) };
        batch[i].msg_hdr = (struct msghdr) { .msg_name = &from[i], .msg_namelen = sizeof(from[i]),
                                             .msg_iov = &iov[i], .msg_iovlen = 1 };
    }
    n = recvmmsg(p->fd, batch, BATCH, 0, NULL);
    if (n <= 0) {
        return;
    }
    if (work == FLOOD) {
        operations += (unsigned) n;
        in_flight -= (unsigned) n < in_flight ? (unsigned) n : in_flight;
        progress_ns = now_ns();
        return;
    }
    for (int i = 0; i < n; i++) {
        iov[i].iov_len = batch[i].msg_len;
    }
    for (int done = 0; done < n; done += sent) {
        sent = sendmmsg(p->fd, batch + done, (unsigned) (n - done), 0);
        sent = sent > 0 ? sent : 1;     /* ICMP error of an earlier answer: skip one, it is lost */
    }
}

