// SPDX-License-Identifier: Apache-2.0
#include "peft/optim/lr_scheduler.hpp"

#include <catch2/catch.hpp>
#include <cmath>

using namespace peft;

TEST_CASE("constant stays", "[optim]") {
  for (std::int64_t step : {0, 1, 99, 100, 500}) CHECK(lr_factor(Schedule::constant, step, 0, 100) == 1);
}

TEST_CASE("linear falls in a line to zero", "[optim]") {
  CHECK(lr_factor(Schedule::linear, 0, 0, 100) == 1);
  CHECK(lr_factor(Schedule::linear, 25, 0, 100) == 0.75);
  CHECK(lr_factor(Schedule::linear, 99, 0, 100) == Approx(0.01));  // the last step still moves
  CHECK(lr_factor(Schedule::linear, 100, 0, 100) == 0);
  CHECK(lr_factor(Schedule::linear, 150, 0, 100) == 0);
}

TEST_CASE("cosine falls along half a cosine", "[optim]") {
  CHECK(lr_factor(Schedule::cosine, 0, 0, 100) == 1);
  CHECK(lr_factor(Schedule::cosine, 50, 0, 100) == Approx(0.5));
  CHECK(lr_factor(Schedule::cosine, 25, 0, 100) == Approx(0.5 + std::sqrt(0.125)));
  CHECK(lr_factor(Schedule::cosine, 99, 0, 100) == Approx(0.000246719817));
  CHECK(lr_factor(Schedule::cosine, 100, 0, 100) == Approx(0).margin(1e-16));
}

TEST_CASE("warm-up rises from zero, then the schedule has what is left", "[optim]") {
  for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    CHECK(lr_factor(schedule, 0, 10, 110) == 0);
    CHECK(lr_factor(schedule, 1, 10, 110) == 0.1);
    CHECK(lr_factor(schedule, 9, 10, 110) == 0.9);
    CHECK(lr_factor(schedule, 10, 10, 110) == 1);
    CHECK(lr_factor(schedule, 60, 10, 110) == Approx(schedule == Schedule::constant ? 1 : 0.5));
  }
  CHECK(lr_factor(Schedule::linear, 109, 10, 110) == Approx(0.01));
  CHECK(lr_factor(Schedule::cosine, 109, 10, 110) == Approx(0.000246719817));
}

TEST_CASE("a run that is all warm-up, or of one step, has a factor", "[optim]") {
  for (const Schedule schedule : {Schedule::constant, Schedule::linear, Schedule::cosine}) {
    CHECK(lr_factor(schedule, 0, 0, 1) == 1);
    CHECK(lr_factor(schedule, 4, 5, 5) == 0.8);
    CHECK(std::isfinite(lr_factor(schedule, 5, 5, 5)));
  }
}

TEST_CASE("schedules have Hugging Face's names", "[optim]") {
  CHECK(schedule_named("constant") == Schedule::constant);
  CHECK(schedule_named("linear") == Schedule::linear);
  CHECK(schedule_named("cosine") == Schedule::cosine);
  CHECK_THROWS_WITH(schedule_named("cosin"), "[lr_scheduler] \"cosin\" is not known; did you mean \"cosine\"? known are: constant, linear, cosine");
}
