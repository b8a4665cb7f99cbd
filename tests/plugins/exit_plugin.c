// SPDX-License-Identifier: GPL-2.0-only
/*
 * The documentation's plug-in, which ends the process in one of its functions. Its argument is FUNCTION:WAY: by
 * exit(0), by _exit(0), by exit(0) in a thread of its own, at once or later, or in a child of its own, which is no
 * harm.
 */
#define _GNU_SOURCE
#include <libdmabuf/exporter.h>

#define COPIES
#define libdmabuf_exporter_table example_table
#include "../../docs/examples/udmabuf_plugin.c"
#undef libdmabuf_exporter_table

#include <pthread.h>
#include <sys/wait.h>

static char function[16], way[16];

static void *leave(void *later)
{
	if (later)
		sleep(1);
	exit(0);
}

static void end_in(const char *name)
{
	pthread_t thread;
	pid_t child;

	if (strcmp(name, function))
		return;
	if (!strcmp(way, "exit"))
		exit(0);
	if (!strcmp(way, "_exit"))
		_exit(0);
	if (!strcmp(way, "thread") && !pthread_create(&thread, NULL, leave, NULL))
		pthread_join(thread, NULL);
	if (!strcmp(way, "later"))
		pthread_create(&thread, NULL, leave, way);
	if (!strcmp(way, "child")) {
		child = fork();
		if (!child)
			exit(0);
		waitpid(child, NULL, 0);
	}
}

static int open_or_end(const char *arguments, struct libdmabuf_device **device, struct libdmabuf_words *why)
{
	if (sscanf(arguments, "%15[a-z];%15[a-z_]", function, way) != 2)
		return failed(why, EINVAL, "its argument is FUNCTION;WAY");
	end_in("open");
	return open_device("", device, why);
}

static void close_or_end(struct libdmabuf_device *device)
{
	end_in("close");
	close_device(device);
}

static int alloc_or_end(struct libdmabuf_device *device, const struct libdmabuf_request *request,
			struct libdmabuf_allocation *made, struct libdmabuf_words *why)
{
	end_in("alloc");
	return alloc_buffer(device, request, made, why);
}

static void free_or_end(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer)
{
	end_in("free");
	free_buffer(device, buffer);
}

static int read_or_end(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer, uint64_t offset, void *to,
		       uint64_t bytes)
{
	end_in("read");
	return read_buffer(device, buffer, offset, to, bytes);
}

static int write_or_end(struct libdmabuf_device *device, struct libdmabuf_buffer *buffer, uint64_t offset,
			const void *from, uint64_t bytes)
{
	end_in("write");
	return write_buffer(device, buffer, offset, from, bytes);
}

const struct libdmabuf_exporter *libdmabuf_exporter_table(void)
{
	static struct libdmabuf_exporter table;

	table = *example_table();
	table.name = "that ends";
	table.open = open_or_end;
	table.close = close_or_end;
	table.alloc = alloc_or_end;
	table.free = free_or_end;
	table.read = read_or_end;
	table.write = write_or_end;
	return &table;
}
