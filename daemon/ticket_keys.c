/* ticket_keys - see ticket_keys.h. What held a key is wiped. */
#include "daemon/ticket_keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "codec/base64.h"

#define LINE_MAX_LEN 256

/* One line without its end. False: it is no key. */
static bool read_key(uint8_t *key, const char *line)
{
    uint8_t bytes[CS_BASE64_BYTES(LINE_MAX_LEN)];
    size_t len;
    bool good =
        cs_base64_decode(bytes, &len, line, strlen(line)) == 0 && len == CS_TLS_TICKET_KEY_SIZE;

    if (good) {
        memcpy(key, bytes, len);
    }
    explicit_bzero(bytes, sizeof(bytes));
    return good;
}

static void read_lines(struct csd_ticket_keys *out, FILE *f, const char *path,
                       struct cs_errors *errors)
{
    char line[LINE_MAX_LEN];
    int number = 0;

    while (fgets(line, sizeof(line), f)) {
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#') {
            continue;
        }
        if (out->count == CS_TLS_TICKET_KEYS_MAX) {
            cs_errors_add(errors, path, number, "at most %u ticket keys", CS_TLS_TICKET_KEYS_MAX);
            break;
        }
        if (!read_key(out->keys[out->count], line)) {
            cs_errors_add(errors, path, number, "this is no ticket key (%u bytes in base64)",
                          CS_TLS_TICKET_KEY_SIZE);
            break;
        }
        out->count++;
    }
    explicit_bzero(line, sizeof(line));
    if (ferror(f)) {
        cs_errors_add(errors, path, number, "cannot be read");
    } else if (out->count == 0) {
        cs_errors_add(errors, path, number, "there is no ticket key in it");
    }
}

void csd_ticket_keys_read(struct csd_ticket_keys *out, const char *path, struct cs_errors *errors)
{
    char buffer[4096];
    FILE *f;

    *out = (struct csd_ticket_keys){0};
    if (!path) {
        return;
    }
    f = fopen(path, "re");
    if (!f) {
        cs_errors_add(errors, path, 0, "ticket_keys: %s", cs_err_text(-errno));
        return;
    }
    (void)setvbuf(f, buffer, _IOFBF, sizeof(buffer)); /* one that we can wipe */
    read_lines(out, f, path, errors);
    (void)fclose(f);
    explicit_bzero(buffer, sizeof(buffer));
}

void csd_ticket_keys_wipe(struct csd_ticket_keys *k)
{
    explicit_bzero(k, sizeof(*k));
}
