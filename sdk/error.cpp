#include "millrace/error.hpp"

#include "base/quantity.hpp"
#include "base/result.hpp"

namespace millrace {

// The public list is the house's list.
static_assert(static_cast<int>(ErrorCode::retry_later) == static_cast<int>(Error::retry_later));
static_assert(static_cast<int>(ErrorCode::too_many_files) == static_cast<int>(Error::too_many_files));
static_assert(static_cast<int>(ErrorCode::invalid_argument) == static_cast<int>(Error::invalid_argument));
static_assert(static_cast<int>(ErrorCode::connection_refused) == static_cast<int>(Error::connection_refused));
static_assert(static_cast<int>(ErrorCode::not_leader) == static_cast<int>(Error::not_leader));
static_assert(static_cast<int>(ErrorCode::io_failed) == static_cast<int>(Error::io_failed));
static_assert(static_cast<int>(ErrorCode::read_only) == static_cast<int>(Error::read_only));
static_assert(static_cast<int>(ErrorCode::diverged) == static_cast<int>(Error::diverged));
static_assert(static_cast<int>(ErrorCode::internal) == static_cast<int>(Error::internal));

std::string_view name_of(ErrorCode code) {
  return code == ErrorCode::none ? "none" : error_name(static_cast<Error>(code));
}

std::string_view text_of(ErrorCode code) {
  return code == ErrorCode::none ? "nothing went wrong" : error_text(static_cast<Error>(code));
}

std::string Problem::text() const {
  std::string text = context.empty() ? "" : context + ": ";
  text += name_of(code);
  text += ": ";
  text += text_of(code);
  if (code == ErrorCode::no_space)
    text += " (" + format_bytes(static_cast<double>(detail)) +
            " free; another segment and 4 MiB that are kept for seals and indexes do not fit)";
  if (code == ErrorCode::out_of_range && detail != 0) text += " (first readable offset " + std::to_string(detail) + ")";
  return text;
}

}  // namespace millrace
