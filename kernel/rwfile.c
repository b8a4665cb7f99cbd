// SPDX-License-Identifier: GPL-2.0-only
/*
 * rw fds: a dma-buf as a file that read(2) and write(2) know what to do with.
 *
 * They are regular files of a filesystem of their own; user space sees only them
 * of it. So they have a size and a position, and splice, sendfile, io_uring and
 * every program that reads files take them. The filesystem is mounted as long as
 * there is an rw fd, so that the module can be unloaded when there is none.
 *
 * An rw fd never allows more than the dma-buf's fd did. It cannot be opened
 * again with other rights through /proc (the inode's open is the kernel's
 * no_open()), a mapping of a read-only one never becomes writable, and it
 * neither grows nor shrinks.
 */
#include <linux/capability.h>
#include <linux/dma-buf.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/poll.h>
#include <linux/pseudo_fs.h>
#include <linux/sched/signal.h>
#include <linux/cred.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <uapi/linux/dma-buf.h>

#include "compat.h"
#include "cpu_view.h"
#include "fence.h"
#include "limits.h"
#include "memory.h"
#include "rwfile.h"
#include "session.h"

#define RWFILE_MAGIC	0x64625257	/* "WRbd" in memory */

/* One rw fd. */
struct rwfile {
	struct dmabuf_rw_view *view;
	u64 size;
	u32 wait_ms;
	const struct cred *cred;	/* its user is charged for @charged pages */
	unsigned long charged;
	struct rwfile_owner *owner;	/* counts it */
	atomic64_t reads;
	atomic64_t writes;
	atomic64_t read_bytes;
	atomic64_t write_bytes;
};

/* A user who has rw fds. */
struct rwfile_owner {
	struct list_head node;		/* this and @files: rwfile_owners_lock */
	const struct cred *cred;
	u32 files;
};

static LIST_HEAD(rwfile_owners);
static DEFINE_MUTEX(rwfile_owners_lock);

/* While there is an rw fd; see simple_pin_fs(). */
static struct vfsmount *rwfile_mount;
static int rwfile_mount_users;

/* Count one more rw fd of the user of @cred, or not if he has as many as he may. */
static struct rwfile_owner *owner_get(const struct cred *cred)
{
	struct rwfile_owner *owner;

	guard(mutex)(&rwfile_owners_lock);
	list_for_each_entry(owner, &rwfile_owners, node) {
		if (owner->cred->user != cred->user)
			continue;
		if (owner->files >= DMABUF_RW_MAX_RW_FILES && !capable(CAP_SYS_RESOURCE))
			return ERR_PTR(-EMFILE);
		owner->files++;
		return owner;
	}
	owner = kzalloc_obj(*owner, GFP_KERNEL_ACCOUNT);
	if (!owner)
		return ERR_PTR(-ENOMEM);
	owner->cred = get_cred(cred);
	owner->files = 1;
	list_add(&owner->node, &rwfile_owners);
	return owner;
}

static void owner_put(struct rwfile_owner *owner)
{
	guard(mutex)(&rwfile_owners_lock);
	if (--owner->files)
		return;
	list_del(&owner->node);
	put_cred(owner->cred);
	kfree(owner);
}

static struct dma_buf *rwfile_dmabuf(const struct file *file)
{
	const struct rwfile *rw = file->private_data;

	return dmabuf_rw_view_dmabuf(rw->view);
}

/*
 * Begin CPU access. The framework waits for fences, too, and without limit: so
 * ours first. A fence that comes in between can still be interrupted.
 */
static int rwfile_begin(const struct rwfile *rw, enum dma_data_direction dir, bool write,
			bool nowait)
{
	struct dma_buf *dmabuf = dmabuf_rw_view_dmabuf(rw->view);
	unsigned long give_up = jiffies + msecs_to_jiffies(rw->wait_ms);
	int ret;

	for (;;) {
		if (nowait && dmabuf_rw_fenced(dmabuf, write))
			return -EAGAIN;
		ret = dmabuf_rw_wait_fences(dmabuf, write, rw->wait_ms).error;
		if (!ret)
			ret = dma_buf_begin_cpu_access(dmabuf, dir);
		/* The framework's rule: after EAGAIN or EINTR, begin again. */
		if (ret == -EINTR)
			return dmabuf_rw_restart(ret);
		if (ret != -EAGAIN || nowait)
			return ret;
		if (time_after(jiffies, give_up))
			return -ETIMEDOUT;
		schedule_timeout_interruptible(1);
		if (signal_pending(current))
			return -ERESTARTSYS;
	}
}

/* Between the dma-buf from @position on and @iter, which fits. */
static ssize_t rwfile_copy(struct rwfile *rw, u64 position, struct iov_iter *iter, bool write,
			   bool nowait)
{
	enum dma_data_direction dir = dmabuf_rw_cpu_direction(write);
	struct dma_buf *dmabuf = dmabuf_rw_view_dmabuf(rw->view);
	ssize_t moved;
	int ret;

	ret = rwfile_begin(rw, dir, write, nowait);
	if (ret)
		return ret;
	moved = dmabuf_rw_view_move(rw->view, position, iter, write);
	ret = dma_buf_end_cpu_access(dmabuf, dir);
	/* Devices may not see what was written: it has to be written again. */
	if (ret && write && moved > 0)
		return dmabuf_rw_restart(ret);
	return moved;
}

static ssize_t rwfile_move(struct kiocb *kiocb, struct iov_iter *iter, bool write)
{
	bool nowait = (kiocb->ki_flags & IOCB_NOWAIT) || (kiocb->ki_filp->f_flags & O_NONBLOCK);
	struct rwfile *rw = kiocb->ki_filp->private_data;
	u64 position = kiocb->ki_pos;
	size_t over = 0;
	ssize_t moved;

	if (!iov_iter_count(iter))
		return 0;
	if (write && (kiocb->ki_flags & IOCB_APPEND))
		position = rw->size;
	if (position >= rw->size)
		return write ? -ENOSPC : 0;
	if (iov_iter_count(iter) > rw->size - position) {
		over = iov_iter_count(iter) - (rw->size - position);
		iov_iter_truncate(iter, rw->size - position);
	}
	moved = rwfile_copy(rw, position, iter, write, nowait);
	if (over)
		iov_iter_reexpand(iter, iov_iter_count(iter) + over);
	if (moved <= 0)
		return moved;

	kiocb->ki_pos = position + moved;
	atomic64_inc(write ? &rw->writes : &rw->reads);
	atomic64_add(moved, write ? &rw->write_bytes : &rw->read_bytes);
	return moved;
}

static ssize_t rwfile_read_iter(struct kiocb *kiocb, struct iov_iter *iter)
{
	return rwfile_move(kiocb, iter, false);
}

static ssize_t rwfile_write_iter(struct kiocb *kiocb, struct iov_iter *iter)
{
	return rwfile_move(kiocb, iter, true);
}

/* As the dma-buf's own: readable and writable when the fences have signalled. */
static __poll_t rwfile_poll(struct file *file, poll_table *wait)
{
	__poll_t events = vfs_poll(rwfile_dmabuf(file)->file, wait);

	if (events & EPOLLIN)
		events |= EPOLLRDNORM;
	if (events & EPOLLOUT)
		events |= EPOLLWRNORM;
	return events;
}

/*
 * The mapping becomes one of the dma-buf's file, which may be open for more than
 * this one. What do_mmap() took away stays away: from a read-only rw fd the
 * mapping has lost VM_MAYWRITE, which mprotect() asks for, and VM_SHARED, without
 * which remap_file_pages() does not open the way around.
 */
static int rwfile_mmap(struct file *file, struct vm_area_struct *vma)
{
	const vm_flags_t writable = VM_WRITE | VM_MAYWRITE;
	int ret;

	/* A private one would be a copy that nobody keeps coherent. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (!(file->f_mode & FMODE_WRITE) && (vma->vm_flags & writable))
		return -EACCES;
	ret = dma_buf_mmap(rwfile_dmabuf(file), vma, vma->vm_pgoff);
	if (!ret && !(file->f_mode & FMODE_WRITE) && WARN_ON_ONCE(vma->vm_flags & writable))
		return -EACCES;
	return ret;
}

/* What a mapping needs around its accesses. Nothing else of the dma-buf's. */
static long rwfile_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct file *dmabuf = rwfile_dmabuf(file)->file;

	if (cmd != DMA_BUF_IOCTL_SYNC)
		return -ENOTTY;
	return dmabuf->f_op->unlocked_ioctl(dmabuf, cmd, arg);
}

static void rwfile_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct rwfile *rw = file->private_data;
	struct dma_buf *dmabuf = rwfile_dmabuf(file);

	seq_printf(seq, "size:\t%llu\ndmabuf_ino:\t%llu\nexp_name:\t%s\nview:\t%s\n", rw->size,
		   (u64)file_inode(dmabuf->file)->i_ino, dmabuf->exp_name,
		   dmabuf_rw_view_is_io(rw->view) ? "io" : "memory");
	seq_printf(seq, "reads:\t%lld\nwrites:\t%lld\nread_bytes:\t%lld\nwrite_bytes:\t%lld\n",
		   atomic64_read(&rw->reads), atomic64_read(&rw->writes),
		   atomic64_read(&rw->read_bytes), atomic64_read(&rw->write_bytes));
}

/* All except the view, which may be NULL, and the filesystem. */
static void rwfile_free(struct rwfile *rw)
{
	if (rw->view)
		dmabuf_rw_view_put(rw->view);
	if (rw->owner)
		owner_put(rw->owner);
	dmabuf_rw_uncharge(rw->cred->user, rw->charged);
	put_cred(rw->cred);
	kfree(rw);
}

static int rwfile_release(struct inode *inode, struct file *file)
{
	rwfile_free(file->private_data);
	/* The file's own reference to the mount outlives this call. */
	simple_release_fs(&rwfile_mount, &rwfile_mount_users);
	return 0;
}

static const struct file_operations rwfile_fops = {
	.owner = THIS_MODULE,
	DMABUF_RW_FOP_FLAGS
	.llseek = generic_file_llseek,
	.read_iter = rwfile_read_iter,
	.write_iter = rwfile_write_iter,
	.splice_read = DMABUF_RW_SPLICE_READ,
	.splice_write = iter_file_splice_write,
	.poll = rwfile_poll,
	.mmap = rwfile_mmap,
	.fsync = noop_fsync,
	.unlocked_ioctl = rwfile_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = rwfile_show_fdinfo,
	.release = rwfile_release,
};

/* No truncate, no chmod, no other owner: it is what it was made. */
static int rwfile_setattr(DMABUF_RW_IDMAP_ARG, struct dentry *dentry, struct iattr *attr)
{
	return -EPERM;
}

static const struct inode_operations rwfile_inode_ops = {
	.setattr = rwfile_setattr,
};

/* What /proc shows. The name stands at the end of the buffer. */
static char *rwfile_dname(struct dentry *dentry, char *buffer, int length)
{
	char name[40];
	int bytes = snprintf(name, sizeof(name), "dmabuf_rw:[%llu]",
			     (u64)d_inode(dentry)->i_ino) + 1;

	if (bytes > length)
		return ERR_PTR(-ENAMETOOLONG);
	return memcpy(buffer + length - bytes, name, bytes);
}

static const struct dentry_operations rwfile_dentry_ops = {
	.d_dname = rwfile_dname,
};

static int rwfile_init_fs_context(struct fs_context *fc)
{
	struct pseudo_fs_context *context = init_pseudo(fc, RWFILE_MAGIC);

	if (!context)
		return -ENOMEM;
	context->dops = &rwfile_dentry_ops;
	/* Newer kernels do so of themselves. */
	fc->s_iflags |= SB_I_NOEXEC | SB_I_NODEV;
	return 0;
}

static struct file_system_type rwfile_fs_type = {
	.owner = THIS_MODULE,
	.name = "dmabuf_rw",
	.init_fs_context = rwfile_init_fs_context,
	.kill_sb = kill_anon_super,
};

/* A file without anything behind it yet. The filesystem is mounted. */
static struct file *rwfile_alloc(u64 size, int flags)
{
	static const umode_t modes[] = {
		[O_RDONLY] = 0400,
		[O_WRONLY] = 0200,
		[O_RDWR] = 0600,
	};
	struct inode *inode = alloc_anon_inode(rwfile_mount->mnt_sb);
	struct file *file;

	if (IS_ERR(inode))
		return ERR_CAST(inode);
	inode->i_mode = S_IFREG | modes[flags & O_ACCMODE];
	inode->i_op = &rwfile_inode_ops;
	i_size_write(inode, size);
	inode_set_bytes(inode, size);

	/* Given back when the file is. */
	__module_get(THIS_MODULE);
	file = alloc_file_pseudo(inode, rwfile_mount, "dmabuf_rw",
				 (flags & (O_ACCMODE | O_NONBLOCK)) | O_LARGEFILE, &rwfile_fops);
	if (IS_ERR(file)) {
		module_put(THIS_MODULE);
		iput(inode);
		return file;
	}
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE | FMODE_ATOMIC_POS | FMODE_NOWAIT |
		DMABUF_RW_FMODE;
	return file;
}

static struct dmabuf_rw_result open_check(const struct dmabuf_rw_open *open)
{
	if ((open->flags & ~(O_ACCMODE | O_CLOEXEC | O_NONBLOCK)) ||
	    (open->flags & O_ACCMODE) == O_ACCMODE || open->reserved0 ||
	    memchr_inv(open->reserved, 0, sizeof(open->reserved)))
		return dmabuf_rw_fail(-EINVAL, DMABUF_RW_REASON_ARGUMENT);
	return DMABUF_RW_OK;
}

/* What @flags ask for against what the dma-buf is open for, and its size. */
static struct dmabuf_rw_result open_check_dmabuf(const struct dma_buf *dmabuf, u32 flags)
{
	fmode_t wanted = OPEN_FMODE(flags) & (FMODE_READ | FMODE_WRITE);

	if (wanted & ~dmabuf->file->f_mode)
		return dmabuf_rw_fail(-EACCES, DMABUF_RW_REASON_DMABUF_MODE);
	if (!dmabuf->size || dmabuf->size > DMABUF_RW_MAX_RW_BUFFER)
		return dmabuf_rw_fail(-EOPNOTSUPP, DMABUF_RW_REASON_SIZE_CAP);
	return DMABUF_RW_OK;
}

/* All of an rw fd but the file. */
static struct dmabuf_rw_result rwfile_make(struct dmabuf_rw_session *session,
					   struct dma_buf *dmabuf, struct rwfile **out)
{
	struct dmabuf_rw_result result;
	struct rwfile_owner *owner;
	struct rwfile *rw;

	rw = kzalloc_obj(*rw, GFP_KERNEL_ACCOUNT);
	if (!rw)
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	rw->size = dmabuf->size;
	rw->wait_ms = READ_ONCE(session->timeout_ms) ?: DMABUF_RW_WAIT_MS;
	rw->cred = get_cred(session->cred);
	owner = owner_get(rw->cred);
	if (IS_ERR(owner)) {
		result = PTR_ERR(owner) == -EMFILE ?
			dmabuf_rw_fail(-EMFILE, DMABUF_RW_REASON_LIMIT) :
			dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
		goto free;
	}
	rw->owner = owner;
	result = dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_MEMLOCK);
	if (dmabuf_rw_charge(rw->cred->user, rw->size, &rw->charged))
		goto free;
	result = dmabuf_rw_view_get(dmabuf, &rw->view);
	if (result.error)
		goto free;
	*out = rw;
	return DMABUF_RW_OK;

free:
	rwfile_free(rw);
	return result;
}

static struct dmabuf_rw_result rwfile_open(struct dmabuf_rw_session *session,
					   struct dma_buf *dmabuf, struct dmabuf_rw_open *open,
					   struct file **out)
{
	struct dmabuf_rw_result result;
	struct rwfile *rw;
	struct file *file;

	result = open_check_dmabuf(dmabuf, open->flags);
	if (result.error)
		return result;
	result = rwfile_make(session, dmabuf, &rw);
	if (result.error)
		return result;
	if (simple_pin_fs(&rwfile_fs_type, &rwfile_mount, &rwfile_mount_users)) {
		rwfile_free(rw);
		return dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	}
	file = rwfile_alloc(rw->size, open->flags);
	if (IS_ERR(file)) {
		simple_release_fs(&rwfile_mount, &rwfile_mount_users);
		rwfile_free(rw);
		/* ENFILE: as many files as the system may have. */
		return PTR_ERR(file) == -ENFILE ?
			dmabuf_rw_fail(-ENFILE, DMABUF_RW_REASON_LIMIT) :
			dmabuf_rw_fail(-ENOMEM, DMABUF_RW_REASON_NO_MEMORY);
	}
	file->private_data = rw;
	open->view = dmabuf_rw_view_is_io(rw->view) ? DMABUF_RW_VIEW_IO : DMABUF_RW_VIEW_MEMORY;
	open->buffer_bytes = rw->size;
	*out = file;
	return DMABUF_RW_OK;
}

/* The descriptor appears only when nothing can fail any more. */
static struct dmabuf_rw_result open_do(struct dmabuf_rw_session *session,
				       struct dmabuf_rw_open *open, void __user *arg)
{
	struct dmabuf_rw_result result = open_check(open);
	struct dma_buf *dmabuf;
	struct file *file;
	int fd;

	if (result.error)
		return result;
	dmabuf = dma_buf_get(open->dmabuf_fd);
	if (IS_ERR(dmabuf))
		return dmabuf_rw_fail(PTR_ERR(dmabuf), DMABUF_RW_REASON_NOT_DMABUF);
	fd = get_unused_fd_flags(open->flags & O_CLOEXEC);
	if (fd < 0) {
		result = dmabuf_rw_fail(fd, DMABUF_RW_REASON_LIMIT);
		goto put;
	}
	result = rwfile_open(session, dmabuf, open, &file);
	if (result.error)
		goto put_fd;
	open->fd = fd;
	if (copy_to_user(arg, open, sizeof(*open))) {
		fput(file);
		result = dmabuf_rw_fail(-EFAULT, DMABUF_RW_REASON_ARGUMENT);
		goto put_fd;
	}
	fd_install(fd, file);
	dma_buf_put(dmabuf);
	return DMABUF_RW_OK;

put_fd:
	put_unused_fd(fd);
put:
	dma_buf_put(dmabuf);
	return result;
}

/**
 * dmabuf_rw_ioctl_open - DMABUF_RW_IOC_OPEN
 * @session: the session; the rw fd does not need it any more afterwards
 * @arg: struct dmabuf_rw_open
 *
 * Context: process; may sleep.
 * Return: 0, -EINVAL, -EFAULT, -EBADF, -EACCES, -EMFILE, -ENFILE, -ENOMEM,
 * -EOPNOTSUPP, -ENODEV or -EINTR; see &struct dmabuf_rw_open.
 */
long dmabuf_rw_ioctl_open(struct dmabuf_rw_session *session, void __user *arg)
{
	struct dmabuf_rw_result result;
	struct dmabuf_rw_open open;

	if (copy_from_user(&open, arg, sizeof(open)))
		return -EFAULT;
	open.fd = 0;
	open.reason = DMABUF_RW_REASON_NONE;
	open.view = 0;
	open.buffer_bytes = 0;
	result = open_do(session, &open, arg);
	if (!result.error)
		return 0;
	open.reason = result.reason;
	if (result.error != -EFAULT && copy_to_user(arg, &open, sizeof(open)))
		return -EFAULT;
	return dmabuf_rw_restart(result.error);
}
