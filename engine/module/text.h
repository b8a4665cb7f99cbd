/* SPDX-License-Identifier: MIT */
/* Of libdmabuf_rw itself: a text that is put together in a buffer of the caller's. */
#ifndef DMABUF_MODULE_TEXT_H
#define DMABUF_MODULE_TEXT_H

#include <stddef.h>
#include <stdint.h>

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

/* Fills @error, if there is one, and returns -@code. */
int error_plain(struct drw_error *error, int code, const char *what);
int error_reason(struct drw_error *error, uint32_t reason, int code, const char *what);

#endif /* DMABUF_MODULE_TEXT_H */
