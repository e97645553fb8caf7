/*
 * err - names and phrases of error codes, ours and the kernel's.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strerrorname_np; strerror_r that returns the text */
#endif

#include "base/err.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The kernel returns no errno beyond this; ours start well below. */
#define ERR_ERRNO_MAX 4095

/* strerror_r may write here, and unknown codes are spelled here. */
static _Thread_local char err_buf[64];

static bool err_is_errno(int err)
{
    return err < 0 && err >= -ERR_ERRNO_MAX;
}

const char *cs_err_name(int err)
{
    const char *name = NULL;

    switch (err) {
    case CS_OK:
        return "OK";
#define ERR_NAME(name, value, text)                                                                \
    case value:                                                                                    \
        return #name;
        CS_ERR_LIST(ERR_NAME)
#undef ERR_NAME
    default:
        break;
    }
    if (err_is_errno(err)) {
        name = strerrorname_np(-err);
    }
    return name != NULL ? name : "EUNKNOWN";
}

/* The C library's sentence as a phrase: "Connection refused" loses its capital, "RFS ..." does
 * not. */
static const char *err_errno_text(int number)
{
    char tmp[sizeof(err_buf)];
    const char *text = strerror_r(number, tmp, sizeof(tmp));

    snprintf(err_buf, sizeof(err_buf), "%s", text);
    if (isupper((unsigned char)err_buf[0]) && !isupper((unsigned char)err_buf[1])) {
        err_buf[0] = (char)tolower((unsigned char)err_buf[0]);
    }
    return err_buf;
}

const char *cs_err_text(int err)
{
    switch (err) {
    case CS_OK:
        return "success";
#define ERR_TEXT(name, value, text)                                                                \
    case value:                                                                                    \
        return text;
        CS_ERR_LIST(ERR_TEXT)
#undef ERR_TEXT
    default:
        break;
    }
    if (err_is_errno(err)) {
        return err_errno_text(-err);
    }
    snprintf(err_buf, sizeof(err_buf), "unknown error %d", err);
    return err_buf;
}
