# SPDX-License-Identifier: GPL-2.0-only
#
# What the kernel at KDIR has, found out by compiling small files: a rule for
# $(probe_header). Included by the Makefile of each module, which sets
#
#   KDIR, BUILD	the kernel's headers, and where the module is built
#   probes	the small files, one for each question
#   probe_header	the answers: PROBE_NAME is defined when name.c compiles
#
# and has a target `copy` that puts the probes and their Kbuild into BUILD/probes.
#
# A probe says which version changed. It has a counter-probe, which is the same
# file with COUNTER_PROBE defined: what is there whatever the answer is. Where
# that does not compile the probe fails for another reason than the one it asks
# for, and the build ends: no answer is taken from it.

# $(call copy_changed,FILES,DIR): copies what differs, whichever is newer. An older
# tree, such as one that was unpacked later, must not be built with parts of a newer.
copy_changed = for file in $(1); do \
	cmp -s $$file $(2)/$${file\#\#*/} || cp $$file $(2)/ || exit 1; done

probe_rules := $(lastword $(MAKEFILE_LIST))
probe_names := $(sort $(patsubst %.c,%,$(notdir $(probes))))

# All that the answers depend on, besides the probes: the kernel, its
# configuration, and the compilers that are named, make's and the kernel's own.
# The file changes only when its contents do.
probe_basis := $(BUILD)/probes/basis
probe_kernel := $(wildcard $(addprefix $(KDIR)/,.config .kernelvariables Makefile Module.symvers \
	include/config/auto.conf include/generated/utsrelease.h))

.PHONY: probe_ask
$(probe_basis): probe_ask | copy
	@{ echo "$(realpath $(KDIR))|$(LLVM)|$(CROSS_COMPILE)|$(KCFLAGS)"; \
	for compiler in $(CC) \
		$$(sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\).*/\1/p' $(wildcard $(KDIR)/.config)); do \
		$$compiler --version 2>&1 | head -n 1; \
	done; \
	cksum $(probe_kernel) </dev/null; } >$@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# The oldest kernel that is supported. Older ones have answers that no probe was
# written for.
oldest_kernel := 6.1
probe_release := $(shell sed -n 's/^.define UTS_RELEASE "\(.*\)"$$/\1/p' \
	$(KDIR)/include/generated/utsrelease.h 2>/dev/null)

# One run for all probes. A probe that does not compile is an answer, not an
# error; a counter-probe that does not compile is one. No warnings are asked for
# (W=), and no checker (C=): with them kernels run scripts, which may lack what
# they need. And no ccache, whose own errors would be answers.
$(probe_header): $(probes) $(probe_rules) $(dir $(probe_rules))probes/Kbuild $(probe_basis) | copy
	@test -z "$(probe_release)" || \
		printf '%s\n' $(oldest_kernel) $(probe_release) | sort -CV || \
		{ echo "the kernel $(probe_release) is too old: $(oldest_kernel) or newer is needed" >&2; exit 1; }
	@rm -f $(BUILD)/probes/*.o $(BUILD)/probes/counter_*
	@for name in $(probe_names); do \
		printf '#define COUNTER_PROBE\n#include "%s.c"\n' $$name >$(BUILD)/probes/counter_$$name.c; \
	done
	-@CCACHE_DISABLE=1 $(MAKE) -k W= C= -C $(KDIR) M=$(abspath $(BUILD))/probes modules >$(BUILD)/probes/log 2>&1
	@for name in $(probe_names); do \
		test -e $(BUILD)/probes/counter_$$name.o || \
			{ echo "the probe $$name cannot be asked of $(KDIR): see $(BUILD)/probes/log" >&2; exit 1; }; \
	done
	@for name in $(probe_names); do \
		if test -e $(BUILD)/probes/$$name.o; then \
			echo "#define PROBE_$$(echo $$name | tr a-z A-Z) 1"; \
		fi; \
	done >$@.new
	@mv $@.new $@
