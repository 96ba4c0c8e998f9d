// The parts of millrace-load that its figures stand on.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

#include "bench/load/options.hpp"
#include "bench/load/process_cpu.hpp"
#include "bench/load/record_pattern.hpp"

namespace millrace::load {
namespace {

std::optional<Options> parse(std::vector<std::string> words, int* status = nullptr) {
  words.insert(words.begin(), "millrace-load");
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  int exit_status = 0;
  auto options = parse_options(static_cast<int>(pointers.size()), pointers.data(), exit_status);
  if (status != nullptr) *status = exit_status;
  return options;
}

TEST(LoadOptions, DefaultsAreTheContract) {
  const auto options = parse({});
  ASSERT_TRUE(options.has_value());
  EXPECT_EQ(options->connections, 4u);
  EXPECT_EQ(options->in_flight, 16u);
  EXPECT_EQ(options->record_bytes, 200u);
  EXPECT_EQ(options->batch_records, 327u) << "64 KiB of 200 bytes";
  EXPECT_EQ(options->streams, 1u);
  EXPECT_EQ(options->warmup_seconds, 1);
  EXPECT_EQ(options->seconds, 5);
  EXPECT_FALSE(options->verify);
}

TEST(LoadOptions, BatchesByRecordsOrBytesNotBoth) {
  EXPECT_EQ(parse({"--batch-records", "1"})->batch_records, 1u);
  EXPECT_EQ(parse({"--batch-bytes", "1MiB", "--record-bytes", "1000"})->batch_records, 1048u);
  int status = 0;
  EXPECT_FALSE(parse({"--batch-records", "1", "--batch-bytes", "64KiB"}, &status).has_value());
  EXPECT_EQ(status, 2);
}

TEST(LoadOptions, WhatMakesNoSenseIsRefused) {
  for (const auto& words : std::vector<std::vector<std::string>>{{"--record-bytes", "8"},
                                                                 {"--connections", "0"},
                                                                 {"--in-flight", "65"},
                                                                 {"--seconds", "0"},
                                                                 {"--batch-bytes", "many"},
                                                                 {"--spread"},
                                                                 {"--no-such-flag"}}) {
    int status = 0;
    EXPECT_FALSE(parse(words, &status).has_value()) << words[0];
    EXPECT_EQ(status, 2) << words[0];
  }
  int status = 7;
  EXPECT_FALSE(parse({"--help"}, &status).has_value());
  EXPECT_EQ(status, 0);
}

TEST(RecordPattern, KnowsEveryRecordAndEveryChangedByte) {
  RecordPattern writer(200);
  const RecordPattern reader(200);
  for (std::uint64_t number = 0; number < 1'000; ++number) {
    const RecordName made{5, number % 7, number};
    const auto bytes = writer.make(made);
    RecordName read;
    ASSERT_TRUE(reader.check(bytes, read));
    ASSERT_EQ(read, made);
    std::vector<std::byte> damaged(bytes.begin(), bytes.end());
    damaged[24 + number % 176] ^= std::byte{1};
    EXPECT_FALSE(reader.check(damaged, read));
    EXPECT_FALSE(reader.check(bytes.first(199), read));
  }
}

TEST(ProcessCpu, CountsWhatWasComputed) {
  const double own = own_cpu_seconds();
  const auto before = process_cpu_seconds(::getpid());
  ASSERT_TRUE(before.has_value());
  std::atomic<std::uint64_t> sum{0};
  while (own_cpu_seconds() - own < 0.2)
    for (int i = 0; i < 10'000; ++i) sum.fetch_add(1);
  const auto after = process_cpu_seconds(::getpid());
  ASSERT_TRUE(after.has_value());
  EXPECT_NEAR(*after - *before, 0.2, 0.05);
  EXPECT_FALSE(process_cpu_seconds(0x7ffffff0).has_value());
}

TEST(ProcessCpu, FindsWhoListens) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  socklen_t length = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  EXPECT_EQ(pid_listening_at(ntohs(address.sin_port)), ::getpid());
  ::close(listener);
  EXPECT_EQ(pid_listening_at(ntohs(address.sin_port)), 0);
}

}  // namespace
}  // namespace millrace::load
