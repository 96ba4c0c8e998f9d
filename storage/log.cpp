#include "storage/log.hpp"

#include <utility>

#include "storage/log_core.hpp"

namespace millrace {

std::string_view condition_name(LogCondition condition) {
  switch (condition) {
    case LogCondition::serving: return "serving";
    case LogCondition::no_space: return "no_space";
    case LogCondition::reopening: return "reopening";
    case LogCondition::closed: return "closed";
    case LogCondition::stopped: return "stopped";
  }
  return "unknown";
}

Log::Log(std::unique_ptr<LogCore> core) : core_(std::move(core)) {}
Log::~Log() = default;

Task<std::unique_ptr<Log>> Log::open(Reactor& reactor, LogOptions options, OpeningReport& report) {
  auto core = std::make_unique<LogCore>(reactor, std::move(options));
  auto opening = core->open(report);
  auto opened = co_await opening;
  if (!opened) co_return fail(opened.error());
  co_return std::unique_ptr<Log>(new Log(std::move(core)));
}

Log::Appended Log::append(const BatchHeader& producer, Bytes body) {
  auto* allocations = core_->options().allocations;
  if (allocations == nullptr) return core_->append(producer, body);
  const std::uint64_t before = allocations();
  auto appended = core_->append(producer, body);
  append_allocations_ += allocations() - before;
  return appended;
}
Result<StreamId> Log::declare_stream(std::string_view name) { return core_->declare_stream(name); }
Task<ProducerRegistration> Log::register_producer(ProducerId id) { return core_->register_producer(id); }
Result<Lsn> Log::trim_stream(StreamId stream, Offset first_kept) { return core_->trim_stream(stream, first_kept); }
Watermarks Log::watermarks() const { return core_->watermarks(); }
LogCondition Log::condition() const { return core_->condition(); }
void Log::add_listener(LogListener& listener) { core_->add_listener(listener); }
void Log::remove_listener(LogListener& listener) { core_->remove_listener(listener); }
Result<StreamInfo> Log::find_stream(StreamId id) const { return core_->find_stream(id); }
Offset Log::offset_floor() const { return core_->offset_floor(); }
std::size_t Log::stream_count() const { return core_->stream_count(); }
std::size_t Log::visit_streams(std::size_t from, std::size_t most,
                               const std::function<void(const StreamInfo&)>& visit) const {
  return core_->visit_streams(from, most, visit);
}
const std::vector<DamagedRange>& Log::damaged() const { return core_->damaged(); }
const LogOptions& Log::options() const { return core_->options(); }
LogStats Log::stats() const {
  LogStats stats = core_->stats();
  stats.append_allocations = append_allocations_;
  return stats;
}
ReadView& Log::view() { return core_->view(); }
LogCopy& Log::copy() { return *core_; }
LogSource& Log::source() { return *core_; }
Reactor& Log::reactor() { return core_->reactor(); }
Task<> Log::stop() { return core_->stop(); }

}  // namespace millrace
