// "HOST:PORT" taken apart: the one form in which servers are named, by those who listen and by those who connect.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

struct HostPort {
  std::string host;  // without the brackets of an IPv6 address; may be empty
  std::uint16_t port = 0;
};

/// Nothing when there is no colon, the port is not 0 to 65535 in digits alone, or an IPv6 address lacks its brackets.
std::optional<HostPort> split_host_port(std::string_view text);

}  // namespace millrace
