#include "reactor/host_text.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>

namespace millrace {

std::string read_host_text(const char* path) {
  std::string text;
  int descriptor = ::open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return text;
  std::array<char, 4096> piece;
  for (ssize_t got = 0; (got = ::read(descriptor, piece.data(), piece.size())) > 0;)
    text.append(piece.data(), static_cast<std::size_t>(got));
  ::close(descriptor);
  return text;
}

}  // namespace millrace
