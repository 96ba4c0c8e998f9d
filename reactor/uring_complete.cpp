// From completion entries to Completions.
#include <unistd.h>

#include <cerrno>

#include "base/assert.hpp"
#include "base/mutant.hpp"
#include "reactor/uring_buffers.hpp"
#include "reactor/uring_kernel.hpp"
#include "reactor/uring_tables.hpp"
#include "reactor/uring_word.hpp"

namespace millrace {

namespace {

// A connection that died in the queue says nothing about the listener (accept(2), "Error handling").
bool accept_goes_on(std::int32_t result) {
  switch (-result) {
    case EAGAIN:
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET: return true;
    default: return false;
  }
}

bool is_interruption(std::int32_t result) { return result == -EAGAIN || result == -EINTR; }

}  // namespace

bool UringKernel::translate(const io_uring_cqe& cqe, Completion& out) {
  if (cqe.user_data <= data_own_max) {
    if (cqe.user_data == data_wake_read) arm_wake_descriptor();
    return false;
  }
  auto& operation = *reinterpret_cast<Operation*>(cqe.user_data);
  bool goes_on = (cqe.flags & IORING_CQE_F_MORE) != 0;
  if (!goes_on) {
    MR_ASSERT(in_ring_ > 0);
    --in_ring_;
    if (waits_for_disk(operation.code)) --disk_in_ring_;
    set_place(operation, Whereabouts::none);
  }
  out = Completion{&operation, cqe.res, {}, goes_on};
  switch (operation.code) {
    case OperationCode::receive: return translate_receive(operation, cqe, out);
    case OperationCode::accept: return translate_accept(operation, cqe, out);
    case OperationCode::connect: translate_connect(operation, out); return true;
    case OperationCode::open_file:
      if (cqe.res >= 0) files_->add(cqe.res);
      return true;
    case OperationCode::read:
    case OperationCode::write:
      if (mutant("kernel_takes_short_for_whole") && cqe.res > 0)
        out.result = static_cast<std::int32_t>(operation.length);
      return true;
    case OperationCode::cancel:
      if (mutant("kernel_denies_a_cancel")) out.result = -ENOENT;
      return true;
    default: return true;
  }
}

bool UringKernel::translate_receive(Operation& operation, const io_uring_cqe& cqe, Completion& out) {
  if (!operation.provided) return true;
  if (!shared_buffers_) return translate_emulated(operation, cqe, out);
  if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) {
    auto id = static_cast<std::int32_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
    out.buffer = buffers_->filled(id, cqe.res > 0 ? static_cast<std::uint32_t>(cqe.res) : 0);
    if (cqe.res <= 0) {  // some kernels attach an empty buffer to the end of the stream
      buffers_->recycle(out.buffer);
      out.buffer = {};
    }
  }
  if (out.more) return true;
  if (cqe.res == -ENOBUFS) {
    starve(operation);
    return false;
  }
  if (is_interruption(cqe.res)) {
    rearm(operation);
    return false;
  }
  if (operation.multishot && cqe.res > 0) {
    out.more = true;
    rearm(operation);
  }
  return true;
}

bool UringKernel::translate_emulated(Operation& operation, const io_uring_cqe& cqe, Completion& out) {
  if ((operation.kernel_word & word_polling) != 0) {
    if (cqe.res < 0 && !is_interruption(cqe.res)) return true;
    ProvidedBuffer buffer = cqe.res < 0 ? ProvidedBuffer{} : buffers_->take();
    if (cqe.res >= 0 && buffer.id < 0) {
      starve(operation);
      return false;
    }
    if (buffer.id >= 0) {
      operation.kernel_word &= ~word_polling;
      set_number(operation, buffer.id);
    }
    if (is_cancelled(operation) && buffer.id >= 0) buffers_->recycle(buffer);
    rearm(operation);
    return false;
  }
  std::int32_t id = number_of(operation);
  ProvidedBuffer buffer{buffers_->memory_of(id), cqe.res > 0 ? static_cast<std::uint32_t>(cqe.res) : 0, id};
  operation.kernel_word |= word_polling;
  if (cqe.res > 0) {
    out.buffer = buffer;
    out.more = operation.multishot;
    if (out.more) rearm(operation);
    return true;
  }
  buffers_->recycle(buffer);
  if (!is_interruption(cqe.res)) return true;
  rearm(operation);
  return false;
}

bool UringKernel::translate_accept(Operation& operation, const io_uring_cqe& cqe, Completion& out) {
  if (cqe.res >= 0) files_->remove(cqe.res);
  if (out.more) return true;
  if (cqe.res < 0) {
    if (!accept_goes_on(cqe.res)) return true;
    rearm(operation);
    return false;
  }
  if (operation.multishot) {
    out.more = true;
    rearm(operation);
  }
  return true;
}

void UringKernel::translate_connect(Operation& operation, Completion& out) {
  auto found = connecting_.find(&operation);
  MR_ASSERT(found != connecting_.end());
  if (out.result >= 0) {
    out.result = found->second->descriptor;
    files_->remove(out.result);
  } else {
    ::close(found->second->descriptor);
  }
  connecting_.erase(found);
}

void UringKernel::finish(Operation& operation, std::int32_t result) {
  if (!runs_blocking(operation.code)) set_place(operation, Whereabouts::none);
  finished_.push_back(Completion{&operation, result, {}, false});
}

void UringKernel::rearm(Operation& operation) {
  if (is_cancelled(operation)) return finish(operation, -ECANCELED);
  ++counters_.rearmed;
  start(operation);
}

void UringKernel::starve(Operation& operation) {
  if (is_cancelled(operation)) return finish(operation, -ECANCELED);
  ++counters_.starved;
  set_place(operation, Whereabouts::starved);
  starved_.push(operation);
}

}  // namespace millrace
