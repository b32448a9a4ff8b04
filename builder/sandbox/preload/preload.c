/*
 * This library is loaded before the C library into every dynamic program of a sandbox (ld.so(8), /etc/ld.so.preload).
 * It makes up the date and the inode numbers that the program reads. The kernel tells the time without a system call,
 * so nothing outside the program could make it up.
 *
 * The real-time clock is moved by `shift`. Times of files that were made in this run are moved alike, so that a file
 * that a program has just written is new to it. Times that a program sets are moved back, so that they read as they
 * were set (see "files"). Inode and device numbers are changed by a key, and values that depend on the kind of the disk
 * are made up.
 *
 * Calls to the kernel inside the C library (nftw(3), fts(3), getdate(3)), and those of programs that do not use it, get
 * the kernel's own answers.
 *
 * The library needs no header of the C library, and only the symbols that are declared below. glibc has them since
 * 2.34; preload.rs checks that.
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

/* The sandbox finds these by their first word, and overwrites them (preload.rs). */
static const volatile struct {
	char mark[16];
	/* Seconds by which the clock is ahead. */
	long shift;
	/* When the run begins, by the kernel's clock. Files with older times were not made in this run. */
	long begin;
	/* The keys that inode numbers and device numbers are XORed with. */
	unsigned long file, disk;
} settings = { "hab-sandbox-set", 0, 0, 0, 0 };

int *__errno_location(void);
void *dlsym(void *, const char *);
#define NEXT ((void *)-1)

enum { REALTIME = 0, MONOTONIC = 1, REALTIME_COARSE = 5, REALTIME_ALARM = 8, TAI = 11 };
enum { INVALID = 22, NO_CALL = 38 };
/* A flag of clock_nanosleep(2) and similar calls: the time is one to wait until, not a span. */
enum { ABSOLUTE = 1 };
/* utimensat(2) */
enum { NOW = 0x3fffffff, OMIT = 0x3ffffffe };
enum { BLOCK = 4096 };

#if defined(__x86_64__)
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long fourth __asm__("r10") = d;
	register long fifth __asm__("r8") = e;
	register long sixth __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(result)
		: "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth) : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0"
		: "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
#error "hab-sandbox supports x86-64 and aarch64 only"
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

/* ---- the C library's own functions ---- */

static struct {
	int (*clock_gettime)(int, timespec *);
	int (*clock_nanosleep)(int, int, const timespec *, timespec *);
	int (*timer_settime)(void *, int, const timespec *, timespec *);
	int (*pthread_cond_timedwait)(void *, void *, const timespec *);
	int (*pthread_cond_clockwait)(void *, void *, int, const timespec *);
	int (*cnd_timedwait)(void *, void *, const timespec *);
	int (*pthread_mutex_timedlock)(void *, const timespec *);
	int (*pthread_mutex_clocklock)(void *, int, const timespec *);
	int (*mtx_timedlock)(void *, const timespec *);
	int (*pthread_rwlock_timedrdlock)(void *, const timespec *);
	int (*pthread_rwlock_clockrdlock)(void *, int, const timespec *);
	int (*pthread_rwlock_timedwrlock)(void *, const timespec *);
	int (*pthread_rwlock_clockwrlock)(void *, int, const timespec *);
	int (*pthread_timedjoin_np)(unsigned long, void **, const timespec *);
	int (*pthread_clockjoin_np)(unsigned long, void **, int, const timespec *);
	int (*sem_timedwait)(void *, const timespec *);
	int (*sem_clockwait)(void *, int, const timespec *);
} library;

#define LOOK_UP(name) (*(void **)&library.name = dlsym(NEXT, #name))

/* Runs before any other constructor, as build.rs tells the linker: a signal handler may not call dlsym(3). */
__attribute__((constructor)) static void look_up(void)
{
	LOOK_UP(clock_gettime);
	LOOK_UP(clock_nanosleep);
	LOOK_UP(timer_settime);
	LOOK_UP(pthread_cond_timedwait);
	LOOK_UP(pthread_cond_clockwait);
	LOOK_UP(cnd_timedwait);
	LOOK_UP(pthread_mutex_timedlock);
	LOOK_UP(pthread_mutex_clocklock);
	LOOK_UP(mtx_timedlock);
	LOOK_UP(pthread_rwlock_timedrdlock);
	LOOK_UP(pthread_rwlock_clockrdlock);
	LOOK_UP(pthread_rwlock_timedwrlock);
	LOOK_UP(pthread_rwlock_clockwrlock);
	LOOK_UP(pthread_timedjoin_np);
	LOOK_UP(pthread_clockjoin_np);
	LOOK_UP(sem_timedwait);
	LOOK_UP(sem_clockwait);
}

/* ---- the clock ---- */

static int is_moved(int clock)
{
	return clock == REALTIME || clock == REALTIME_COARSE || clock == REALTIME_ALARM || clock == TAI;
}

SHOWN int clock_gettime(int clock, timespec *to)
{
	/* The C library's function needs no system call. A program's ifunc may call this before any constructor has run. */
	int result = library.clock_gettime ? library.clock_gettime(clock, to)
		: (int)said(call(__NR_clock_gettime, clock, P(to), 0, 0, 0, 0));
	if (result == 0 && is_moved(clock))
		to->tv_sec += settings.shift;
	return result;
}

SHOWN int gettimeofday(struct timeval *to, void *zone)
{
	timespec now;
	if (zone)
		((int *)zone)[0] = ((int *)zone)[1] = 0;
	if (to) {
		if (clock_gettime(REALTIME, &now))
			return -1;
		to->tv_sec = now.tv_sec;
		to->tv_usec = now.tv_nsec / 1000;
	}
	return 0;
}

int __gettimeofday(struct timeval *, void *) SAME_AS(gettimeofday);

/* sys/timeb.h */
struct timeb { long time; unsigned short millitm; short timezone, dstflag; };

SHOWN int ftime(struct timeb *to)
{
	timespec now = { 0, 0 };
	clock_gettime(REALTIME, &now);
	*to = (struct timeb){ now.tv_sec, (unsigned short)(now.tv_nsec / 1000000), 0, 0 };
	return 0;
}

SHOWN long time(long *to)
{
	timespec now = { 0, 0 };
	/* Like the kernel's time(2), this is never ahead of the times of files. */
	clock_gettime(REALTIME_COARSE, &now);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}

SHOWN int timespec_get(timespec *to, int base)
{
	return base == 1 && clock_gettime(REALTIME, to) == 0 ? base : 0;
}

/* ---- waiting until a time ---- */

/*
 * The time on the kernel's clock; null stays null. Times before the run began are left alone: on the real-time clock
 * they are past whether moved or not, and on a clock that starts with the machine every time is that small. So nobody
 * needs to know which clock a condition or a timer uses.
 */
static const timespec *unmoved(int clock, const timespec *until, timespec *real)
{
	if (!until || !is_moved(clock) || until->tv_sec < settings.begin)
		return until;
	*real = *until;
	real->tv_sec -= settings.shift;
	return real;
}

/* Each calls the C library's function of the same name, because others, such as ThreadSanitizer, watch that. */
#define REAL(clock) unmoved(clock, until, &real)
#define HAND_ON(name, ...) \
	timespec real; \
	return library.name ? library.name(__VA_ARGS__) : NO_CALL

SHOWN int pthread_cond_timedwait(void *condition, void *mutex, const timespec *until)
{
	HAND_ON(pthread_cond_timedwait, condition, mutex, REAL(REALTIME));
}

SHOWN int pthread_cond_clockwait(void *condition, void *mutex, int clock, const timespec *until)
{
	HAND_ON(pthread_cond_clockwait, condition, mutex, clock, REAL(clock));
}

SHOWN int cnd_timedwait(void *condition, void *mutex, const timespec *until)
{
	HAND_ON(cnd_timedwait, condition, mutex, REAL(REALTIME));
}

SHOWN int pthread_mutex_timedlock(void *mutex, const timespec *until)
{
	HAND_ON(pthread_mutex_timedlock, mutex, REAL(REALTIME));
}

SHOWN int pthread_mutex_clocklock(void *mutex, int clock, const timespec *until)
{
	HAND_ON(pthread_mutex_clocklock, mutex, clock, REAL(clock));
}

SHOWN int mtx_timedlock(void *mutex, const timespec *until)
{
	HAND_ON(mtx_timedlock, mutex, REAL(REALTIME));
}

SHOWN int pthread_rwlock_timedrdlock(void *lock, const timespec *until)
{
	HAND_ON(pthread_rwlock_timedrdlock, lock, REAL(REALTIME));
}

SHOWN int pthread_rwlock_clockrdlock(void *lock, int clock, const timespec *until)
{
	HAND_ON(pthread_rwlock_clockrdlock, lock, clock, REAL(clock));
}

SHOWN int pthread_rwlock_timedwrlock(void *lock, const timespec *until)
{
	HAND_ON(pthread_rwlock_timedwrlock, lock, REAL(REALTIME));
}

SHOWN int pthread_rwlock_clockwrlock(void *lock, int clock, const timespec *until)
{
	HAND_ON(pthread_rwlock_clockwrlock, lock, clock, REAL(clock));
}

SHOWN int pthread_timedjoin_np(unsigned long thread, void **result, const timespec *until)
{
	HAND_ON(pthread_timedjoin_np, thread, result, REAL(REALTIME));
}

SHOWN int pthread_clockjoin_np(unsigned long thread, void **result, int clock, const timespec *until)
{
	HAND_ON(pthread_clockjoin_np, thread, result, clock, REAL(clock));
}

SHOWN int sem_timedwait(void *semaphore, const timespec *until)
{
	timespec real;
	return library.sem_timedwait ? library.sem_timedwait(semaphore, REAL(REALTIME)) : (int)said(-NO_CALL);
}

SHOWN int sem_clockwait(void *semaphore, int clock, const timespec *until)
{
	timespec real;
	return library.sem_clockwait ? library.sem_clockwait(semaphore, clock, REAL(clock)) : (int)said(-NO_CALL);
}

/* This calls the C library's function, because a thread can be cancelled in there. */
SHOWN int clock_nanosleep(int clock, int flags, const timespec *until, timespec *left)
{
	timespec real;
	const timespec *time = flags & ABSOLUTE ? REAL(clock) : until;
	return library.clock_nanosleep ? library.clock_nanosleep(clock, flags, time, left)
		: (int)-call(__NR_clock_nanosleep, clock, flags, P(time), P(left), 0, 0);
}

/* The period, and the time when it first ends. */
static const timespec *first_end(int flags, const timespec new[2], timespec real[2])
{
	if (!(flags & ABSOLUTE) || !new || new[1].tv_sec < settings.begin)
		return new;
	real[0] = new[0];
	unmoved(REALTIME, &new[1], &real[1]);
	return real;
}

SHOWN int timerfd_settime(int timer, int flags, const timespec new[2], timespec old[2])
{
	timespec real[2];
	return (int)said(call(__NR_timerfd_settime, timer, flags, P(first_end(flags, new, real)), P(old), 0, 0));
}

SHOWN int timer_settime(void *timer, int flags, const timespec new[2], timespec old[2])
{
	timespec real[2];
	return library.timer_settime ? library.timer_settime(timer, flags, first_end(flags, new, real), old)
		: (int)said(-NO_CALL);
}

/* ---- files ---- */

/*
 * How a time that the kernel stores is shown to a program, so that each reads as it was set, and the order stays:
 *
 *   before the run began                      the same
 *   from then on, by the kernel's clock       `shift` later
 *
 * So a program could not set a time between the beginning and `shift` after it, such as "an hour ago". A time that is
 * set there is stored `shift` earlier. Its nanoseconds end in MARK, to tell it from times that are really that old; it
 * reads as whole microseconds. Other times in that range do not end in MARK.
 */
enum { MARK = 733, MICRO = 1000 };

static int is_kept_earlier(long seconds)
{
	return seconds >= settings.begin - settings.shift && seconds < settings.begin;
}

static int is_marked(long seconds, unsigned long nanoseconds)
{
	return is_kept_earlier(seconds) && nanoseconds % MICRO == MARK;
}

static long shown(long seconds, unsigned long nanoseconds)
{
	int moved = seconds >= settings.begin || is_marked(seconds, nanoseconds);
	return moved ? seconds + settings.shift : seconds;
}

static unsigned long shown_rest(long seconds, unsigned long nanoseconds)
{
	return is_marked(seconds, nanoseconds) ? nanoseconds - MARK : nanoseconds;
}

/* The time to store for a time that a program sets. Past the disk's last time, in 2446 on ext4, none reads as set. */
static timespec kept(timespec time)
{
	if (time.tv_nsec == NOW || time.tv_nsec == OMIT || settings.shift == 0)
		return time;
	if (time.tv_sec >= settings.begin + settings.shift) {
		time.tv_sec -= settings.shift;
	} else if (time.tv_sec >= settings.begin) {
		time.tv_sec -= settings.shift;
		time.tv_nsec = time.tv_nsec / MICRO * MICRO + MARK;
	} else if (is_marked(time.tv_sec, (unsigned long)time.tv_nsec)) {
		time.tv_nsec--;
	}
	return time;
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

/* The devices in a normal user's sandbox are the host's, which were made when the host started. */
static int is_device(unsigned mode)
{
	return (mode & S_IFMT) == S_IFCHR || (mode & S_IFMT) == S_IFBLK;
}

/* The types are those of `struct stat`, of which some are unsigned on x86-64 and signed on aarch64. */
static void move(__typeof__(((struct stat *)0)->st_mtime) *seconds, __typeof__(((struct stat *)0)->st_mtime_nsec) *rest)
{
	long was = (long)*seconds;
	*seconds = shown(was, *rest);
	*rest = shown_rest(was, *rest);
}

static int show(long result, struct stat *stat)
{
	if (result < 0)
		return (int)said(result);
	stat->st_ino ^= settings.file;
	stat->st_dev ^= settings.disk;
	if (is_device(stat->st_mode)) {
		stat->st_atime = stat->st_mtime = stat->st_ctime = 0;
		stat->st_atime_nsec = stat->st_mtime_nsec = stat->st_ctime_nsec = 0;
	} else {
		/* When a file older than the run was last read differs from day to day, and not every disk records it. */
		if ((long)stat->st_ctime < settings.begin) {
			stat->st_atime = stat->st_mtime;
			stat->st_atime_nsec = stat->st_mtime_nsec;
		}
		move(&stat->st_atime, &stat->st_atime_nsec);
		move(&stat->st_mtime, &stat->st_mtime_nsec);
		/* No program can set the time of change. */
		stat->st_ctime += settings.shift;
	}
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
	return show(call(__NR_newfstatat, folder, P(path), P(to), flags, 0, 0), to);
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
	return show(call(__NR_fstat, file, P(to), 0, 0, 0, 0), to);
}

/* Programs that were linked with a glibc before 2.33 call these. */
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

static void move_extended(struct statx_timestamp *time)
{
	long was = time->tv_sec;
	time->tv_sec = shown(was, time->tv_nsec);
	time->tv_nsec = (unsigned)shown_rest(was, time->tv_nsec);
}

static int show_extended(long result, struct statx *to)
{
	if (result < 0)
		return (int)said(result);
	to->stx_ino ^= settings.file;
	to->stx_dev_minor ^= (unsigned)settings.disk;
	if (is_device(to->stx_mode)) {
		to->stx_atime = to->stx_mtime = to->stx_ctime = (struct statx_timestamp){ 0 };
	} else {
		if (to->stx_ctime.tv_sec < settings.begin)
			to->stx_atime = to->stx_mtime;
		move_extended(&to->stx_atime);
		move_extended(&to->stx_mtime);
		to->stx_ctime.tv_sec += settings.shift;
	}
	/* Not every disk stores the time of creation. */
	to->stx_mask &= ~STATX_BTIME;
	to->stx_btime = (struct statx_timestamp){ 0 };
	if (is_folder(to->stx_mode)) {
		to->stx_size = BLOCK;
		to->stx_nlink = 1;
	}
	to->stx_blksize = BLOCK;
	to->stx_blocks = has_blocks(to->stx_mode) ? full_blocks(to->stx_size) : 0;
	return 0;
}

SHOWN int statx(int folder, const char *path, int flags, unsigned mask, struct statx *to)
{
	return show_extended(call(__NR_statx, folder, P(path), flags, mask, P(to), 0), to);
}

static int set_times(int folder, const char *path, const timespec times[2], int flags)
{
	timespec real[2];
	for (int which = 0; times && which < 2; which++)
		real[which] = kept(times[which]);
	return (int)said(call(__NR_utimensat, folder, P(path), times ? P(real) : 0, flags, 0, 0));
}

SHOWN int utimensat(int folder, const char *path, const timespec times[2], int flags)
{
	/* Without a path, the kernel would set the times of the folder itself. */
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

/* ---- system calls by number, as cargo, node and C++'s futures make them ---- */

/* linux/futex.h: a time is on the real-time clock if the flag is set, and always for the oldest kind of lock. */
enum { FUTEX_LOCK_PI = 6, FUTEX_WAIT_BITSET = 9, FUTEX_WAIT_REQUEUE_PI = 11, FUTEX_LOCK_PI2 = 13 };
enum { FUTEX_COMMAND = 127, FUTEX_REALTIME = 256 };

static int waits_until(long operation)
{
	long command = operation & FUTEX_COMMAND;
	if (command == FUTEX_LOCK_PI)
		return 1;
	return operation & FUTEX_REALTIME
		&& (command == FUTEX_WAIT_BITSET || command == FUTEX_WAIT_REQUEUE_PI || command == FUTEX_LOCK_PI2);
}

SHOWN long syscall(long number, long a, long b, long c, long d, long e, long f)
{
	timespec real, both[2];
	switch (number) {
	case __NR_clock_gettime:
		return clock_gettime((int)a, (timespec *)b);
	case __NR_gettimeofday:
		return gettimeofday((struct timeval *)a, (void *)b);
#ifdef __NR_time
	case __NR_time:
		return time((long *)a);
#endif
#ifdef __NR_stat
	case __NR_stat:
		return stat((const char *)a, (struct stat *)b);
	case __NR_lstat:
		return lstat((const char *)a, (struct stat *)b);
	case __NR_utime:
		return utime((const char *)a, (const struct utimbuf *)b);
	case __NR_utimes:
		return utimes((const char *)a, (const struct timeval *)b);
	case __NR_futimesat:
		return futimesat((int)a, (const char *)b, (const struct timeval *)c);
#endif
	case __NR_fstat:
		return fstat((int)a, (struct stat *)b);
	case __NR_newfstatat:
		return fstatat((int)a, (const char *)b, (struct stat *)c, (int)d);
	case __NR_statx:
		return statx((int)a, (const char *)b, (int)c, (unsigned)d, (struct statx *)e);
	case __NR_utimensat:
		return set_times((int)a, (const char *)b, (const timespec *)c, (int)d);
	case __NR_futex:
		if (waits_until(b))
			d = P(unmoved(REALTIME, (const timespec *)d, &real));
		break;
	case __NR_futex_waitv:
		d = P(unmoved((int)e, (const timespec *)d, &real));
		break;
	case __NR_clock_nanosleep:
		if (b & ABSOLUTE)
			c = P(unmoved((int)a, (const timespec *)c, &real));
		break;
	case __NR_timerfd_settime:
	case __NR_timer_settime:
		c = P(first_end((int)b, (const timespec *)c, both));
		break;
	}
	return said(call(number, a, b, c, d, e, f));
}
