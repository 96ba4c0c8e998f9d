// Every error of the system is one number of one flat list. Numbers are stable: they stand on the wire, in scripts and
// in metrics, so a number is never reused. The hundred tells the caller what to do next.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>
#include <utility>

namespace millrace {

enum class Error : std::uint16_t {
  // 1..99: retry. The same request may succeed later.
  retry_later = 1,      // a budget of the shard is used up; the answer says when to come back
  unknown_outcome = 2,  // a commit write failed: the batch may or may not be durable; ask again with the same sequence
  no_space = 3,         // the disk or quota is full; the answer carries the free bytes
  not_ready = 4,        // starting, recovering, reopening or being stopped
  timed_out = 5,        // no answer in the time asked for
  connection_lost = 6,  // the peer closed or reset
  cancelled = 7,        // the owner is going away
  would_block = 8,      // nothing there yet
  too_many_files = 9,   // descriptors or kernel memory used up
  // 100..199: refuse. The same request will never succeed; change it.
  invalid_argument = 100,
  too_large = 101,  // over a named limit
  unknown_stream = 102,
  out_of_range = 103,         // before the first readable offset or past the end; the answer carries the range
  out_of_order = 104,         // a producer's sequence skipped ahead
  duplicate = 105,            // already stored, too old to say where
  fenced = 106,               // a newer epoch of this producer (or leader) exists
  unknown_producer = 107,     // its dedupe state was evicted, or it never registered
  wrong_shard = 108,          // the answer names the right one
  unsupported_version = 109,  // version or an incompatible feature bit
  name_collision = 110,       // another stream has this name's id
  permission_denied = 111,
  over_credit = 112,  // more bytes in flight than granted
  bad_frame = 113,    // a frame whose magic, length or header hash is wrong; ends the connection
  bad_body = 114,     // a body whose hash or structure is wrong
  not_found = 115,    // a file or name that does not exist
  already_exists = 116,
  unsupported = 117,  // the kernel or filesystem cannot do this
  address_in_use = 118,
  connection_refused = 119,
  not_leader = 120,  // this node follows another one; the answer names the leader
  // 200..299: stop. A person has to look.
  io_failed = 200,     // the device or filesystem failed
  corrupt = 201,       // bytes are not what was written
  data_loss = 202,     // a range that was durable is gone; the answer carries range and next offset
  locked = 203,        // another process has this directory
  foreign = 204,       // a directory or file of another cluster, log or program
  clock_jumped = 205,  // the wall clock is not believable; --accept-clock overrides
  closed = 206,        // the log stays closed after a second failure
  read_only = 207,     // read-only filesystem or mount
  diverged = 208,      // two nodes hold different bytes at one place of one log
  internal = 299,
};

enum class NextStep : std::uint8_t { retry, refuse, stop };

/// What a caller does with an error: comes from the number's hundred.
constexpr NextStep next_step(Error error) {
  auto number = static_cast<std::uint16_t>(error);
  return number < 100 ? NextStep::retry : number < 200 ? NextStep::refuse : NextStep::stop;
}

/// The stable snake_case name, as scripts and log lines show it ("no_space"); "unknown_error" for a number not in the list.
std::string_view error_name(Error error);
/// One sentence for a person: what it means and what to do.
std::string_view error_text(Error error);
/// errno becomes ours here and nowhere else. `system_errno` is positive.
Error error_from_errno(int system_errno);
/// True for a number of the list above: what a decoder checks before it casts.
bool is_error(std::uint16_t number);

/// A value or an Error; std::expected of libstdc++ 12 is not [[nodiscard]], this is.
template <class T = void>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
};

using Failure = std::unexpected<Error>;
/// `return fail(Error::corrupt);`
constexpr Failure fail(Error error) { return Failure(error); }

}  // namespace millrace
