/* A disk that forgets: loaded before libc, it writes down which bytes of which file were written
 * and which were synced, so that a test can take away, after kill -9, what a power cut would have.
 *
 * Journal lines, for files below DISK_ROOT, appended to DISK_JOURNAL:
 *   W <offset> <length> <path>   about to write
 *   F <ticket> <path>            about to sync
 *   S <ticket> <path>            synced
 *   T <length> <path>            about to set the length
 *   R <from>\t<to>               renamed
 * With DISK_IGNORES_SYNC set, syncs do nothing and say they did: the control of the test.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_ulong tickets;

static void journal(const char *format, ...) {
    static _Atomic int fd = -1;
    char line[PATH_MAX * 2 + 128];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (fd < 0) {
        const char *path = getenv("DISK_JOURNAL");
        if (!path) return;
        fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    }
    if (n > 0 && n < (int)sizeof line) syscall(SYS_write, fd, line, (size_t)n);
}

/* The path behind fd when it is a regular file below DISK_ROOT, else NULL. */
static const char *watched(int fd, char *buffer) {
    const char *root = getenv("DISK_ROOT");
    if (!root) return NULL;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, PATH_MAX - 1);
    if (n <= 0) return NULL;
    buffer[n] = 0;
    if (strncmp(buffer, root, strlen(root)) != 0) return NULL;
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? buffer : NULL;
}

static void before_write(int fd, size_t length) {
    char buffer[PATH_MAX];
    const char *path = watched(fd, buffer);
    if (!path) return;
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (fcntl(fd, F_GETFL) & O_APPEND) {
        struct stat st;
        fstat(fd, &st);
        at = st.st_size;
    }
    journal("W %lld %zu %s\n", (long long)at, length, path);
}

static void before_write_at(int fd, size_t length, off_t at) {
    char buffer[PATH_MAX];
    const char *path = watched(fd, buffer);
    if (path) journal("W %lld %zu %s\n", (long long)at, length, path);
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

ssize_t write(int fd, const void *data, size_t length) {
    before_write(fd, length);
    return syscall(SYS_write, fd, data, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    before_write(fd, total(parts, count));
    return syscall(SYS_writev, fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    before_write_at(fd, length, at);
    return syscall(SYS_pwrite64, fd, data, length, at);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    return pwrite64(fd, data, length, at);
}

int ftruncate64(int fd, off64_t length) {
    char buffer[PATH_MAX];
    const char *path = watched(fd, buffer);
    if (path) journal("T %lld %s\n", (long long)length, path);
    return syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_file(int fd, long call) {
    char buffer[PATH_MAX];
    const char *path = watched(fd, buffer);
    if (path && getenv("DISK_IGNORES_SYNC")) return 0;
    unsigned long ticket = atomic_fetch_add(&tickets, 1);
    if (path) journal("F %lu %s\n", ticket, path);
    int result = syscall(call, fd);
    if (path && result == 0) journal("S %lu %s\n", ticket, path);
    return result;
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }

int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

int rename(const char *from, const char *to) {
    int result = syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
    if (result == 0) journal("R %s\t%s\n", from, to);
    return result;
}
