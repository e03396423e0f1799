# SPDX-License-Identifier: Apache-2.0
# FILE must not compile, for the reason that it states: each `// expect: sentence` in it stands in the compiler's output.
# With -DVALID the same file must compile, so that it fails for its fault and not for a misspelt include.
#   cmake -DFILE=x.cpp -DCOMPILE=compiler;flags -P run.cmake

cmake_minimum_required(VERSION 3.22)

execute_process(COMMAND ${COMPILE} -fsyntax-only -DVALID ${FILE} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "with -DVALID this must compile:\n${out}")
endif()

execute_process(COMMAND ${COMPILE} -fsyntax-only ${FILE} RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
if(code EQUAL 0)
  message(FATAL_ERROR "${FILE} compiles, and must not")
endif()
file(STRINGS ${FILE} expected REGEX "^// expect: ")
if(NOT expected)
  message(FATAL_ERROR "${FILE} has no line `// expect: …`")
endif()
foreach(line IN LISTS expected)
  string(REPLACE "// expect: " "" sentence "${line}")
  string(FIND "${out}" "${sentence}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "the compiler does not say\n  ${sentence}\nbut\n${out}")
  endif()
endforeach()
message(STATUS "${FILE}: refused with the expected words")
