#include "base/host_port.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(HostPort, IsTakenApart) {
  const auto plain = split_host_port("logs.example:7070");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->host, "logs.example");
  EXPECT_EQ(plain->port, 7070);
  EXPECT_EQ(split_host_port("[::1]:0")->host, "::1");
  EXPECT_EQ(split_host_port(":65535")->port, 65535);
}

TEST(HostPort, APortIsNeverWrapped) {
  for (const char* bad : {"", "host", "host:", "host:65536", "host:82706", "host:-1", "host:+1", "host:7070x",
                          "host: 1", "::1:7070", "[::1:7070", "host:18446744073709559640"})
    EXPECT_FALSE(split_host_port(bad)) << bad;
}

}  // namespace
}  // namespace millrace
