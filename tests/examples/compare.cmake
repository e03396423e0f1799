# SPDX-License-Identifier: Apache-2.0
# Runs PROGRAM and compares what it prints with the file EXPECTED, to the letter.
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed ERROR_VARIABLE complaint RESULT_VARIABLE failed)
file(READ ${EXPECTED} expected)
if(failed OR NOT printed STREQUAL expected)
  message(FATAL_ERROR "${PROGRAM} printed\n${printed}${complaint}\nwhere this is expected:\n${expected}")
endif()
