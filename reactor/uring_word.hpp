// How UringKernel uses Operation::kernel_word while an operation is in flight. Private to the uring files.
#pragma once

#include <cstdint>

#include "reactor/operation.hpp"
#include "reactor/uring_address.hpp"

namespace millrace {

/// Where an operation stands, as cancel needs to know. Codes that run on the helper thread do not use it.
enum class Whereabouts : std::uint8_t {
  none,     // not here, or its last completion is on the way to the owner
  pending,  // waits for room in the submission queue
  ring,     // with the system
  starved,  // waits for a provided buffer
};

inline constexpr std::uint64_t word_place_mask = 0xff;
inline constexpr std::uint64_t word_cancelled = 0x100;  // a cancel was asked for: do not re-arm
inline constexpr std::uint64_t word_polling = 0x200;    // emulated provided receive: waits until there is something
inline constexpr unsigned word_number_shift = 32;       // the buffer of an emulated receive

inline Whereabouts place_of(const Operation& operation) {
  return static_cast<Whereabouts>(operation.kernel_word & word_place_mask);
}
inline void set_place(Operation& operation, Whereabouts place) {
  operation.kernel_word = (operation.kernel_word & ~word_place_mask) | static_cast<std::uint64_t>(place);
}
inline bool is_cancelled(const Operation& operation) { return (operation.kernel_word & word_cancelled) != 0; }
inline std::int32_t number_of(const Operation& operation) {
  return static_cast<std::int32_t>(operation.kernel_word >> word_number_shift);
}
inline void set_number(Operation& operation, std::int32_t number) {
  operation.kernel_word = (operation.kernel_word & 0xffffffff) |
                          (static_cast<std::uint64_t>(static_cast<std::uint32_t>(number)) << word_number_shift);
}

/// True for the codes whose wait is a disk's.
inline bool waits_for_disk(OperationCode code) {
  return code >= OperationCode::open_file && code <= OperationCode::make_directory;
}

/// user_data of entries that are the kernel's own; everything above is an Operation's address.
inline constexpr std::uint64_t data_wake_message = 1;
inline constexpr std::uint64_t data_wake_read = 2;
inline constexpr std::uint64_t data_own_max = 7;

/// A connection being made: the system reads the address when the entry is submitted.
struct Connecting {
  SocketAddress address;
  int descriptor = -1;
};

}  // namespace millrace
