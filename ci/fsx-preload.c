/* Loaded into fsx (LD_PRELOAD), to make it do what it has no setting for:
 *   FSX_DIRECT=1  every file is opened with O_DIRECT
 *   FSX_ZERO=1    a hole is punched by FALLOC_FL_ZERO_RANGE with FALLOC_FL_KEEP_SIZE; the content is the same
 * Says at the end on stderr how often, so that a run in which nothing was changed does not pass for one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long opened, zeroed;

static int flags_of(int flags) {
    if (!getenv("FSX_DIRECT") || (flags & O_ACCMODE) != O_RDWR)
        return flags;
    opened++;
    return flags | O_DIRECT;
}

#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        static int (*next)(const char *, int, ...);                           \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                         \
        if (!next)                                                            \
            next = dlsym(RTLD_NEXT, #name);                                   \
        return next(path, flags_of(flags), mode);                             \
    }

OPEN(open)
OPEN(open64)

#define FALLOCATE(name)                                                       \
    int name(int fd, int mode, off64_t offset, off64_t len) {                 \
        static int (*next)(int, int, off64_t, off64_t);                       \
        if (!next)                                                            \
            next = dlsym(RTLD_NEXT, #name);                                   \
        if (getenv("FSX_ZERO") && mode & FALLOC_FL_PUNCH_HOLE) {              \
            mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;                \
            zeroed++;                                                         \
        }                                                                     \
        return next(fd, mode, offset, len);                                   \
    }

FALLOCATE(fallocate)
FALLOCATE(fallocate64)

__attribute__((destructor)) static void tell(void) {
    fprintf(stderr, "opened directly %lu, zeroed %lu\n", opened, zeroed);
}
