// One stream of a data directory, record by record, as a Consumer gives it over the network: for programs that want to wait in
// place. Live, stopped and copied directories alike; nothing is written and no lock is taken.
//
// Thread: one at a time; everything runs on it, inside open() and next().
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "millrace/consumer.hpp"

namespace millrace {

class DirectoryConsumer {
 public:
  /// The problem's context says what is wrong with which file.
  static Expected<std::unique_ptr<DirectoryConsumer>> open(const std::string& directory, bool buffered,
                                                           const ConsumerOptions& options);
  ~DirectoryConsumer();
  DirectoryConsumer(const DirectoryConsumer&) = delete;
  DirectoryConsumer& operator=(const DirectoryConsumer&) = delete;

  /// As Consumer::next. A batch whose body does not verify is told as data_loss.
  const ReadResult& next(std::chrono::nanoseconds timeout);

 private:
  struct Impl;
  explicit DirectoryConsumer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
