// What can go wrong, as the SDK's user sees it: one stable number, one sentence, and never an exception.
//
// The numbers are those of the server's error list: they stand on the wire, in scripts and in metrics, and are never
// reused. The hundred says what to do next: below 100 the same request may succeed later (the SDK has already retried as
// long as it was told to), 100..199 it never will, from 200 on a person has to look.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace millrace {

enum class ErrorCode : std::uint16_t {
  none = 0,
  retry_later = 1,
  unknown_outcome = 2,
  no_space = 3,
  not_ready = 4,
  timed_out = 5,
  connection_lost = 6,
  cancelled = 7,
  would_block = 8,
  too_many_files = 9,
  invalid_argument = 100,
  too_large = 101,
  unknown_stream = 102,
  out_of_range = 103,
  out_of_order = 104,
  duplicate = 105,
  fenced = 106,
  unknown_producer = 107,
  wrong_shard = 108,
  unsupported_version = 109,
  name_collision = 110,
  permission_denied = 111,
  over_credit = 112,
  bad_frame = 113,
  bad_body = 114,
  not_found = 115,
  already_exists = 116,
  unsupported = 117,
  address_in_use = 118,
  connection_refused = 119,
  not_leader = 120,
  io_failed = 200,
  corrupt = 201,
  data_loss = 202,
  locked = 203,
  foreign = 204,
  clock_jumped = 205,
  closed = 206,
  read_only = 207,
  diverged = 208,
  internal = 299,
};

/// The stable snake_case name, as scripts and log lines show it ("no_space").
std::string_view name_of(ErrorCode code);
/// One sentence for a person: what it means and what to do.
std::string_view text_of(ErrorCode code);

/// One thing that went wrong. `detail` is what the server adds to the code: no_space the free bytes, retry_later
/// milliseconds, out_of_range the first readable offset; 0 where there is nothing to add.
struct Problem {
  ErrorCode code = ErrorCode::internal;
  std::uint64_t detail = 0;
  std::string context{};  // what was being done, with the name it was done to: "connect to 127.0.0.1:7070"

  /// "connect to 127.0.0.1:7070: connection_refused: nobody listens at this address"
  std::string text() const;
};

/// A value or a Problem. Asking for the value of a failed one is a bug and terminates.
template <class T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : held_(std::in_place_index<0>, std::move(value)) {}            // NOLINT: implicit on purpose
  Expected(Problem problem) : held_(std::in_place_index<1>, std::move(problem)) {}  // NOLINT

  bool has_value() const { return held_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & { return std::get<0>(held_); }
  const T& value() const& { return std::get<0>(held_); }
  T&& value() && { return std::get<0>(std::move(held_)); }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const Problem& problem() const { return std::get<1>(held_); }

 private:
  std::variant<T, Problem> held_;
};

}  // namespace millrace
