// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace peft {
class Json;
class Tokenizer;
class StreamDecoder;
struct ChatMessage;
class ChatTemplate;
}  // namespace peft
