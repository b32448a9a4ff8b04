/* hog KIND MIB [SECONDS]: takes memory or disk in ways that are easily overlooked, says how much it got, and stays a while. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { MIB = 1 << 20 };
static char page[MIB];
static unsigned seconds = 20;

static int refused(const char *what) { printf("%s: %s\n", what, strerror(errno)); return 3; }

/* Long enough for every sampler, and no longer than a test wants to wait. */
static int stay(const char *what, long mib) {
    printf("%s: holds %ld MiB\n", what, mib);
    fflush(stdout);
    sleep(seconds);
    printf("%s: still there\n", what);
    return 0;
}

static long fill(int file, long mib) {
    for (long i = 0; i < mib; i++)
        if (write(file, page, MIB) != MIB) return i;
    return mib;
}

static int memfd(long mib) {
    int file = syscall(SYS_memfd_create, "m", 0);
    return file < 0 ? refused("memfd_create") : stay("memfd", fill(file, mib));
}

static int sysv(long mib) {
    if (msgget(IPC_PRIVATE, 0600) >= 0 || semget(IPC_PRIVATE, 32000, 0600) >= 0) return puts("queues and semaphores"), 0;
    int id = shmget(IPC_PRIVATE, mib * MIB, 0600);
    if (id < 0) return refused("shmget");
    char *at = shmat(id, 0, 0);
    memset(at, 1, mib * MIB);
    shmdt(at);
    return stay("sysv", mib);
}

static int mqueue(void) {
    mqd_t queue = mq_open("/q", O_CREAT | O_RDWR, 0600, NULL);
    return queue == (mqd_t)-1 ? refused("mq_open") : stay("mqueue", 0);
}

static int sockets(long mib) {
    long held = 0;
    while (held < mib * MIB) {
        int ends[2], size = 1 << 30;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) break;
        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        for (long got; (got = write(ends[0], page, 1 << 16)) > 0;) held += got;
    }
    return stay("sockets", held / MIB);
}

/* Sockets that nobody has open: each waits in another one. */
static int flying(long mib) {
    int carrier[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, carrier)) return 1;
    long held = 0;
    while (held < mib * MIB) {
        int ends[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) break;
        for (long got; (got = write(ends[0], page, 1 << 16)) > 0;) held += got;
        char byte = 0, space[CMSG_SPACE(sizeof ends)];
        struct iovec one = {&byte, 1};
        struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
        struct cmsghdr *control = CMSG_FIRSTHDR(&message);
        control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(sizeof ends);
        memcpy(CMSG_DATA(control), ends, sizeof ends);
        if (sendmsg(carrier[0], &message, 0) < 0) {
            if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, carrier)) break;
            if (sendmsg(carrier[0], &message, 0) < 0) break;
        }
        close(ends[0]), close(ends[1]);
    }
    return stay("flying", held / MIB);
}

static int pipes(long mib) {
    long held = 0, raised = 0;
    while (held < mib * MIB) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK)) {
            /* Another process has another table. */
            if (fork() == 0) { for (int i = 3; i < 4096; i++) close(i); continue; }
            break;
        }
        raised += fcntl(ends[1], F_SETPIPE_SZ, MIB) > 0;
        for (long got; (got = write(ends[1], page, 4096)) > 0;) held += got;
    }
    if (raised) puts("pipes were made larger");
    return stay("pipes", held / MIB);
}

static int tables(long mib) {
    /* Reading a page that was never written takes no page, but a table of 4 KiB for each 2 MiB. */
    size_t size = (size_t)mib << 29;
    char *at = mmap(0, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return refused("mmap");
    madvise(at, size, MADV_NOHUGEPAGE);
    long sum = 0;
    for (size_t i = 0; i < size; i += 2 * MIB) sum += ((volatile char *)at)[i];
    return stay("tables", mib + sum);
}

static int huge(void) {
    void *at = mmap(0, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (at == MAP_FAILED) return refused("mmap");
    return stay("huge", 2);
}

static int gift(void) {
    int ends[2];
    if (pipe(ends)) return 1;
    struct iovec one = {page, 4096};
    return vmsplice(ends[1], &one, 1, 0) < 0 ? refused("vmsplice") : stay("gift", 0);
}

static int unlinked(long mib, int mapped) {
    long held = 0;
    for (int i = 0; held < mib; i++) {
        int file = open("/build/gone", O_CREAT | O_EXCL | O_RDWR, 0600);
        if (file < 0) return refused("open");
        unlink("/build/gone");
        long want = mib - held < 16 ? mib - held : 16, got = fill(file, want);
        if (mapped) {
            mmap(0, 4096, PROT_READ, MAP_SHARED, file, 0);
            close(file);
        }
        held += got;
        if (got < want) return refused("write");
    }
    return stay(mapped ? "mapped" : "unlinked", held);
}

static int deep(long mib) {
    char name[201];
    memset(name, 'd', 200);
    name[200] = 0;
    chdir("/build");
    for (int i = 0; i < 25; i++)
        if (mkdir(name, 0755) || chdir(name)) return refused("mkdir");
    int file = open("file", O_CREAT | O_WRONLY, 0600);
    long held = fill(file, mib);
    if (held < mib) return refused("write");
    return stay("deep", held);
}

static int closed(long mib) {
    mkdir("/build/closed", 0755);
    int file = open("/build/closed/file", O_CREAT | O_WRONLY, 0600);
    chmod("/build/closed", 0);
    long held = fill(file, mib);
    close(file);
    if (held < mib) return refused("write");
    return stay("closed", held);
}

static int allocated(long mib) {
    int file = open("/build/file", O_CREAT | O_WRONLY, 0600);
    /* The same by its old name, without its file's size. */
    struct { short type, whence; long long start, length; int system; unsigned pid; int rest[4]; }
        range = {.length = mib * MIB};
    int by_call = syscall(SYS_fallocate, file, FALLOC_FL_KEEP_SIZE, 0L, mib * MIB);
    if (by_call == 0) return stay("fallocate", mib);
    if (ioctl(file, 0x4030582aUL, &range) == 0) return stay("ioctl", mib);
    return refused("fallocate");
}

static int files(long thousands) {
    char name[32];
    if (mkdir("/build/many", 0755) || chdir("/build/many")) return refused("mkdir");
    for (long i = 0; i < thousands * 1000; i++) {
        sprintf(name, "%ld", i);
        int file = open(name, O_CREAT | O_WRONLY, 0600);
        if (file < 0) return refused("open");
        close(file);
    }
    return stay("files", 0);
}

static int chain(long depth) {
    if (chdir("/build/out")) chdir("/build");
    for (long i = 0; i < depth; i++)
        if (mkdir("d", 0755) || chdir("d")) return refused("mkdir");
    return 0;
}

static int hiding(void) {
    if (prctl(PR_SET_DUMPABLE, 0)) return refused("prctl");
    return puts("hidden"), 0;
}

static int swap(void) {
    mkdir("/build/x", 0755);
    symlink("/", "/build/y");
    /* Enough, and again and again, for what is here to be counted often. */
    int file = open("/build/file", O_CREAT | O_WRONLY, 0600);
    for (int round = 0; round < 20; round++) {
        lseek(file, 0, SEEK_SET);
        fill(file, 40);
        for (int i = 0; i < 20000; i++) syscall(SYS_renameat2, AT_FDCWD, "/build/x", AT_FDCWD, "/build/y", 2);
        if (ftruncate(file, 0)) return refused("ftruncate");
    }
    return 0;
}

int main(int count, char **words) {
    const char *kind = count > 1 ? words[1] : "";
    long mib = count > 2 ? atol(words[2]) : 0;
    if (count > 3) seconds = atoi(words[3]);
    memset(page, 'x', sizeof page);
#define KIND(name, call) if (!strcmp(kind, name)) return call
    KIND("memfd", memfd(mib)); KIND("sysv", sysv(mib)); KIND("mqueue", mqueue()); KIND("sockets", sockets(mib));
    KIND("flying", flying(mib)); KIND("pipes", pipes(mib)); KIND("tables", tables(mib)); KIND("huge", huge());
    KIND("gift", gift()); KIND("unlinked", unlinked(mib, 0)); KIND("mapped", unlinked(mib, 1)); KIND("deep", deep(mib));
    KIND("closed", closed(mib)); KIND("allocated", allocated(mib)); KIND("files", files(mib)); KIND("chain", chain(mib));
    KIND("hiding", hiding()); KIND("swap", swap());
    return 2;
}
