/* Preloaded into a node: makes its disk slow or failing and its clock wrong, as a control file says, and can write
 * down every write and sync, so that every state of the files after a crash can be built (cluster/chaos/images.py).
 *
 * KIBUBU_SHIM_CONTROL  the control file, struct control below, mapped and read at every call
 * KIBUBU_SHIM_ROOT     only files below this folder are touched
 * KIBUBU_SHIM_TRACE    where the trace goes; empty = none
 *
 * The journal writes by pwritev2 and syncs with fdatasync. LMDB writes pages by pwrite and pwritev, syncs with fdatasync,
 * and writes its meta page through a descriptor that was opened with O_DSYNC: such a write is a sync too. Nothing here may allocate or lock in a forked child.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAGIC 0x314d4853u /* SHM1 */

struct control {
    uint32_t magic;
    int32_t sync_errno;      /* 0 = syncs work */
    int32_t write_errno;     /* 0 = writes work */
    uint32_t sync_delay_us;
    uint32_t write_delay_us;
    uint32_t lies;           /* 1 = syncs succeed and do nothing: the canary that chaos must catch */
    int64_t clock_offset_ns; /* of the wall clock, as the Python code sees it */
    uint64_t syncs;          /* counted by the shim from here on */
    uint64_t writes;
    uint64_t failed;
    uint64_t delayed;
    uint64_t clock_reads;
};

/* One record of the trace; the path and then the data follow. */
struct record {
    uint32_t magic, kind, path_bytes, data_bytes;
    uint64_t offset;
};
enum { WRITE = 1, SYNC = 2, TRUNCATE = 3, DSYNC_WRITE = 4, MARK = 5, RENAME = 6, REMOVE = 7 };

static struct control nothing;
static struct control *control = &nothing;
static char root[4096];
static size_t root_bytes;
static int trace = -1;
static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static uintptr_t python_low, python_high;

static int find_python(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *base = slash ? slash + 1 : info->dlpi_name;
    int is_main = info->dlpi_name[0] == 0;
    if (!is_main && strncmp(base, "libpython", 9) != 0) return 0;
    if (is_main && *(int *)data) return 0; /* a shared libpython was found: the main program is only a stub */
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        python_low = info->dlpi_addr + part->p_vaddr;
        python_high = python_low + part->p_memsz;
    }
    if (!is_main) *(int *)data = 1;
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("KIBUBU_SHIM_CONTROL"), *wanted = getenv("KIBUBU_SHIM_ROOT");
    const char *trace_path = getenv("KIBUBU_SHIM_TRACE");
    if (wanted && realpath(wanted, root)) root_bytes = strlen(root);
    if (path) {
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            void *at = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (at != MAP_FAILED && ((struct control *)at)->magic == MAGIC) control = at;
            close(fd);
        }
    }
    if (trace_path && *trace_path) trace = open(trace_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int found = 0;
    dl_iterate_phdr(find_python, &found);
}

/* The path below the root, or NULL when this descriptor is none of ours. */
static const char *ours(int fd, char *buffer, size_t room) {
    if (!root_bytes) return NULL;
    char link[64];
    char *end = link + sizeof link - 1;
    *end = 0;
    unsigned rest = (unsigned)fd;
    do { *--end = (char)('0' + rest % 10); rest /= 10; } while (rest);
    memcpy(end - 14, "/proc/self/fd/", 14);
    ssize_t length = readlink(end - 14, buffer, room - 1);
    if (length <= (ssize_t)root_bytes) return NULL;
    buffer[length] = 0;
    if (memcmp(buffer, root, root_bytes) != 0 || buffer[root_bytes] != '/') return NULL;
    return buffer + root_bytes + 1;
}

static void pause_us(uint32_t us) {
    if (!us) return;
    __atomic_add_fetch(&control->delayed, 1, __ATOMIC_RELAXED);
    struct timespec t = {us / 1000000, (long)(us % 1000000) * 1000};
    while (syscall(SYS_nanosleep, &t, &t) == -1 && errno == EINTR) {}
}

static int fails(int number) {
    if (!number) return 0;
    __atomic_add_fetch(&control->failed, 1, __ATOMIC_RELAXED);
    errno = number;
    return 1;
}

static void note(uint32_t kind, const char *path, uint64_t offset, const struct iovec *parts, int count, size_t limit) {
    if (trace < 0) return;
    struct record head = {MAGIC, kind, (uint32_t)strlen(path), 0, offset};
    size_t left = limit;
    struct iovec out[1026];
    int used = 2;
    for (int i = 0; i < count && left && used < 1026; i++) {
        size_t take = parts[i].iov_len < left ? parts[i].iov_len : left;
        out[used].iov_base = parts[i].iov_base;
        out[used++].iov_len = take;
        left -= take;
    }
    head.data_bytes = (uint32_t)(limit - left);
    out[0].iov_base = &head; out[0].iov_len = sizeof head;
    out[1].iov_base = (void *)path; out[1].iov_len = head.path_bytes;
    int before = errno;
    (void)!syscall(SYS_writev, trace, out, used);
    errno = before;
}

/* A synced write without its sync, through a descriptor of the same file that was opened without O_DSYNC. */
static ssize_t put_unsynced(int fd, const struct iovec *parts, int count, off_t offset) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int plain = open(link, O_WRONLY | O_CLOEXEC);
    if (plain < 0) return -1;
    ssize_t done = syscall(SYS_pwritev, plain, parts, count, offset, 0);
    close(plain);
    return done;
}

static ssize_t put(int fd, const struct iovec *parts, int count, off_t offset, int positioned) {
    char buffer[4096];
    const char *path = ours(fd, buffer, sizeof buffer);
    if (!path) {
        return positioned ? syscall(SYS_pwritev, fd, parts, count, offset, 0) : syscall(SYS_writev, fd, parts, count);
    }
    int is_synced = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
    __atomic_add_fetch(is_synced ? &control->syncs : &control->writes, 1, __ATOMIC_RELAXED);
    pause_us(is_synced ? control->sync_delay_us : control->write_delay_us);
    if (fails(is_synced && control->sync_errno ? control->sync_errno : control->write_errno)) return -1;
    if (is_synced && positioned && control->lies) return put_unsynced(fd, parts, count, offset);
    pthread_mutex_lock(&trace_lock);
    if (!positioned) offset = lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
    ssize_t done = positioned ? syscall(SYS_pwritev, fd, parts, count, offset, 0) : syscall(SYS_writev, fd, parts, count);
    if (done > 0) note(is_synced ? DSYNC_WRITE : WRITE, path, (uint64_t)offset, parts, count, (size_t)done);
    pthread_mutex_unlock(&trace_lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) {
    struct iovec part = {(void *)data, size};
    if (!root_bytes) return syscall(SYS_write, fd, data, size);
    char buffer[4096];
    if (!ours(fd, buffer, sizeof buffer)) return syscall(SYS_write, fd, data, size);
    return put(fd, &part, 1, 0, 0);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return put(fd, parts, count, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    struct iovec part = {(void *)data, size};
    return put(fd, &part, 1, offset, 1);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return put(fd, parts, count, offset, 1); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) { return put(fd, parts, count, offset, 1); }
/* What Python's os.pwritev calls. The journal gives no flags. */
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    if (flags || offset < 0) return syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
    return put(fd, parts, count, offset, 1);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    return pwritev2(fd, parts, count, offset, flags);
}

static int sync_by(long number, int fd) {
    char buffer[4096];
    const char *path = ours(fd, buffer, sizeof buffer);
    if (!path) return (int)syscall(number, fd);
    __atomic_add_fetch(&control->syncs, 1, __ATOMIC_RELAXED);
    pause_us(control->sync_delay_us);
    if (fails(control->sync_errno)) return -1;
    if (control->lies) return 0;
    int done = (int)syscall(number, fd);
    if (!done) {
        pthread_mutex_lock(&trace_lock);
        note(SYNC, path, 0, NULL, 0, 0);
        pthread_mutex_unlock(&trace_lock);
    }
    return done;
}
int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }
int msync(void *at, size_t size, int flags) {
    if (root_bytes) {
        __atomic_add_fetch(&control->syncs, 1, __ATOMIC_RELAXED);
        pause_us(control->sync_delay_us);
        if (fails(control->sync_errno)) return -1;
    }
    return (int)syscall(SYS_msync, at, size, flags);
}

int ftruncate(int fd, off_t size) {
    char buffer[4096];
    const char *path = ours(fd, buffer, sizeof buffer);
    if (!path) return (int)syscall(SYS_ftruncate, fd, size);
    if (fails(control->write_errno)) return -1;
    pthread_mutex_lock(&trace_lock);
    int done = (int)syscall(SYS_ftruncate, fd, size);
    if (!done) note(TRUNCATE, path, (uint64_t)size, NULL, 0, 0);
    pthread_mutex_unlock(&trace_lock);
    return done;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int rename(const char *from, const char *to) {
    int done = (int)syscall(SYS_rename, from, to);
    if (done || trace < 0 || !root_bytes || strncmp(from, root, root_bytes) || strncmp(to, root, root_bytes)) return done;
    struct iovec part = {(void *)(to + root_bytes + 1), strlen(to) - root_bytes - 1};
    pthread_mutex_lock(&trace_lock);
    note(RENAME, from + root_bytes + 1, 0, &part, 1, part.iov_len);
    pthread_mutex_unlock(&trace_lock);
    return 0;
}

int unlink(const char *path) {
    int done = (int)syscall(SYS_unlink, path);
    if (done || trace < 0 || !root_bytes || strncmp(path, root, root_bytes)) return done;
    pthread_mutex_lock(&trace_lock);
    note(REMOVE, path + root_bytes + 1, 0, NULL, 0, 0);
    pthread_mutex_unlock(&trace_lock);
    return 0;
}

/* Called by the traced program itself: what it promises from here on. */
__attribute__((visibility("default"))) void kibubu_shim_mark(const char *text) {
    struct iovec part = {(void *)text, strlen(text)};
    pthread_mutex_lock(&trace_lock);
    note(MARK, "", 0, &part, 1, part.iov_len);
    pthread_mutex_unlock(&trace_lock);
}

/* Only the Python code's wall clock is wrong: libraries that give absolute times of it to the kernel would wait for
 * hours, which no real clock's jump makes them do. */
static int (*real_clock_gettime)(clockid_t, struct timespec *);
int clock_gettime(clockid_t clock, struct timespec *at) {
    if (!real_clock_gettime) *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real_clock_gettime(clock, at);
    int64_t offset = control->clock_offset_ns;
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    if (done || !offset || clock != CLOCK_REALTIME || caller < python_low || caller >= python_high) return done;
    __atomic_add_fetch(&control->clock_reads, 1, __ATOMIC_RELAXED);
    int64_t ns = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + offset;
    at->tv_sec = ns / 1000000000;
    at->tv_nsec = ns % 1000000000;
    return 0;
}
