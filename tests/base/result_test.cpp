#include "base/result.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

#include "base/units.hpp"

namespace millrace::test {

namespace {

Result<std::unique_ptr<int>> half(int number) {
  if (number % 2 != 0) return fail(Error::invalid_argument);
  return std::make_unique<int>(number / 2);
}

TEST(ResultTest, a_value_or_an_error) {
  auto good = half(8);
  ASSERT_TRUE(good);
  EXPECT_EQ(**good, 4);
  auto bad = half(7);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error(), Error::invalid_argument);
  Result<> nothing;
  EXPECT_TRUE(nothing);
}

TEST(ResultTest, every_number_of_the_list_has_one_name_and_a_sentence) {
  std::set<std::string_view> names;
  int count = 0;
  for (std::uint16_t number = 0; number < 1000; ++number) {
    if (!is_error(number)) {
      EXPECT_EQ(error_name(static_cast<Error>(number)), "unknown_error");
      continue;
    }
    ++count;
    auto error = static_cast<Error>(number);
    EXPECT_TRUE(names.insert(error_name(error)).second) << number;
    EXPECT_FALSE(error_text(error).empty());
    EXPECT_EQ(error_text(error).find('\n'), std::string_view::npos);
  }
  EXPECT_GT(count, 30);
  EXPECT_FALSE(is_error(0)) << "0 stays free: it is what success looks like in other people's code";
}

TEST(ResultTest, numbers_are_stable) {
  // These stand in scripts and on the wire. A changed line here breaks somebody.
  EXPECT_EQ(static_cast<int>(Error::retry_later), 1);
  EXPECT_EQ(static_cast<int>(Error::no_space), 3);
  EXPECT_EQ(static_cast<int>(Error::cancelled), 7);
  EXPECT_EQ(static_cast<int>(Error::invalid_argument), 100);
  EXPECT_EQ(static_cast<int>(Error::out_of_range), 103);
  EXPECT_EQ(static_cast<int>(Error::bad_frame), 113);
  EXPECT_EQ(static_cast<int>(Error::connection_refused), 119);
  EXPECT_EQ(static_cast<int>(Error::not_leader), 120);
  EXPECT_EQ(static_cast<int>(Error::io_failed), 200);
  EXPECT_EQ(static_cast<int>(Error::data_loss), 202);
  EXPECT_EQ(static_cast<int>(Error::diverged), 208);
  EXPECT_EQ(static_cast<int>(Error::internal), 299);
}

TEST(ResultTest, the_hundred_says_what_to_do_next) {
  EXPECT_EQ(next_step(Error::no_space), NextStep::retry);
  EXPECT_EQ(next_step(Error::bad_frame), NextStep::refuse);
  EXPECT_EQ(next_step(Error::corrupt), NextStep::stop);
}

TEST(ResultTest, errno_becomes_ours) {
  EXPECT_EQ(error_from_errno(ENOSPC), Error::no_space);
  EXPECT_EQ(error_from_errno(EDQUOT), Error::no_space);
  EXPECT_EQ(error_from_errno(EAGAIN), Error::would_block);
  EXPECT_EQ(error_from_errno(ECANCELED), Error::cancelled);
  EXPECT_EQ(error_from_errno(ECONNRESET), Error::connection_lost);
  EXPECT_EQ(error_from_errno(EADDRINUSE), Error::address_in_use);
  EXPECT_EQ(error_from_errno(ENOENT), Error::not_found);
  EXPECT_EQ(error_from_errno(EIO), Error::io_failed);
  EXPECT_EQ(error_from_errno(EXDEV), Error::io_failed) << "what is not in the table is a failure, never ignored";
}

TEST(UnitsTest, quantities_do_not_mix_and_count_on) {
  static_assert(!std::is_convertible_v<Offset, Lsn>);
  static_assert(!std::is_convertible_v<std::uint64_t, Offset>);
  EXPECT_EQ(Offset{5}.next(), Offset{6});
  EXPECT_EQ(Lsn{5}.next(10), Lsn{15});
  EXPECT_LT(Day{1}, Day{2});
  EXPECT_TRUE((Id128{}.is_zero()));
  EXPECT_FALSE((Id128{0, 1}.is_zero()));
  EXPECT_EQ(std::hash<Offset>{}(Offset{7}), std::hash<std::uint64_t>{}(7));
}

}  // namespace

}  // namespace millrace::test
