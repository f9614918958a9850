/* A wall clock that jumps: preloaded, it adds to the time of day, in turn, each of the seconds in
   FAULT_CLOCK ("86400,-86400"), for FAULT_CLOCK_MS milliseconds each. Monotonic clocks go on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);

static long now(void) {
    struct timespec at;
    const char *jumps = getenv("FAULT_CLOCK"), *every = getenv("FAULT_CLOCK_MS");
    if (!jumps || !real) return 0;
    real(CLOCK_MONOTONIC, &at);
    long turn = (at.tv_sec * 1000 + at.tv_nsec / 1000000) / (every ? atol(every) : 100);
    long offsets[16];
    int count = 0;
    for (char *end; count < 16 && *jumps; jumps = *end == ',' ? end + 1 : end) {
        offsets[count++] = strtol(jumps, &end, 10);
        if (end == jumps) break;
    }
    return count ? offsets[turn % count] : 0;
}

int clock_gettime(clockid_t which, struct timespec *at) {
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, at);
    if (!failed && which == CLOCK_REALTIME) at->tv_sec += now();
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    at->tv_sec = precise.tv_sec;
    at->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *at) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (at) *at = precise.tv_sec;
    return precise.tv_sec;
}
