# SPDX-License-Identifier: Apache-2.0
# Tests of the house itself: who includes whom, does each header stand alone, do programs build against it in every way that we promise.

# A variable set to what compiles a unit outside of this build: compiler, standard, the flags of this build, include folders.
get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
separate_arguments(flags UNIX_COMMAND "${CMAKE_CXX_FLAGS}")
set(PEFT_COMPILE ${CMAKE_CXX_COMPILER} -std=c++20 ${flags} -I${PROJECT_SOURCE_DIR}/include -isystem ${eigen_include})

# Layering
add_test(NAME layering COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -P ${CMAKE_CURRENT_SOURCE_DIR}/layering/check.cmake)
add_test(NAME layering.self_test
         COMMAND ${CMAKE_COMMAND} -DWORK=${CMAKE_CURRENT_BINARY_DIR}/layering -P ${CMAKE_CURRENT_SOURCE_DIR}/layering/self_test.cmake)

# What must not compile does not, and says why.
file(GLOB sources CONFIGURE_DEPENDS compile_fail/*.cpp)
foreach(source IN LISTS sources)
  get_filename_component(name ${source} NAME_WE)
  add_test(NAME compile_fail.${name} COMMAND ${CMAKE_COMMAND} -DFILE=${source} "-DCOMPILE=${PEFT_COMPILE};-DPEFT_COMPILED"
                                             -P ${CMAKE_CURRENT_SOURCE_DIR}/compile_fail/run.cmake)
endforeach()

# Each public header compiles alone, and twice. Built by its test, so that one broken header does not stop the build.
file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR}/include CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/peft/*.hpp)
list(FILTER headers EXCLUDE REGEX "/impl/")
set(units)
foreach(header IN LISTS headers)
  string(REPLACE "/" "." unit ${header})
  set(unit ${CMAKE_CURRENT_BINARY_DIR}/headers/${unit}.cpp)
  set(text "#include \"${header}\"\n#include \"${header}\"\n")
  set(old "")
  if(EXISTS ${unit})
    file(READ ${unit} old)
  endif()
  if(NOT old STREQUAL text)
    file(WRITE ${unit} "${text}")
  endif()
  list(APPEND units ${unit})
endforeach()
add_library(peft_test_headers OBJECT EXCLUDE_FROM_ALL ${units})
target_link_libraries(peft_test_headers PRIVATE peft::peft xtensor)  # xtensor: for interop/xtensor.hpp alone
target_compile_definitions(peft_test_headers PRIVATE PEFT_COMPILED)
target_compile_options(peft_test_headers PRIVATE -O0 -g0 -Werror)
peft_warnings(peft_test_headers)
set(keep_going -k)  # all faults, not the first
if(CMAKE_GENERATOR STREQUAL "Ninja")
  set(keep_going -k0)
endif()
add_test(NAME headers COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target peft_test_headers -- ${keep_going})

# Two units that include everything link, and run.
if(EXISTS ${PROJECT_SOURCE_DIR}/include/peft/peft.hpp)
  add_executable(peft_test_link EXCLUDE_FROM_ALL link/one.cpp link/two.cpp)
  target_link_libraries(peft_test_link PRIVATE peft::peft)
  target_compile_options(peft_test_link PRIVATE -O1 -g0)
  peft_warnings(peft_test_link)
  add_test(NAME link.build COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target peft_test_link)
  add_test(NAME link COMMAND peft_test_link)
  set_tests_properties(link.build PROPERTIES FIXTURES_SETUP link)
  set_tests_properties(link PROPERTIES FIXTURES_REQUIRED link)
  set_tests_properties(link.build PROPERTIES RESOURCE_LOCK build)
endif()
set_tests_properties(headers PROPERTIES RESOURCE_LOCK build)

get_property(entries DIRECTORY PROPERTY TESTS)
list(FILTER entries INCLUDE REGEX "^(layering|compile_fail|headers|link)")
set_tests_properties(${entries} PROPERTIES LABELS structure TIMEOUT 1800)

if(PEFT_HEADER_ONLY OR NOT CMAKE_BUILD_TYPE STREQUAL "Release")
  return()
endif()

# Units with different flags: the kernels that the linker keeps must run on the processor that they are named after.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_OBJDUMP)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/ops*.cpp)
  foreach(flags IN ITEMS plain v4)
    add_library(peft_test_flags_${flags} OBJECT EXCLUDE_FROM_ALL ${sources})
    target_link_libraries(peft_test_flags_${flags} PRIVATE peft::peft)
  endforeach()
  target_compile_options(peft_test_flags_v4 PRIVATE -march=x86-64-v4)
  add_library(peft_test_flags_main OBJECT EXCLUDE_FROM_ALL flags/main.cpp)
  target_link_libraries(peft_test_flags_main PRIVATE peft::peft)
  target_compile_definitions(peft_test_flags_main PRIVATE PEFT_COMPILED)
  add_executable(peft_test_flags_plain_first EXCLUDE_FROM_ALL $<TARGET_OBJECTS:peft_test_flags_main> $<TARGET_OBJECTS:peft_test_flags_plain>
                                                              $<TARGET_OBJECTS:peft_test_flags_v4>)
  add_executable(peft_test_flags_v4_first EXCLUDE_FROM_ALL $<TARGET_OBJECTS:peft_test_flags_main> $<TARGET_OBJECTS:peft_test_flags_v4>
                                                           $<TARGET_OBJECTS:peft_test_flags_plain>)
  add_executable(peft_test_flags_bad EXCLUDE_FROM_ALL flags/bad.cpp)
  target_compile_options(peft_test_flags_bad PRIVATE -march=x86-64-v4 -mprefer-vector-width=512)
  add_custom_target(peft_test_flags DEPENDS peft_test_flags_plain_first peft_test_flags_v4_first peft_test_flags_bad)
  add_test(NAME flags.build COMMAND ${CMAKE_COMMAND} --build ${PROJECT_BINARY_DIR} --target peft_test_flags)
  set_tests_properties(flags.build PROPERTIES FIXTURES_SETUP flags RESOURCE_LOCK build LABELS structure TIMEOUT 1800)
  target_link_libraries(peft_test_flags_plain_first PRIVATE peft::peft)
  target_link_libraries(peft_test_flags_v4_first PRIVATE peft::peft)
  foreach(order IN ITEMS plain_first v4_first bad)
    add_test(NAME flags.${order} COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:peft_test_flags_${order}> -DOBJDUMP=${CMAKE_OBJDUMP}
                                         -P ${CMAKE_CURRENT_SOURCE_DIR}/flags/check.cmake)
    set_tests_properties(flags.${order} PROPERTIES FIXTURES_REQUIRED flags LABELS structure)
  endforeach()
  set_tests_properties(flags.bad PROPERTIES PASS_REGULAR_EXPRESSION "beyond the instruction set of the kernel.*avx2::add.*baseline::add")
endif()

# Programs of users: the library installed and found, as a subdirectory, fetched; from headers alone and compiled.
if(PEFT_INSTALL)
  set(prefix ${CMAKE_CURRENT_BINARY_DIR}/consumer/prefix)
  add_test(NAME consumer.install COMMAND ${CMAKE_COMMAND} --install ${PROJECT_BINARY_DIR} --prefix ${prefix} --component library)
  set_tests_properties(consumer.install PROPERTIES FIXTURES_SETUP installed LABELS consumer)
  foreach(way IN ITEMS find_package add_subdirectory fetch_content)
    foreach(form IN ITEMS peft compiled)
      set(name consumer.${way}.${form})
      add_test(NAME ${name}
               COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_CURRENT_SOURCE_DIR}/consumer/${way} -DBUILD=${CMAKE_CURRENT_BINARY_DIR}/consumer/${way}.${form}
                       -DGENERATOR=${CMAKE_GENERATOR} -DCOMPILER=${CMAKE_CXX_COMPILER} -DCXX_FLAGS=${CMAKE_CXX_FLAGS} -DPEFT_SOURCE=${PROJECT_SOURCE_DIR}
                       -DPREFIX=${prefix} -DPEFT_LIBRARY=peft::${form} "-DLAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}"
                       -P ${CMAKE_CURRENT_SOURCE_DIR}/consumer/run.cmake)
      set_tests_properties(${name} PROPERTIES LABELS consumer FIXTURES_REQUIRED installed TIMEOUT 1800)
    endforeach()
  endforeach()
endif()
