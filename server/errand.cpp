#include "server/errand.hpp"

#include <utility>

#include "server/core.hpp"

namespace millrace {

void ErrandBox::post(std::unique_ptr<Errand> errand) {
  Errand* added = errand.release();
  added->next_ = newest_.load(std::memory_order_relaxed);
  while (!newest_.compare_exchange_weak(added->next_, added, std::memory_order_release, std::memory_order_relaxed)) {
  }
  waking_.fetch_add(1);
  if (Kernel* kernel = kernel_.load()) kernel->wake();
  waking_.fetch_sub(1);
  waking_.notify_all();
}

/// The whole chain, oldest first.
std::unique_ptr<Errand> ErrandBox::take_all() {
  Errand* newest = newest_.exchange(nullptr, std::memory_order_acquire);
  Errand* oldest = nullptr;
  while (newest != nullptr) {
    Errand* next = std::exchange(newest->next_, oldest);
    oldest = std::exchange(newest, next);
  }
  return std::unique_ptr<Errand>(oldest);
}

void ErrandBox::attach(Core& core) {
  core_ = &core;
  core.reactor().attach(*this);
  kernel_.store(&core.reactor().kernel());
  core.reactor().kernel().wake();
}

void ErrandBox::detach() {
  kernel_.store(nullptr);
  for (std::uint32_t waking = waking_.load(); waking != 0; waking = waking_.load()) waking_.wait(waking);
  core_->reactor().detach(*this);
  core_ = nullptr;
}

bool ErrandBox::drain() {
  auto errand = take_all();
  bool any = errand != nullptr;
  while (errand) {
    errand->run(*core_);
    errand.reset(std::exchange(errand->next_, nullptr));
  }
  return any;
}

ErrandBox::~ErrandBox() {
  auto errand = take_all();
  while (errand) errand.reset(std::exchange(errand->next_, nullptr));
}

}  // namespace millrace
