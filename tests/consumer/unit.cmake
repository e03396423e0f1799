# SPDX-License-Identifier: Apache-2.0
# A project within this project: it decides about its own tests, flags and folders, and compiles the library's headers as strictly as its own.
foreach(target IN ITEMS peft_test_main peft)
  if(TARGET ${target})
    message(FATAL_ERROR "a project that includes peft also gets ${target}")
  endif()
endforeach()

set(PEFT_LIBRARY peft::peft CACHE STRING "peft::peft or peft::compiled")
add_executable(consumer ../main.cpp)
target_compile_options(consumer PRIVATE -Wall -Wextra -Wconversion -Wshadow -Werror)
target_link_libraries(consumer PRIVATE ${PEFT_LIBRARY})
