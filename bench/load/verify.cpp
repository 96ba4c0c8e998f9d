#include "bench/load/verify.hpp"

#include <algorithm>
#include <optional>

namespace millrace::load {

namespace {

/// The acknowledged records of one producer, walked in the order of their numbers.
struct Walk {
  const std::vector<Acknowledged>* acknowledged = nullptr;
  std::size_t at = 0;
  std::uint64_t into = 0;

  bool done() const { return at == acknowledged->size(); }
  std::uint64_t number() const { return (*acknowledged)[at].number + into; }
  std::uint64_t offset() const { return (*acknowledged)[at].offset + into; }
  void step() {
    if (++into < (*acknowledged)[at].count) return;
    into = 0;
    ++at;
  }
};

class StreamCheck {
 public:
  StreamCheck(const Options& options, const Load& load, std::uint64_t run, std::uint32_t stream, Verdict& verdict)
      : pattern_(options.record_bytes),
        run_(run),
        name_(load.stream_name(stream)),
        walks_(load.producers()),
        verdict_(verdict) {
    for (std::size_t i = stream; i < load.producers(); i += options.streams) {
      walks_[i].acknowledged = &load.acknowledged(i);
      if (walks_[i].done()) continue;
      first_ = std::min(first_.value_or(walks_[i].offset()), walks_[i].offset());
    }
  }

  void read(Client& client) {
    if (!first_) return;
    ConsumerOptions options;
    options.stream = name_;
    options.from = Place::at_offset(*first_);
    auto consumer = client.consumer(options);
    if (!consumer) return wrong(consumer.problem().text());
    for (;;) {
      const ReadResult& result = consumer->next(std::chrono::seconds(30));
      if (result.event == ReadEvent::record) look_at(result.record);
      else if (result.event == ReadEvent::data_loss) wrong("lost at offset " + std::to_string(result.loss_first));
      else if (result.event == ReadEvent::end) break;
      else if (result.event != ReadEvent::day_finished)
        return wrong(result.event == ReadEvent::timed_out ? "reading timed out" : result.problem.text());
    }
    for (const Walk& walk : walks_)
      if (walk.acknowledged != nullptr && !walk.done())
        wrong("missing from number " + std::to_string(walk.number()) + " on");
  }

 private:
  void look_at(const ReadRecord& record) {
    RecordName name;
    if (!pattern_.check(record.payload, name)) return wrong("damaged at offset " + std::to_string(record.offset));
    if (name.run != run_) return;
    if (name.producer >= walks_.size() || walks_[name.producer].acknowledged == nullptr)
      return wrong("of another stream at offset " + std::to_string(record.offset));
    Walk& walk = walks_[name.producer];
    // Behind what was acknowledged may stand what was still under way at the end.
    if (walk.done()) return;
    if (walk.number() != name.number || walk.offset() != record.offset)
      return wrong("offset " + std::to_string(record.offset) + " holds number " + std::to_string(name.number) +
                   ", acknowledged was number " + std::to_string(walk.number()) + " at " +
                   std::to_string(walk.offset()));
    walk.step();
    verdict_.records += 1;
  }

  void wrong(const std::string& what) {
    verdict_.wrong += 1;
    if (verdict_.first_wrong.empty()) verdict_.first_wrong = name_ + ": " + what;
  }

  RecordPattern pattern_;
  const std::uint64_t run_;
  const std::string name_;
  std::vector<Walk> walks_;
  Verdict& verdict_;
  std::optional<std::uint64_t> first_;
};

}  // namespace

Verdict verify(Client& client, const Options& options, const Load& load, std::uint64_t run) {
  Verdict verdict;
  for (std::uint32_t stream = 0; stream < options.streams; ++stream)
    StreamCheck(options, load, run, stream, verdict).read(client);
  return verdict;
}

}  // namespace millrace::load
