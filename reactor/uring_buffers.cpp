#include "reactor/uring_buffers.hpp"

#include <sys/mman.h>

#include <bit>

#include "base/assert.hpp"

namespace millrace {

namespace {

void* map(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}

}  // namespace

ProvidedBuffers::~ProvidedBuffers() {
  if (shared_ != nullptr) {
    io_uring_unregister_buf_ring(ring_.raw(), group);
    ::munmap(shared_, ring_entries_ * sizeof(io_uring_buf));
  }
  if (memory_ != nullptr) ::munmap(memory_, count_ * bytes_each_);
}

Result<> ProvidedBuffers::open(std::size_t count, std::size_t bytes_each, bool shared) {
  MR_ASSERT(!is_open());
  if (count == 0 || count > count_max || !std::has_single_bit(bytes_each)) return fail(Error::invalid_argument);
  memory_ = static_cast<std::byte*>(map(count * bytes_each));
  if (memory_ == nullptr) return fail(Error::too_many_files);
  count_ = count;
  bytes_each_ = bytes_each;
  out_.assign(count, 0);
  if (shared) {
    ring_entries_ = std::bit_ceil(count);
    void* entries = map(ring_entries_ * sizeof(io_uring_buf));
    if (entries == nullptr) return fail(Error::too_many_files);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(entries);
    registration.ring_entries = static_cast<std::uint32_t>(ring_entries_);
    registration.bgid = group;
    if (int failed = io_uring_register_buf_ring(ring_.raw(), &registration, 0); failed != 0) {
      ::munmap(entries, ring_entries_ * sizeof(io_uring_buf));
      refusal_ = -failed;
      return fail(error_from_errno(-failed));
    }
    shared_ = static_cast<io_uring_buf_ring*>(entries);
    io_uring_buf_ring_init(shared_);
  } else {
    free_.reserve(count);
  }
  for (std::size_t id = 0; id < count; ++id) offer(static_cast<std::int32_t>(id));
  return {};
}

void ProvidedBuffers::offer(std::int32_t id) {
  if (shared_ == nullptr) {
    free_.push_back(id);
    return;
  }
  io_uring_buf_ring_add(shared_, memory_of(id), static_cast<unsigned>(bytes_each_), static_cast<unsigned short>(id),
                        io_uring_buf_ring_mask(static_cast<unsigned>(ring_entries_)), 0);
  io_uring_buf_ring_advance(shared_, 1);
}

ProvidedBuffer ProvidedBuffers::filled(std::int32_t id, std::uint32_t length) {
  auto index = static_cast<std::size_t>(id);
  MR_ASSERT(index < count_ && out_[index] == 0 && length <= bytes_each_);
  out_[index] = 1;
  ++out_count_;
  return ProvidedBuffer{memory_of(id), length, id};
}

ProvidedBuffer ProvidedBuffers::take() {
  if (free_.empty()) return {};
  std::int32_t id = free_.back();
  free_.pop_back();
  return filled(id, 0);
}

void ProvidedBuffers::recycle(const ProvidedBuffer& buffer) {
  auto index = static_cast<std::size_t>(buffer.id);
  MR_ASSERT(buffer.id >= 0 && index < count_ && out_[index] == 1);
  out_[index] = 0;
  --out_count_;
  offer(buffer.id);
}

}  // namespace millrace
