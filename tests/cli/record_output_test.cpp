#include "cli/record_output.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>

namespace millrace::cli {
namespace {

std::string printed(Format format, Delimiter delimiter, const ReadRecord& record) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  RecordOutput output(ends[1], format, delimiter);
  EXPECT_TRUE(output.put(record));
  EXPECT_TRUE(output.flush());
  ::close(ends[1]);
  std::string text(4096, '\0');
  const ssize_t got = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  text.resize(static_cast<std::size_t>(got));
  return text;
}

ReadRecord record_of(std::string_view payload) {
  ReadRecord record;
  record.stream = "s";
  record.offset = 7;
  record.day = 20'778;
  record.id = 3;
  record.lsn = 9;
  record.leader_time = 1'795'240'765'000'000'001;
  record.type = 12;
  record.payload = view_of(payload);
  return record;
}

TEST(RecordOutput, Raw) {
  EXPECT_EQ(printed(Format::raw, Delimiter::newline, record_of("hello\r")), "hello\r\n");
  EXPECT_EQ(printed(Format::raw, Delimiter::len32, record_of("hi")), std::string("\2\0\0\0hi", 6));
}

TEST(RecordOutput, JsonHasEverything) {
  ReadRecord record = record_of("h\xc3\xa9llo \"x\"\n");
  record.key = view_of("k");
  const auto json = nlohmann::json::parse(printed(Format::json, Delimiter::newline, record));
  EXPECT_EQ(json["stream"], "s");
  EXPECT_EQ(json["offset"], 7);
  EXPECT_EQ(json["day"], "2026-11-21");
  EXPECT_EQ(json["id"], 3);
  EXPECT_EQ(json["type"], 12);
  EXPECT_EQ(json["time"].get<std::string>().size(), std::string("2026-11-21T05:59:25.000000001Z").size());
  EXPECT_EQ(json["payload"], "h\xc3\xa9llo \"x\"\n");
  EXPECT_EQ(json["key"], "k");
  EXPECT_FALSE(json.contains("payload_base64"));
}

TEST(RecordOutput, JsonOfWhatIsNoText) {
  const auto json = nlohmann::json::parse(printed(Format::json, Delimiter::newline, record_of("\xff\x01")));
  EXPECT_FALSE(json.contains("payload"));
  EXPECT_EQ(json["payload_base64"], "/wE=");
}

TEST(RecordOutput, Base64) {
  EXPECT_EQ(base64(view_of("")), "");
  EXPECT_EQ(base64(view_of("f")), "Zg==");
  EXPECT_EQ(base64(view_of("fo")), "Zm8=");
  EXPECT_EQ(base64(view_of("foo")), "Zm9v");
  EXPECT_EQ(base64(view_of("foobar")), "Zm9vYmFy");
}

TEST(RecordOutput, TellsTextFromBytes) {
  for (const char* text : {"", "plain", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_text(view_of(text))) << text;
  for (const char* bytes : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                            "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff"})
    EXPECT_FALSE(is_text(view_of(bytes)));
}

TEST(RecordOutput, SaysWhenTheOutputIsGone) {
  RecordOutput output(-1, Format::raw, Delimiter::newline);
  EXPECT_TRUE(output.put(record_of("x")));
  EXPECT_FALSE(output.flush());
  EXPECT_FALSE(output.error().empty());
}

}  // namespace
}  // namespace millrace::cli
