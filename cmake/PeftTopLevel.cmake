# SPDX-License-Identifier: Apache-2.0
# What a build of this project alone sets, and a project that includes it decides for itself.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug, RelWithDebInfo" FORCE)
endif()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_EXTENSIONS OFF)

if(PEFT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(PEFT_CCACHE_PROGRAM ccache)
  if(PEFT_CCACHE_PROGRAM)
    # Without this ccache passes every unit with a precompiled header by.
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
                                    ${PEFT_CCACHE_PROGRAM})
  endif()
endif()
