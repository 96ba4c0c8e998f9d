// The clients of a run: the SDK's producer and consumer cores, appending records that prove themselves.
#include <algorithm>

#include "tests/sim/workload.hpp"

namespace millrace::sim {

namespace {
constexpr std::uint32_t records_per_step_max = 32;
constexpr Nanos restart_after = 500'000'000;
constexpr std::uint64_t no_offset = ~std::uint64_t{0};
}  // namespace

void WorkloadShared::violation(std::string text) {
  world.say("VIOLATION %s", text.c_str());
  if (violations.size() < 100) violations.push_back(std::move(text));
}

/// A session to one shard, with what uses it.
struct ClientProgram::Line {
  Line(Reactor& reactor, WorkloadShared& shared, const SessionSettings& settings)
      : session(settings),
        driver(reactor, session, {shared.server_host, server_port}, shared.recorder,
               {[this](Nanos now) { advance(now); }, [this] { return deadline(); },
                [&shared] { return shared.world.faults().media_faults(); }}) {}
  void advance(Nanos now);
  Nanos deadline() const;

  Session session;
  std::vector<Producing*> producers;
  std::vector<Consuming*> consumers;
  SessionDriver driver;
};

/// One producer: appends at its pace, and begins a new life when it has failed.
class ClientProgram::Producing final : public ProducerListener, public BatchRingListener {
 public:
  Producing(ClientProgram& program, Line& line, std::string stream, std::uint64_t seed)
      : program_(program), line_(line), stream_(std::move(stream)), random_(seed) {}

  Task<> run() {
    for (;;) {
      begin_life();
      while (!core_->failed()) {
        if (program_.shared_.appending) append_some();
        co_await Sleep(*program_.reactor_, program_.reactor_->now() + pause());
      }
      ++program_.shared_.producer_failures;
      co_await Sleep(*program_.reactor_, program_.reactor_->now() + restart_after);
    }
  }

  void advance(Nanos now) {
    if (core_) core_->advance(now);
  }
  Nanos deadline() const { return core_ ? core_->deadline() : no_deadline; }
  bool settled() const { return !core_ || core_->failed() || answered_ == ring_->tickets(); }

  void ring_has_work() override { line_.driver.poke(); }
  void producer_ready(ProducerId id, std::uint32_t) override { id_ = id; }
  void producer_failed(Error, std::uint64_t) override { line_.driver.poke(); }
  void producer_result(const BatchResult& result) override {
    answered_ = result.first_ticket + result.records;
    if (!result.error)
      program_.shared_.ledger.acknowledged(life_, result.first_ticket, result.records, result.first_offset.value);
  }

 private:
  void begin_life() {
    const WorkloadPlan& plan = program_.shared_.plan;
    core_.reset();
    ring_.reset();
    life_ = program_.shared_.ledger.begin_life(stream_);
    answered_ = 0;
    if (!pool_) {
      auto shape = BufferShape::of(plan.batch_bytes, plan.batch_records);
      pool_ = std::make_unique<BufferPool>(shape.total_bytes * (plan.in_flight + plan.batches_queued), shape);
    }
    ring_ = std::make_unique<BatchRing>(
        *pool_, BatchLimits{plan.batch_bytes, plan.batch_records, plan.in_flight + plan.batches_queued}, *this);
    ProducerSettings settings;
    settings.stream = stream_;
    // Half of the later lives take over their former self's identity, which fences it.
    if (id_.value != 0 && random_.below(2) == 0) settings.id = id_;
    settings.in_flight = plan.in_flight;
    settings.linger = plan.linger;
    core_ = std::make_unique<ProducerCore>(line_.session, *ring_, settings, *this);
    core_->start(program_.reactor_->now());
    line_.driver.poke();
  }

  void append_some() {
    const WorkloadPlan& plan = program_.shared_.plan;
    std::uint64_t count = 1 + random_.below(std::min(plan.burst, records_per_step_max));
    for (; count > 0; --count) {
      std::size_t bytes = Ledger::record_bytes_min + random_.below(plan.record_bytes_max);
      // The ticket a record gets is known beforehand: this is the ring's only writer.
      auto record = Ledger::record(life_, ring_->tickets(), std::min<std::size_t>(bytes, plan.batch_bytes));
      BatchRing::Input input;
      input.type = static_cast<std::uint16_t>(random_.below(4));
      input.event_time = program_.reactor_->wall_now();
      input.payload = record;
      std::uint64_t ticket = 0;
      if (ring_->append(input, ticket) != BatchRing::Outcome::accepted) return;
      program_.shared_.ledger.appended(life_);
    }
  }

  Nanos pause() {
    return 1 + static_cast<Nanos>(random_.below(static_cast<std::uint64_t>(2 * program_.shared_.plan.pace)));
  }

  ClientProgram& program_;
  Line& line_;
  const std::string stream_;
  Random random_;
  ProducerId id_{};
  std::uint64_t life_ = 0;
  std::uint64_t answered_ = 0;
  std::unique_ptr<BufferPool> pool_;
  std::unique_ptr<BatchRing> ring_;
  std::unique_ptr<ProducerCore> core_;
};

namespace {

/// A cursor over one stream: checks every record it is given, and that none is missing without a word.
class Cursor final : public ConsumerListener {
 public:
  Cursor(WorkloadShared& shared, std::string stream)
      : shared_(shared), stream_(std::move(stream)), reader_(shared.recorder.reader()) {}

  void consumer_event(ReadEventCore&& event) override {
    switch (event.kind) {
      case ReadEventCore::Kind::batches: take(event.bytes); break;
      case ReadEventCore::Kind::data_loss:
        if (event.error == Error::out_of_range) return told_cut_away(event.first, event.next);
        shared_.world.say("reader %llu: %s: lost [%llu, %llu)", static_cast<unsigned long long>(reader_),
                          stream_.c_str(), static_cast<unsigned long long>(event.first),
                          static_cast<unsigned long long>(event.next));
        shared_.recorder.lost(stream_id_of(stream_), event.first, event.next);
        shared_.ledger.told_lost(stream_, event.first, event.next);
        if (!shared_.world.faults().media_damaged())
          shared_.violation("P17 " + stream_ + ": data loss [" + std::to_string(event.first) + ", " +
                            std::to_string(event.next) + ") without any damage");
        next_ = std::max(next_, event.next);
        break;
      case ReadEventCore::Kind::day_finished: break;
      case ReadEventCore::Kind::end: ended = true; break;
      case ReadEventCore::Kind::failed:
        ended = true;
        error = event.error;
        // Nobody knows the stream any more, and that is said to be a loss.
        if (event.error == Error::unknown_stream && event.detail != 0) {
          shared_.recorder.lost(stream_id_of(stream_), 0, event.detail);
          shared_.ledger.told_lost(stream_, 0, event.detail);
        }
        break;
    }
  }

  bool ended = false;
  std::optional<Error> error;
  std::uint64_t to_consume = 0;  // bytes seen and not yet given back as credit
  std::uint64_t first() const { return first_; }
  std::uint64_t next() const { return next_; }
  std::uint64_t records() const { return records_; }

 private:
  void take(Bytes bytes) {
    to_consume += bytes.size();
    while (!bytes.empty()) {
      auto header = read_batch_header(bytes);
      if (!header) return shared_.violation("P20 " + stream_ + ": a batch whose header is wrong was handed out");
      auto body = BodyView::parse(bytes.subspan(batch_header_bytes, header->body_bytes), *header);
      if (!body) return shared_.violation("P20 " + stream_ + ": a batch whose body is wrong was handed out");
      for (std::uint32_t i = 0; i < body->count(); ++i) take_record(*header, i, body->payload(i));
      bytes = bytes.subspan(batch_span(header->body_bytes));
    }
  }

  /// Retention took everything before `next`, says the server: the cursor begins there.
  void told_cut_away(std::uint64_t first, std::uint64_t next) {
    if (shared_.plan.retain_days == 0 && shared_.plan.retain_bytes == 0)
      shared_.violation("P18 " + stream_ + ": [" + std::to_string(first) + ", " + std::to_string(next) +
                        ") is said to be cut away, and nothing cuts");
    shared_.recorder.cut_away(stream_id_of(stream_), first, next);
    begun_ = true;
    first_ = next_ = std::max(next_, next);
  }

  void take_record(const BatchHeader& header, std::uint32_t index, Bytes payload) {
    std::uint64_t offset = header.first_offset + index;
    if (offset < next_) return;  // before what was asked for
    bool may_begin_late = !begun_ && (shared_.plan.retain_days != 0 || shared_.plan.retain_bytes != 0);
    if (!begun_) first_ = may_begin_late ? offset : 0;
    if (offset > next_ && !may_begin_late)
      shared_.violation("P18 " + stream_ + ": a cursor skipped from " + std::to_string(next_) + " to " +
                        std::to_string(offset));
    begun_ = true;
    next_ = offset + 1;
    ++records_;
    shared_.recorder.read(reader_, stream_id_of(stream_), header, index, payload);
    if (auto wrong = shared_.ledger.seen(stream_, offset, payload)) shared_.violation(*wrong);
  }

  WorkloadShared& shared_;
  const std::string stream_;
  const std::uint64_t reader_;
  bool begun_ = false;
  std::uint64_t first_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t records_ = 0;
};

}  // namespace

/// A consumer that follows a stream from its beginning.
class ClientProgram::Consuming {
 public:
  Consuming(ClientProgram& program, Line& line, const std::string& stream)
      : cursor_(program.shared_, stream), core_(line.session, settings_of(stream), cursor_), program_(program) {}
  void start(Nanos now) { core_.start(now); }
  void advance(Nanos now) {
    if (core_.done()) return;
    core_.consumed(std::exchange(cursor_.to_consume, 0));
    core_.advance(now);
    if (core_.done()) ++program_.shared_.consumer_failures;
  }
  Nanos deadline() const { return core_.done() ? no_deadline : core_.deadline(); }

 private:
  static ConsumerSettings settings_of(const std::string& stream) {
    ConsumerSettings settings;
    settings.stream = stream;
    settings.follow = true;
    settings.credit_bytes = 256 * KiB;
    return settings;
  }
  Cursor cursor_;
  ConsumerCore core_;
  ClientProgram& program_;
};

void ClientProgram::Line::advance(Nanos now) {
  for (Producing* producer : producers) producer->advance(now);
  for (Consuming* consumer : consumers) consumer->advance(now);
}

Nanos ClientProgram::Line::deadline() const {
  Nanos earliest = no_deadline;
  for (Producing* producer : producers) earliest = std::min(earliest, producer->deadline());
  for (Consuming* consumer : consumers) earliest = std::min(earliest, consumer->deadline());
  return earliest;
}

ClientProgram::ClientProgram(std::span<Kernel* const> kernels, WorkloadShared& shared, std::uint64_t seed)
    : shared_(shared), random_(seed), reactor_(std::make_unique<Reactor>(*kernels[0])) {
  reactors_.push_back(reactor_.get());
  const WorkloadPlan& plan = shared.plan;
  for (std::uint32_t shard = 0; shard < plan.shards; ++shard) {
    SessionSettings settings;
    settings.shard = ShardIndex{shard};
    settings.seed = random_.next();
    lines_.push_back(std::make_unique<Line>(*reactor_, shared, settings));
  }
  for (std::uint32_t i = 0; i < plan.producers_per_client; ++i) {
    std::string stream = shared.stream_name(static_cast<std::uint32_t>(random_.below(plan.streams)));
    Line& line = line_for(stream);
    producing_.push_back(std::make_unique<Producing>(*this, line, stream, random_.next()));
    line.producers.push_back(producing_.back().get());
  }
  for (std::uint32_t i = 0; i < plan.consumers_per_client; ++i) {
    std::string stream = shared.stream_name(static_cast<std::uint32_t>(random_.below(plan.streams)));
    Line& line = line_for(stream);
    consuming_.push_back(std::make_unique<Consuming>(*this, line, stream));
    line.consumers.push_back(consuming_.back().get());
    consuming_.back()->start(reactor_->now());
  }
  for (auto& line : lines_)
    if (!line->producers.empty() || !line->consumers.empty()) reactor_->spawn(line->driver.run());
  for (auto& producer : producing_) reactor_->spawn(producer->run());
}

ClientProgram::~ClientProgram() = default;

ClientProgram::Line& ClientProgram::line_for(const std::string& stream) {
  return *lines_[wire::shard_of(stream_id_of(stream), shared_.plan.shards).value];
}

bool ClientProgram::settled() const {
  return std::all_of(producing_.begin(), producing_.end(), [](const auto& producer) { return producer->settled(); });
}

struct ReaderProgram::Reading {
  Reading(Reactor& reactor, WorkloadShared& shared, const std::string& stream, Outcome& target, std::uint64_t seed)
      : session(settings_of(shared, stream, seed)),
        cursor(shared, stream),
        core(session, consumer_of(stream), cursor),
        outcome(target),
        shared_(shared),
        driver(reactor, session, {shared.server_host, server_port}, shared.recorder,
               {[this](Nanos now) { advance(now); }, [this] { return core.done() ? no_deadline : core.deadline(); },
                [&shared] { return shared.world.faults().media_faults(); }}) {
    core.start(reactor.now());
  }
  void advance(Nanos now) {
    if (!core.done()) {
      core.consumed(std::exchange(cursor.to_consume, 0));
      core.advance(now);
    }
    outcome.read = cursor.ended;
    outcome.error = cursor.error ? std::string(error_name(*cursor.error)) : "";
    outcome.first = cursor.first();
    outcome.next = cursor.next();
    outcome.records = cursor.records();
    // Retention may have taken every record of the stream: then none of them is missed.
    bool retains = shared_.plan.retain_days != 0 || shared_.plan.retain_bytes != 0;
    if (retains && cursor.ended && !cursor.error && cursor.records() == 0) outcome.first = outcome.next = no_offset;
  }
  static SessionSettings settings_of(const WorkloadShared& shared, const std::string& stream, std::uint64_t seed) {
    SessionSettings settings;
    settings.shard = wire::shard_of(stream_id_of(stream), shared.plan.shards);
    settings.seed = seed;
    return settings;
  }
  static ConsumerSettings consumer_of(const std::string& stream) {
    ConsumerSettings settings;
    settings.stream = stream;
    return settings;
  }

  Session session;
  Cursor cursor;
  ConsumerCore core;
  Outcome& outcome;
  WorkloadShared& shared_;
  SessionDriver driver;
};

ReaderProgram::ReaderProgram(std::span<Kernel* const> kernels, WorkloadShared& shared, std::vector<Outcome>& outcomes)
    : reactor_(std::make_unique<Reactor>(*kernels[0])) {
  reactors_.push_back(reactor_.get());
  outcomes.assign(shared.plan.streams, {});
  for (std::uint32_t stream = 0; stream < shared.plan.streams; ++stream) {
    readings_.push_back(
        std::make_unique<Reading>(*reactor_, shared, shared.stream_name(stream), outcomes[stream], stream + 1));
    reactor_->spawn(readings_.back()->driver.run());
  }
}

ReaderProgram::~ReaderProgram() = default;

bool ReaderProgram::finished() const {
  return std::all_of(readings_.begin(), readings_.end(), [](const auto& reading) { return reading->outcome.read; });
}

}  // namespace millrace::sim
