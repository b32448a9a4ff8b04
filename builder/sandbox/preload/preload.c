/*
 * Loaded before the C library into every dynamic program of a sandbox (ld.so(8), /etc/ld.so.preload): what such a
 * program reads of the date and of its files' numbers is what the sandbox says. The kernel tells the time without a
 * system call, so nothing outside the program could answer for it.
 *
 * The real-time clock is moved by `shift`. Times of files that were made in this run are moved alike, so that a program
 * finds a file that it has just written to be new; and times that a program sets are moved back. Numbers of files and
 * disks are changed by a key, and what depends on the kind of the disk is made up.
 *
 * It needs no header and no symbol of the C library but the two kinds declared below, so it loads beside any.
 */
#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <linux/time_types.h>

#define SHOWN __attribute__((visibility("default")))
#define SAME_AS(name) SHOWN __attribute__((alias(#name)))

typedef struct __kernel_timespec timespec;
struct timeval { long tv_sec, tv_usec; };
struct utimbuf { long actime, modtime; };

/* Written over by the sandbox, which looks for the first word (preload.rs). */
static const volatile struct {
	char mark[16];
	/* Seconds by which the clock is ahead. */
	long shift;
	/* When the run begins, by the kernel's clock: older times of files are not this run's. */
	long begin;
	/* What the numbers of files and of disks are changed by. */
	unsigned long file, disk;
} settings = { "hab-sandbox-set", 0, 0, 0, 0 };

/* glibc, musl */
int *__errno_location(void);
/* glibc 2.31; without them a wait until a time on the moved clock is refused. */
#define WEAK __attribute__((weak))
WEAK int pthread_cond_clockwait(void *, void *, int, const timespec *);
WEAK int pthread_mutex_clocklock(void *, int, const timespec *);
WEAK int pthread_rwlock_clockrdlock(void *, int, const timespec *);
WEAK int pthread_rwlock_clockwrlock(void *, int, const timespec *);
WEAK int pthread_clockjoin_np(unsigned long, void **, int, const timespec *);
WEAK int sem_clockwait(void *, int, const timespec *);

enum { REALTIME = 0, MONOTONIC = 1, REALTIME_COARSE = 5, REALTIME_ALARM = 8, TAI = 11 };
enum { INVALID = 22, NO_CALL = 38 };
/* utimensat(2) */
enum { NOW = 0x3fffffff, OMIT = 0x3ffffffe };
enum { BLOCK = 4096 };
/* What is later is of the real-time clock, what is earlier of one that starts with the machine. */
static const long THIRTY_YEARS = 1000000000;

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e)
{
	long result;
	register long fourth __asm__("r10") = d;
	register long fifth __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(result)
		: "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth) : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
#else
#error "farms are x86-64 and aarch64"
#endif

#define P(pointer) ((long)(pointer))

static long said(long result)
{
	if (result < 0 && result > -4096) {
		*__errno_location() = (int)-result;
		return -1;
	}
	return result;
}

/* ---- the clock ---- */

static int is_moved(int clock)
{
	return clock == REALTIME || clock == REALTIME_COARSE || clock == REALTIME_ALARM || clock == TAI;
}

static long read_clock(int clock, timespec *to)
{
	long result = call(__NR_clock_gettime, clock, P(to), 0, 0, 0);
	if (result == 0 && is_moved(clock))
		to->tv_sec += settings.shift;
	return result;
}

SHOWN int clock_gettime(int clock, timespec *to)
{
	return (int)said(read_clock(clock, to));
}

SHOWN int gettimeofday(struct timeval *to, void *zone)
{
	timespec now;
	if (zone)
		((int *)zone)[0] = ((int *)zone)[1] = 0;
	if (to) {
		long result = read_clock(REALTIME, &now);
		if (result < 0)
			return (int)said(result);
		to->tv_sec = now.tv_sec;
		to->tv_usec = now.tv_nsec / 1000;
	}
	return 0;
}

SHOWN long time(long *to)
{
	timespec now = { 0, 0 };
	/* As the kernel's time(2) is: not ahead of what files get. */
	read_clock(REALTIME_COARSE, &now);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}

SHOWN int timespec_get(timespec *to, int base)
{
	return base == 1 && read_clock(REALTIME, to) == 0 ? base : 0;
}

/* ---- waiting until a time ---- */

/* The time on the kernel's clocks, and which of them it is on. */
static int unmoved(const timespec *until, timespec *real)
{
	*real = *until;
	if (until->tv_sec < THIRTY_YEARS)
		return MONOTONIC;
	real->tv_sec -= settings.shift;
	return REALTIME;
}

#define UNTIL(wait, ...) do { \
	timespec real; \
	if (!wait) \
		return NO_CALL; \
	if (!until) \
		return INVALID; \
	int clock = unmoved(until, &real); \
	return wait(__VA_ARGS__, clock, &real); \
} while (0)

SHOWN int pthread_cond_timedwait(void *condition, void *mutex, const timespec *until)
{
	UNTIL(pthread_cond_clockwait, condition, mutex);
}

SHOWN int pthread_mutex_timedlock(void *mutex, const timespec *until)
{
	UNTIL(pthread_mutex_clocklock, mutex);
}

SHOWN int pthread_rwlock_timedrdlock(void *lock, const timespec *until)
{
	UNTIL(pthread_rwlock_clockrdlock, lock);
}

SHOWN int pthread_rwlock_timedwrlock(void *lock, const timespec *until)
{
	UNTIL(pthread_rwlock_clockwrlock, lock);
}

SHOWN int pthread_timedjoin_np(unsigned long thread, void **result, const timespec *until)
{
	timespec real;
	if (!pthread_clockjoin_np)
		return NO_CALL;
	/* Without a time it waits for ever. */
	int clock = until ? unmoved(until, &real) : REALTIME;
	return pthread_clockjoin_np(thread, result, clock, until ? &real : 0);
}

SHOWN int sem_timedwait(void *semaphore, const timespec *until)
{
	timespec real;
	if (!sem_clockwait || !until)
		return (int)said(-(sem_clockwait ? INVALID : NO_CALL));
	int clock = unmoved(until, &real);
	return sem_clockwait(semaphore, clock, &real);
}

SHOWN int clock_nanosleep(int clock, int flags, const timespec *until, timespec *left)
{
	timespec real = *until;
	if (flags && is_moved(clock))
		real.tv_sec -= settings.shift;
	return (int)-call(__NR_clock_nanosleep, clock, flags, P(&real), P(left), 0);
}

SHOWN int timerfd_settime(int timer, int flags, const timespec new[2], timespec old[2])
{
	/* The period, and when it first ends: on whatever clock the timer was made with. */
	timespec real[2] = { new[0], new[1] };
	if (flags)
		unmoved(&new[1], &real[1]);
	return (int)said(call(__NR_timerfd_settime, timer, flags, P(real), P(old), 0));
}

/* ---- files ---- */

static long shown(long seconds)
{
	return seconds >= settings.begin ? seconds + settings.shift : seconds;
}

static long full_blocks(unsigned long size)
{
	return (long)((size + BLOCK - 1) / BLOCK * (BLOCK / 512));
}

static int is_folder(unsigned mode)
{
	return (mode & S_IFMT) == S_IFDIR;
}

static int has_blocks(unsigned mode)
{
	return (mode & S_IFMT) == S_IFREG || is_folder(mode);
}

static int show(long result, struct stat *stat)
{
	if (result < 0)
		return (int)said(result);
	stat->st_ino ^= settings.file;
	stat->st_dev ^= settings.disk;
	stat->st_atime = shown(stat->st_atime);
	stat->st_mtime = shown(stat->st_mtime);
	/* No program can set it. */
	stat->st_ctime += settings.shift;
	if (is_folder(stat->st_mode)) {
		stat->st_size = BLOCK;
		stat->st_nlink = 1;
	}
	stat->st_blksize = BLOCK;
	stat->st_blocks = has_blocks(stat->st_mode) ? full_blocks(stat->st_size) : 0;
	return 0;
}

static int ask(int folder, const char *path, struct stat *to, int flags)
{
	return show(call(__NR_newfstatat, folder, P(path), P(to), flags, 0), to);
}

SHOWN int fstatat(int folder, const char *path, struct stat *to, int flags)
{
	return ask(folder, path, to, flags);
}

SHOWN int stat(const char *path, struct stat *to)
{
	return ask(AT_FDCWD, path, to, 0);
}

SHOWN int lstat(const char *path, struct stat *to)
{
	return ask(AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
}

SHOWN int fstat(int file, struct stat *to)
{
	return show(call(__NR_fstat, file, P(to), 0, 0, 0), to);
}

/* How programs call them that were linked with a glibc before 2.33. */
SHOWN int __fxstatat(int version, int folder, const char *path, struct stat *to, int flags)
{
	(void)version;
	return ask(folder, path, to, flags);
}

SHOWN int __xstat(int version, const char *path, struct stat *to)
{
	(void)version;
	return stat(path, to);
}

SHOWN int __lxstat(int version, const char *path, struct stat *to)
{
	(void)version;
	return lstat(path, to);
}

SHOWN int __fxstat(int version, int file, struct stat *to)
{
	(void)version;
	return fstat(file, to);
}

int fstatat64(int, const char *, struct stat *, int) SAME_AS(fstatat);
int stat64(const char *, struct stat *) SAME_AS(stat);
int lstat64(const char *, struct stat *) SAME_AS(lstat);
int fstat64(int, struct stat *) SAME_AS(fstat);
int __fxstatat64(int, int, const char *, struct stat *, int) SAME_AS(__fxstatat);
int __xstat64(int, const char *, struct stat *) SAME_AS(__xstat);
int __lxstat64(int, const char *, struct stat *) SAME_AS(__lxstat);
int __fxstat64(int, int, struct stat *) SAME_AS(__fxstat);

SHOWN int statx(int folder, const char *path, int flags, unsigned mask, struct statx *to)
{
	long result = call(__NR_statx, folder, P(path), flags, mask, P(to));
	if (result < 0)
		return (int)said(result);
	to->stx_ino ^= settings.file;
	to->stx_dev_minor ^= (unsigned)settings.disk;
	to->stx_atime.tv_sec = shown(to->stx_atime.tv_sec);
	to->stx_mtime.tv_sec = shown(to->stx_mtime.tv_sec);
	to->stx_ctime.tv_sec += settings.shift;
	/* Not every disk knows it. */
	to->stx_mask &= ~STATX_BTIME;
	to->stx_btime.tv_sec = to->stx_btime.tv_nsec = 0;
	if (is_folder(to->stx_mode)) {
		to->stx_size = BLOCK;
		to->stx_nlink = 1;
	}
	to->stx_blksize = BLOCK;
	to->stx_blocks = has_blocks(to->stx_mode) ? full_blocks(to->stx_size) : 0;
	return 0;
}

static int set_times(int folder, const char *path, const timespec times[2], int flags)
{
	timespec real[2];
	for (int which = 0; times && which < 2; which++) {
		real[which] = times[which];
		int is_time = times[which].tv_nsec != NOW && times[which].tv_nsec != OMIT;
		if (is_time && times[which].tv_sec >= settings.begin + settings.shift)
			real[which].tv_sec -= settings.shift;
	}
	return (int)said(call(__NR_utimensat, folder, P(path), times ? P(real) : 0, flags, 0));
}

SHOWN int utimensat(int folder, const char *path, const timespec times[2], int flags)
{
	/* The kernel would take the folder itself for no path. */
	return path ? set_times(folder, path, times, flags) : (int)said(-INVALID);
}

SHOWN int futimens(int file, const timespec times[2])
{
	return set_times(file, 0, times, 0);
}

static int set_times_of_values(int folder, const char *path, const struct timeval values[2], int flags)
{
	timespec times[2];
	for (int which = 0; values && which < 2; which++) {
		if (values[which].tv_usec < 0 || values[which].tv_usec > 999999)
			return (int)said(-INVALID);
		times[which].tv_sec = values[which].tv_sec;
		times[which].tv_nsec = values[which].tv_usec * 1000;
	}
	return set_times(folder, path, values ? times : 0, flags);
}

SHOWN int futimesat(int folder, const char *path, const struct timeval times[2])
{
	return set_times_of_values(folder, path, times, 0);
}

SHOWN int utimes(const char *path, const struct timeval times[2])
{
	return set_times_of_values(AT_FDCWD, path, times, 0);
}

SHOWN int lutimes(const char *path, const struct timeval times[2])
{
	return set_times_of_values(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

SHOWN int futimes(int file, const struct timeval times[2])
{
	return set_times_of_values(file, 0, times, 0);
}

SHOWN int utime(const char *path, const struct utimbuf *times)
{
	struct timeval values[2] = { { times ? times->actime : 0, 0 }, { times ? times->modtime : 0, 0 } };
	return set_times_of_values(AT_FDCWD, path, times ? values : 0, 0);
}
