/* Fires USDT probes whose arguments have every form that x86-64 has for them, and prints their values.

   The notes are as <sys/sdt.h> makes them, written out here so that that header is not needed.

   noted FILE       run at once
   noted FILE wait  run when there is something on standard input, then wait until nobody listens any more
   Prints to FILE a line for each demo:values. Exits with the semaphore of demo:guarded. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define NOTE(NAME, SEMAPHORE, ARGUMENTS) \
    "990: nop\n" \
    ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n992: .balign 4\n" \
    "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " SEMAPHORE "\n" \
    ".asciz \"demo\"\n.asciz \"" NAME "\"\n.asciz \"" ARGUMENTS "\"\n994: .balign 4\n.popsection\n" \
    ".ifndef _.stapsdt.base\n.pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n" \
    ".popsection\n.endif\n"
#ifndef CALLS
#define CALLS 500
#endif
#define KEEP __attribute__((noinline, noclone))
#define ALL "-4@%[a] 8@%[b] -4@%[c] -2@(%[base],%[index],2) -4@beside+4(%%rip) 8@%[text] 1@%h[high] 4@%[u] -8@%[d]" \
            " 4@8(%[none]) 1@-1(%[end]) 8f@%%xmm0"
#define FIRE(WHERE, CONSTANT) \
    asm volatile(NOTE("values", "0", ALL) :: [a] WHERE(a), [b] "m"(b), [c] "i"(CONSTANT), [base] "r"(shorts), \
        [index] "r"(i % 4), [text] "r"(text), [high] "Q"((int)(high << 8)), [u] WHERE(u), [d] "r"(d), \
        [none] "r"(0L), [end] "r"(text + 1)); \
    print(out, CONSTANT, a, b, shorts[i % 4], text, high, u, d)
short shorts[4] = {-1, 2, -30000, 30000};
int beside[2] = {1, 4711};
unsigned short guarded_semaphore __attribute__((section(".probes"), used));
static void print(FILE *out, int c, int a, long b, short s, const char *text, unsigned char high, unsigned u, long d) {
    fprintf(out, "%d %ld %d %d %d %s %d %u %ld %d\n", a, b, c, s, beside[1], text, high, u, d, text[0]);
}
static inline __attribute__((always_inline)) void guarded(long i) {
    if (__builtin_expect(*(volatile unsigned short *)&guarded_semaphore, 0))
        asm volatile(NOTE("guarded", "guarded_semaphore", "8@%0") :: "nor"(i));
}
KEEP void first(FILE *out, long i, int a, long b, const char *text, unsigned char high, unsigned u, long d) {
    FIRE("r", -5);
    guarded(i);
}
KEEP void second(FILE *out, long i, int a, long b, const char *text, unsigned char high, unsigned u, long d) {
    FIRE("m", 7);
    guarded(-i);
}
int main(int argc, char **argv) {
    if (argc == 3) getchar();
    FILE *out = fopen(argv[1], "w");
    for (long i = 0; i < CALLS; i++) {
        (i % 3 ? first : second)(out, i, (int)-i, i << 40, i % 2 ? "odd" : "even", i, ~(unsigned)i, -(i << 33));
    }
    fclose(out);
    while (argc == 3 && *(volatile unsigned short *)&guarded_semaphore) usleep(1000);
    return *(volatile unsigned short *)&guarded_semaphore;
}
