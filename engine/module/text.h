/* SPDX-License-Identifier: MIT */
/* Of libdmabuf_rw itself: a text that is put together in a buffer of the caller's. */
#ifndef DMABUF_MODULE_TEXT_H
#define DMABUF_MODULE_TEXT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct drw_error;

/* @length is that of the whole text, of which @size - 1 bytes are in @buffer. */
struct text {
	char *buffer;
	size_t size;
	size_t length;
};

struct text text_begin(char *buffer, size_t size);
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "EIO", or "errno 1234" for a number without a name. */
void text_add_errno(struct text *text, int code);
/* "<sentence> (<name>, <errno>)" */
void text_add_cause(struct text *text, uint32_t reason, int code);

/* What of a machine decides why the device cannot be opened. */
struct machine {
	int module_loaded;
	int signed_modules_only;
};

/*
 * By what Linux says. Secure Boot locks it down, "none [integrity] confidentiality"; a parameter asks for signatures
 * alone, "Y". Each is "" where there is no such file.
 */
int signed_modules_only(const char *lockdown, const char *sig_enforce);
/* drw_open_text() on a machine. */
size_t open_text(char *buffer, size_t size, int code, struct machine machine);

/* Fills @error, if there is one, and returns -@code. */
int error_plain(struct drw_error *error, int code, const char *what);
int error_reason(struct drw_error *error, uint32_t reason, int code, const char *what);

#ifdef __cplusplus
}
#endif

#endif /* DMABUF_MODULE_TEXT_H */
