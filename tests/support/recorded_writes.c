/* Writes down every change that a process makes to files under one folder, in order, with its data.
 *
 * To be preloaded (LD_PRELOAD). RECORD_FOLDER names the folder, RECORD_TO the file to append to. A write is noted before
 * it is made, because from then on a disk may hold it; a sync after it was made, because before that nobody may rely on
 * it; its OFFSET is the number of notes before it began, which are all that it covers. One lock keeps the order. Each
 * note is a line of text, and for a write its bytes:
 *
 *     TIME_NS what INODE OFFSET LENGTH PATH\n
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define FILES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char ours[FILES]; /* 1: a file in the folder, 2: the folder itself */
static int notes = -1;
static long long number; /* of notes */
static const char *folder;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    folder = getenv("RECORD_FOLDER");
    const char *to = getenv("RECORD_TO");
    if (folder && to) notes = REAL(open)(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_under(const char *path) {
    return notes >= 0 && path && !strncmp(path, folder, strlen(folder)) && path[strlen(folder)] == '/';
}

static void note(const char *what, ino_t inode, long long offset, long long length, const char *path, const void *data) {
    struct timespec now;
    char line[PATH_MAX + 128];
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(line, sizeof line, "%lld%09ld %s %llu %lld %lld %s\n", (long long)now.tv_sec, now.tv_nsec, what,
                        (unsigned long long)inode, offset, length, path ? path : "");
    if (REAL(write)(notes, line, size) != size) abort();
    number++;
    for (long long done = 0; data && done < length;) {
        ssize_t more = REAL(write)(notes, (const char *)data + done, length - done);
        if (more < 0) abort();
        done += more;
    }
}

static ino_t inode_of(int file) {
    struct stat found;
    return fstat(file, &found) ? 0 : found.st_ino;
}

static int kind_of(int file) { return file >= 0 && file < FILES ? ours[file] : 0; }

static int opened(int file, const char *path, int flags, int existed) {
    if (file < 0 || file >= FILES) return file;
    ours[file] = 0;
    if (notes >= 0 && path && !strcmp(path, folder)) ours[file] = 2;
    if (is_under(path) && !(flags & O_DIRECTORY)) {
        ours[file] = 1;
        pthread_mutex_lock(&lock);
        if ((flags & O_CREAT) && !existed) note("create", inode_of(file), 0, 0, path, NULL);
        if (existed && (flags & O_TRUNC)) note("truncate", inode_of(file), 0, 0, NULL, NULL);
        pthread_mutex_unlock(&lock);
    }
    return file;
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...) {                                     \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;      \
        va_end(more);                                                                \
        int existed = is_under(path) && !access(path, F_OK);                         \
        return opened(REAL(name)(path, flags, mode), path, flags, existed);          \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                 \
    int name(int at, const char *path, int flags, ...) {                             \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;      \
        va_end(more);                                                                \
        int existed = is_under(path) && !access(path, F_OK);                         \
        return opened(REAL(name)(at, path, flags, mode), path, flags, existed);      \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
    if (file >= 0 && file < FILES) ours[file] = 0;
    return REAL(close)(file);
}

ssize_t write(int file, const void *data, size_t length) {
    if (kind_of(file) != 1) return REAL(write)(file, data, length);
    struct stat found;
    pthread_mutex_lock(&lock);
    fstat(file, &found);
    int appends = fcntl(file, F_GETFL) & O_APPEND;
    note("write", found.st_ino, appends ? found.st_size : lseek(file, 0, SEEK_CUR), length, NULL, data);
    ssize_t done = REAL(write)(file, data, length);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name, offset_type)                                                    \
    ssize_t name(int file, const void *data, size_t length, offset_type offset) {    \
        if (kind_of(file) != 1) return REAL(name)(file, data, length, offset);       \
        pthread_mutex_lock(&lock);                                                   \
        note("write", inode_of(file), offset, length, NULL, data);                   \
        ssize_t done = REAL(name)(file, data, length, offset);                       \
        pthread_mutex_unlock(&lock);                                                 \
        return done;                                                                 \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define TRUNCATE(name, offset_type)                                                  \
    int name(int file, offset_type length) {                                         \
        if (kind_of(file) != 1) return REAL(name)(file, length);                     \
        pthread_mutex_lock(&lock);                                                   \
        note("truncate", inode_of(file), length, 0, NULL, NULL);                     \
        int done = REAL(name)(file, length);                                         \
        pthread_mutex_unlock(&lock);                                                 \
        return done;                                                                 \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                   \
    int name(int file) {                                                             \
        int kind = kind_of(file);                                                    \
        pthread_mutex_lock(&lock);                                                   \
        long long before = number;                                                   \
        pthread_mutex_unlock(&lock);                                                 \
        int done = REAL(name)(file);                                                 \
        if (kind && !done) {                                                         \
            pthread_mutex_lock(&lock);                                               \
            note(kind == 2 ? "syncfolder" : "sync", inode_of(file), before, 0, NULL, NULL); \
            pthread_mutex_unlock(&lock);                                             \
        }                                                                            \
        return done;                                                                 \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    struct stat found;
    if (!is_under(path) || lstat(path, &found)) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    note("unlink", found.st_ino, 0, 0, path, NULL);
    int done = REAL(unlink)(path);
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    struct stat found;
    if (!is_under(to) || lstat(from, &found)) return REAL(rename)(from, to);
    pthread_mutex_lock(&lock);
    note("unlink", found.st_ino, 0, 0, from, NULL);
    note("rename", found.st_ino, 0, 0, to, NULL);
    int done = REAL(rename)(from, to);
    pthread_mutex_unlock(&lock);
    return done;
}
