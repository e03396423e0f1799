// SPDX-License-Identifier: Apache-2.0
#pragma once

#define PEFT_VERSION_MAJOR 0
#define PEFT_VERSION_MINOR 1
#define PEFT_VERSION_PATCH 0
#define PEFT_VERSION "0.1.0"
