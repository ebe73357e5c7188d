/*
 * The benchmark's load generator: clients and backend of one work, in one process on one core.
 *
 * The clients talk to the proxy on 127.0.0.1; the backend is an inherited socket, listening or
 * UDP, that the proxy talks to.  Both ends live in one level-triggered epoll loop, so that little
 * of the core they share is lost to switching between processes, and so that what one end sent
 * can be compared with what the other received.  What a work means is in works.py, what happens
 * to the numbers in measure.py, the backend in load_backend.c; load.py is the same program for machines without a C compiler.
 *
 * Every message is 64 bytes that begin with a number never used twice.  The backend sends it
 * back, the client compares all of it: a byte that is lost, changed or sent to somebody else is
 * an error, and so is an operation that is not answered.  Clients of "announced" send a header of
 * the PROXY protocol first, and the backend takes off the one that the proxy sends it; those of
 * "named" send a ClientHello, for one of a thousand names in turn, which the backend takes off.
 *
 * Usage: load WORK PORT BACKEND_FD CONNECTIONS WARMUP_MS MEASURE_MS [PID ...]
 * Prints one JSON object.  The CPU clocks of the PIDs are read at the very instants the
 * operations are counted.  `idle` prints "ready" and holds its connections until stdin ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define MS              1000000ULL
#define OPENING_MAX     64              /* connects under way: far under any listener's backlog */
#define FLOOD_WINDOW    128             /* 64-byte datagrams that surely fit a default SO_RCVBUF */
#define LOST_AFTER      (1500 * MS)     /* above TCP's first retransmission of a SYN, 1 s */
#define STUCK_AFTER     (10000 * MS)
#define ERRORS_MAX      100             /* a run with so many is given up: enough is known */
#define SUB_BUCKETS     32              /* a power of two of latency in 32 steps: 3 % resolution */

enum phase { RAMP, WARMUP, MEASURE, DRAIN, DONE };

static const char *const work_names[WORKS] = {
    "connect", "announced", "named", "pingpong", "up", "down", "both", "idle", "udp", "churn", "flood",
};

struct reading {
    uint64_t        at_ns, operations, proxy_cpu_ns, own_cpu_ns;
};

enum work work;
unsigned in_flight;
uint64_t operations, progress_ns;
char bulk[256 * 1024];
const char header[28] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
                        "\xc0\0\x02\x07\xc6\x33\x64\x02\x12\x67\x01\xbb";
/* A ClientHello for n000.example.net, of which NAMED clients count the digits. */
static const char hello[] = "\026\003\001\000H\001\000\000D\003\003"
    "\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
    "\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000"
    "\000\000\002\023\001\001\000\000\031\000\000\000\025\000\023\000\000\020n000.example.net";
#define HELLO_DIGITS    62
#define NAMES           1000
static const char *first = header;      /* what clients send ahead of their message */
static unsigned header_size;            /* 0 unless they do */

static enum phase phase;
static int is_short;                    /* one message a connection */
static int epoll_fd, connections, pid_count;
static char **pids;
static struct sockaddr_in proxy = { .sin_family = AF_INET };
static struct peer *clients, *closed_clients;
static unsigned opening, begun;
static uint64_t number, errors, slowest_ns;
static uint32_t histogram[64 * SUB_BUCKETS];

void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    if (clock_gettime(clock, &t) < 0) {
        die("clock_gettime() of a process that is gone");
    }
    return (uint64_t) t.tv_sec * 1000 * MS + (uint64_t) t.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static struct reading take_reading(void)
{
    struct reading r = { .operations = operations };
    clockid_t clock;

    r.own_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < pid_count; i++) {
        if (clock_getcpuclockid(atoi(pids[i]), &clock) != 0) {
            die("clock_getcpuclockid() of a process that is gone");
        }
        r.proxy_cpu_ns += clock_ns(clock);
    }
    r.at_ns = now_ns();
    return r;
}

void watch(struct peer *p, int operation, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = p };

    if (epoll_ctl(epoll_fd, operation, p->fd, &event) < 0) {
        die("epoll_ctl()");
    }
}

/* -- latency: a logarithmic histogram -- */

static void record_latency(uint64_t ns)
{
    int shift = 63 - __builtin_clzll(ns | SUB_BUCKETS) - 5;

    histogram[(unsigned) shift * SUB_BUCKETS + (unsigned) (ns >> shift)]++;
    slowest_ns = ns > slowest_ns ? ns : slowest_ns;
}

static double percentile_us(double share)
{
    uint64_t total = 0, seen = 0, bucket, shift;

    for (bucket = 0; bucket < 64 * SUB_BUCKETS; bucket++) {
        total += histogram[bucket];
    }
    for (bucket = 0; bucket < 64 * SUB_BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen && (double) seen >= share * (double) total) {
            shift = bucket < 2 * SUB_BUCKETS ? 0 : bucket / SUB_BUCKETS - 1;
            return (double) ((bucket - shift * SUB_BUCKETS) << shift) / 1000;
        }
    }
    return 0;
}

/* -- clients that send a message and wait for it to come back -- */

static void close_client(struct peer *p)
{
    close(p->fd);
    p->fd = -1;
    p->started_ns = 0;
    opening -= p->is_begun ? 0 : 1;
    p->next_closed = closed_clients;
    closed_clients = p;
}

void fail(struct peer *p)
{
    errors++;
    in_flight -= p->started_ns ? 1 : 0;
    close_client(p);
}

void begin(struct peer *p)
{
    if (!p->is_begun) {
        p->is_begun = 1;
        opening--;
        begun++;
    }
}

static void send_request(struct peer *p)
{
    ssize_t n = send(p->fd, p->request, header_size + MESSAGE, MSG_NOSIGNAL);

    if (n == header_size + MESSAGE) {
        p->is_sent = 1;
    } else if (n >= 0 || errno != EAGAIN) {
        fail(p);
    }
}

static void start_operation(struct peer *p)
{
    number++;
    memcpy(p->request, first, header_size);
    for (unsigned n = number % NAMES, i = 3; work == NAMED && i > 0; n /= 10) {
        p->request[HELLO_DIGITS + --i] = (char) ('0' + n % 10);
    }
    memcpy(p->request + header_size, &number, sizeof(number));
    p->received = 0;
    p->is_sent = 0;
    p->started_ns = now_ns();
    in_flight++;
}

static void finish_operation(struct peer *p)
{
    uint64_t now = now_ns();

    operations++;
    in_flight--;
    if (phase == MEASURE) {
        record_latency(now - p->started_ns);
    }
    p->started_ns = 0;
    begin(p);
    if (is_short || work == CHURN) {
        close_client(p);
    } else if (work != IDLE && phase != DRAIN) {
        start_operation(p);
        send_request(p);
    }
}

static void message_handler(struct peer *p, uint32_t events)
{
    ssize_t n;

    if (!p->is_sent && !(events & (EPOLLERR | EPOLLHUP))) {
        send_request(p);
        if (p->is_sent) {
            watch(p, EPOLL_CTL_MOD, EPOLLIN);
        }
        return;
    }
    n = recv(p->fd, p->answer + p->received, MESSAGE + 1 - p->received, 0);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n == 0 && is_short && p->received == MESSAGE) {
        finish_operation(p);
        return;
    }
    if (n <= 0 || p->started_ns == 0 || p->received + n > MESSAGE) {
        fail(p);
        return;
    }
    p->received += (unsigned) n;
    if (p->received < MESSAGE) {
        return;
    }
    if (memcmp(p->request + header_size, p->answer, MESSAGE) != 0) {
        fail(p);
    } else if (is_short) {
        shutdown(p->fd, SHUT_WR);
    } else {
        finish_operation(p);
    }
}

/*
 * The ports of churning clients go round all there are, from an address of their own: the system
 * would pick among fewer, and a port that is still known to the proxy is not a new session.
 */
static void bind_next_port(struct peer *p)
{
    struct sockaddr_in local = { .sin_family = AF_INET };

    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    do {
        local.sin_port = htons((uint16_t) (1024 + number % (65536 - 1024)));
        if (bind(p->fd, (struct sockaddr *) &local, sizeof(local)) == 0) {
            return;
        }
        number++;
    } while (errno == EADDRINUSE);
    die("bind()");
}

static void open_client(struct peer *p)
{
    p->fd = socket(AF_INET, (work_is_udp() ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    if (p->fd < 0) {
        die("socket()");
    }
    if (work == CHURN) {
        bind_next_port(p);
    }
    p->is_begun = 0;
    p->handler = work_is_bulk() ? bulk_handler : message_handler;
    opening++;
    if (!work_is_bulk() && work != FLOOD) {
        start_operation(p);
    }
    if (connect(p->fd, (struct sockaddr *) &proxy, sizeof(proxy)) < 0 && errno != EINPROGRESS) {
        fail(p);
    } else if (work == FLOOD) {
        begin(p);
    } else if (work_is_bulk()) {
        watch(p, EPOLL_CTL_ADD, bulk_interest(1));
    } else {
        send_request(p);                /* on loopback connect() has mostly succeeded by now */
        if (p->fd >= 0) {
            watch(p, EPOLL_CTL_ADD, p->is_sent ? EPOLLIN : EPOLLOUT);
        }
    }
}

static void send_flood(void)
{
    static struct iovec iov = { .iov_base = bulk, .iov_len = MESSAGE };
    static struct mmsghdr batch[BATCH];
    static unsigned turn;
    int n;

    for (int i = 0; i < BATCH; i++) {
        batch[i].msg_hdr.msg_iov = &iov;
        batch[i].msg_hdr.msg_iovlen = 1;
    }
    while (in_flight + BATCH <= FLOOD_WINDOW) {
        n = sendmmsg(clients[turn++ % (unsigned) connections].fd, batch, BATCH, 0);
        if (n < 0) {
            errors++;
            return;
        }
        in_flight += (unsigned) n;
    }
}

/* -- the run -- */

/* Operations unanswered for too long are errors; a flood without progress has lost its window. */
static void count_lost(uint64_t now)
{
    if (work == FLOOD && in_flight && now - progress_ns > LOST_AFTER) {
        errors += in_flight;
        in_flight = 0;
        progress_ns = now;
    }
    for (int i = 0; work != FLOOD && i < connections; i++) {
        if (clients[i].started_ns && now - clients[i].started_ns > LOST_AFTER) {
            fail(&clients[i]);
        }
    }
}

static void one_turn(void)
{
    struct epoll_event events[256];
    struct peer *p;
    int n;

    while (closed_clients && opening < OPENING_MAX && phase < DRAIN) {
        p = closed_clients;
        closed_clients = p->next_closed;
        open_client(p);
        if (p->fd < 0) {
            break;                      /* refused: not again before the next turn */
        }
    }
    if (work == FLOOD && begun >= (unsigned) connections && phase < DRAIN) {
        send_flood();
    }
    n = epoll_wait(epoll_fd, events, 256, 10);
    for (int i = 0; i < n; i++) {
        p = events[i].data.ptr;
        p->handler(p, events[i].events);
    }
}

static void hold_until_stdin_ends(void)
{
    struct epoll_event events[256];
    char byte;
    int n;

    printf("ready\n");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) { /* only its end is of interest */ }
    n = epoll_wait(epoll_fd, events, 256, 0);
    errors += n > 0 ? (uint64_t) n : 0;  /* whatever happened to an idle pair should not have */
}

static void print_result(const struct reading *from, const struct reading *to)
{
    printf("{\"operations\": %llu, \"seconds\": %.6f, \"cpu_ns\": %llu, \"own_cpu_ns\": %llu, "
           "\"errors\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
           (unsigned long long) (to->operations - from->operations),
           (double) (to->at_ns - from->at_ns) / 1e9,
           (unsigned long long) (to->proxy_cpu_ns - from->proxy_cpu_ns),
           (unsigned long long) (to->own_cpu_ns - from->own_cpu_ns), (unsigned long long) errors,
           percentile_us(0.5), percentile_us(0.99), (double) slowest_ns / 1000);
}

static void run(uint64_t warmup_ns, uint64_t measure_ns)
{
    struct reading from = { 0 }, to = { 0 };
    uint64_t now = now_ns(), checked_ns = now, ends_ns = now + STUCK_AFTER;

    progress_ns = now;
    while (phase != DONE && errors < ERRORS_MAX) {
        one_turn();
        now = now_ns();
        if (now - checked_ns > 100 * MS) {
            count_lost(now);
            checked_ns = now;
        }
        if (phase == RAMP && begun >= (unsigned) connections) {
            phase = work == IDLE ? DONE : WARMUP;
            ends_ns = now + warmup_ns;
        } else if (phase == RAMP && now >= ends_ns) {
            errors += (unsigned) connections - begun;
            phase = DONE;
        } else if (phase == WARMUP && now >= ends_ns) {
            from = take_reading();
            phase = MEASURE;
            ends_ns = now + measure_ns;
        } else if (phase == MEASURE && now >= ends_ns) {
            to = take_reading();
            phase = DRAIN;
            ends_ns = now + LOST_AFTER;
        } else if (phase == DRAIN && (in_flight == 0 || now >= ends_ns)) {
            errors += in_flight;
            phase = DONE;
        }
    }
    if (phase == MEASURE) {
        to = take_reading();            /* given up: what there is until now */
    }
    if (work == IDLE) {
        to = (struct reading) { .operations = begun };
        hold_until_stdin_ends();
    }
    print_result(&from, &to);
}

int main(int argc, char **argv)
{
    struct peer backend = { 0 };

    while (argc > 6 && work < WORKS && strcmp(argv[1], work_names[work]) != 0) {
        work++;
    }
    if (argc < 7 || work == WORKS) {
        fprintf(stderr, "usage: load WORK PORT BACKEND_FD CONNECTIONS WARMUP_MS MEASURE_MS "
                "[PID ...]\n");
        return 2;
    }
    proxy.sin_port = htons((uint16_t) atoi(argv[2]));
    proxy.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    backend.fd = atoi(argv[3]);
    connections = atoi(argv[4]);
    pid_count = argc - 7;
    pids = argv + 7;
    header_size = work == ANNOUNCED ? sizeof(header) : work == NAMED ? sizeof(hello) - 1 : 0;
    first = work == NAMED ? hello : header;
    is_short = work == CONNECT || work == ANNOUNCED || work == NAMED;
    epoll_fd = epoll_create1(0);
    clients = calloc((size_t) connections, sizeof(*clients));
    if (epoll_fd < 0 || clients == NULL) {
        die("epoll_create1() or calloc()");
    }
    for (int i = 0; i < connections; i++) {
        clients[i].is_client = 1;
        clients[i].next_closed = closed_clients;
        closed_clients = &clients[i];
    }
    backend.handler = work_is_udp() ? datagram_handler : accept_handler;
    watch(&backend, EPOLL_CTL_ADD, EPOLLIN);
    run((uint64_t) atoi(argv[5]) * MS, (uint64_t) atoi(argv[6]) * MS);
    return 0;
}
