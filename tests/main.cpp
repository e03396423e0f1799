// SPDX-License-Identifier: Apache-2.0
// Catch2's main. The precompiled header has read catch.hpp without its implementation: this reads the implementation alone.
#undef TWOBLUECUBES_SINGLE_INCLUDE_CATCH_HPP_INCLUDED
#define CATCH_CONFIG_IMPL_ONLY
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
