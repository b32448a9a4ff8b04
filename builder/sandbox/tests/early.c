/* A library whose constructor waits until a time, and a program that needs it: that constructor must not come before
 * what makes such waits right. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>

#ifdef PROGRAM
int main(void)
{
	return 0;
}
#else
__attribute__((constructor)) static void wait_early(void)
{
	sem_t semaphore;
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	struct timespec now;
	sem_init(&semaphore, 0, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	int waited = sem_timedwait(&semaphore, &now) == -1 ? errno : 0;
	int locked = pthread_mutex_timedlock(&mutex, &now);
	printf("early: %s, %s\n", waited == ETIMEDOUT ? "timed out" : "wrong", locked == 0 ? "locked" : "wrong");
}
#endif
