# SPDX-License-Identifier: GPL-2.0-only
# cpack runs it before it makes the packages: Debian's pages of the manual are compressed.
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*/usr/share/man/*.[1-9])
if(NOT pages)
  message(FATAL_ERROR "no page of the manual is in ${CPACK_TEMPORARY_INSTALL_DIRECTORY}")
endif()
execute_process(COMMAND gzip -9nf ${pages} COMMAND_ERROR_IS_FATAL ANY)
