# SPDX-License-Identifier: Apache-2.0
# Configures, builds and runs one of the users' projects in this folder, from nothing.

cmake_minimum_required(VERSION 3.22)

file(REMOVE_RECURSE ${BUILD})
set(configure -S ${SOURCE} -B ${BUILD} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS=${CXX_FLAGS}
    -DPEFT_SOURCE=${PEFT_SOURCE} -DPEFT_LIBRARY=${PEFT_LIBRARY} -DCMAKE_PREFIX_PATH=${PREFIX})
if(LAUNCHER)
  list(JOIN LAUNCHER "\\;" launcher)
  list(APPEND configure "-DCMAKE_CXX_COMPILER_LAUNCHER=${launcher}")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} ${configure} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --build ${BUILD} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${BUILD}/consumer COMMAND_ERROR_IS_FATAL ANY)
