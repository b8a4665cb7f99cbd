# SPDX-License-Identifier: GPL-2.0-only
# Debian packages, by `cpack -G DEB`: see the preset "package". One package for each COMPONENT.
if(NOT CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  return()
endif()

# By them cpack finds out what a package depends on. Said here, before minutes of building.
foreach(dmabuf_tool file dpkg-shlibdeps)
  find_program(DMABUF_TOOL_${dmabuf_tool} ${dmabuf_tool})
  mark_as_advanced(DMABUF_TOOL_${dmabuf_tool})
  if(NOT DMABUF_TOOL_${dmabuf_tool})
    message(WARNING "there is no ${dmabuf_tool}, which makes the packages: apt-get install file dpkg-dev")
  endif()
endforeach()

set(DMABUF_PACKAGE_VERSION ${PROJECT_VERSION} CACHE STRING "Version of the packages")
# As Debian's tools take it from the environment.
set(dmabuf_maintainer "libdmabuf <libdmabuf@localhost.localdomain>")
if(DEFINED ENV{DEBEMAIL} AND DEFINED ENV{DEBFULLNAME})
  set(dmabuf_maintainer "$ENV{DEBFULLNAME} <$ENV{DEBEMAIL}>")
endif()
set(DMABUF_MAINTAINER "${dmabuf_maintainer}" CACHE STRING "Who the packages say made them: NAME <ADDRESS>")

set(dmabuf_packaging ${CMAKE_SOURCE_DIR}/packaging)
set(dmabuf_packages ${CMAKE_BINARY_DIR}/packaging)
# Of the changelog: the time of the last commit, that the same sources give the same one; else of this configuration.
if(NOT DEFINED ENV{SOURCE_DATE_EPOCH})
  execute_process(COMMAND git log -1 --format=%ct WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    OUTPUT_VARIABLE dmabuf_time OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(ENV{SOURCE_DATE_EPOCH} "${dmabuf_time}")
endif()
if("$ENV{SOURCE_DATE_EPOCH}" STREQUAL "")
  unset(ENV{SOURCE_DATE_EPOCH})
endif()
string(TIMESTAMP DMABUF_BUILD_DATE "%a, %d %b %Y %H:%M:%S +0000" UTC)

# Each package says who may use it and what changed.
configure_file(${dmabuf_packaging}/changelog.in ${dmabuf_packages}/changelog @ONLY)
execute_process(COMMAND gzip -9nf changelog WORKING_DIRECTORY ${dmabuf_packages} COMMAND_ERROR_IS_FATAL ANY)
function(dmabuf_package component name)
  string(TOUPPER ${component} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name} PARENT_SCOPE)
  install(FILES ${dmabuf_packages}/changelog.gz ${dmabuf_packaging}/copyright
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${component} EXCLUDE_FROM_ALL)
  if(EXISTS ${dmabuf_packaging}/${name}.lintian)
    install(FILES ${dmabuf_packaging}/${name}.lintian RENAME ${name}
      DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides COMPONENT ${component} EXCLUDE_FROM_ALL)
  endif()
endfunction()
dmabuf_package(engine libdmabuf)
dmabuf_package(library libdmabuf-rw0)
dmabuf_package(dev libdmabuf-rw-dev)
dmabuf_package(dkms dmabuf-rw-dkms)
dmabuf_package(doc libdmabuf-doc)

# The module's sources, which DKMS builds for each kernel. Absolute: another prefix means nothing to DKMS.
set(DMABUF_DKMS_SOURCE /usr/src/dmabuf-rw-${DMABUF_PACKAGE_VERSION})
configure_file(${dmabuf_packaging}/dkms/dkms.conf.in ${dmabuf_packages}/dkms.conf @ONLY)
file(GLOB dmabuf_module CONFIGURE_DEPENDS kernel/*.c kernel/*.h)
install(FILES ${dmabuf_module} kernel/Kbuild kernel/Makefile kernel/install.mk kernel/probe.mk ${dmabuf_packages}/dkms.conf
  DESTINATION ${DMABUF_DKMS_SOURCE} COMPONENT dkms EXCLUDE_FROM_ALL)
install(DIRECTORY kernel/probes kernel/uapi DESTINATION ${DMABUF_DKMS_SOURCE} COMPONENT dkms EXCLUDE_FROM_ALL
  PATTERN "dmabuf_testexp.h" EXCLUDE)
set(dmabuf_testexp_source /usr/src/dmabuf-testexp-${DMABUF_PACKAGE_VERSION})
configure_file(${dmabuf_packaging}/dkms/testexp.conf.in ${dmabuf_packages}/testexp/dkms.conf @ONLY)
install(FILES kernel/install.mk kernel/probe.mk ${dmabuf_packages}/testexp/dkms.conf
  DESTINATION ${dmabuf_testexp_source} COMPONENT dkms EXCLUDE_FROM_ALL)
install(DIRECTORY kernel/probes kernel/testexp DESTINATION ${dmabuf_testexp_source} COMPONENT dkms EXCLUDE_FROM_ALL)
install(FILES kernel/uapi/linux/dmabuf_testexp.h
  DESTINATION ${dmabuf_testexp_source}/uapi/linux COMPONENT dkms EXCLUDE_FROM_ALL)
install(FILES ${dmabuf_packaging}/dkms/60-dmabuf-rw.rules DESTINATION /usr/lib/udev/rules.d
  COMPONENT dkms EXCLUDE_FROM_ALL)
install(FILES ${dmabuf_packaging}/dkms/dmabuf-rw.conf DESTINATION /etc/modules-load.d
  COMPONENT dkms EXCLUDE_FROM_ALL)
# What dpkg runs, some of it with the version in it.
foreach(script dkms/postinst.in dkms/prerm.in dkms/postrm engine/postinst engine/prerm engine/postrm)
  string(REGEX REPLACE "\\.in$" "" made ${script})
  set(how COPYONLY)
  if(NOT made STREQUAL script)
    set(how @ONLY)
  endif()
  configure_file(${dmabuf_packaging}/${script} ${dmabuf_packages}/${made} ${how}
    FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endforeach()
file(WRITE ${dmabuf_packages}/dkms/conffiles "/etc/modules-load.d/dmabuf-rw.conf\n")
# The loader learns of a new library.
file(WRITE ${dmabuf_packages}/triggers "activate-noawait ldconfig\n")
file(WRITE ${dmabuf_packages}/shlibs "libdmabuf_rw 0 libdmabuf-rw0 (>= 0.1.0)\n")

set(CPACK_GENERATOR DEB)
set(CPACK_SET_DESTDIR ON)
set(CPACK_PACKAGE_NAME libdmabuf)
set(CPACK_PACKAGE_VERSION ${DMABUF_PACKAGE_VERSION})
# Each package has a description of its own, whose first line is the short one.
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "")
set(CPACK_PACKAGE_CONTACT ${DMABUF_MAINTAINER})
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_SOURCE_DIR}/cmake/compress.cmake)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_COMPONENTS_ALL engine library dev dkms doc)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

set(CPACK_DEBIAN_ENGINE_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_ENGINE_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_ENGINE_PACKAGE_DEPENDS "python3 (>= 3.11)")
# What the reports of dmabuf-qual and dmabuf-nightly are made with, too: --help works without.
set(CPACK_DEBIAN_ENGINE_PACKAGE_RECOMMENDS "fio, dmabuf-rw-dkms, python3-jinja2, python3-jsonschema, \
python3-junitparser, python3-matplotlib, python3-numpy, python3-scipy")
set(CPACK_DEBIAN_ENGINE_PACKAGE_SUGGESTS "libdmabuf-doc, nvme-cli")
set(CPACK_DEBIAN_ENGINE_PACKAGE_CONTROL_EXTRA ${dmabuf_packages}/engine/postinst
  ${dmabuf_packages}/engine/prerm ${dmabuf_packages}/engine/postrm)
set(CPACK_COMPONENT_ENGINE_DESCRIPTION "fio engine whose I/O memory is a dma-buf
The engine libdmabuf.so reads and writes storage with a dma-buf as the memory,
by a GPU, an accelerator or udmabuf, and proves which datapath ran. It works
with the releases of fio that it was built for.
.
With job files, dmabuf-qual, which qualifies a drive, dmabuf-nightly, which
finds what became slower, and dmabuf-guard, which gives a program the one drive
that it may overwrite.")

set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${dmabuf_packages}/triggers ${dmabuf_packages}/shlibs)
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "client of the kernel module dmabuf_rw
The library libdmabuf_rw reads storage into a dma-buf and writes it from one,
for programs in C, by the kernel module dmabuf_rw.")

set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libdmabuf-rw0 (= ${DMABUF_PACKAGE_VERSION})")
set(CPACK_COMPONENT_DEV_DESCRIPTION "headers of libdmabuf_rw and of the module dmabuf_rw
To build programs that use the library libdmabuf_rw, or the module without it,
and exporters that libdmabuf loads as plug-ins.")

set(CPACK_DEBIAN_DKMS_PACKAGE_SECTION kernel)
set(CPACK_DEBIAN_DKMS_PACKAGE_ARCHITECTURE all)
# DKMS makes the key that it signs with by openssl, and does not depend on it.
set(CPACK_DEBIAN_DKMS_PACKAGE_DEPENDS "adduser, dkms (>= 3.0.10), openssl")
set(CPACK_DEBIAN_DKMS_PACKAGE_RECOMMENDS "linux-headers-generic | linux-headers-amd64 | linux-headers")
set(CPACK_DEBIAN_DKMS_PACKAGE_CONTROL_EXTRA ${dmabuf_packages}/dkms/postinst
  ${dmabuf_packages}/dkms/prerm ${dmabuf_packages}/dkms/postrm ${dmabuf_packages}/dkms/conffiles)
set(CPACK_COMPONENT_DKMS_DESCRIPTION "kernel module dmabuf_rw, source for DKMS
The module reads and writes storage with a dma-buf as the memory. DKMS builds
it for each kernel from 6.12 to 7.3, and 6.1, whose headers are installed.
.
With it comes dmabuf_testexp, a test exporter for dmabuf-qual and for drivers
that import dma-bufs. Nothing loads it unasked.
.
Members of the group dmabuf may use it besides root; it has none at first.")

set(CPACK_DEBIAN_DOC_PACKAGE_SECTION doc)
set(CPACK_DEBIAN_DOC_PACKAGE_ARCHITECTURE all)
set(CPACK_COMPONENT_DOC_DESCRIPTION "documentation of libdmabuf and dmabuf_rw
Pages about the engine, the kernel module, the programs and their results, and
examples in C, C++ and Python.")

include(CPack)
