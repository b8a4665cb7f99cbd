# SPDX-License-Identifier: GPL-2.0-only
# What is installed, and in which package: the COMPONENT. engine/module installs libdmabuf_rw: library and dev.
# What an install(CODE) makes it adds to the manifest, by which it is removed again (docs/kernel-module.md).
include(GNUInstallDirs)

install(TARGETS dmabuf LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT engine)
# Beside libdmabuf.so, which looks nowhere else. Another build may add those for other fios.
install(TARGETS ${DMABUF_ENGINES} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/libdmabuf COMPONENT engine)
install(TARGETS dmabuf-integrity RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT engine)
install(FILES kernel/uapi/linux/dmabuf_rw.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/linux COMPONENT dev)
install(FILES engine/exporter/include/libdmabuf/exporter.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/libdmabuf COMPONENT dev)
set(dmabuf_jobs_dir ${CMAKE_INSTALL_DATADIR}/libdmabuf/jobs)
install(DIRECTORY jobs/ DESTINATION ${dmabuf_jobs_dir} COMPONENT engine FILES_MATCHING PATTERN "*.fio")
install(DIRECTORY jobs/plans DESTINATION ${dmabuf_jobs_dir} COMPONENT engine FILES_MATCHING PATTERN "*.toml")

# The programs find their packages and the jobs beside themselves, whatever link they are called by;
# dmabuf-integrity finds dmabuf-guard beside itself.
set(dmabuf_share ${CMAKE_INSTALL_DATADIR}/libdmabuf)
set(dmabuf_programs dmabuf-bench dmabuf-guard dmabuf-nightly dmabuf-qual gpu-check)
list(TRANSFORM dmabuf_programs PREPEND scripts/ OUTPUT_VARIABLE dmabuf_program_files)
install(PROGRAMS ${dmabuf_program_files} DESTINATION ${dmabuf_share} COMPONENT engine)
install(DIRECTORY scripts/dmabuf_bench scripts/dmabuf_common scripts/dmabuf_gpu scripts/dmabuf_nightly
  scripts/dmabuf_qual scripts/dmabuf_report
  DESTINATION ${dmabuf_share} COMPONENT engine PATTERN "__pycache__" EXCLUDE)
install(FILES docs/schema/results.schema.json DESTINATION ${dmabuf_share}/dmabuf_report COMPONENT engine)
file(RELATIVE_PATH dmabuf_share_link "/${CMAKE_INSTALL_BINDIR}" "/${dmabuf_share}")
install(CODE "
  set(bin \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
  file(MAKE_DIRECTORY \"\${bin}\")
  foreach(program ${dmabuf_programs})
    file(CREATE_LINK \"${dmabuf_share_link}/\${program}\" \"\${bin}/\${program}\" SYMBOLIC)
    list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/\${program}\")
  endforeach()" COMPONENT engine)

# The unit names the program by its path, which is known when the prefix is: at installation.
install(FILES scripts/systemd/dmabuf-nightly@.timer scripts/systemd/dmabuf-nightly-failed@.service
  DESTINATION lib/systemd/system COMPONENT engine)
install(CODE "
  set(bindir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
  set(unit \"\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/dmabuf-nightly@.service\")
  configure_file(\"${CMAKE_CURRENT_SOURCE_DIR}/scripts/systemd/dmabuf-nightly@.service.in\"
    \"\$ENV{DESTDIR}\${unit}\" @ONLY)
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${unit}\")"
  COMPONENT engine)

# `fio --ioengine=external:libdmabuf.so` wants the file in the current folder as well as on the
# loader's path: a link to the library makes it work from the folder of the jobs.
file(RELATIVE_PATH dmabuf_link "/${dmabuf_jobs_dir}" "/${CMAKE_INSTALL_LIBDIR}/libdmabuf.so")
install(CODE "
  set(jobs \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${dmabuf_jobs_dir}\")
  file(MAKE_DIRECTORY \"\${jobs}\")
  file(CREATE_LINK \"${dmabuf_link}\" \"\${jobs}/libdmabuf.so\" SYMBOLIC)
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${CMAKE_INSTALL_PREFIX}/${dmabuf_jobs_dir}/libdmabuf.so\")"
  COMPONENT engine)

# The completion is made of the programs' --help. Not with the guest's programs: nothing is installed there.
if(DMABUF_COMPLETION AND NOT DMABUF_TESTS STREQUAL vm)
  set(dmabuf_made ${CMAKE_BINARY_DIR}/libdmabuf.bash)
  file(GLOB_RECURSE dmabuf_scripts CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/scripts/dmabuf_*/*.py)
  add_custom_command(OUTPUT ${dmabuf_made}
    COMMAND /usr/bin/python3 -I ${CMAKE_SOURCE_DIR}/scripts/make-completion ${dmabuf_made}
    DEPENDS ${dmabuf_scripts} scripts/make-completion
    COMMENT "Making the completion for bash"
    VERBATIM)
  add_custom_target(completion ALL DEPENDS ${dmabuf_made})
  # bash-completion looks a program up by the name of the file.
  set(dmabuf_completions ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${dmabuf_made} DESTINATION ${dmabuf_completions} COMPONENT engine RENAME dmabuf-qual)
  install(CODE "
    set(folder \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${dmabuf_completions}\")
    foreach(program ${dmabuf_programs})
      if(NOT program STREQUAL dmabuf-qual)
        file(CREATE_LINK dmabuf-qual \"\${folder}/\${program}\" SYMBOLIC)
        list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${CMAKE_INSTALL_PREFIX}/${dmabuf_completions}/\${program}\")
      endif()
    endforeach()" COMPONENT engine)
endif()

# The documentation as it is read in the checkout, for the package alone: who has the checkout has it.
set(dmabuf_docs ${CMAKE_INSTALL_DATADIR}/doc/libdmabuf-doc)
install(FILES README.md CONTRIBUTING.md CHANGELOG.md DESTINATION ${dmabuf_docs} COMPONENT doc EXCLUDE_FROM_ALL)
install(FILES jobs/README.md DESTINATION ${dmabuf_docs}/jobs COMPONENT doc EXCLUDE_FROM_ALL)
install(DIRECTORY docs DESTINATION ${dmabuf_docs} COMPONENT doc EXCLUDE_FROM_ALL PATTERN "CMakeLists.txt" EXCLUDE)
