/*
 * A library to preload that makes storage and time misbehave as real machines do.
 *
 * Power loss.  Every change that a process makes to files below FAULTS_DATA is written to a journal in
 * FAULTS_SIDE before it happens: the bytes before and after, lengths, names.  fsync and fdatasync are
 * written there too.  After the processes were killed, tools/powerloss/rollback.py takes back what was not yet
 * synced.  fsync itself is not passed on to the disk: what counts here is what a program asked for; instead
 * a sync may be given a length of time, so that kills fall into it.
 *
 * Faults.  A page that the harness shares with all processes (SIDE/control) switches them on and off while they run:
 * the free bytes left before ENOSPC, errors of fsync, a read-only file system, an offset of the wall clock.
 *
 * Journal record: struct record, then path_length, old_length and new_length bytes.  All integers are little-endian
 * 64-bit.  Records are appended under a lock that orders all processes and threads, held until the change is made.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE = 1, TRUNCATE = 2, CREATE = 3, RENAME = 4, UNLINK = 5, SYNC = 6, MKDIR = 7, SYNC_DIRECTORY = 8 };

struct record {
    uint64_t kind, inode, offset, size_before, path_length, old_length, new_length, extra;
};

struct control {
    int64_t free_bytes;          /* -1: no limit */
    int64_t sync_errno;          /* 0: fsync succeeds */
    int64_t read_only;           /* 1: every change fails with EROFS */
    int64_t clock_offset_micros; /* added to the wall clock */
    int64_t sync_micros;         /* how long a sync takes */
    int64_t changes;             /* counted by the shim: changes seen */
};

static char data_prefix[PATH_MAX], side[PATH_MAX];
static size_t data_length;
static int journal_fd = -1, lock_fd = -1, is_active;
static struct control *control;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...)                                                                                        \
    static result (*real_##name)(__VA_ARGS__);                                                                         \
    static void load_##name(void) {                                                                                    \
        if (!real_##name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name);                                            \
    }

REAL(int, open, const char *, int, ...)
REAL(int, openat, int, const char *, int, ...)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, pwrite, int, const void *, size_t, off_t)
REAL(ssize_t, pread, int, void *, size_t, off_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(int, ftruncate, int, off_t)
REAL(int, truncate, const char *, off_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, renameat, int, const char *, int, const char *)
REAL(int, unlinkat, int, const char *, int)
REAL(int, mkdirat, int, const char *, mode_t)
REAL(int, linkat, int, const char *, int, const char *, int)
REAL(int, clock_gettime, clockid_t, struct timespec *)
REAL(int, posix_fallocate, int, off_t, off_t)

static void load_all(void) {
    load_open(); load_openat(); load_write(); load_pwrite(); load_pread(); load_writev(); load_ftruncate();
    load_truncate(); load_fsync(); load_fdatasync(); load_renameat(); load_unlinkat(); load_mkdirat(); load_linkat();
    load_clock_gettime(); load_posix_fallocate();
}

static void forked(void) { pthread_mutex_init(&mutex, NULL); }

__attribute__((constructor)) static void start(void) {
    load_all();
    const char *data = getenv("FAULTS_DATA"), *place = getenv("FAULTS_SIDE");
    if (!data || !place) return;
    data_length = (size_t)snprintf(data_prefix, sizeof data_prefix, "%s/", data);
    snprintf(side, sizeof side, "%s", place);
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/control", side);
    int fd = real_open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED) return;
    control = page;
    pthread_atfork(NULL, NULL, forked);
    is_active = 1;
}

/* The journal is opened late: a program may close every descriptor at its start. */
static void lock(void) {
    pthread_mutex_lock(&mutex);
    if (journal_fd < 0) {
        char path[PATH_MAX + 16];
        snprintf(path, sizeof path, "%s/journal", side);
        int fd = real_open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
        journal_fd = fcntl(fd, F_DUPFD_CLOEXEC, 700);
        close(fd);
        snprintf(path, sizeof path, "%s/lock", side);
        fd = real_open(path, O_RDWR | O_CREAT, 0600);
        lock_fd = fcntl(fd, F_DUPFD_CLOEXEC, 700);
        close(fd);
    }
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    while (fcntl(lock_fd, F_SETLKW, &whole) < 0 && errno == EINTR) {}
}

static void unlock(void) {
    int kept = errno;
    struct flock whole = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    fcntl(lock_fd, F_SETLK, &whole);
    pthread_mutex_unlock(&mutex);
    errno = kept;
}

static void put(uint64_t kind, uint64_t inode, uint64_t offset, uint64_t size_before, const char *path,
                const void *old, size_t old_length, const struct iovec *new, int new_count, size_t new_length,
                uint64_t extra) {
    struct record head = {kind, inode, offset, size_before, path ? strlen(path) : 0, old_length, new_length, extra};
    struct iovec all[3 + 64];
    int count = 0;
    all[count++] = (struct iovec){&head, sizeof head};
    if (head.path_length) all[count++] = (struct iovec){(void *)path, head.path_length};
    if (old_length) all[count++] = (struct iovec){(void *)old, old_length};
    for (int i = 0; i < new_count && i < 64; i++) all[count++] = new[i];
    control->changes++;
    if (real_writev(journal_fd, all, count) < 0) abort();
}

/* The path of a descriptor below the data directory, or 0; WAL indexes are shared memory and not of the disk. */
static int is_ours(int fd, char *path) {
    if (!is_active || fd < 0) return 0;
    char link[64];
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = kept;
    if (length <= 0) return 0;
    path[length] = 0;
    return strncmp(path, data_prefix, data_length - 1) == 0 && (path[data_length - 1] == '/' || !path[data_length - 1]);
}

static int is_volatile(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

/* The absolute form of a name below the data directory, or 0. */
static int is_our_name(int directory, const char *name, char *path) {
    if (!is_active || !name) return 0;
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
    } else {
        char base[PATH_MAX];
        if (directory == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length <= 0) return 0;
            base[length] = 0;
        }
        if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
    }
    return strncmp(path, data_prefix, data_length) == 0 && !is_volatile(path);
}

static int refuse_change(void) {
    if (control->read_only) {
        errno = EROFS;
        return 1;
    }
    return 0;
}

static int refuse_growth(int64_t grows) {
    if (refuse_change()) return 1;
    int64_t left = __atomic_load_n(&control->free_bytes, __ATOMIC_SEQ_CST);
    if (left < 0 || grows <= 0) return 0;
    if (grows > left) {
        errno = ENOSPC;
        return 1;
    }
    __atomic_fetch_sub(&control->free_bytes, grows, __ATOMIC_SEQ_CST);
    return 0;
}

static ssize_t journaled(int fd, const struct iovec *parts, int count, off_t offset, int is_positioned) {
    struct stat before;
    size_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    lock();
    fstat(fd, &before);
    off_t at = offset;
    if (!is_positioned) at = (fcntl(fd, F_GETFL) & O_APPEND) ? before.st_size : lseek(fd, 0, SEEK_CUR);
    if (refuse_growth((int64_t)at + (int64_t)length - before.st_size)) {
        unlock();
        return -1;
    }
    size_t overlap = at < before.st_size ? (size_t)(before.st_size - at) : 0;
    if (overlap > length) overlap = length;
    void *old = overlap ? malloc(overlap) : NULL;
    int reader = -1;
    if (overlap) {
        /* the descriptor may be write-only */
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        reader = real_open(link, O_RDONLY | O_CLOEXEC);
        ssize_t got = real_pread(reader, old, overlap, at);
        if (got < (ssize_t)overlap) overlap = got < 0 ? 0 : (size_t)got;
    }
    put(WRITE, before.st_ino, (uint64_t)at, (uint64_t)before.st_size, NULL, old, overlap, parts, count, length, 0);
    ssize_t done = 0;
    if (is_positioned) {
        for (int i = 0; i < count && done >= 0; i++) {
            ssize_t one = real_pwrite(fd, parts[i].iov_base, parts[i].iov_len, at);
            if (one < 0) {
                done = done ? done : -1;
                break;
            }
            done += one;
            at += one;
            if ((size_t)one < parts[i].iov_len) break;
        }
    } else {
        done = real_writev(fd, parts, count);
    }
    unlock();
    free(old);
    if (reader >= 0) {
        int kept = errno;
        close(reader);
        errno = kept;
    }
    return done;
}

ssize_t write(int fd, const void *buffer, size_t length) {
    char path[PATH_MAX];
    load_write();
    if (!is_ours(fd, path) || is_volatile(path)) return real_write(fd, buffer, length);
    struct iovec part = {(void *)buffer, length};
    return journaled(fd, &part, 1, 0, 0);
}

ssize_t pwrite(int fd, const void *buffer, size_t length, off_t offset) {
    char path[PATH_MAX];
    load_pwrite();
    if (!is_ours(fd, path) || is_volatile(path)) return real_pwrite(fd, buffer, length, offset);
    struct iovec part = {(void *)buffer, length};
    return journaled(fd, &part, 1, offset, 1);
}

ssize_t pwrite64(int fd, const void *buffer, size_t length, off64_t offset) { return pwrite(fd, buffer, length, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    load_writev();
    if (!is_ours(fd, path) || is_volatile(path)) return real_writev(fd, parts, count);
    if (count > 64) count = 64; /* a short write is the caller's business */
    return journaled(fd, parts, count, 0, 0);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    char path[PATH_MAX];
    if (!is_ours(fd, path) || is_volatile(path)) {
        ssize_t done = 0;
        for (int i = 0; i < count; i++) {
            ssize_t one = real_pwrite(fd, parts[i].iov_base, parts[i].iov_len, offset + done);
            if (one < 0) return done ? done : -1;
            done += one;
        }
        return done;
    }
    return journaled(fd, parts, count > 64 ? 64 : count, offset, 1);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    return pwritev(fd, parts, count, offset);
}

/* Note a change of length before it is made; the tail that goes is kept. Called with the lock held. */
static void put_truncate(int fd, off_t length) {
    struct stat before;
    if (fstat(fd, &before) < 0) return;
    size_t tail = length < before.st_size ? (size_t)(before.st_size - length) : 0;
    void *old = tail ? malloc(tail) : NULL;
    if (tail) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int reader = real_open(link, O_RDONLY | O_CLOEXEC);
        ssize_t got = real_pread(reader, old, tail, length);
        tail = got < 0 ? 0 : (size_t)got;
        close(reader);
    }
    put(TRUNCATE, before.st_ino, (uint64_t)length, (uint64_t)before.st_size, NULL, old, tail, NULL, 0, 0, 0);
    free(old);
}

int ftruncate(int fd, off_t length) {
    char path[PATH_MAX];
    load_ftruncate();
    if (!is_ours(fd, path) || is_volatile(path)) return real_ftruncate(fd, length);
    struct stat before = {0};
    fstat(fd, &before);
    if (refuse_growth((int64_t)length - before.st_size)) return -1;
    lock();
    put_truncate(fd, length);
    int done = real_ftruncate(fd, length);
    unlock();
    return done;
}

int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int truncate(const char *name, off_t length) {
    char path[PATH_MAX];
    load_truncate();
    if (!is_our_name(AT_FDCWD, name, path)) return real_truncate(name, length);
    int fd = real_open(name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int done = ftruncate(fd, length);
    close(fd);
    return done;
}

int truncate64(const char *name, off64_t length) { return truncate(name, length); }

int posix_fallocate(int fd, off_t offset, off_t length) {
    char path[PATH_MAX];
    load_posix_fallocate();
    if (!is_ours(fd, path)) return real_posix_fallocate(fd, offset, length);
    struct stat before = {0};
    fstat(fd, &before);
    if (offset + length <= before.st_size) return 0;
    return ftruncate(fd, offset + length) < 0 ? errno : 0;
}

int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }

static int opened(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    if (!changes || !is_our_name(directory, name, path) || (flags & O_TMPFILE) == O_TMPFILE)
        return real_openat(directory, name, flags, mode);
    if (refuse_change()) return -1;
    struct stat before;
    lock();
    int exists = fstatat(directory, name, &before, 0) == 0;
    if (!exists && (flags & O_CREAT) && control->free_bytes == 0) {
        unlock();
        errno = ENOSPC;
        return -1;
    }
    if (exists && (flags & O_TRUNC) && before.st_size) {
        int fd = real_openat(directory, name, O_WRONLY | O_CLOEXEC, 0);
        if (fd >= 0) {
            put_truncate(fd, 0);
            close(fd);
        }
    }
    int fd = real_openat(directory, name, flags, mode);
    if (fd >= 0 && !exists && fstat(fd, &before) == 0)
        put(CREATE, before.st_ino, 0, 0, path, NULL, 0, NULL, 0, 0, 0);
    unlock();
    return fd;
}

#define MODE_ARGUMENT                                                                                                  \
    mode_t mode = 0;                                                                                                   \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {                                                       \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *name, int flags, ...) { load_all(); MODE_ARGUMENT return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { load_all(); MODE_ARGUMENT return opened(AT_FDCWD, name, flags, mode); }
int openat(int at, const char *name, int flags, ...) { load_all(); MODE_ARGUMENT return opened(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { load_all(); MODE_ARGUMENT return opened(at, name, flags, mode); }
int __open_2(const char *name, int flags) { load_all(); return opened(AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { load_all(); return opened(AT_FDCWD, name, flags, 0); }
int creat(const char *name, mode_t mode) { load_all(); return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (!is_ours(fd, path)) return real(fd);
    struct stat now, journal;
    if (control->sync_errno) {
        errno = (int)control->sync_errno;
        return -1;
    }
    if (fstat(fd, &now) < 0) return -1;
    lock();
    fstat(journal_fd, &journal); /* what is noted from here on is not covered */
    unlock();
    if (control->sync_micros) usleep((useconds_t)control->sync_micros);
    lock();
    put(S_ISDIR(now.st_mode) ? SYNC_DIRECTORY : SYNC, now.st_ino, 0, 0, path, NULL, 0, NULL, 0, 0,
        (uint64_t)journal.st_size);
    unlock();
    return 0;
}

int fsync(int fd) { load_fsync(); return synced(fd, real_fsync); }
int fdatasync(int fd) { load_fdatasync(); return synced(fd, real_fdatasync); }

/* Keep what a name points to, so that the name can be given back: SIDE/kept-<inode>. */
static uint64_t keep(int directory, const char *name) {
    struct stat now;
    if (fstatat(directory, name, &now, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(now.st_mode)) return 0;
    char place[PATH_MAX + 32];
    snprintf(place, sizeof place, "%s/kept-%llu", side, (unsigned long long)now.st_ino);
    int kept = errno;
    real_linkat(directory, name, AT_FDCWD, place, 0);
    errno = kept;
    return now.st_ino;
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    char old[PATH_MAX], new[PATH_MAX];
    load_all();
    int is_from = is_our_name(from_at, from, old), is_to = is_our_name(to_at, to, new);
    if (!is_from && !is_to) return real_renameat(from_at, from, to_at, to);
    if (refuse_change()) return -1;
    struct stat now = {0};
    lock();
    fstatat(from_at, from, &now, AT_SYMLINK_NOFOLLOW);
    uint64_t replaced = keep(to_at, to);
    struct iovec target = {new, strlen(new)};
    put(RENAME, now.st_ino, 0, 0, old, NULL, 0, &target, 1, target.iov_len, replaced);
    int done = real_renameat(from_at, from, to_at, to);
    unlock();
    return done;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    if (flags) {
        errno = EINVAL;
        return -1;
    }
    return renameat(from_at, from, to_at, to);
}

int unlinkat(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    load_all();
    if (flags || !is_our_name(directory, name, path)) return real_unlinkat(directory, name, flags);
    if (refuse_change()) return -1;
    lock();
    uint64_t inode = keep(directory, name);
    if (inode) put(UNLINK, inode, 0, 0, path, NULL, 0, NULL, 0, 0, 0);
    int done = real_unlinkat(directory, name, flags);
    unlock();
    return done;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    char path[PATH_MAX];
    load_all();
    if (!is_our_name(to_at, to, path)) return real_linkat(from_at, from, to_at, to, flags);
    if (refuse_change()) return -1;
    struct stat now = {0};
    lock();
    int done = real_linkat(from_at, from, to_at, to, flags);
    if (done == 0 && fstatat(to_at, to, &now, AT_SYMLINK_NOFOLLOW) == 0)
        put(CREATE, now.st_ino, 0, 0, path, NULL, 0, NULL, 0, 0, 0);
    unlock();
    return done;
}

int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdirat(int directory, const char *name, mode_t mode) {
    char path[PATH_MAX];
    load_all();
    if (!is_our_name(directory, name, path)) return real_mkdirat(directory, name, mode);
    if (refuse_change()) return -1;
    struct stat now = {0};
    lock();
    int done = real_mkdirat(directory, name, mode);
    if (done == 0 && fstatat(directory, name, &now, 0) == 0) put(MKDIR, now.st_ino, 0, 0, path, NULL, 0, NULL, 0, 0, 0);
    unlock();
    return done;
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    load_clock_gettime();
    int done = real_clock_gettime(clock, now);
    if (done == 0 && control && control->clock_offset_micros && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = (int64_t)now->tv_nsec + (control->clock_offset_micros % 1000000) * 1000;
        now->tv_sec += control->clock_offset_micros / 1000000;
        if (nanos < 0) {
            nanos += 1000000000;
            now->tv_sec--;
        } else if (nanos >= 1000000000) {
            nanos -= 1000000000;
            now->tv_sec++;
        }
        now->tv_nsec = nanos;
    }
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int done = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return done;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
