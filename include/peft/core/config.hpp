// SPDX-License-Identifier: Apache-2.0
#pragma once

// Header-only by default. With PEFT_COMPILED (set by the CMake target peft::compiled) headers show declarations only, and the
// definitions, which live in impl/*.inl, are compiled once in the library. The macro stands in .inl files alone: a function is
// declared plainly, and defined `PEFT_INLINE`.
#if defined(PEFT_COMPILED)
#define PEFT_INLINE
#else
#define PEFT_INLINE inline
#endif
