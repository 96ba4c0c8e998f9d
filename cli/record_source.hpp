// Where `read` gets its records: a server, or a data directory without one. Both tell the same things.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "millrace/consumer.hpp"

namespace millrace::cli {

class RecordSource {
 public:
  RecordSource() = default;
  RecordSource(const RecordSource&) = delete;
  RecordSource& operator=(const RecordSource&) = delete;
  virtual ~RecordSource() = default;
  /// As Consumer::next.
  virtual const ReadResult& next(std::chrono::nanoseconds timeout) = 0;
};

/// Reads over the network, trying for `retry`.
Expected<std::unique_ptr<RecordSource>> server_source(const std::string& server, std::chrono::milliseconds retry,
                                                      const ConsumerOptions& options);

/// Reads a live, stopped or copied data directory.
Expected<std::unique_ptr<RecordSource>> directory_source(const std::string& directory, bool buffered,
                                                         const ConsumerOptions& options);

}  // namespace millrace::cli
