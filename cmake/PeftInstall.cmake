# SPDX-License-Identifier: Apache-2.0
# Two components: `library` (headers, libpeft.a, CMake files; what find_package needs) and `tools` (the program peft).

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(PEFT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/peft)

install(TARGETS peft_headers peft_compiled EXPORT peftTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
install(DIRECTORY include/peft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library FILES_MATCHING PATTERN "*.hpp" PATTERN "*.inl")
install(EXPORT peftTargets NAMESPACE peft:: DESTINATION ${PEFT_CMAKE_DIR} COMPONENT library)

configure_package_config_file(cmake/peftConfig.cmake.in ${PROJECT_BINARY_DIR}/peftConfig.cmake INSTALL_DESTINATION ${PEFT_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/peftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/peftConfig.cmake ${PROJECT_BINARY_DIR}/peftConfigVersion.cmake cmake/Findutf8proc.cmake cmake/FindOniguruma.cmake
        DESTINATION ${PEFT_CMAKE_DIR} COMPONENT library)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT library)

if(TARGET peft)
  install(TARGETS peft RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endif()
