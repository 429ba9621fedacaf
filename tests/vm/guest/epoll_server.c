/* An epoll server with two workers on the same listening sockets, which says exactly what it did.
 *
 * epoll_server PORT DUAL_PORT herd|race
 *   PORT       IPv4 (0.0.0.0) and IPv6 ([::], for IPv6 only); DUAL_PORT: [::] for both, so that IPv4 peers are mapped
 *   herd       both workers meet after each wakeup by a listening socket; connection N is accepted by worker N % 2
 *   race       who comes first accepts
 * Prints its tids, then (when standard input ends) one line of JSON for each thing that it did, worker by worker.
 * Each worker has descriptors of its own for the same sockets, and echoes what its connections send. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 2
#define LISTENERS 3
#define LINES 4096

struct line { char text[240]; };
struct worker {
    int number, tid, epoll, listener[LISTENERS], lines;
    struct line line[LINES];
    pthread_t thread;
};
static struct worker workers[WORKERS];
static int sockets[LISTENERS], herd, herds;
static pthread_barrier_t ready, meet;

static void fail(const char *what) { perror(what); exit(1); }

static void note(struct worker *w, const char *format, ...) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (w->lines == LINES) { fputs("epoll_server: too many lines\n", stderr); exit(1); }
    char *text = w->line[w->lines++].text;
    int used = snprintf(text, 240, "{\"ts\": %lld, \"tid\": %d, ", now.tv_sec * 1000000000LL + now.tv_nsec, w->tid);
    va_list arguments;
    va_start(arguments, format);
    used += vsnprintf(text + used, 240 - used, format, arguments);
    va_end(arguments);
    snprintf(text + used, 240 - used, "}");
}

static void address(struct sockaddr_storage *from, char *text, int *port) {
    if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 *six = (void *)from;
        inet_ntop(AF_INET6, &six->sin6_addr, text, INET6_ADDRSTRLEN);
        *port = ntohs(six->sin6_port);
    } else {
        struct sockaddr_in *four = (void *)from;
        inet_ntop(AF_INET, &four->sin_addr, text, INET6_ADDRSTRLEN);
        *port = ntohs(four->sin_port);
    }
}

/* What a user-space probe is put on (in Envoy: FileEventImpl::assignEvents); its arguments are those that are read. */
__attribute__((noinline, noclone)) void assign_events(int fd, unsigned short events) {
    __asm__ volatile("" : : "r"(fd), "r"(events) : "memory");
}

static void take(struct worker *w, int listener) {
    struct sockaddr_storage peer, own;
    socklen_t size = sizeof(peer), own_size = sizeof(own);
    int fd = accept4(listener, (void *)&peer, &size, SOCK_NONBLOCK);
    if (fd < 0) {
        note(w, "\"did\": \"in_vain\", \"listener\": %d, \"errno\": %d", listener, errno);
        return;
    }
    char there[INET6_ADDRSTRLEN], here[INET6_ADDRSTRLEN];
    int port, own_port;
    getsockname(fd, (void *)&own, &own_size);
    address(&peer, there, &port);
    address(&own, here, &own_port);
    note(w, "\"did\": \"accept\", \"listener\": %d, \"fd\": %d, \"family\": %d, \"saddr\": \"%s\", \"sport\": %d, "
            "\"daddr\": \"%s\", \"dport\": %d", listener, fd, own.ss_family, here, own_port, there, port);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static void accept_one(struct worker *w, int listener) {
    if (!herd) { take(w, listener); return; }
    pthread_barrier_wait(&meet);
    int turn = herds % WORKERS;
    if (turn == w->number) take(w, listener);
    pthread_barrier_wait(&meet);
    if (turn != w->number) take(w, listener);
    if (pthread_barrier_wait(&meet) == PTHREAD_BARRIER_SERIAL_THREAD) herds++;
    pthread_barrier_wait(&meet);
}

static void serve(struct worker *w, int fd) {
    char data[4096];
    ssize_t got = read(fd, data, sizeof(data));
    if (got > 0) {
        if (write(fd, data, got) != got) fail("write");
        note(w, "\"did\": \"echo\", \"fd\": %d, \"bytes\": %zd", fd, got);
    } else if (got == 0) {
        note(w, "\"did\": \"close\", \"fd\": %d", fd);
        close(fd);
    } else if (errno != EAGAIN) fail("read");
}

static void *work(void *argument) {
    struct worker *w = argument;
    char name[16];
    snprintf(name, sizeof(name), "wrk:worker_%d", w->number);
    prctl(PR_SET_NAME, name);
    w->tid = syscall(SYS_gettid);
    w->epoll = epoll_create1(0);
    for (int i = 0; i < LISTENERS; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = w->listener[i]};
        if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->listener[i], &event)) fail("epoll_ctl");
    }
    pthread_barrier_wait(&ready);
    for (;;) {
        struct epoll_event events[16];
        int count = epoll_wait(w->epoll, events, 16, -1);
        if (count < 0) fail("epoll_wait");
        note(w, "\"did\": \"wait\", \"epoll\": %d, \"events\": %d", w->epoll, count);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            note(w, "\"did\": \"callback\", \"fd\": %d, \"events\": %u", fd, events[i].events);
            assign_events(fd, events[i].events);
            int listens = 0;
            for (int l = 0; l < LISTENERS; l++) listens |= fd == w->listener[l];
            if (listens) accept_one(w, fd);
            else serve(w, fd);
        }
    }
    return 0;
}

static int listening(int family, int port, int six_only) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &six_only, sizeof(six_only));
    int failed = family == AF_INET6 ? bind(fd, (void *)&six, sizeof(six)) : bind(fd, (void *)&four, sizeof(four));
    if (failed || listen(fd, 64)) fail("listen");
    return fd;
}

int main(int count, char **argument) {
    if (count != 4) { fputs("usage: epoll_server PORT DUAL_PORT herd|race\n", stderr); return 2; }
    int port = atoi(argument[1]);
    sockets[0] = listening(AF_INET, port, 0);
    sockets[1] = listening(AF_INET6, port, 1);
    sockets[2] = listening(AF_INET6, atoi(argument[2]), 0);
    herd = !strcmp(argument[3], "herd");
    pthread_barrier_init(&ready, 0, WORKERS + 1);
    pthread_barrier_init(&meet, 0, WORKERS);
    for (int i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        for (int l = 0; l < LISTENERS; l++) workers[i].listener[l] = fcntl(sockets[l], F_DUPFD, 36 + 4 * i + l);
        if (pthread_create(&workers[i].thread, 0, work, &workers[i])) fail("pthread_create");
    }
    pthread_barrier_wait(&ready);
    printf("{\"pid\": %d, \"workers\": [", getpid());
    for (int i = 0; i < WORKERS; i++) {
        struct worker *w = &workers[i];
        printf("%s{\"tid\": %d, \"epoll\": %d, \"listeners\": [%d, %d, %d]}", i ? ", " : "", w->tid, w->epoll,
               w->listener[0], w->listener[1], w->listener[2]);
    }
    puts("]}");
    fflush(stdout);
    char ignored[16];
    while (read(0, ignored, sizeof(ignored)) > 0) {}
    for (int i = 0; i < WORKERS; i++)
        for (int l = 0; l < workers[i].lines; l++) puts(workers[i].line[l].text);
    fflush(stdout);
    _exit(0);
}
