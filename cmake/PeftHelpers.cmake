# SPDX-License-Identifier: Apache-2.0

# Our own units compile without these; users of the library never inherit them.
function(peft_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${PEFT_WERROR}>:-Werror>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE -Wno-restrict)  # g++ 12 warns of every "literal" + std::string (its bug 105651)
  endif()
endfunction()

# An executable in bin/ from `ARGN`, linked to the library in the form that was chosen.
function(peft_executable target)
  add_executable(${target} ${ARGN})
  target_link_libraries(${target} PRIVATE ${PEFT_LIBRARY})
  if(PEFT_LIBRARY STREQUAL "peft::compiled")
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)  # the arithmetic is in the library; half the time to compile
  endif()
  peft_warnings(${target})
endfunction()
