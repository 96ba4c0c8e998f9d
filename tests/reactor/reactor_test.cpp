#include "reactor/reactor.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "tests/reactor/scripted_kernel.hpp"

namespace millrace::test {

namespace {

class ReactorTest : public ::testing::Test {
 protected:
  ScriptedKernel kernel_;
  Reactor reactor_{kernel_};
};

Task<> append([[maybe_unused]] Reactor& reactor, std::string& log, std::string text) {
  log += text;
  co_return Result<>{};
}

Task<int> wait_for(Reactor& reactor, Operation& operation) {
  EXPECT_EQ(&reactor, &reactor);
  auto got = co_await Io(operation);
  if (!got) co_return fail(got.error());
  co_return static_cast<int>(*got);
}

Task<> sum_of_two(Reactor& reactor, Operation& a, Operation& b, std::vector<int>& out) {
  auto first = wait_for(reactor, a);
  auto x = co_await first;
  auto second = wait_for(reactor, b);
  auto y = co_await second;
  if (!x || !y) {
    out.push_back(-1);
    co_return fail(Error::internal);
  }
  out.push_back(*x + *y);
  co_return Result<>{};
}

TEST_F(ReactorTest, a_spawned_task_runs_in_a_turn_and_not_before) {
  std::string log;
  reactor_.spawn(append(reactor_, log, "a"));
  reactor_.spawn(append(reactor_, log, "b"));
  EXPECT_EQ(log, "");
  EXPECT_TRUE(reactor_.has_ready());
  EXPECT_TRUE(reactor_.turn(wait_forever));
  EXPECT_EQ(log, "ab");
  EXPECT_EQ(kernel_.deadlines.back(), wait_never) << "no waiting while something is ready";
  EXPECT_FALSE(reactor_.has_ready());
}

TEST_F(ReactorTest, operations_resume_their_task_and_errors_become_ours) {
  Operation a, b;
  std::vector<int> out;
  reactor_.spawn(sum_of_two(reactor_, a, b, out));
  reactor_.turn(wait_never);
  ASSERT_EQ(kernel_.submitted.size(), 1U);
  EXPECT_EQ(reactor_.in_flight(), 1U);
  kernel_.complete(a, 40);
  reactor_.turn(wait_never);
  reactor_.turn(wait_never);
  ASSERT_EQ(kernel_.submitted.size(), 2U);
  kernel_.complete(b, 2);
  reactor_.turn(wait_never);
  reactor_.turn(wait_never);
  EXPECT_EQ(out, std::vector<int>{42});
  EXPECT_EQ(reactor_.in_flight(), 0U);

  reactor_.spawn(sum_of_two(reactor_, a, b, out));
  reactor_.turn(wait_never);
  kernel_.complete(a, -ENOSPC);
  for (int i = 0; i < 3; ++i) reactor_.turn(wait_never);
  kernel_.complete(b, 0);
  for (int i = 0; i < 3; ++i) reactor_.turn(wait_never);
  EXPECT_EQ(out, (std::vector<int>{42, -1}));
}

TEST_F(ReactorTest, a_multishot_is_in_flight_until_its_last_completion) {
  Operation operation;
  std::vector<int> results;
  operation.context = &results;
  operation.on_complete = [](Operation& self, const Completion& completion) {
    static_cast<std::vector<int>*>(self.context)->push_back(completion.result);
  };
  reactor_.submit(operation);
  kernel_.complete(operation, 1, true);
  kernel_.complete(operation, 2, true);
  reactor_.turn(wait_never);
  EXPECT_EQ(reactor_.in_flight(), 1U);
  kernel_.complete(operation, 0, false);
  reactor_.turn(wait_never);
  EXPECT_EQ(reactor_.in_flight(), 0U);
  EXPECT_EQ(results, (std::vector<int>{1, 2, 0}));
}

Task<> yield_twice([[maybe_unused]] Reactor& reactor, std::string& log, char name) {
  for (int i = 0; i < 3; ++i) {
    log += name;
    co_await Yield{};
  }
  co_return Result<>{};
}

TEST_F(ReactorTest, a_yield_lets_others_and_the_kernel_run_first) {
  std::string log;
  reactor_.spawn(yield_twice(reactor_, log, 'a'));
  reactor_.spawn(yield_twice(reactor_, log, 'b'));
  reactor_.turn(wait_forever);
  EXPECT_EQ(log, "ab");
  reactor_.turn(wait_forever);
  EXPECT_EQ(log, "abab");
  EXPECT_EQ(kernel_.polls, 2);
}

struct Fired {
  Timer timer;
  std::vector<int>* log;
  int name;
  Fired(std::vector<int>& order, int number) : log(&order), name(number) {
    timer.context = this;
    timer.fire = [](Timer& self) {
      auto& fired = *static_cast<Fired*>(self.context);
      fired.log->push_back(fired.name);
    };
  }
};

TEST_F(ReactorTest, timers_fire_in_order_of_their_deadlines_and_can_be_moved) {
  std::vector<int> order;
  Fired a(order, 1), b(order, 2), c(order, 3), d(order, 4);
  reactor_.arm(c.timer, 3'000);
  reactor_.arm(a.timer, 9'000);
  reactor_.arm(b.timer, 2'000);
  reactor_.arm(d.timer, 2'500);
  reactor_.arm(a.timer, 1'500);
  reactor_.disarm(d.timer);
  EXPECT_FALSE(d.timer.armed());
  EXPECT_EQ(reactor_.next_deadline(), 1'500);
  reactor_.turn(wait_forever);
  EXPECT_EQ(order, (std::vector<int>{1}));
  EXPECT_EQ(kernel_.deadlines.back(), 1'500) << "the kernel is asked to wait until the first timer";
  kernel_.time = 5'000;
  reactor_.turn(wait_never);
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(reactor_.next_deadline(), wait_forever);
}

TEST(TimerHeapTest, a_thousand_timers_come_out_sorted) {
  TimerHeap heap;
  Random random(1);
  std::vector<Timer> timers(1000);
  for (Timer& timer : timers) heap.arm(timer, static_cast<Nanos>(random.below(500)));
  for (std::size_t i = 0; i < timers.size(); i += 3) heap.disarm(timers[i]);
  for (std::size_t i = 1; i < timers.size(); i += 3) heap.arm(timers[i], static_cast<Nanos>(random.below(500)));
  Nanos last = 0;
  std::size_t count = 0;
  while (Timer* first = heap.first()) {
    EXPECT_GE(first->deadline, last);
    last = first->deadline;
    heap.disarm(*first);
    ++count;
  }
  EXPECT_EQ(count, 666U);
}

Task<> sleep_until(Reactor& reactor, Nanos deadline, std::vector<Nanos>& woke) {
  co_await Sleep(reactor, deadline);
  woke.push_back(reactor.now());
  co_return Result<>{};
}

TEST_F(ReactorTest, sleep_ends_at_its_deadline) {
  std::vector<Nanos> woke;
  reactor_.spawn(sleep_until(reactor_, 7'000, woke));
  reactor_.spawn(sleep_until(reactor_, 4'000, woke));
  for (int i = 0; i < 4; ++i) reactor_.turn(wait_forever);
  EXPECT_EQ(woke, (std::vector<Nanos>{4'000, 7'000}));
}

struct Hook final : TurnHook {
  std::string& log;
  std::string name;
  Reactor& reactor;
  Hook* next = nullptr;
  Hook(Reactor& on, std::string& to, std::string named) : log(to), name(std::move(named)), reactor(on) {}
  void turn_ended() override {
    log += name;
    if (next != nullptr) reactor.request(*std::exchange(next, nullptr));
  }
};

TEST_F(ReactorTest, hooks_run_once_a_turn_after_everything_else) {
  std::string log;
  Hook first(reactor_, log, "1"), second(reactor_, log, "2");
  first.next = &second;
  reactor_.spawn(append(reactor_, log, "t"));
  reactor_.request(first);
  reactor_.request(first);
  reactor_.turn(wait_forever);
  EXPECT_EQ(log, "t12") << "a hook asked for by a hook still runs in this turn";
  reactor_.turn(wait_never);
  EXPECT_EQ(log, "t12");
}

TEST_F(ReactorTest, a_withdrawn_hook_is_forgotten_also_while_hooks_run) {
  std::string log;
  auto gone = std::make_unique<Hook>(reactor_, log, "gone");
  reactor_.request(*gone);
  reactor_.withdraw(*gone);
  gone.reset();
  Hook stays(reactor_, log, "stays");
  reactor_.request(stays);
  reactor_.turn(wait_never);
  EXPECT_EQ(log, "stays");

  struct Remover final : TurnHook {
    Reactor& reactor;
    std::unique_ptr<Hook>& victim;
    Remover(Reactor& on, std::unique_ptr<Hook>& of) : reactor(on), victim(of) {}
    void turn_ended() override {
      reactor.withdraw(*victim);
      victim.reset();
    }
  };
  auto victim = std::make_unique<Hook>(reactor_, log, "victim");
  Remover remover(reactor_, victim);
  reactor_.request(remover);
  reactor_.request(*victim);
  reactor_.request(stays);
  reactor_.turn(wait_never);
  EXPECT_EQ(log, "staysstays");
}

Task<> wait_on(Reactor& reactor, Signal& signal, const bool& open, int& passed) {
  EXPECT_EQ(&reactor, &reactor);
  while (!open) co_await signal.wait();
  ++passed;
  co_return Result<>{};
}

TEST_F(ReactorTest, a_signal_wakes_all_that_wait) {
  Signal signal;
  bool open = false;
  int passed = 0;
  for (int i = 0; i < 3; ++i) reactor_.spawn(wait_on(reactor_, signal, open, passed));
  reactor_.turn(wait_never);
  EXPECT_TRUE(signal.has_waiters());
  signal.notify();
  reactor_.turn(wait_never);
  EXPECT_EQ(passed, 0) << "they look again and go on waiting";
  open = true;
  signal.notify();
  reactor_.turn(wait_never);
  EXPECT_EQ(passed, 3);
  EXPECT_FALSE(signal.has_waiters());
}

struct Guard {
  int* alive;
  explicit Guard(int& count) : alive(&count) { ++*alive; }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { --*alive; }
};

Task<> hold_forever(Reactor& reactor, int& alive, Operation& operation) {
  Guard guard(alive);
  auto waiting = wait_for(reactor, operation);
  auto got = co_await waiting;
  co_return got ? Result<>{} : Result<>(fail(got.error()));
}

TEST(ReactorEndTest, what_still_waits_is_destroyed_with_the_reactor) {
  ScriptedKernel kernel;
  int alive = 0;
  Operation operation;
  {
    Reactor reactor(kernel);
    reactor.spawn(hold_forever(reactor, alive, operation));
    reactor.turn(wait_never);
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(alive, 0);
}

TEST_F(ReactorTest, a_task_that_was_never_awaited_frees_what_it_holds) {
  auto text = std::make_shared<std::string>("held");
  std::weak_ptr<std::string> watch = text;
  struct Holder {
    static Task<> run([[maybe_unused]] Reactor& reactor, std::shared_ptr<std::string> held) {
      co_await Yield{};
      held->clear();
      co_return Result<>{};
    }
  };
  {
    auto task = Holder::run(reactor_, std::move(text));
    EXPECT_FALSE(watch.expired());
  }
  EXPECT_TRUE(watch.expired());
}

Task<int> deep(Reactor& reactor, int depth) {
  if (depth == 0) co_return 0;
  auto below = deep(reactor, depth - 1);
  auto got = co_await below;
  if (depth % 7 == 0) co_await Yield{};
  co_return got ? *got + 1 : -1;
}

Task<> measure(Reactor& reactor, int depth, int& out) {
  auto task = deep(reactor, depth);
  auto got = co_await task;
  out = got ? *got : -1;
  co_return Result<>{};
}

TEST_F(ReactorTest, tasks_nest_and_frames_come_back_to_the_pool) {
  int out = 0;
  for (int round = 0; round < 3; ++round) {
    reactor_.spawn(measure(reactor_, 100, out));
    for (int turns = 0; turns < 200 && reactor_.has_ready(); ++turns) reactor_.turn(wait_never);
    EXPECT_EQ(out, 100);
  }
  std::uint64_t after_warm_up = reactor_.frame_pool().heap_allocations();
  for (int round = 0; round < 10; ++round) {
    reactor_.spawn(measure(reactor_, 100, out));
    for (int turns = 0; turns < 200 && reactor_.has_ready(); ++turns) reactor_.turn(wait_never);
  }
  EXPECT_EQ(reactor_.frame_pool().heap_allocations(), after_warm_up);
}

TEST_F(ReactorTest, time_stands_still_within_a_turn_and_never_goes_back) {
  reactor_.turn(wait_never);
  Nanos before = reactor_.now();
  kernel_.time = before - 500;
  reactor_.turn(wait_never);
  EXPECT_EQ(reactor_.now(), before);
  kernel_.time = before + 10;
  EXPECT_EQ(reactor_.now(), before);
  reactor_.turn(wait_never);
  EXPECT_EQ(reactor_.now(), before + 10);
  kernel_.wall = 1;
  reactor_.turn(wait_never);
  EXPECT_EQ(reactor_.wall_now(), 1) << "the wall clock may jump either way";
}

Task<> compute([[maybe_unused]] Reactor& reactor, ScriptedKernel& kernel, Nanos length) {
  kernel.time += length;
  co_return Result<>{};
}

TEST_F(ReactorTest, turns_are_counted_by_what_they_compute) {
  for (const Nanos length :
       {Nanos{999}, Nanos{1'000}, Nanos{3'999}, Nanos{1'023'999}, Nanos{1'024'000}, nanos_per_second}) {
    reactor_.spawn(compute(reactor_, kernel_, length));
    reactor_.turn(wait_forever);
  }
  const auto& counts = reactor_.stats().turns_by_length;
  EXPECT_EQ(counts[0], 1u);
  EXPECT_EQ(counts[1], 1u);
  EXPECT_EQ(counts[2], 1u);
  EXPECT_EQ(counts[10], 1u) << "just below 1,024 us";
  EXPECT_EQ(counts[11], 1u);
  EXPECT_EQ(counts.back(), 1u) << "a second is beyond the last border";
  EXPECT_EQ(reactor_.stats().turns, 6u);
  EXPECT_EQ(reactor_.stats().long_turns, 3u) << "of more than 1 ms";
  EXPECT_EQ(reactor_.stats().longest_turn, nanos_per_second);
  // Waiting is not computing.
  reactor_.turn(reactor_.now() + nanos_per_second);
  EXPECT_EQ(reactor_.stats().turns_by_length[0], 2u);
}

TEST_F(ReactorTest, a_flood_of_completions_ends_the_turn_after_a_few_polls) {
  std::vector<Operation> operations(5'000);
  int done = 0;
  for (Operation& operation : operations) {
    operation.context = &done;
    operation.on_complete = [](Operation& self, const Completion&) { ++*static_cast<int*>(self.context); };
    reactor_.submit(operation);
    kernel_.complete(operation, 0);
  }
  reactor_.turn(wait_never);
  EXPECT_GT(done, 0);
  EXPECT_LT(done, 5'000);
  for (int i = 0; i < 10; ++i) reactor_.turn(wait_never);
  EXPECT_EQ(done, 5'000);
}

TEST_F(ReactorTest, an_inbox_with_more_keeps_the_reactor_awake) {
  struct Box final : Inbox {
    int left = 3;
    bool drain() override { return left > 0 && left-- > 0; }
  };
  Box box;
  reactor_.attach(box);
  EXPECT_TRUE(reactor_.turn(wait_forever));
  EXPECT_TRUE(reactor_.turn(wait_forever));
  EXPECT_EQ(kernel_.deadlines.back(), wait_never);
  EXPECT_TRUE(reactor_.turn(wait_forever));
  EXPECT_FALSE(reactor_.turn(wait_forever));
  reactor_.turn(wait_forever);
  EXPECT_EQ(kernel_.deadlines.back(), wait_forever);
  reactor_.detach(box);
}

TEST_F(ReactorTest, stop_wakes_the_kernel_and_ends_run) {
  reactor_.stop();
  EXPECT_EQ(kernel_.wakes, 1);
  reactor_.run();
  EXPECT_EQ(kernel_.polls, 0);
}

TEST_F(ReactorTest, close_later_asks_for_a_close) {
  reactor_.close_later(17);
  ASSERT_EQ(kernel_.submitted.size(), 1U);
  EXPECT_EQ(kernel_.submitted[0]->code, OperationCode::close);
  EXPECT_EQ(kernel_.submitted[0]->descriptor, 17);
  kernel_.complete(*kernel_.submitted[0], 0);
  reactor_.turn(wait_never);
  EXPECT_EQ(reactor_.in_flight(), 0U);
}

TEST(RandomTest, the_same_seed_gives_the_same_numbers) {
  Random a(42), b(42), c(43);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    std::uint64_t x = a.next();
    EXPECT_EQ(x, b.next());
    differs |= x != c.next();
  }
  EXPECT_TRUE(differs);
  for (int i = 0; i < 10'000; ++i) EXPECT_LT(a.below(7), 7U);
  int hits = 0;
  for (int i = 0; i < 10'000; ++i) hits += a.chance(250) ? 1 : 0;
  EXPECT_NEAR(hits, 2'500, 250);
}

}  // namespace

}  // namespace millrace::test
