// From Operations to submission entries.
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
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

constexpr int fallocate_write_zeroes = 0x80;  // FALLOC_FL_WRITE_ZEROES (6.17)

int system_open_flags(std::uint16_t flags) {
  bool reads = (flags & open_read) != 0;
  bool writes = (flags & open_write) != 0;
  int system = O_CLOEXEC | (reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY);
  if ((flags & open_create) != 0) system |= O_CREAT;
  if ((flags & open_exclusive) != 0 && !mutant("kernel_forgets_exclusive")) system |= O_EXCL;
  if ((flags & open_truncate) != 0) system |= O_TRUNC;
  if ((flags & open_direct) != 0) system |= O_DIRECT;
  if ((flags & open_directory) != 0) system |= O_DIRECTORY;
  return system;
}

}  // namespace

void UringKernel::issue(Operation& operation) {
  switch (operation.code) {
    case OperationCode::cancel: return issue_cancel(operation);
    case OperationCode::connect: return issue_connect(operation);
    case OperationCode::close: files_->remove(operation.descriptor); break;
    default: break;
  }
  io_uring_sqe* sqe = ring_->next_sqe();
  MR_ASSERT(sqe != nullptr);  // the caller made room
  prepare(*sqe, operation);
  sqe->user_data = reinterpret_cast<std::uint64_t>(&operation);
  set_place(operation, Whereabouts::ring);
  ++in_ring_;
  if (waits_for_disk(operation.code)) ++disk_in_ring_;
  // Handed on together with others, the disk would not hear of it before the system has done them all: sends on loopback go as
  // far as the receiver.
  if (operation.durable) enter(false, 0);
}

void UringKernel::issue_cancel(Operation& operation) {
  MR_ASSERT(operation.target != nullptr);
  Operation& target = *operation.target;
  if (runs_blocking(target.code)) {
    if (!helper_pending_.remove(target)) return finish(operation, -EALREADY);
    finish(target, -ECANCELED);
    return finish(operation, 0);
  }
  OperationList* list = nullptr;
  switch (place_of(target)) {
    case Whereabouts::none: return finish(operation, -ENOENT);
    case Whereabouts::pending: list = &pending_; break;
    case Whereabouts::starved: list = &starved_; break;
    case Whereabouts::ring: break;
  }
  if (list != nullptr) {
    bool removed = list->remove(target);
    MR_ASSERT(removed);
    finish(target, -ECANCELED);
    return finish(operation, 0);
  }
  // Its end may already stand in the completion queue: the mark keeps a multishot from being armed again then.
  target.kernel_word |= word_cancelled;
  io_uring_sqe* sqe = ring_->next_sqe();
  MR_ASSERT(sqe != nullptr);
  io_uring_prep_cancel64(sqe, reinterpret_cast<std::uint64_t>(&target), 0);
  sqe->user_data = reinterpret_cast<std::uint64_t>(&operation);
  set_place(operation, Whereabouts::ring);
  ++in_ring_;
}

void UringKernel::issue_connect(Operation& operation) {
  MR_ASSERT(operation.address != nullptr);
  auto connecting = std::make_unique<Connecting>();
  if (!to_uring_address(*operation.address, connecting->address)) return finish(operation, -EINVAL);
  connecting->descriptor = open_stream_socket(connecting->address.family());
  if (connecting->descriptor < 0) return finish(operation, connecting->descriptor);
  io_uring_sqe* sqe = ring_->next_sqe();
  MR_ASSERT(sqe != nullptr);
  io_uring_prep_connect(sqe, connecting->descriptor, connecting->address.pointer(), connecting->address.length);
  sqe->user_data = reinterpret_cast<std::uint64_t>(&operation);
  set_place(operation, Whereabouts::ring);
  ++in_ring_;
  connecting_[&operation] = std::move(connecting);
}

void UringKernel::aim_at_file(io_uring_sqe& sqe, const Operation& operation) {
  int slot = files_->slot(operation.descriptor);
  if (slot < 0) return;
  sqe.fd = slot;
  sqe.flags |= IOSQE_FIXED_FILE;
  ++counters_.fixed_files;
}

void UringKernel::prepare_transfer(io_uring_sqe& sqe, Operation& operation) {
  bool writes = operation.code == OperationCode::write;
  auto range = memory_->find(operation.data, operation.length);
  if (range) {
    io_uring_prep_rw(writes ? IORING_OP_WRITE_FIXED : IORING_OP_READ_FIXED, &sqe, operation.descriptor, operation.data,
                     operation.length, operation.offset);
    sqe.buf_index = *range;
    ++counters_.fixed_transfers;
  } else {
    io_uring_prep_rw(writes ? IORING_OP_WRITE : IORING_OP_READ, &sqe, operation.descriptor, operation.data,
                     operation.length, operation.offset);
  }
  if (operation.durable && !mutant("kernel_drops_dsync")) {
    MR_ASSERT(writes);
    sqe.rw_flags = RWF_DSYNC;
  }
  aim_at_file(sqe, operation);
}

void UringKernel::prepare_receive(io_uring_sqe& sqe, Operation& operation) {
  MR_ASSERT(operation.provided || !operation.multishot);
  if (!operation.provided) {
    io_uring_prep_recv(&sqe, operation.descriptor, operation.data, operation.length, 0);
    return;
  }
  MR_ASSERT(buffers_->is_open());
  if (shared_buffers_) {
    io_uring_prep_recv(&sqe, operation.descriptor, nullptr, 0, 0);
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.buf_group = ProvidedBuffers::group;
    if (operation.multishot && multishot_) sqe.ioprio |= IORING_RECV_MULTISHOT;
    return;
  }
  if ((operation.kernel_word & word_polling) != 0) {
    io_uring_prep_poll_add(&sqe, operation.descriptor, POLLIN);
    return;
  }
  io_uring_prep_recv(&sqe, operation.descriptor, buffers_->memory_of(number_of(operation)), buffers_->bytes_each(),
                     MSG_DONTWAIT);
}

void UringKernel::prepare_accept(io_uring_sqe& sqe, Operation& operation) {
  if (operation.multishot && multishot_)
    io_uring_prep_multishot_accept(&sqe, operation.descriptor, nullptr, nullptr, SOCK_CLOEXEC);
  else io_uring_prep_accept(&sqe, operation.descriptor, nullptr, nullptr, SOCK_CLOEXEC);
}

void UringKernel::prepare(io_uring_sqe& sqe, Operation& operation) {
  auto offset = static_cast<off_t>(operation.offset);
  auto extent = static_cast<off_t>(operation.extent);
  switch (operation.code) {
    case OperationCode::nop: return io_uring_prep_nop(&sqe);
    case OperationCode::open_file:
      return io_uring_prep_openat(&sqe, AT_FDCWD, operation.path, system_open_flags(operation.open_flags),
                                  operation.mode);
    case OperationCode::close: return io_uring_prep_close(&sqe, operation.descriptor);
    case OperationCode::read:
    case OperationCode::write: return prepare_transfer(sqe, operation);
    case OperationCode::sync:
      if (mutant("kernel_skips_sync")) return io_uring_prep_nop(&sqe);
      io_uring_prep_fsync(&sqe, operation.descriptor, operation.data_only ? IORING_FSYNC_DATASYNC : 0U);
      return aim_at_file(sqe, operation);
    case OperationCode::allocate:
      io_uring_prep_fallocate(&sqe, operation.descriptor, 0, offset, extent);
      return aim_at_file(sqe, operation);
    case OperationCode::write_zeroes:
      io_uring_prep_fallocate(&sqe, operation.descriptor, fallocate_write_zeroes, offset, extent);
      return aim_at_file(sqe, operation);
    case OperationCode::rename:
      return io_uring_prep_renameat(&sqe, AT_FDCWD, operation.path, AT_FDCWD, operation.path_to, 0);
    case OperationCode::unlink:
      return io_uring_prep_unlinkat(&sqe, AT_FDCWD, operation.path, operation.remove_directory ? AT_REMOVEDIR : 0);
    case OperationCode::make_directory: return io_uring_prep_mkdirat(&sqe, AT_FDCWD, operation.path, operation.mode);
    case OperationCode::accept: return prepare_accept(sqe, operation);
    case OperationCode::receive: return prepare_receive(sqe, operation);
    case OperationCode::send:
      return io_uring_prep_send(&sqe, operation.descriptor, operation.data, operation.length,
                                MSG_WAITALL | MSG_NOSIGNAL);
    case OperationCode::shutdown: return io_uring_prep_shutdown(&sqe, operation.descriptor, SHUT_RDWR);
    default: break;
  }
  assert_failed("an operation that has no submission entry", __FILE__, __LINE__);
}

}  // namespace millrace
