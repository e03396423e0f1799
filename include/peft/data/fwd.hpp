// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace peft {
struct Example;
class Dataset;
struct Batch;
class DataLoader;
}  // namespace peft
