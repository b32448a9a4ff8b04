/* Asks for the time and for files in every way that a program can, and says which answers do not go together. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timerfd.h>
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

static struct timespec until(int clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	t.tv_nsec += 50000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

static void *stay(void *x)
{
	sleep(5);
	return x;
}

/* Each ends after a twentieth of a second, or the test is stopped. */
static void waits(void)
{
	struct timespec t;
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition = PTHREAD_COND_INITIALIZER, monotonic;
	pthread_condattr_t attributes;
	pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
	pthread_t thread;
	sem_t semaphore;
	sem_init(&semaphore, 0, 0);
	pthread_mutex_lock(&mutex);
	t = until(CLOCK_REALTIME);
	same("pthread_cond_timedwait", pthread_cond_timedwait(&condition, &mutex, &t), ETIMEDOUT);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&monotonic, &attributes);
	t = until(CLOCK_MONOTONIC);
	same("the same, monotonic", pthread_cond_timedwait(&monotonic, &mutex, &t), ETIMEDOUT);
	t = until(CLOCK_REALTIME);
	same("pthread_mutex_timedlock", pthread_mutex_timedlock(&mutex, &t), ETIMEDOUT);
	pthread_rwlock_wrlock(&lock);
	t = until(CLOCK_REALTIME);
	same("pthread_rwlock_timedrdlock", pthread_rwlock_timedrdlock(&lock, &t) == 0, 0);
	t = until(CLOCK_REALTIME);
	same("pthread_rwlock_timedwrlock", pthread_rwlock_timedwrlock(&lock, &t) == 0, 0);
	t = until(CLOCK_REALTIME);
	same("sem_timedwait", sem_timedwait(&semaphore, &t) == -1 && errno == ETIMEDOUT, 1);
	t = until(CLOCK_REALTIME);
	same("clock_nanosleep", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL), 0);
	pthread_create(&thread, NULL, stay, NULL);
	t = until(CLOCK_REALTIME);
	same("pthread_timedjoin_np", pthread_timedjoin_np(thread, NULL, &t), ETIMEDOUT);
	for (int clock = 0; clock < 2; clock++) {
		struct itimerspec new = { .it_value = until(clock ? CLOCK_MONOTONIC : CLOCK_REALTIME) };
		unsigned long ended = 0;
		int timer = timerfd_create(clock ? CLOCK_MONOTONIC : CLOCK_REALTIME, 0);
		same("timerfd_settime", timerfd_settime(timer, TFD_TIMER_ABSTIME, &new, NULL), 0);
		same("timerfd", read(timer, &ended, sizeof ended) == sizeof ended && ended > 0, 1);
	}
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
	syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
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
	same("blocks", s.st_blocks, 8);
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
	utimensat(AT_FDCWD, file, NULL, 0);
	near("no time", modified(file), now);
	same("no file", stat("/build/none", &s) == -1 && errno == ENOENT, 1);
	same("no path", utimensat(opened, NULL, old, 0) == -1 && errno == EINVAL, 1);
	waits();
	puts(wrong ? "wrong" : "right");
	return wrong;
}
