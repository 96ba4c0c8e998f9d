#include "cli/record_input.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace millrace::cli {
namespace {

struct Cut {
  std::vector<std::string> records;
  std::string error;
};

/// Feeds `bytes` through a pipe in pieces of `piece` bytes.
Cut cut(const std::string& bytes, Delimiter delimiter, std::size_t piece) {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  std::thread writer([&] {
    for (std::size_t at = 0; at < bytes.size(); at += piece)
      if (::send(ends[1], bytes.data() + at, std::min(piece, bytes.size() - at), MSG_NOSIGNAL) < 0) break;
    ::close(ends[1]);
  });
  RecordInput input(ends[0], delimiter);
  Cut result;
  while (const auto record = input.next())
    result.records.emplace_back(reinterpret_cast<const char*>(record->data()), record->size());
  result.error = input.error();
  ::close(ends[0]);
  writer.join();
  return result;
}

/// What `input` gives of `bytes` while the one who writes them stays there, and stop came: nothing is waited for.
TEST(RecordInput, Stops) {
  int ends[2];
  int stop[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, stop), 0);
  const std::string bytes = "one\ntwo\nthr";
  ASSERT_EQ(::send(ends[1], bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  RecordInput input(ends[0], Delimiter::newline, stop[0]);
  ASSERT_TRUE(input.next());
  ASSERT_TRUE(input.next());
  std::thread later([&] { EXPECT_EQ(::send(stop[1], "", 1, 0), 1); });
  EXPECT_FALSE(input.next()) << "half a record is none";
  EXPECT_FALSE(input.next());
  EXPECT_EQ(input.error(), "");
  later.join();
  for (const int end : {ends[0], ends[1], stop[0], stop[1]}) ::close(end);
}

std::string len32(const std::string& record) {
  const auto length = static_cast<std::uint32_t>(record.size());
  return std::string(reinterpret_cast<const char*>(&length), 4) + record;
}

TEST(RecordInput, LinesKeepEverythingButTheNewline) {
  for (const std::size_t piece : {1u, 3u, 1000u}) {
    const Cut lines = cut("one\r\n\ntwo\0half\nlast", Delimiter::newline, piece);
    EXPECT_EQ(lines.records.front(), "one\r");
    EXPECT_EQ(lines.records[1], "");
    EXPECT_EQ(lines.error, "");
  }
  const Cut bytes = cut(std::string("a\0b\n", 4), Delimiter::newline, 2);
  ASSERT_EQ(bytes.records.size(), 1u);
  EXPECT_EQ(bytes.records[0], std::string("a\0b", 3));
}

TEST(RecordInput, TheLastLineNeedsNoNewline) {
  EXPECT_EQ(cut("a\nb", Delimiter::newline, 9).records, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(cut("a\nb\n", Delimiter::newline, 9).records, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(cut("", Delimiter::newline, 9).records.empty());
}

TEST(RecordInput, LongLinesAndManyBlocks) {
  std::string text;
  std::vector<std::string> lines;
  for (int i = 0; i < 40; ++i) {
    lines.emplace_back(static_cast<std::size_t>(i) * 60'000, static_cast<char>('a' + i % 26));
    text += lines.back() + "\n";
  }
  EXPECT_EQ(cut(text, Delimiter::newline, 65'536).records, lines);
}

TEST(RecordInput, ALineOverTheLimitIsAnError) {
  const Cut result = cut(std::string(20u << 20, 'x'), Delimiter::newline, 65'536);
  EXPECT_TRUE(result.records.empty());
  EXPECT_NE(result.error.find("longer than"), std::string::npos);
}

TEST(RecordInput, Len32TakesAnyBytes) {
  const std::vector<std::string> records = {"", "\n\n", std::string("\0\1\2", 3), std::string(3'000'000, 'z')};
  std::string bytes;
  for (const std::string& record : records) bytes += len32(record);
  for (const std::size_t piece : {7u, 65'536u}) {
    const Cut result = cut(bytes, Delimiter::len32, piece);
    EXPECT_EQ(result.records, records);
    EXPECT_EQ(result.error, "");
  }
}

TEST(RecordInput, Len32ThatEndsInsideOrLiesIsAnError) {
  EXPECT_NE(cut(len32("whole") + "\5\0", Delimiter::len32, 9).error, "");
  const Cut cut_short = cut(len32("whole") + len32("cut off").substr(0, 8), Delimiter::len32, 9);
  EXPECT_EQ(cut_short.records, (std::vector<std::string>{"whole"}));
  EXPECT_EQ(cut_short.error, "the input ends inside a record");
  EXPECT_NE(cut("\xff\xff\xff\xff", Delimiter::len32, 9).error.find("4294967295"), std::string::npos);
}

}  // namespace
}  // namespace millrace::cli
