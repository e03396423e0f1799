# SPDX-License-Identifier: Apache-2.0
# Oniguruma::Oniguruma. Debian's package has no CMake file, only a pkg-config one.

if(NOT TARGET Oniguruma::Oniguruma)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(PC_ONIGURUMA QUIET oniguruma)
  endif()
  find_path(Oniguruma_INCLUDE_DIR oniguruma.h HINTS ${PC_ONIGURUMA_INCLUDE_DIRS})
  find_library(Oniguruma_LIBRARY onig HINTS ${PC_ONIGURUMA_LIBRARY_DIRS})
  mark_as_advanced(Oniguruma_INCLUDE_DIR Oniguruma_LIBRARY)
  include(FindPackageHandleStandardArgs)
  find_package_handle_standard_args(Oniguruma REQUIRED_VARS Oniguruma_LIBRARY Oniguruma_INCLUDE_DIR VERSION_VAR PC_ONIGURUMA_VERSION
                                    REASON_FAILURE_MESSAGE "on Debian and Ubuntu: apt-get install libonig-dev")
  if(Oniguruma_FOUND)
    add_library(Oniguruma::Oniguruma UNKNOWN IMPORTED)
    set_target_properties(Oniguruma::Oniguruma PROPERTIES IMPORTED_LOCATION "${Oniguruma_LIBRARY}"
                                                          INTERFACE_INCLUDE_DIRECTORIES "${Oniguruma_INCLUDE_DIR}")
  endif()
else()
  set(Oniguruma_FOUND TRUE)
endif()
