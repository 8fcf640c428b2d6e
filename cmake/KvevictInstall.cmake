# Headers, package files for find_package and pkg-config. The package is header-only: any architecture.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

install(DIRECTORY include/kvevict DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
install(TARGETS kvevict kvevict_cpu EXPORT kvevict-targets INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT kvevict-targets NAMESPACE kvevict:: DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/kvevict)

configure_package_config_file(cmake/kvevict-config.cmake.in kvevict-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/kvevict)
write_basic_package_version_file(kvevict-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kvevict-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/kvevict-config-version.cmake
  DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/kvevict)

# The prefix is found from the file, so that what is installed can be moved; an absolute include directory replaces it.
cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_DATADIR BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX} OUTPUT_VARIABLE data)
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${data}/pkgconfig OUTPUT_VARIABLE to_prefix)
set(includes "\${prefix}")
cmake_path(APPEND includes ${CMAKE_INSTALL_INCLUDEDIR})
configure_file(cmake/kvevict.pc.in kvevict.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kvevict.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
