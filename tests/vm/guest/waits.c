/* Threads that wait for each other in three ways, from functions whose names a stack shows.
 *
 * waits ROUNDS
 * Prints its pid, starts when a line comes on standard input, prints another line when all rounds are done, and stays
 * until standard input ends: whoever wants to name its functions needs it alive. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DEEP __attribute__((noinline, noclone))
#define NOT_A_TAIL_CALL __asm__ volatile("")

static int rounds, ends[2], pair[2];
static sem_t semaphore;

static void fail(const char *what) { perror(what); exit(1); }
DEEP void after_ms(int ms) {
    struct timespec time = {.tv_nsec = ms * 1000000L};
    nanosleep(&time, 0);
    NOT_A_TAIL_CALL;
}

DEEP void wait_pipe(void) { char byte; if (read(ends[0], &byte, 1) != 1) fail("read"); NOT_A_TAIL_CALL; }
DEEP void wake_pipe(void) { if (write(ends[1], "x", 1) != 1) fail("write"); NOT_A_TAIL_CALL; }
DEEP void wait_socket(void) { char byte; if (recv(pair[0], &byte, 1, 0) != 1) fail("recv"); NOT_A_TAIL_CALL; }
DEEP void wake_socket(void) { if (send(pair[1], "x", 1, 0) != 1) fail("send"); NOT_A_TAIL_CALL; }
DEEP void wait_semaphore(void) { if (sem_wait(&semaphore)) fail("sem_wait"); NOT_A_TAIL_CALL; }
DEEP void wake_semaphore(void) { if (sem_post(&semaphore)) fail("sem_post"); NOT_A_TAIL_CALL; }

struct role { void (*wait)(void), (*wake)(void); int ms; };
static struct role roles[] = {
    {wait_pipe, wake_pipe, 23}, {wait_socket, wake_socket, 41}, {wait_semaphore, wake_semaphore, 61},
};

static void *waiter(void *argument) {
    for (int i = 0; i < rounds; i++) ((struct role *)argument)->wait();
    return 0;
}
static void *waker(void *argument) {
    struct role *role = argument;
    for (int i = 0; i < rounds; i++) { after_ms(role->ms); role->wake(); }
    return 0;
}

int main(int count, char **argument) {
    if (count != 2) { fputs("usage: waits ROUNDS\n", stderr); return 2; }
    rounds = atoi(argument[1]);
    if (pipe(ends) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || sem_init(&semaphore, 0, 0)) fail("setting up");
    printf("%d\n", getpid());
    fflush(stdout);
    char line[16];
    if (read(0, line, sizeof(line)) <= 0) return 0;
    pthread_t threads[6];
    for (int i = 0; i < 3; i++) {
        if (pthread_create(&threads[2 * i], 0, waiter, &roles[i])) fail("pthread_create");
        if (pthread_create(&threads[2 * i + 1], 0, waker, &roles[i])) fail("pthread_create");
    }
    for (int i = 0; i < 6; i++) pthread_join(threads[i], 0);
    puts("done");
    fflush(stdout);
    while (read(0, line, sizeof(line)) > 0) {}
    return 0;
}
