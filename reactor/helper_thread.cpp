#include "reactor/helper_thread.hpp"

#include <pthread.h>

#include <csignal>

#include "base/assert.hpp"

namespace millrace {

void OperationList::push(Operation& operation) {
  operation.kernel_next = nullptr;
  if (last_ == nullptr) first_ = &operation;
  else last_->kernel_next = &operation;
  last_ = &operation;
}

Operation* OperationList::pop() {
  Operation* operation = first_;
  if (operation == nullptr) return nullptr;
  first_ = operation->kernel_next;
  if (first_ == nullptr) last_ = nullptr;
  operation->kernel_next = nullptr;
  return operation;
}

bool OperationList::remove(Operation& operation) {
  Operation* before = nullptr;
  for (Operation* at = first_; at != nullptr; before = at, at = at->kernel_next) {
    if (at != &operation) continue;
    if (before == nullptr) first_ = at->kernel_next;
    else before->kernel_next = at->kernel_next;
    if (last_ == at) last_ = before;
    at->kernel_next = nullptr;
    return true;
  }
  return false;
}

HelperThread::~HelperThread() {
  if (thread_.started()) {
    stopping_.store(true, std::memory_order_release);
    ::sem_post(&queued_);
    thread_.join();
  }
  ::sem_destroy(&queued_);
}

bool HelperThread::start() {
  // The helper takes no signals: those are for the thread that asked for them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int refused = thread_.start([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return refused == 0;
}

void HelperThread::push(Operation& operation) {
  MR_ASSERT(has_room() && thread_.started());
  ++in_flight_;
  queue_[queued_count_++ % queue_max] = &operation;
  int posted = ::sem_post(&queued_);
  MR_ASSERT(posted == 0);
}

Operation* HelperThread::take_finished(std::int32_t& result) {
  if (!has_finished()) return nullptr;
  Finished finished = finished_[taken_back_ % queue_max];
  ++taken_back_;
  MR_ASSERT(finished.operation != nullptr && in_flight_ > 0);
  --in_flight_;
  result = finished.result;
  return finished.operation;
}

void HelperThread::run() {
  pthread_setname_np(pthread_self(), "mr-helper");
  for (std::uint32_t done = 0;; ++done) {
    while (::sem_wait(&queued_) != 0) {
    }
    if (stopping_.load(std::memory_order_acquire)) return;
    Operation* operation = queue_[done % queue_max];
    std::int32_t result = perform_(*operation);
    finished_[done % queue_max] = Finished{operation, result};
    finished_count_.store(done + 1, std::memory_order_release);
    wake_(context_);
  }
}

}  // namespace millrace
