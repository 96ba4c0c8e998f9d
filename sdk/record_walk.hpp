// Walks through verified batches record by record, clipping to what a reader asked for: where it begins and ends, which type, how
// many. The same for what comes over the network and straight from a directory.
//
// Thread: the owner's.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "millrace/consumer.hpp"
#include "sdk/core/consumer_core.hpp"

namespace millrace {

/// What an event other than batches says to the application. True: nothing comes behind it.
bool tell_event(const ReadEventCore& event, const std::string& stream, ReadResult& result);

class RecordWalk {
 public:
  explicit RecordWalk(const ConsumerOptions& options) : options_(options) {}

  /// The next batches; those before must be used up. Offsets before `event.first` are passed over.
  void enter(ReadEventCore&& event) {
    event_ = std::move(event);
    inside_ = true;
    batch_ = 0;
    record_ = 0;
  }

  enum class Step : std::uint8_t { record, used_up, finished };
  /// record: `result.record` holds one, with views into the batches, valid until leave(). finished: everything asked for was given.
  Step next(ReadResult& result);

  bool inside() const { return inside_; }
  /// Lets go of the batches and says how many bytes they were.
  std::size_t leave() {
    inside_ = false;
    const std::size_t bytes = event_.bytes.size();
    event_ = {};
    return bytes;
  }

  std::uint64_t next_offset() const { return next_offset_; }
  void pass_to(std::uint64_t offset) { next_offset_ = offset; }

 private:
  bool before_from(const ReadBatch& batch, std::uint32_t record) const;
  bool past_until(const ReadBatch& batch, std::uint32_t record) const;
  void fill(ReadRecord& target, const ReadBatch& batch, std::uint32_t record) const;

  const ConsumerOptions& options_;
  ReadEventCore event_;
  bool inside_ = false;
  std::size_t batch_ = 0;
  std::uint32_t record_ = 0;
  std::uint64_t given_ = 0;
  std::uint64_t next_offset_ = 0;
};

}  // namespace millrace
