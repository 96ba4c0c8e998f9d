// Which kernel a thread gets: the one place that chooses. Everything above asks here and knows no class.
//
// Thread: the one the kernel is for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "reactor/kernel.hpp"

namespace millrace {

enum class KernelChoice : std::uint8_t {
  automatic,  // io_uring where the machine allows it, else posix
  uring,
  posix,
};

/// "auto", "uring", "posix".
std::optional<KernelChoice> parse_kernel_choice(std::string_view text);

/// The limit on locked memory, in bytes; none = it does not count for this process.
std::optional<std::uint64_t> locked_memory_max();

/// A kernel for the calling thread. When none can be had (always possible with `uring`; else only for want of threads or
/// descriptors) `why` names cause and cure in one sentence. A posix kernel says in features().missing why it is none of
/// io_uring.
Result<std::unique_ptr<Kernel>> make_kernel(KernelChoice choice, std::string& why);

}  // namespace millrace
