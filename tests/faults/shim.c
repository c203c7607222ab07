/* Stands between a program and the C library, and lets the n-th call that touches a file below a folder fail, or ends the process in
   it.

   LD_PRELOAD=shim.so; fault_arm(folder, at, action) arms it in this process and in those that it forks, fault_count() says how many
   such calls there have been. An action above zero is the errno that the call fails with; no space is left for writing only. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { KILL = -1, TERMINATE = -2, SHORT = -3 };

static long count, armed_at = -1;
static int armed_action;
static char armed_folder[PATH_MAX];

void fault_arm(const char *folder, long at, int action) {
    snprintf(armed_folder, sizeof armed_folder, "%s", folder);
    count = 0;
    armed_at = at;
    armed_action = action;
}

long fault_count(void) { return count; }

/* Relative paths start from the folder. */
static int is_below(const char *path) { return path[0] != '/' || strncmp(path, armed_folder, strlen(armed_folder)) == 0; }

static int is_ours(int fd) {
    char link[64], path[PATH_MAX];
    struct stat found;
    if (armed_at < 0 || fd <= 2 || fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* What is to happen in this call: nothing, a failure with errno set, or half of it. */
static int strikes(int writes) {
    if (armed_at < 0 || __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) != armed_at) return 0;
    if (armed_action == KILL) { kill(getpid(), SIGKILL); pause(); }
    if (armed_action == TERMINATE) { kill(getpid(), SIGTERM); return 0; }
    if (armed_action > 0) errno = armed_action == ENOSPC && !writes ? EIO : armed_action;
    return armed_action;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *from, size_t size) {
    REAL(write);
    int action = is_ours(fd) ? strikes(1) : 0;
    if (action == SHORT) return real(fd, from, size > 1 ? size / 2 : size);
    return action > 0 ? -1 : real(fd, from, size);
}

ssize_t read(int fd, void *to, size_t size) {
    REAL(read);
    int action = is_ours(fd) ? strikes(0) : 0;
    if (action == SHORT) return real(fd, to, size > 1 ? size / 2 : size);
    return action > 0 ? -1 : real(fd, to, size);
}

int fsync(int fd) {
    REAL(fsync);
    return is_ours(fd) && strikes(1) > 0 ? -1 : real(fd);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return is_below(to) && strikes(1) > 0 ? -1 : real(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    REAL(renameat);
    return is_below(to) && strikes(1) > 0 ? -1 : real(from_dir, from, to_dir, to);
}

int unlink(const char *path) {
    REAL(unlink);
    return is_below(path) && strikes(0) > 0 ? -1 : real(path);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return is_below(path) && strikes(1) > 0 ? -1 : real(path, mode);
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        REAL(name);                                                         \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                       \
        return is_below(path) && strikes(flags & O_CREAT) > 0 ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
