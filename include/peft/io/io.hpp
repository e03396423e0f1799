// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/io/atomic_file.hpp"
#include "peft/io/gguf.hpp"
#include "peft/io/gguf_writer.hpp"
#include "peft/io/json.hpp"
#include "peft/io/mapped_file.hpp"
#include "peft/io/npy.hpp"
#include "peft/io/safetensors.hpp"
