/* A system time that is wrong: every half second it jumps, to a day behind, the right time, a day ahead, and back.
   Loaded into a program by LD_PRELOAD. The monotonic clocks go on as they do when an administrator or NTP sets the time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

typedef int (*clock_reader)(clockid_t, struct timespec *);

static int read_clock(clockid_t clock, struct timespec *now) {
    static clock_reader right;
    if (!right) right = (clock_reader)dlsym(RTLD_NEXT, "clock_gettime");
    return right(clock, now);
}

static time_t days_wrong(void) {
    struct timespec since_boot;
    read_clock(CLOCK_MONOTONIC, &since_boot);
    return (since_boot.tv_sec * 2 + since_boot.tv_nsec / 500000000) % 3 - 1;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = read_clock(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += 86400 * days_wrong();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *place) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (place) *place = exact.tv_sec;
    return exact.tv_sec;
}
