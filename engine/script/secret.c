/* secret - copies and files that are wiped. */
#include "script/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define FILE_MAX (64 << 20)

void cs_secret_free(struct cs_secret *s)
{
    if (s->bytes) {
        explicit_bzero(s->bytes, s->len);
        cs_free(s->bytes);
    }
    *s = (struct cs_secret){0};
}

/* ---- copies ---- */

static struct cs_cert_text given(const struct cs_secret_copy *c)
{
    const char *s = c->string ? *c->string : NULL;

    return c->text ? *c->text : (struct cs_cert_text){s, s ? strlen(s) : 0};
}

void cs_secret_copy(lua_State *L, struct cs_secret *out, const struct cs_secret_copy *places,
                    unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++) {
        size += given(&places[i]).len + 1;
    }
    char *at = cs_alloc(size);

    if (!at) {
        luaL_error(L, "not enough memory");
        return;
    }
    *out = (struct cs_secret){at, size};
    for (unsigned i = 0; i < count; i++) {
        struct cs_cert_text t = given(&places[i]);

        if (!t.bytes) {
            continue;
        }
        memcpy(at, t.bytes, t.len);
        at[t.len] = '\0';
        if (places[i].text) {
            places[i].text->bytes = at;
        } else {
            *places[i].string = at;
        }
        at += t.len + 1;
    }
}

/* ---- files ---- */

static int read_all(int fd, char *to, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = read(fd, to + done, size - done);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            return -EIO; /* it has become shorter while we read */
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int open_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int err = fd < 0 ? -errno : cs_file_check(&fd, false);

    return err < 0 ? err : fd;
}

int cs_secret_read(struct cs_secret *out, struct cs_io_place folder, const char *path)
{
    struct stat st;
    int fd = folder.base ? cs_io_open_file(folder, path) : open_path(path);

    *out = (struct cs_secret){0};
    if (fd < 0) {
        return fd;
    }
    int err = fstat(fd, &st) < 0 ? -errno : st.st_size > FILE_MAX ? -EFBIG : 0;

    if (err == 0) {
        out->len = (size_t)st.st_size;
        out->bytes = cs_alloc(out->len + 1);
        err = out->bytes ? read_all(fd, out->bytes, out->len) : -ENOMEM;
    }
    close(fd);
    if (err < 0) {
        cs_secret_free(out);
    } else {
        out->bytes[out->len] = '\0';
    }
    return err;
}
