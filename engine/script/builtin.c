/*
 * builtin - the folder and its certificate. Several processes may begin at the same time: the one
 * with the lock makes the pair, the others find it.
 */
#include "script/builtin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "codec/cert_make.h"

#define CERT_FILE "MakoServer.pem"
#define KEY_FILE "MakoServer.key"
#define TEMPORARY ".new"
#define CERT_DAYS 3650

static bool fits(int n, size_t size)
{
    return n > 0 && (size_t)n < size;
}

bool cs_builtin_dir(const struct cs_vm *vm, char *path, size_t size)
{
    const char *dir;

    if (!vm->script_mode) {
        return fits(snprintf(path, size, "%s/vm", vm->data_dir), size);
    }
    dir = getenv("STATE_DIRECTORY");
    if (dir && dir[0]) {
        return fits(snprintf(path, size, "%s", dir), size);
    }
    dir = getenv("XDG_STATE_HOME");
    if (dir && dir[0] == '/') {
        return fits(snprintf(path, size, "%s/cosockd", dir), size);
    }
    dir = getenv("HOME");
    return dir && dir[0] == '/' && fits(snprintf(path, size, "%s/.local/state/cosockd", dir), size);
}

/* ---- files ---- */

/* Root makes things for whoever the folder belongs to, who reads them again after a reload. */
static int give_away(int fd, int dir)
{
    struct stat st;

    if (geteuid() != 0 || fstat(dir, &st) < 0 || st.st_uid == 0) {
        return 0;
    }
    return fchown(fd, st.st_uid, st.st_gid) < 0 ? -errno : 0;
}

/* Opens a folder in `dir`, and makes it first if need be. Closes dir. A descriptor or -errno. */
static int enter(int dir, const char *name)
{
    bool made = mkdirat(dir, name, 0700) == 0;
    int err = made || errno == EEXIST ? 0 : -errno;
    int fd = err == 0 ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (err == 0 && fd < 0) {
        err = -errno;
    }
    if (err == 0 && made) {
        err = give_away(fd, dir);
    }
    close(dir);
    if (err < 0 && fd >= 0) {
        close(fd);
    }
    return err < 0 ? err : fd;
}

/* A daemon's data folder must be there: whose it is to be is the system's to say. A user's folders
 * are made as they are needed. A descriptor of the folder, or -errno. */
static int open_folder(const struct cs_vm *vm, char *path)
{
    size_t root_len = vm->script_mode ? 0 : strlen(vm->data_dir);
    char *rest = path + root_len, *name;
    int dir = open(vm->script_mode ? (path[0] == '/' ? "/" : ".") : vm->data_dir,
                   O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    dir = dir < 0 ? -errno : dir;
    while (dir >= 0 && (name = strtok_r(rest, "/", &rest))) {
        dir = enter(dir, name);
    }
    return dir;
}

/* A whole file or none. 0 or -errno. */
static int write_file(int dir, const char *name, mode_t mode, const struct cs_pem_text *text)
{
    char temporary[64];
    int fd, err;

    (void)snprintf(temporary, sizeof(temporary), "%s" TEMPORARY, name);
    fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return -errno;
    }
    err = give_away(fd, dir);
    if (err == 0) {
        err = cs_fd_write_all(fd, text->bytes, text->len);
    }
    if (err == 0 && fsync(fd) < 0) {
        err = -errno;
    }
    close(fd);
    if (err == 0 && renameat(dir, temporary, dir, name) < 0) {
        err = -errno;
    }
    if (err < 0) {
        (void)unlinkat(dir, temporary, 0);
    }
    return err;
}

/* ---- the pair ---- */

static int make_pair(int dir)
{
    struct cs_pem_text cert, key;
    struct cs_cert_error why;
    char host[256] = "", names[512];
    int err;

    if (gethostname(host, sizeof(host) - 1) < 0 || !host[0]) {
        (void)snprintf(host, sizeof(host), "localhost");
    }
    (void)snprintf(names, sizeof(names), "localhost;%s;IP:127.0.0.1;IP:::1", host);
    err = cs_make_self_signed(&cert, &key, "cosockd", names, CERT_DAYS, &why);
    if (err < 0) {
        return err;
    }
    err = write_file(dir, KEY_FILE, 0600, &key);
    if (err == 0) {
        err = write_file(dir, CERT_FILE, 0644, &cert); /* last: with it the pair is complete */
    }
    cs_pem_text_free(&cert);
    cs_pem_text_free(&key);
    return err;
}

static int ensure_pair(int dir, bool *made)
{
    if (faccessat(dir, CERT_FILE, F_OK, 0) == 0) {
        return 0;
    }
    if (flock(dir, LOCK_EX) < 0) {
        return -errno;
    }
    if (faccessat(dir, CERT_FILE, F_OK, 0) == 0) {
        return 0;
    }
    *made = true;
    return make_pair(dir);
}

void cs_builtin_make(struct cs_vm *vm)
{
    char path[PATH_MAX];
    bool made = false;
    int dir, err;

    if (!cs_builtin_dir(vm, path, sizeof(path))) {
        return;
    }
    dir = open_folder(vm, path);
    dir = dir < 0 ? dir : enter(dir, ".certificate");
    err = dir < 0 ? dir : ensure_pair(dir, &made);
    if (dir >= 0) {
        close(dir); /* and the lock with it */
    }
    if (err == 0 && !made) {
        return;
    }
    if (!cs_builtin_dir(vm, path, sizeof(path))) { /* open_folder has cut it into its names */
        return;
    }
    if (err < 0) {
        cs_log(CS_LOG_WARN, "no certificate for this server folder=%s/.certificate reason=\"%s\"",
               path, cs_err_text(err));
    } else {
        cs_log(CS_LOG_NOTICE, "certificate for this server made folder=%s/.certificate days=%d",
               path, CERT_DAYS);
    }
}
