// `millrace verify --against`: compares a data directory with a server that holds the same log, and shows what differs.
#pragma once

#include <string>

namespace millrace::cli {

struct AgainstWanted {
  std::string data;
  std::string server;  // HOST:PORT, a name or an address
  bool buffered = false;
  bool json = false;
};

/// The exit status.
int verify_against(const AgainstWanted& wanted);

}  // namespace millrace::cli
