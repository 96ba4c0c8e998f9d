#include "storage/committer.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "base/bytes.hpp"

namespace millrace {
namespace {

using Kind = CommitAction::Kind;

// Owns what the log owns: the open group's length, lsns, and what is in flight.
class Driver {
 public:
  explicit Driver(CommitterConfig config = {}) : committer(config, Lsn{1}, 1) {}

  void open(bool first_of_segment = false) {
    CommitEvent event{.kind = CommitEvent::Kind::group_opened, .first_of_segment = first_of_segment};
    event.bytes = bytes = 128;
    event.group = next_group++;
    event.end = next;
    committer.step(event);
  }
  void append(std::uint32_t length) {
    bytes += length;
    next = next.next();
    committer.step({.kind = CommitEvent::Kind::batch_appended, .bytes = bytes, .end = next, .now = now});
  }
  CommitActions turn() {
    auto actions = committer.step({.kind = CommitEvent::Kind::turn_ended, .now = now});
    for (const auto& action : actions)
      if (action.closes) open();
    return actions;
  }
  CommitActions done(std::uint32_t ticket) {
    return committer.step({.kind = CommitEvent::Kind::write_done, .ticket = ticket, .now = now});
  }
  void close() { committer.step({.kind = CommitEvent::Kind::group_closed}); }

  Committer committer;
  std::uint32_t bytes = 0;
  std::uint64_t next_group = 0;
  Lsn next{1};
  Nanos now = 1000;
};

TEST(Committer, SmallFlushGoesToASlotWithWhatCameSinceTheLastOne) {
  Driver d;
  d.open();
  d.append(400);
  auto first = d.turn();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].kind, Kind::write_slot);
  EXPECT_EQ(first[0].from, 128u);
  EXPECT_EQ(first[0].to, 528u);
  EXPECT_EQ(first[0].durable, Lsn{1});
  d.append(400);
  EXPECT_TRUE(d.turn().empty()) << "a slot waits while another is in flight";
  auto durable = d.done(first[0].ticket);
  ASSERT_EQ(durable.size(), 1u);
  EXPECT_EQ(durable[0].kind, Kind::durable);
  EXPECT_EQ(durable[0].durable, Lsn{2});
  auto second = d.turn();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].from, 528u);
  EXPECT_EQ(second[0].first, Lsn{2});
  EXPECT_EQ(second[0].slot, first[0].slot + 1);
  EXPECT_NE(second[0].ring_at, first[0].ring_at);
}

TEST(Committer, ThirtyTwoKibibytesPendingGoToTheSegmentWhole) {
  Driver d;
  d.open();
  d.append(400);
  d.done(d.turn()[0].ticket);
  d.append(40 * KiB);
  auto group = d.turn();
  ASSERT_EQ(group.size(), 1u);
  EXPECT_EQ(group[0].kind, Kind::write_group);
  EXPECT_TRUE(group[0].closes);
  EXPECT_EQ(group[0].to, 128 + 400 + 40 * KiB) << "all of it, whatever slots hold";
  EXPECT_EQ(group[0].durable, Lsn{2});
}

TEST(Committer, FirstGroupOfASegmentWaitsForItsFileAndForAllBefore) {
  Driver d;
  d.open();
  d.append(300 * KiB);
  auto before = d.turn();
  d.append(300 * KiB);
  d.close();
  d.open(true);
  d.append(200);
  auto last = d.turn();
  ASSERT_EQ(last.size(), 1u) << "the second write in flight";
  d.committer.step({.kind = CommitEvent::Kind::segment_ready});
  EXPECT_TRUE(d.turn().empty());
  d.done(before[0].ticket);
  EXPECT_TRUE(d.turn().empty());
  d.done(last[0].ticket);
  auto first = d.turn();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].kind, Kind::write_group) << "never a slot: the header block must be there";
}

TEST(Committer, SecondWriteOnlyWhenEnoughWaits) {
  Driver d;
  d.open();
  d.append(64 * KiB);
  ASSERT_EQ(d.turn().size(), 1u);
  d.append(64 * KiB);
  EXPECT_TRUE(d.turn().empty());
  d.append(200 * KiB);
  EXPECT_EQ(d.turn().size(), 1u);
  d.append(600 * KiB);
  EXPECT_TRUE(d.turn().empty()) << "two in flight at most";
}

TEST(Committer, AcknowledgesInOrderWhateverCompletesFirst) {
  Driver d;
  d.open();
  d.append(300 * KiB);
  auto first = d.turn();
  d.append(300 * KiB);
  auto second = d.turn();
  EXPECT_TRUE(d.done(second[0].ticket).empty());
  EXPECT_EQ(d.committer.durable(), Lsn{1});
  auto both = d.done(first[0].ticket);
  ASSERT_EQ(both.size(), 1u);
  EXPECT_EQ(both[0].durable, Lsn{3});
}

TEST(Committer, LullRecordsTheDurableEndOnceAndMovesLater) {
  Driver d;
  d.open();
  d.append(400);
  d.done(d.turn()[0].ticket);
  EXPECT_TRUE(d.turn().empty());
  EXPECT_EQ(d.committer.deadline(), d.now + 5 * nanos_per_milli);
  d.now = d.committer.deadline();
  auto end = d.turn();
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0].kind, Kind::write_end);
  EXPECT_EQ(end[0].durable, Lsn{2});
  EXPECT_TRUE(d.done(end[0].ticket).empty());
  EXPECT_TRUE(d.turn().empty());
  EXPECT_FALSE(d.committer.settled());
  d.now = d.committer.deadline();
  auto moved = d.turn();
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_EQ(moved[0].kind, Kind::write_group);
  d.done(moved[0].ticket);
  EXPECT_TRUE(d.committer.settled());
  EXPECT_EQ(d.committer.deadline(), 0);
}

TEST(Committer, AfterAFailureNothingIsWrittenOrAcknowledged) {
  Driver d;
  d.open();
  d.append(300 * KiB);
  auto first = d.turn();
  d.append(300 * KiB);
  auto second = d.turn();
  auto failed = d.committer.step({.kind = CommitEvent::Kind::write_failed, .ticket = first[0].ticket});
  ASSERT_EQ(failed.size(), 1u);
  EXPECT_EQ(failed[0].kind, Kind::failed);
  EXPECT_TRUE(d.done(second[0].ticket).empty());
  d.append(10);
  EXPECT_TRUE(d.turn().empty());
  EXPECT_EQ(d.committer.durable(), Lsn{1});
  EXPECT_EQ(d.committer.in_flight(), 0u);
}

// Random loads against the rules themselves: what a slot holds is not overwritten before its group is in the segment,
// durable never passes what has completed, everything becomes durable in the end.
struct Model {
  struct Flight {
    CommitAction action;
    Lsn end;
  };
  std::map<std::uint32_t, Flight> flights;
  struct Slot {
    std::uint64_t begin, end, group;
  };
  std::vector<Slot> live_slots;
  std::map<std::uint64_t, Lsn> group_end;
  std::vector<std::pair<Lsn, Lsn>> completed;  // [first, end)

  Lsn provable() const {
    Lsn end{1};
    for (bool moved = true; moved;) {
      moved = false;
      for (auto [first, last] : completed)
        if (first <= end && last > end) end = last, moved = true;
    }
    return end;
  }
};

void submit(Model& model, const CommitAction& action, Lsn end) {
  if (action.kind != Kind::write_group) {
    ASSERT_TRUE(model.flights.empty());
    std::uint64_t length = align_up(128 + action.to - action.from, block_bytes);
    for (auto& slot : model.live_slots)
      ASSERT_TRUE(action.ring_at + length <= slot.begin || action.ring_at >= slot.end) << "overwrites a live slot";
    ASSERT_LE(action.ring_at + length, 64 * KiB);
    if (action.kind == Kind::write_slot)
      model.live_slots.push_back({action.ring_at, action.ring_at + length, action.group});
  }
  model.flights[action.ticket] = {action, end};
  ASSERT_LE(model.flights.size(), 2u);
}

TEST(Committer, RandomLoadsKeepTheRules) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    CommitterConfig config;
    config.ring_bytes = 64 * KiB;
    Driver d(config);
    Model model;
    d.open(true);
    d.committer.step({.kind = CommitEvent::Kind::segment_ready});
    for (int step = 0; step < 400; ++step) {
      switch (random() % 4) {
        case 0:
          if (d.bytes < 900 * KiB)
            d.append(static_cast<std::uint32_t>(random() % 8 == 0 ? 100'000 : 16 + random() % 5000));
          break;
        case 1: {
          Lsn end = d.next;
          for (const auto& action : d.committer.step({.kind = CommitEvent::Kind::turn_ended, .now = d.now})) {
            submit(model, action, end);
            if (HasFatalFailure()) return;
            if (action.closes) d.open();
          }
          break;
        }
        case 2: {
          if (model.flights.empty()) break;
          auto flight = std::next(model.flights.begin(), random() % model.flights.size());
          Model::Flight done = flight->second;
          model.flights.erase(flight);
          if (done.action.kind != Kind::write_end) model.completed.push_back({done.action.first, done.end});
          if (done.action.kind == Kind::write_group)
            std::erase_if(model.live_slots, [&](auto& slot) { return slot.group == done.action.group; });
          d.done(done.action.ticket);
          ASSERT_EQ(d.committer.durable(), model.provable());
          break;
        }
        default: d.now += random() % (random() % 50 == 0 ? 12'000'000'000 : 8'000'000);
      }
    }
    for (int i = 0; i < 10; ++i) {
      for (const auto& action : d.turn()) submit(model, action, d.next);
      while (!model.flights.empty()) {
        auto done = model.flights.begin()->first;
        model.flights.erase(done);
        d.done(done);
      }
    }
    EXPECT_EQ(d.committer.durable(), d.next);
  }
}

TEST(Committer, WhoFollowsClosesNoGroupByItself) {
  CommitterConfig config;
  config.follows = true;
  Driver d(config);
  d.open(true);
  d.append(400);
  d.committer.step({.kind = CommitEvent::Kind::segment_ready});
  EXPECT_TRUE(d.turn().empty()) << "the first group of a segment waits for its header";
  d.close();
  auto first = d.turn();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].kind, Kind::write_group);
  EXPECT_FALSE(first[0].closes);
  d.done(first[0].ticket);

  d.open();
  d.append(400);
  auto slot = d.turn();
  ASSERT_EQ(slot.size(), 1u);
  EXPECT_EQ(slot[0].kind, Kind::write_slot);
  d.done(slot[0].ticket);
  d.now += config.record_end_after;
  auto end = d.turn();
  ASSERT_EQ(end.size(), 1u);
  EXPECT_EQ(end[0].kind, Kind::write_end);
  d.done(end[0].ticket);
  d.now += 2 * config.move_after;
  EXPECT_TRUE(d.turn().empty()) << "a long lull moves nothing";
  EXPECT_EQ(d.committer.deadline(), 0);
  d.append(40'000);
  EXPECT_TRUE(d.turn().empty()) << "more than a slot takes waits for its header";
}

TEST(Committer, WhoFollowsGoesOnWithWhatItsSlotsHold) {
  CommitterConfig config;
  config.follows = true;
  Driver d(config);
  HeldGroup held;
  held.bytes = 528;
  held.first = Lsn{1};
  held.end = Lsn{3};
  held.ring_next = 8192;
  held.ring_live = 8192;
  d.committer.resume(held);
  d.bytes = 528;
  d.next = Lsn{3};
  d.next_group = 1;
  EXPECT_EQ(d.committer.durable(), Lsn{3});
  d.append(200);
  auto slot = d.turn();
  ASSERT_EQ(slot.size(), 1u);
  EXPECT_EQ(slot[0].from, 528u);
  EXPECT_EQ(slot[0].to, 728u);
  EXPECT_EQ(slot[0].first, Lsn{3});
  EXPECT_EQ(slot[0].ring_at, 8192u) << "not over the slots that hold the front of the group";
}

}  // namespace
}  // namespace millrace
