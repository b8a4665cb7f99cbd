# SPDX-License-Identifier: GPL-2.0-only
#
# Puts a module among those of the kernel at KDIR, and takes it from there again. Included by the Makefile of each
# module after probe.mk; the Makefile sets KDIR, BUILD and module_name, and has a target `module`.

.PHONY: install uninstall

# depmod by hand: the kernel's own rule leaves it out where there is no
# System.map, as with Debian's headers. DEPMOD= and INSTALL_MOD_PATH= as there.
DEPMOD ?= depmod
# Signed where the headers come with a key; Debian's ask for it and have none.
sign_key := $(shell sed -n 's/^CONFIG_MODULE_SIG_KEY="\(.*\)"/\1/p' $(KDIR)/.config 2>/dev/null)
unsigned := $(if $(wildcard $(KDIR)/$(sign_key) $(filter /%,$(sign_key)))$(filter pkcs11:%,$(sign_key)),,CONFIG_MODULE_SIG_ALL=)
# As the kernel calls itself. `make kernelrelease` says another name with the headers of Debian's 6.1.
installed_release = $(or $(probe_release),$(shell $(MAKE) -s --no-print-directory -C $(KDIR) kernelrelease))
depmod_of = $(DEPMOD) $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) $(installed_release)
install: module
	$(MAKE) -C $(KDIR) M=$(abspath $(BUILD)) INSTALL_MOD_DIR=updates $(if $(sign_key),$(unsigned)) modules_install
	$(depmod_of)

uninstall:
	rm -f $(INSTALL_MOD_PATH)/lib/modules/$(installed_release)/updates/$(module_name).ko*
	$(depmod_of)
