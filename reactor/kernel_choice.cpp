#include "reactor/kernel_choice.hpp"

#include "reactor/posix_kernel.hpp"
#include "reactor/uring_kernel.hpp"
#include "reactor/uring_refusal.hpp"

namespace millrace {

std::optional<KernelChoice> parse_kernel_choice(std::string_view text) {
  if (text == "auto") return KernelChoice::automatic;
  if (text == "uring") return KernelChoice::uring;
  if (text == "posix") return KernelChoice::posix;
  return std::nullopt;
}

std::optional<std::uint64_t> locked_memory_max() { return uring_standing().memlock_bytes; }

Result<std::unique_ptr<Kernel>> make_kernel(KernelChoice choice, std::string& why) {
  if (choice != KernelChoice::posix) {
    auto made = UringKernel::create({}, why);
    if (made) return std::unique_ptr<Kernel>(std::move(*made));
    if (choice == KernelChoice::uring) return fail(made.error());
  }
  PosixOptions options;
  options.without_uring = choice == KernelChoice::posix ? "io_uring: not wanted (--kernel posix)"
                                                        : why +
                                                              "; until then each disk operation costs "
                                                              "two hand-overs between threads";
  auto posix = std::make_unique<PosixKernel>(options);
  if (!posix->refusal().empty()) {
    why = posix->refusal();
    return fail(Error::too_many_files);
  }
  return std::unique_ptr<Kernel>(std::move(posix));
}

}  // namespace millrace
