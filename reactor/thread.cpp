#include "reactor/thread.hpp"

#include "base/assert.hpp"

namespace millrace {

int Thread::start(std::function<void()> body) {
  MR_ASSERT(!started_);
  body_ = std::move(body);
  int refused = ::pthread_create(
      &thread_, nullptr,
      [](void* self) -> void* {
        static_cast<Thread*>(self)->body_();
        return nullptr;
      },
      this);
  started_ = refused == 0;
  return refused;
}

void Thread::join() {
  if (!started_) return;
  ::pthread_join(thread_, nullptr);
  started_ = false;
}

}  // namespace millrace
