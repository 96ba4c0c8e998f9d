#include "cli/record_source.hpp"
#include "embed/directory_consumer.hpp"

namespace millrace::cli {

namespace {

class DirectorySource final : public RecordSource {
 public:
  explicit DirectorySource(std::unique_ptr<DirectoryConsumer> consumer) : consumer_(std::move(consumer)) {}
  const ReadResult& next(std::chrono::nanoseconds timeout) override { return consumer_->next(timeout); }

 private:
  std::unique_ptr<DirectoryConsumer> consumer_;
};

}  // namespace

Expected<std::unique_ptr<RecordSource>> directory_source(const std::string& directory, bool buffered,
                                                         const ConsumerOptions& options) {
  auto consumer = DirectoryConsumer::open(directory, buffered, options);
  if (!consumer) return consumer.problem();
  std::unique_ptr<RecordSource> source = std::make_unique<DirectorySource>(*std::move(consumer));
  return source;
}

}  // namespace millrace::cli
