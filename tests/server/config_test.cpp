#include "server/config.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Config, ByteCounts) {
  EXPECT_EQ(parse_byte_count("0"), 0u);
  EXPECT_EQ(parse_byte_count("4096"), 4096u);
  EXPECT_EQ(parse_byte_count("64KiB"), 65536u);
  EXPECT_EQ(parse_byte_count("128MiB"), 128 * MiB);
  EXPECT_EQ(parse_byte_count("2GiB"), 2 * GiB);
  EXPECT_EQ(parse_byte_count("1TB"), 1'000'000'000'000u);
  EXPECT_EQ(parse_byte_count("12B"), 12u);
  for (const char* bad :
       {"", "MiB", "-1", "1.5GiB", "1 MiB", "1mib", "1MiB ", "99999999999999999999", "18446744073709551615KiB"})
    EXPECT_FALSE(parse_byte_count(bad)) << bad;
  for (std::uint64_t bytes : {0ull, 1ull, 1000ull, 65536ull, 1ull << 30, (1ull << 30) + 1})
    EXPECT_EQ(parse_byte_count(format_byte_count(bytes)), bytes);
  EXPECT_EQ(format_byte_count(128 * MiB), "128MiB");
}

TEST(Config, Cores) {
  EXPECT_EQ(parse_core_list("0"), (std::vector<std::uint32_t>{0}));
  EXPECT_EQ(parse_core_list("0,2-4,9"), (std::vector<std::uint32_t>{0, 2, 3, 4, 9}));
  for (const char* bad : {"", ",", "0,", "a", "3-1", "0,0", "1-3,2", "-1", "0-9999"})
    EXPECT_FALSE(parse_core_list(bad)) << bad;
}

TEST(Config, Addresses) {
  auto got = parse_listen_address("127.0.0.1:7070");
  ASSERT_TRUE(got);
  EXPECT_EQ(got->host, "127.0.0.1");
  EXPECT_EQ(got->port, 7070);
  EXPECT_EQ(parse_listen_address("[::1]:0")->host, "::1");
  EXPECT_EQ(parse_listen_address("localhost:1")->host, "127.0.0.1");
  for (const char* bad : {"", ":7070", "7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "::1:7070", "host:1",
                          "1.2.3:4", "1.2.3.256:4", "[::1:7070"})
    EXPECT_FALSE(parse_listen_address(bad)) << bad;
  EXPECT_TRUE(is_loopback("127.8.9.1") && is_loopback("::1"));
  EXPECT_FALSE(is_loopback("0.0.0.0") || is_loopback("::") || is_loopback("192.168.0.1"));
}

TEST(Config, EverySetting) {
  ServerConfig config;
  const char* settings[][2] = {{"data", "d"},
                               {"listen", "[::1]:9"},
                               {"shards", "3"},
                               {"cores", "1,0"},
                               {"segment-bytes", "16MiB"},
                               {"memory", "1GiB"},
                               {"day-offset", "+08:00"},
                               {"retain-days", "7"},
                               {"retain-bytes", "1TiB"},
                               {"connections-max", "5"},
                               {"kernel", "posix"},
                               {"buffered", "true"},
                               {"insecure", ""},
                               {"accept-clock", "false"}};
  for (auto& [name, value] : settings) EXPECT_FALSE(set_option(config, name, value)) << name;
  EXPECT_EQ(config.data, "d");
  EXPECT_EQ(config.port, 9);
  EXPECT_EQ(config.shards, 3u);
  EXPECT_EQ(config.cores, (std::vector<std::uint32_t>{1, 0}));
  EXPECT_EQ(config.segment_bytes, 16 * MiB);
  EXPECT_EQ(config.memory_bytes, GiB);
  EXPECT_EQ(config.day_offset_seconds, 8 * 3600);
  EXPECT_EQ(config.retain_days, 7u);
  EXPECT_EQ(config.retain_bytes, 1024 * GiB);
  EXPECT_EQ(config.connections_max, 5u);
  EXPECT_EQ(config.kernel, KernelChoice::posix);
  EXPECT_TRUE(config.buffered && config.insecure && !config.accept_clock);
  EXPECT_FALSE(check_config(config));
}

TEST(Config, ComplaintsNameTheSettingAndWhatItTakes) {
  const char* bad[][2] = {
      {"shards", "0"},       {"shards", "x"},     {"segment-bytes", "1MiB"}, {"segment-bytes", "8GiB"},
      {"memory", "1MiB"},    {"day-offset", "8"}, {"retain-days", "-1"},     {"connections-max", "0"},
      {"listen", "nowhere"}, {"cores", "0,0"},    {"buffered", "maybe"},     {"kernel", "best"},
      {"data", ""},          {"no-such", "1"}};
  for (auto& [name, value] : bad) {
    ServerConfig config;
    auto complaint = set_option(config, name, value);
    ASSERT_TRUE(complaint) << name;
    EXPECT_NE(complaint->find(name), std::string::npos) << *complaint;
  }
}

TEST(Config, BeyondLoopbackOnlyWhenInsecure) {
  ServerConfig config;
  config.data = "d";
  EXPECT_FALSE(check_config(config));
  config.host = "0.0.0.0";
  auto complaint = check_config(config);
  ASSERT_TRUE(complaint);
  EXPECT_NE(complaint->find("--insecure"), std::string::npos);
  config.insecure = true;
  EXPECT_FALSE(check_config(config));
  config.data.clear();
  EXPECT_TRUE(check_config(config));
}

TEST(Config, LimitsThatDoNotFitEachOther) {
  ServerConfig config;
  config.data = "d";
  config.shards = 8;
  EXPECT_TRUE(check_config(config)) << "256 MiB for 8 shards";
  config.memory_bytes = GiB;
  EXPECT_FALSE(check_config(config));
  config.retain_bytes = 100 * MiB;
  EXPECT_TRUE(check_config(config)) << "less than four segments";
}

TEST(Config, Toml) {
  ServerConfig config;
  auto complaint = apply_toml(config, R"(
data = "/var/lib/millrace"   # a comment
segment-bytes = "64MiB"
memory = 1073741824
cores = [0, 1]
buffered = true
)");
  EXPECT_FALSE(complaint) << *complaint;
  EXPECT_EQ(config.data, "/var/lib/millrace");
  EXPECT_EQ(config.segment_bytes, 64 * MiB);
  EXPECT_EQ(config.memory_bytes, GiB);
  EXPECT_EQ(config.cores, (std::vector<std::uint32_t>{0, 1}));
  EXPECT_TRUE(config.buffered);
}

TEST(Config, TomlComplaintsNameTheLine) {
  for (const char* bad : {"shards = 1\nshard = 2\n", "\ndata = 1979-05-27\n", "\n[table]\nx = 1\n",
                          "\ncores = [\"a\"]\n", "\nshards = 0\n", "\nthis is not toml\n"}) {
    ServerConfig config;
    auto complaint = apply_toml(config, bad);
    ASSERT_TRUE(complaint) << bad;
    EXPECT_NE(complaint->find("line 2"), std::string::npos) << *complaint;
  }
}

}  // namespace
}  // namespace millrace
