/* Asks for the time and for files in every way that a program can, and says which answers do not go together. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timeb.h>
#include <sys/timerfd.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static int wrong;

static void near(const char *what, long is, long wanted)
{
	if (labs(is - wanted) > 3) {
		printf("%s: %ld is not %ld\n", what, is, wanted);
		wrong = 1;
	}
}

static void same(const char *what, long is, long wanted)
{
	if (is != wanted) {
		printf("%s: %ld is not %ld\n", what, is, wanted);
		wrong = 1;
	}
}

static struct timespec begun;

/* A twentieth of a second from now. */
static struct timespec *until(int clock)
{
	static struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &begun);
	clock_gettime(clock, &t);
	t.tv_nsec += 50000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return &t;
}

/* It waited, and until then: neither at once, nor until the test is stopped. */
static void waited(const char *what, int said, int wanted)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	long milliseconds = (now.tv_sec - begun.tv_sec) * 1000 + (now.tv_nsec - begun.tv_nsec) / 1000000;
	same(what, said, wanted);
	if (milliseconds < 40 || milliseconds > 3000) {
		printf("%s: took %ld ms\n", what, milliseconds);
		wrong = 1;
	}
}

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

static void *hold(void *x)
{
	pthread_rwlock_wrlock(&lock);
	sem_post(x);
	sleep(20);
	return x;
}

static pthread_mutex_t left = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static int cleaned;

static void clean(int *x)
{
	cleaned += *x;
}

/* What unwinding has to pass: a variable with an end, as C++ has them. */
static void *wait_for_nothing(void *x)
{
	__attribute__((cleanup(clean))) int one = 1;
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += 20;
	pthread_mutex_lock(&left);
	sem_post(x);
	pthread_cond_timedwait(&never, &left, &t);
	return x;
}

static void *nap(void *x)
{
	__attribute__((cleanup(clean))) int one = 1;
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	sem_post(x);
	for (;;) {
		t.tv_sec += 1;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
	}
	return x;
}

/* A condition, and a time that it is waited until. */
struct far {
	pthread_cond_t *condition;
	struct timespec *until;
};

static void *hold_far(void *x)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct far *far = x;
	pthread_mutex_lock(&mutex);
	return pthread_cond_timedwait(far->condition, &mutex, far->until) ? x : NULL;
}

static void waits(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition = PTHREAD_COND_INITIALIZER, monotonic;
	pthread_condattr_t attributes;
	pthread_t holder, napper;
	mtx_t plain;
	cnd_t changes;
	sem_t semaphore;
	unsigned word = 7;
	sem_init(&semaphore, 0, 0);
	pthread_mutex_lock(&mutex);
	waited("pthread_cond_timedwait", pthread_cond_timedwait(&condition, &mutex, until(CLOCK_REALTIME)), ETIMEDOUT);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&monotonic, &attributes);
	waited("the same, monotonic", pthread_cond_timedwait(&monotonic, &mutex, until(CLOCK_MONOTONIC)), ETIMEDOUT);
	for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++)
		waited("pthread_cond_clockwait",
			pthread_cond_clockwait(&condition, &mutex, clock, until(clock)), ETIMEDOUT);
	waited("pthread_mutex_timedlock", pthread_mutex_timedlock(&mutex, until(CLOCK_REALTIME)), ETIMEDOUT);
	waited("pthread_mutex_clocklock",
		pthread_mutex_clocklock(&mutex, CLOCK_REALTIME, until(CLOCK_REALTIME)), ETIMEDOUT);
	mtx_init(&plain, mtx_timed);
	cnd_init(&changes);
	mtx_lock(&plain);
	waited("cnd_timedwait", cnd_timedwait(&changes, &plain, until(CLOCK_REALTIME)), thrd_timedout);
	waited("mtx_timedlock", mtx_timedlock(&plain, until(CLOCK_REALTIME)), thrd_timedout);
	pthread_create(&holder, NULL, hold, &semaphore);
	sem_wait(&semaphore);
	waited("pthread_rwlock_timedrdlock", pthread_rwlock_timedrdlock(&lock, until(CLOCK_REALTIME)), ETIMEDOUT);
	waited("pthread_rwlock_timedwrlock", pthread_rwlock_timedwrlock(&lock, until(CLOCK_REALTIME)), ETIMEDOUT);
	waited("pthread_timedjoin_np", pthread_timedjoin_np(holder, NULL, until(CLOCK_REALTIME)), ETIMEDOUT);
	waited("sem_timedwait", sem_timedwait(&semaphore, until(CLOCK_REALTIME)) == -1 ? errno : 0, ETIMEDOUT);
	/* Further back than the clock may be ahead, and one that no clock has reached. */
	struct timespec long_ago = { 1, 0 }, far = { 0, 0 };
	clock_gettime(CLOCK_MONOTONIC, &far);
	far.tv_sec += 1 << 30;
	same("a time long ago", sem_timedwait(&semaphore, &long_ago) == -1 ? errno : 0, ETIMEDOUT);
	same("a nap until then", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &long_ago, NULL), 0);
	same("a futex until then", syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 7,
		&long_ago, NULL, -1) == -1 ? errno : 0, ETIMEDOUT);
	same("a condition until then", pthread_cond_timedwait(&condition, &mutex, &long_ago), ETIMEDOUT);
	pthread_create(&napper, NULL, hold_far, (struct far[]){ { &monotonic, &far } });
	usleep(50000);
	same("a wait until far away goes on", pthread_tryjoin_np(napper, NULL), EBUSY);
	for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++)
		waited("clock_nanosleep", clock_nanosleep(clock, TIMER_ABSTIME, until(clock), NULL), 0);
	int operation = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
	waited("futex", syscall(SYS_futex, &word, operation, 7, until(CLOCK_REALTIME), NULL, -1) == -1 ? errno : 0, ETIMEDOUT);
	int at_number = SYS_clock_nanosleep;
	waited("clock_nanosleep by its number", syscall(at_number, CLOCK_REALTIME, TIMER_ABSTIME,
		until(CLOCK_REALTIME), NULL), 0);
	for (int which = 0; which < 2; which++) {
		void *(*works[])(void *) = { nap, wait_for_nothing };
		pthread_create(&napper, NULL, works[which], &semaphore);
		sem_wait(&semaphore);
		pthread_cancel(napper);
		same("a thread that waits is cancelled", pthread_join(napper, NULL), 0);
		same("and unwound", cleaned, which + 1);
	}
	for (int clock = CLOCK_REALTIME; clock <= CLOCK_MONOTONIC; clock++) {
		struct itimerspec new = { .it_value = *until(clock) };
		unsigned long ended = 0;
		int timer = timerfd_create(clock, 0);
		same("timerfd_settime", timerfd_settime(timer, TFD_TIMER_ABSTIME, &new, NULL), 0);
		waited("timerfd", read(timer, &ended, sizeof ended) == sizeof ended && ended > 0, 1);
	}
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	sigset_t signals;
	timer_t timer;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	same("timer_create", timer_create(CLOCK_REALTIME, &event, &timer), 0);
	struct itimerspec new = { .it_value = *until(CLOCK_REALTIME) };
	timer_settime(timer, TIMER_ABSTIME, &new, NULL);
	waited("timer_settime", sigwaitinfo(&signals, NULL), SIGUSR1);
}

static long modified(const char *path)
{
	struct stat s;
	return stat(path, &s) ? -1 : s.st_mtime;
}

int main(int count, char **words)
{
	const char *file = "/build/a-file";
	long ahead = atol(words[1]), now;
	struct timespec t, real;
	struct timeval v;
	struct stat s, l, f, a, folder;
	struct statx x;
	int opened;
	(void)count;
	real.tv_sec = atol(words[2]);
	now = real.tv_sec + ahead;
	clock_gettime(CLOCK_REALTIME, &t);
	near("clock_gettime", t.tv_sec, now);
	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	near("coarse", t.tv_sec, now);
	gettimeofday(&v, NULL);
	near("gettimeofday", v.tv_sec, now);
	near("time", time(NULL), now);
	timespec_get(&t, TIME_UTC);
	near("timespec_get", t.tv_sec, now);
	clock_gettime(CLOCK_TAI, &t);
	/* Leap seconds, where the machine knows them. */
	same("atomic time", t.tv_sec >= now - 3 && t.tv_sec < now + 60, 1);
	int (*old_ftime)(struct timeb *) = dlsym(RTLD_DEFAULT, "ftime");
	struct timeb b;
	old_ftime(&b);
	near("ftime", b.time, now);
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
	near("clock_gettime by its number", t.tv_sec, now);
	syscall(SYS_gettimeofday, &v, NULL);
	near("gettimeofday by its number", v.tv_sec, now);
#ifdef SYS_time
	near("time by its number", syscall(SYS_time, NULL), now);
#endif

	/* One of another run has that run's times. */
	unlink(file);
	opened = open(file, O_CREAT | O_RDWR, 0666);
	same("write", write(opened, "12345", 5), 5);
	stat(file, &s);
	lstat(file, &l);
	fstat(opened, &f);
	fstatat(AT_FDCWD, file, &a, 0);
	statx(AT_FDCWD, file, 0, STATX_ALL, &x);
	near("a new file", s.st_mtime, now);
	near("its change", s.st_ctime, now);
	near("its access", s.st_atime, now);
	same("lstat", memcmp(&s, &l, sizeof s), 0);
	same("fstat", memcmp(&s, &f, sizeof s), 0);
	same("fstatat", memcmp(&s, &a, sizeof s), 0);
	same("statx, time", x.stx_mtime.tv_sec, s.st_mtime);
	same("statx, change", x.stx_ctime.tv_sec, s.st_ctime);
	same("statx, inode", (long)x.stx_ino, (long)s.st_ino);
	same("statx, blocks", (long)x.stx_blocks, s.st_blocks);
	same("statx, disk", makedev(x.stx_dev_major, x.stx_dev_minor), s.st_dev);
	same("statx, creation", x.stx_mask & STATX_BTIME, 0);
	/* One that no disk gives any blocks. */
	ftruncate(opened, 1 << 20);
	fstat(opened, &f);
	same("blocks", f.st_blocks, 2048);
	ftruncate(opened, 5);
	int (*old_stat)(int, const char *, struct stat *) = dlsym(RTLD_DEFAULT, "__xstat");
	int (*old_fstat)(int, int, struct stat *) = dlsym(RTLD_DEFAULT, "__fxstat64");
	struct stat one, two;
	stat(file, &one);
	if (old_stat) {
		old_stat(1, file, &two);
		same("__xstat", memcmp(&one, &two, sizeof one), 0);
		old_fstat(1, opened, &two);
		same("__fxstat64", memcmp(&one, &two, sizeof one), 0);
	}
	syscall(SYS_fstat, opened, &two);
	same("fstat by its number", memcmp(&one, &two, sizeof one), 0);
	syscall(SYS_newfstatat, AT_FDCWD, file, &two, 0);
	same("newfstatat by its number", memcmp(&one, &two, sizeof one), 0);
#ifdef SYS_stat
	syscall(SYS_stat, file, &two);
	same("stat by its number", memcmp(&one, &two, sizeof one), 0);
	syscall(SYS_lstat, file, &two);
	same("lstat by its number", memcmp(&one, &two, sizeof one), 0);
#endif
	stat("/build", &folder);
	same("a folder's links", folder.st_nlink, 1);
	same("and its disk", folder.st_dev, s.st_dev);

	struct timespec old[2] = { { 5, 6 }, { 7, 8 } }, fresh[2] = { { now, 1 }, { now, 2 } };
	utimensat(AT_FDCWD, file, old, 0);
	same("an old time", modified(file), 7);
	futimens(opened, fresh);
	same("a new time", modified(file), now);
	struct timeval values[2] = { { now + 100, 0 }, { now + 100, 0 } };
	utimes(file, values);
	same("a time to come", modified(file), now + 100);
	struct utimbuf times = { 9, 9 };
	utime(file, &times);
	same("utime", modified(file), 9);
	lutimes(file, values);
	same("lutimes", modified(file), now + 100);
	futimes(opened, values);
	same("futimes", modified(file), now + 100);
	futimesat(AT_FDCWD, file, values);
	same("futimesat", modified(file), now + 100);
#ifdef SYS_utimes
	values[1].tv_sec = now + 50;
	syscall(SYS_utimes, file, values);
	same("utimes by its number", modified(file), now + 50);
	times.modtime = now + 60;
	syscall(SYS_utime, file, &times);
	same("utime by its number", modified(file), now + 60);
	syscall(SYS_futimesat, AT_FDCWD, file, values);
	same("futimesat by its number", modified(file), now + 50);
#endif
	/* An hour ago, in a month, years ago and in a hundred years: as they were set, and in their order. */
	long wanted[] = { now - 3600, now + 2592000, now - 34000000, now - 90000000, now + 3000000000, 1 };
	for (unsigned which = 0; which < sizeof wanted / sizeof *wanted; which++) {
		/* What lies in the stretch by which the clock is ahead has whole microseconds. */
		int short_ago = ahead && wanted[which] >= real.tv_sec && wanted[which] < now;
		long rest = short_ago ? 123456000 : 123456789;
		struct timespec both[2] = { { wanted[which] + 1, 0 }, { wanted[which], 123456789 } };
		futimens(opened, both);
		same("a time that is set", modified(file), wanted[which]);
		fstat(opened, &s);
		same("its rest", s.st_mtim.tv_nsec, rest);
		same("and the other time", s.st_atim.tv_sec, wanted[which] + 1);
	}
	struct timespec by_number[2] = { { now, 0 }, { now, 0 } };
	syscall(SYS_utimensat, AT_FDCWD, file, by_number, 0);
	same("by the number of the call", modified(file), now);
	syscall(SYS_statx, AT_FDCWD, file, 0, STATX_ALL, &x);
	same("read by the number of the call", x.stx_mtime.tv_sec, now);
	stat("/dev/null", &s);
	same("a device's time", s.st_mtime + s.st_ctime, 0);
	utimensat(AT_FDCWD, file, NULL, 0);
	near("no time", modified(file), now);
	same("no file", stat("/build/none", &s) == -1 && errno == ENOENT, 1);
	same("no path", utimensat(opened, NULL, old, 0) == -1 && errno == EINVAL, 1);
	waits();
	puts(wrong ? "wrong" : "right");
	return wrong;
}
