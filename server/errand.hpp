// Messages between cores: handing a connection over, opening shards, asking for figures, stopping. Rare by design: after the
// hand-over a batch crosses no core.
//
// Thread: post() from anywhere, everything else on the core that owns the box.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "reactor/reactor.hpp"

namespace millrace {

class Core;

/// Something one core wants done on another; destroyed there after it ran, or wherever the box is destroyed.
class Errand {
 public:
  virtual ~Errand() = default;
  virtual void run(Core& core) = 0;

 private:
  friend class ErrandBox;
  Errand* next_ = nullptr;
};

/// One core's incoming errands, in the order of their posts from each poster. Posts before the core began, or after it ended,
/// stay in the box.
class ErrandBox final : public Inbox {
 public:
  ErrandBox() = default;
  ~ErrandBox();
  ErrandBox(const ErrandBox&) = delete;
  ErrandBox& operator=(const ErrandBox&) = delete;

  void post(std::unique_ptr<Errand> errand);
  /// On the core's thread: from now on its reactor looks here, and posts wake its kernel.
  void attach(Core& core);
  /// Before the core is destroyed; nobody posts any more.
  void detach();
  bool drain() override;

 private:
  std::unique_ptr<Errand> take_all();
  std::atomic<Errand*> newest_{nullptr};
  std::atomic<Kernel*> kernel_{nullptr};
  // Posts that are about to wake the kernel. What was posted may be the errand that ends the core, and its kernel with it:
  // detach() waits for them.
  std::atomic<std::uint32_t> waking_{0};
  Core* core_ = nullptr;
};

}  // namespace millrace
