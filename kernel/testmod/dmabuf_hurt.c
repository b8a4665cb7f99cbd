// SPDX-License-Identifier: GPL-2.0-only
/*
 * dmabuf_hurt: what happens to a machine now and then, on command. For tests
 * in a virtual machine, and for nothing else.
 *
 * Files in /sys/kernel/debug/dmabuf_hurt:
 *
 * freeze	write "DISK MS": freezes the queue of /dev/DISK for so long, as a
 *		format or a sanitize does. The write returns when the queue goes on.
 *		read: how many queues are frozen now.
 * lose		write "DDDD:BB:DD.F": the PCI function is gone as if it had been
 *		pulled. It does no DMA any more, and the kernel takes it for lost.
 * slow		write "FUNCTION MS TID": the thread's calls of the kernel function
 *		come back so much later. The function has six arguments at most, in
 *		registers. write "off": no more.
 *		read: how many calls have been slowed since.
 * prp		write "all": commands of NVMe namespaces that have no segments get the
 *		address of a page of this module as their first PRP word, until "off";
 *		"data": those that move data; "second": those, and the second word
 *		if there is one. Without an IOMMU only.
 *		read: how many commands that were.
 * status	write "FUNCTION STATUS COUNT": FUNCTION is the end_io of a request. The
 *		next COUNT calls of it find that the drive said STATUS. write "off": no
 *		more.
 *		read: how many that were since.
 * rights	write "FUNCTION PID": the process's calls of the kernel function are
 *		counted, those of its io_uring workers, too. write "off": no more.
 *		read: how many were made with the file rights of root, and how many with
 *		another user's.
 */
#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nvme.h>
#include <linux/pci.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define MAX_MS		60000
#define MAX_WORDS	128

static struct dentry *hurt_dir;
static atomic_t frozen = ATOMIC_INIT(0);

/* What user space wrote, as a string. */
static int read_words(char *words, const char __user *data, size_t count)
{
	if (count >= MAX_WORDS)
		return -EINVAL;
	if (copy_from_user(words, data, count))
		return -EFAULT;
	words[count] = '\0';
	return 0;
}

/* "off", or words for @on; what was on before is off first. */
static ssize_t switch_words(const char __user *data, size_t count, struct mutex *lock,
			    void (*off)(void), int (*on)(const char *words))
{
	char words[MAX_WORDS];
	int ret;

	ret = read_words(words, data, count);
	if (ret)
		return ret;
	mutex_lock(lock);
	off();
	if (!sysfs_streq(words, "off"))
		ret = on(words);
	mutex_unlock(lock);
	return ret ?: count;
}

/* The file of a switch: NAME_lock, NAME_off(), NAME_on() and NAME_read() are there. */
#define SWITCH_FILE(name)							\
static ssize_t name##_write(struct file *file, const char __user *data,		\
			    size_t count, loff_t *pos)				\
{										\
	return switch_words(data, count, &name##_lock, name##_off, name##_on);	\
}										\
										\
static const struct file_operations name##_fops = {				\
	.owner = THIS_MODULE,							\
	.open = simple_open,							\
	.read = name##_read,							\
	.write = name##_write,							\
}

static ssize_t show_number(char __user *data, size_t count, loff_t *pos, unsigned int number)
{
	char text[16];
	int length = scnprintf(text, sizeof(text), "%u\n", number);

	return simple_read_from_buffer(data, count, pos, text, length);
}

#ifdef THAWED_BY_OTHERS
static void queue_freeze(struct request_queue *q)
{
	blk_freeze_queue_start_non_owner(q);
	blk_mq_freeze_queue_wait(q);
}

static void queue_thaw(struct request_queue *q)
{
	blk_mq_unfreeze_queue_non_owner(q);
}
#else
static void queue_freeze(struct request_queue *q)
{
	blk_mq_freeze_queue(q);
}

static void queue_thaw(struct request_queue *q)
{
	blk_mq_unfreeze_queue(q);
}
#endif

static ssize_t freeze_write(struct file *file, const char __user *data, size_t count, loff_t *pos)
{
	char words[MAX_WORDS], disk[32], path[64];
	struct request_queue *q;
	struct file *opened;
	unsigned int ms;
	int ret;

	ret = read_words(words, data, count);
	if (ret)
		return ret;
	if (sscanf(words, "%31s %u", disk, &ms) != 2 || ms > MAX_MS)
		return -EINVAL;
	snprintf(path, sizeof(path), "/dev/%s", disk);
	opened = filp_open(path, O_RDONLY | O_LARGEFILE, 0);
	if (IS_ERR(opened))
		return PTR_ERR(opened);
	if (!S_ISBLK(file_inode(opened)->i_mode)) {
		filp_close(opened, NULL);
		return -ENOTBLK;
	}

	q = bdev_get_queue(I_BDEV(opened->f_mapping->host));
	queue_freeze(q);
	atomic_inc(&frozen);
	msleep(ms);
	atomic_dec(&frozen);
	queue_thaw(q);
	filp_close(opened, NULL);
	return count;
}

static ssize_t freeze_read(struct file *file, char __user *data, size_t count, loff_t *pos)
{
	return show_number(data, count, pos, atomic_read(&frozen));
}

static const struct file_operations freeze_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = freeze_read,
	.write = freeze_write,
};

static ssize_t lose_write(struct file *file, const char __user *data, size_t count, loff_t *pos)
{
	unsigned int domain, bus, slot, function;
	struct pci_dev *pdev;
	char words[MAX_WORDS];
	u16 command;
	int ret;

	ret = read_words(words, data, count);
	if (ret)
		return ret;
	if (sscanf(words, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, function));
	if (!pdev)
		return -ENODEV;
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_write_config_word(pdev, PCI_COMMAND, command & ~PCI_COMMAND_MASTER);
	WRITE_ONCE(pdev->error_state, pci_channel_io_perm_failure);
	pci_dev_put(pdev);
	return count;
}

static const struct file_operations lose_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = lose_write,
};

/* The one call that is slowed; slow_lock for all except what the probe reads. */
static DEFINE_MUTEX(slow_lock);
static char slow_name[64];
static unsigned int slow_ms;
static pid_t slow_tid;
static bool slow_armed;
static bool slow_inside;	/* the thread's own: calling the function itself */
static atomic_t slow_calls = ATOMIC_INIT(0);

typedef unsigned long slow_fn(unsigned long a, unsigned long b, unsigned long c, unsigned long d,
			      unsigned long e, unsigned long f);

static struct kprobe slow_probe;

/* Called in place of the function, by the thread that is slowed. */
static unsigned long slow_call(unsigned long a, unsigned long b, unsigned long c, unsigned long d,
			       unsigned long e, unsigned long f)
{
	slow_fn *function = (slow_fn *)slow_probe.addr;
	unsigned long result;

	/* Going to sleep may call it, too. */
	slow_inside = true;
	result = function(a, b, c, d, e, f);
	atomic_inc(&slow_calls);
	msleep(slow_ms);
	slow_inside = false;
	return result;
}

static int slow_entered(struct kprobe *probe, struct pt_regs *regs)
{
	if (task_pid_nr(current) != slow_tid || slow_inside)
		return 0;
	instruction_pointer_set(regs, (unsigned long)slow_call);
	return 1;
}

/* That there is one keeps the probe from being optimized into a jump. */
static void slow_left(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

static void slow_off(void)
{
	if (slow_armed)
		unregister_kprobe(&slow_probe);
	slow_armed = false;
}

static int slow_on(const char *words)
{
	unsigned int ms;
	int tid, ret;

	if (sscanf(words, "%63s %u %d", slow_name, &ms, &tid) != 3 || ms > MAX_MS)
		return -EINVAL;
	slow_ms = ms;
	slow_tid = tid;
	slow_inside = false;
	atomic_set(&slow_calls, 0);
	slow_probe = (struct kprobe){
		.symbol_name = slow_name,
		.pre_handler = slow_entered,
		.post_handler = slow_left,
	};
	ret = register_kprobe(&slow_probe);
	slow_armed = !ret;
	return ret;
}

static ssize_t slow_read(struct file *file, char __user *data, size_t count, loff_t *pos)
{
	return show_number(data, count, pos, atomic_read(&slow_calls));
}

SWITCH_FILE(slow);

/*
 * Commands without segments are sent with another PRP1: that of a page here. As
 * a driver would that writes PRP words of its own.
 */
static DEFINE_MUTEX(prp_lock);
static void *prp_page;
static bool prp_all, prp_second;
static atomic_t prp_changed = ATOMIC_INIT(0);

static int prp_entered(struct kprobe *probe, struct pt_regs *regs)
{
	struct request *rq = (struct request *)regs_get_kernel_argument(regs, 0);
	struct nvme_command *command;

	/* Of a namespace, not of the controller itself. */
	if (!rq->q->disk || strncmp(rq->q->disk->disk_name, "nvme", 4) ||
	    req_op(rq) != REQ_OP_DRV_IN || rq->nr_phys_segments)
		return 0;
	/* The driver's request begins with its command. */
	command = *(struct nvme_command **)blk_mq_rq_to_pdu(rq);
	if (!prp_all && command->common.opcode != nvme_cmd_read &&
	    command->common.opcode != nvme_cmd_write)
		return 0;
	if (!prp_second)
		command->rw.dptr.prp1 = cpu_to_le64(virt_to_phys(prp_page));
	else if (command->rw.dptr.prp2)
		command->rw.dptr.prp2 = cpu_to_le64(virt_to_phys(prp_page));
	else
		return 0;
	atomic_inc(&prp_changed);
	return 0;
}

static struct kprobe prp_probe = {
	.symbol_name = "blk_mq_start_request",
	.pre_handler = prp_entered,
};

static void prp_off(void)
{
	if (!prp_page)
		return;
	unregister_kprobe(&prp_probe);
	free_page((unsigned long)prp_page);
	prp_page = NULL;
}

static int prp_on(const char *words)
{
	int ret;

	prp_all = sysfs_streq(words, "all");
	prp_second = sysfs_streq(words, "second");
	if (!prp_all && !prp_second && !sysfs_streq(words, "data"))
		return -EINVAL;
	prp_page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!prp_page)
		return -ENOMEM;
	atomic_set(&prp_changed, 0);
	prp_probe.addr = NULL;
	prp_probe.flags = 0;
	ret = register_kprobe(&prp_probe);
	if (!ret)
		return 0;
	free_page((unsigned long)prp_page);
	prp_page = NULL;
	return ret;
}

static ssize_t prp_read(struct file *file, char __user *data, size_t count, loff_t *pos)
{
	return show_number(data, count, pos, atomic_read(&prp_changed));
}

SWITCH_FILE(prp);

/* Commands end with a status that the drive did not give, after it has done what they ask for. */
static DEFINE_MUTEX(status_lock);
static char status_name[64];
static unsigned int status_word;
static bool status_armed;
static atomic_t status_left = ATOMIC_INIT(0);
static atomic_t status_given = ATOMIC_INIT(0);

static int status_entered(struct kprobe *probe, struct pt_regs *regs)
{
	struct request *rq = (struct request *)regs_get_kernel_argument(regs, 0);
	/* As struct nvme_request begins since 4.20. */
	struct {
		struct nvme_command *command;
		u64 result;
		u8 genctr, retries, flags;
		u16 status;
	} *nr = blk_mq_rq_to_pdu(rq);

	if (atomic_dec_if_positive(&status_left) < 0)
		return 0;
	nr->status = status_word;
	atomic_inc(&status_given);
	return 0;
}

static struct kprobe status_probe;

static void status_off(void)
{
	if (status_armed)
		unregister_kprobe(&status_probe);
	status_armed = false;
}

static int status_on(const char *words)
{
	unsigned int count;
	int ret;

	if (sscanf(words, "%63s %x %u", status_name, &status_word, &count) != 3)
		return -EINVAL;
	atomic_set(&status_given, 0);
	atomic_set(&status_left, count);
	status_probe = (struct kprobe){
		.symbol_name = status_name,
		.pre_handler = status_entered,
	};
	ret = register_kprobe(&status_probe);
	status_armed = !ret;
	return ret;
}

static ssize_t status_read(struct file *file, char __user *data, size_t count, loff_t *pos)
{
	return show_number(data, count, pos, atomic_read(&status_given));
}

SWITCH_FILE(status);

/*
 * With whose rights a process, with its io_uring workers, calls a function: how often
 * with root's file rights, how often with others'.
 */
static DEFINE_MUTEX(rights_lock);
static char rights_name[64];
static pid_t rights_pid;
static bool rights_armed;
static atomic_t rights_root = ATOMIC_INIT(0);
static atomic_t rights_other = ATOMIC_INIT(0);

static int rights_entered(struct kprobe *probe, struct pt_regs *regs)
{
	if (task_tgid_nr(current) == rights_pid)
		atomic_inc(uid_eq(current_fsuid(), GLOBAL_ROOT_UID) ? &rights_root : &rights_other);
	return 0;
}

static struct kprobe rights_probe;

static void rights_off(void)
{
	if (rights_armed)
		unregister_kprobe(&rights_probe);
	rights_armed = false;
}

static int rights_on(const char *words)
{
	int ret;

	if (sscanf(words, "%63s %d", rights_name, &rights_pid) != 2)
		return -EINVAL;
	atomic_set(&rights_root, 0);
	atomic_set(&rights_other, 0);
	rights_probe = (struct kprobe){
		.symbol_name = rights_name,
		.pre_handler = rights_entered,
	};
	ret = register_kprobe(&rights_probe);
	rights_armed = !ret;
	return ret;
}

static ssize_t rights_read(struct file *file, char __user *data, size_t count, loff_t *pos)
{
	char text[32];
	int length = scnprintf(text, sizeof(text), "%d %d\n", atomic_read(&rights_root),
			       atomic_read(&rights_other));

	return simple_read_from_buffer(data, count, pos, text, length);
}

SWITCH_FILE(rights);

static int __init hurt_init(void)
{
	hurt_dir = debugfs_create_dir("dmabuf_hurt", NULL);
	debugfs_create_file("freeze", 0600, hurt_dir, NULL, &freeze_fops);
	debugfs_create_file("lose", 0200, hurt_dir, NULL, &lose_fops);
	debugfs_create_file("slow", 0600, hurt_dir, NULL, &slow_fops);
	debugfs_create_file("prp", 0600, hurt_dir, NULL, &prp_fops);
	debugfs_create_file("status", 0600, hurt_dir, NULL, &status_fops);
	debugfs_create_file("rights", 0600, hurt_dir, NULL, &rights_fops);
	return 0;
}

static void __exit hurt_exit(void)
{
	debugfs_remove_recursive(hurt_dir);
	slow_off();
	prp_off();
	status_off();
	rights_off();
}

module_init(hurt_init);
module_exit(hurt_exit);

MODULE_DESCRIPTION("Hurts a virtual machine on command, for tests of dmabuf_rw");
MODULE_AUTHOR("The libdmabuf developers");
MODULE_LICENSE("GPL");
