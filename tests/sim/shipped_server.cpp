// The shipped server on simulated kernels: one core a kernel, all on this thread.
#include <algorithm>
#include <bit>

#include "server/server.hpp"
#include "tests/sim/workload.hpp"

namespace millrace::sim {

namespace {

ServerConfig config_of(const WorkloadPlan& plan) {
  ServerConfig config;
  config.data = server_data_path;
  config.host = "0.0.0.0";
  config.port = server_port;
  config.shards = plan.shards;
  config.segment_bytes = plan.segment_bytes;
  // Half of the runs have shared buffers smaller than a batch, so that connections get memory of their own.
  if (plan.in_flight % 2 == 1)
    config.receive_buffer_bytes = std::clamp<std::size_t>(std::bit_floor(plan.batch_bytes / 2), KiB, 64 * KiB);
  // Two commit writes in flight take more than clients of a seed send: half of the runs come to it with less.
  if (plan.burst % 2 == 1) config.commit_sizes = {.slot_pending_max = 4 * KiB, .second_write_min = 4 * KiB};
  // With one segment prepared a full disk is felt before it has room again.
  if (plan.batches_queued % 2 == 1) config.pool_segments = 1;
  config.memory_bytes = plan.memory_bytes;
  config.retain_days = plan.retain_days;
  config.retain_bytes = plan.retain_bytes;
  config.insecure = true;
  return config;
}

class ShippedServer final : public ServerProgram, private Diagnostics {
 public:
  ShippedServer(std::span<Kernel* const> kernels, const WorkloadPlan& plan, ServerNotes& notes)
      : notes_(notes),
        server_(config_of(plan), static_cast<std::uint32_t>(kernels.size()), ServerEnvironment{this, nullptr}) {
    notes_.complaint.clear();
    for (std::uint32_t i = 0; i < kernels.size(); ++i) {
      cores_.push_back(server_.start_core(i, *kernels[i]));
      reactors_.push_back(&cores_.back()->reactor());
    }
  }
  ~ShippedServer() override {
    notes_.complaint = server_.complaint();
    for (auto& core : cores_)
      for (auto& shard : core->shards()) note(shard->index().value, shard->report());
  }

  std::span<Reactor* const> reactors() override { return reactors_; }
  bool shard_finished(std::size_t shard) const override { return cores_[shard]->ended(); }
  bool finished() const override {
    for (const auto& core : cores_)
      if (!core->ended()) return false;
    return true;
  }
  void stop() override { server_.stop(); }
  bool serving() const override { return server_.phase() == ServerPhase::serving; }

 private:
  void note(std::uint32_t shard, const OpeningReport& report) {
    if (!report.verdict.empty()) ++notes_.verdicts[report.verdict];
    notes_.openings += report.diagnosis.empty() && report.next_lsn.value > 1;
    if (report.epoch.value == 0) return;
    std::uint64_t& newest = notes_.epochs[shard];
    if (report.epoch.value <= newest)
      notes_.violations.push_back("P13 shard-" + std::to_string(shard) + ": epoch " +
                                  std::to_string(report.epoch.value) + " was taken by an earlier life");
    newest = report.epoch.value;
  }
  void say(Severity, std::string_view text) override {
    if (notes_.say) notes_.say(std::string(text));
  }

  ServerNotes& notes_;
  Server server_;
  std::vector<std::unique_ptr<Core>> cores_;
  std::vector<Reactor*> reactors_;
};

}  // namespace

std::unique_ptr<ServerProgram> make_shipped_server(std::span<Kernel* const> kernels, const WorkloadPlan& plan,
                                                   ServerNotes& notes) {
  return std::make_unique<ShippedServer>(kernels, plan, notes);
}

}  // namespace millrace::sim
