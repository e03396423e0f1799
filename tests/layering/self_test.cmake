# SPDX-License-Identifier: Apache-2.0
# Does check.cmake find what it must find?  cmake -DWORK=<scratch folder> -P self_test.cmake

cmake_minimum_required(VERSION 3.22)

# One file with one include: `fault` is what the check must say, or nothing when the include is right.
function(expect file include fault)
  file(REMOVE_RECURSE ${WORK})
  file(WRITE ${WORK}/include/peft/core/core.hpp "#include <vector>\n")
  file(WRITE ${WORK}/include/peft/${file} "#pragma once\n#include ${include}\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${WORK} -P ${CMAKE_CURRENT_LIST_DIR}/check.cmake RESULT_VARIABLE code OUTPUT_VARIABLE out ERROR_VARIABLE out)
  string(REGEX REPLACE "[ \n]+" " " out "${out}")
  string(FIND "${out}" "${fault}" found)
  if(fault STREQUAL "" AND NOT code EQUAL 0)
    message(SEND_ERROR "${file} may include ${include}, the check says: ${out}")
  elseif(NOT fault STREQUAL "" AND (code EQUAL 0 OR found EQUAL -1))
    message(SEND_ERROR "${file} includes ${include}, the check must say '${fault}' and says: ${out}")
  endif()
endfunction()

expect(nn/linear.hpp "\"peft/autograd/tape.hpp\"" "")
expect(nn/linear.hpp "\"peft/core/tensor.hpp\"" "")                                    # transitively downwards
expect(models/config.hpp "\"peft/io/json.hpp\"" "")
expect(train/trainer.hpp "<peft/adapters/peft_model.hpp>" "")
expect(peft.hpp "\"peft/train/train.hpp\"" "")                                         # an umbrella
expect(core/error.hpp "\"peft/version.hpp\"" "")
expect(ops/impl/gemm.inl "<Eigen/Dense>" "")
expect(io/impl/json.inl "<nlohmann/json.hpp>" "")
expect(core/error.hpp "<fmt/core.h>" "")
expect(interop/xtensor.hpp "<xtensor/xadapt.hpp>" "")

expect(core/tensor.hpp "\"peft/ops/gemm.hpp\"" "core may include core")                # upwards
expect(ops/gemm.hpp "<peft/nn/linear.hpp>" "ops/gemm.hpp includes peft/nn/linear.hpp")
expect(nn/impl/linear.inl "  \"peft/adapters/adapter.hpp\"" "nn/impl/linear.inl includes")
expect(nn/linear.hpp "\"peft/io/json.hpp\"" "nn may include")                          # sideways
expect(models/llama.hpp "\"peft/adapters/adapter.hpp\"" "models may include")
expect(generate/sampler.hpp "\"peft/train/trainer.hpp\"" "generate may include")
expect(tokenizer/bpe.hpp "\"peft/ops/gemm.hpp\"" "tokenizer may include")
expect(nn/linear.hpp "\"peft/peft.hpp\"" "umbrellas are for users")
expect(nn/linear.hpp "\"../core/tensor.hpp\"" "write peft/<room>/<file>")
expect(attic/old.hpp "\"peft/core/tensor.hpp\"" "there is no room attic")
expect(nn/linear.hpp "<Eigen/Dense>" "allowed only in files")
expect(ops/gemm.hpp "<immintrin.h>" "allowed only in files")
expect(io/json.hpp "<nlohmann/json.hpp>" "allowed only in files")
expect(train/trainer.hpp "<fmt/format.h>" "allowed only in files")
expect(core/tensor.hpp "<xtensor/xarray.hpp>" "allowed only in files")
expect(interop/eigen.hpp "\"peft/ops/gemm.hpp\"" "interop may include")

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
execute_process(COMMAND ${CMAKE_COMMAND} -DROOT=${WORK} -P ${CMAKE_CURRENT_LIST_DIR}/check.cmake RESULT_VARIABLE code OUTPUT_QUIET ERROR_QUIET)
if(code EQUAL 0)
  message(SEND_ERROR "an empty tree passes the check")
endif()
