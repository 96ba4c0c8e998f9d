#include "tests/storage/golden.hpp"

#include <gtest/gtest.h>

#include <charconv>
#include <sstream>

namespace millrace::test {

namespace {

constexpr std::size_t line_bytes = 32;

void dump(std::ostringstream& out, const char* file, Bytes bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  out << file << " bytes " << bytes.size() << "\n";
  for (std::size_t at = 0; at < bytes.size(); at += line_bytes) {
    Bytes line = bytes.subspan(at, std::min(line_bytes, bytes.size() - at));
    if (all_zero(line)) continue;
    out << file << " " << at << " ";
    for (std::byte byte : line)
      out << digits[std::to_integer<int>(byte) >> 4] << digits[std::to_integer<int>(byte) & 15];
    out << "\n";
  }
}

void fill(std::vector<std::byte>& target, std::size_t at, const std::string& hex) {
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    unsigned value = 0;
    std::from_chars(hex.data() + i, hex.data() + i + 2, value, 16);
    target.at(at + i / 2) = static_cast<std::byte>(value);
  }
}

std::uint64_t number_of(const std::string& text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

void end_line(std::ostringstream& out, const char* name, const std::optional<SegmentEnd>& end) {
  if (!end) return;
  out << name << " " << end->segment_id.high << " " << end->segment_id.low << " " << end->length << " "
      << end->chain.value << " " << end->next_lsn.value << "\n";
}

SegmentEnd parse_end(std::istringstream& in) {
  SegmentEnd end;
  in >> end.segment_id.high >> end.segment_id.low >> end.length >> end.chain.value >> end.next_lsn.value;
  return end;
}

const char* source_name(BatchSource source) {
  return source == BatchSource::segment ? "segment" : source == BatchSource::tail ? "tail" : "salvaged";
}

std::string verdict_text(const GoldenCase& golden) {
  Recovered found(golden.input(), golden.image.segment);
  const Verdict& v = found.verdict;
  std::ostringstream out;
  out << "row " << recovery_row_name(v.row) << "\n";
  if (v.refused) out << "refused " << error_name(*v.refused) << "\n";
  out << "begun " << v.begun << " go_on_here " << v.go_on_here << " damaged " << v.damaged << "\n";
  out << "prefix_end " << v.prefix_end << " content_end " << v.content_end << " nonzero_end " << v.nonzero_end << "\n";
  out << "cut " << v.cut_begin << " " << v.cut_end << "\n";
  out << "next_lsn " << v.next_lsn.value << " chain " << v.chain.value << " durable_known " << v.durable_known.value
      << "\n";
  out << "lost " << v.lost_first.value << " " << v.lost_end.value << " batches " << v.lost_batches << " offset_bump "
      << v.offset_bump << "\n";
  out << "slots taken " << v.slots_taken << " dead " << v.slots_dead << " highest " << v.slot_number << "\n";
  for (const TailGroup& group : v.tail_groups)
    out << "tail_group " << group.file_offset << " lsn " << group.first_lsn.value << " batches " << group.batches
        << " length " << group.length << "\n";
  for (const auto& [lsn, source] : found.sources) out << "batch " << lsn << " " << source_name(source) << "\n";
  for (const BatchHeader& header : found.lost_headers)
    out << "lost_batch " << header.lsn << " stream " << header.stream_id << " offset " << header.first_offset << "\n";
  for (const LostRange& range : found.ranges)
    out << "lost_range " << range.begin << " " << range.end << " lsn " << range.first_lsn.value << " "
        << range.end_lsn.value << "\n";
  return out.str();
}

}  // namespace

RecoveryInput GoldenCase::input() const {
  RecoveryInput input;
  input.log_id = log_id;
  input.file_bytes = image.segment.size();
  input.in_flight_bytes_max = in_flight_max;
  input.epochs_led = led;
  input.previous = previous;
  input.expected_end = expected_end;
  input.tail = image.tail;
  return input;
}

std::string render(const GoldenCase& golden) {
  std::ostringstream out;
  out << "# " << golden.name << ": " << golden.story << "\n";
  out << "log " << golden.log_id.high << " " << golden.log_id.low << "\n";
  out << "in_flight_max " << golden.in_flight_max << "\n";
  for (const EpochRange& range : golden.led) out << "led " << range.first.value << " " << range.last.value << "\n";
  end_line(out, "previous", golden.previous);
  end_line(out, "expected_end", golden.expected_end);
  dump(out, "segment", golden.image.segment);
  dump(out, "tail", golden.image.tail);
  out << "expect\n" << verdict_text(golden);
  return out.str();
}

GoldenCase parse_golden(const std::string& text) {
  GoldenCase golden;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line) && line != "expect") {
    if (line.starts_with("#")) {
      golden.name = line.substr(2, line.find(':') - 2);
      golden.story = line.substr(line.find(':') + 2);
      continue;
    }
    std::istringstream in(line);
    std::string word, at;
    in >> word;
    if (word == "log") {
      in >> golden.log_id.high >> golden.log_id.low;
    } else if (word == "in_flight_max") {
      in >> golden.in_flight_max;
    } else if (word == "led") {
      EpochRange& range = golden.led.emplace_back();
      in >> range.first.value >> range.last.value;
    } else if (word == "previous") {
      golden.previous = parse_end(in);
    } else if (word == "expected_end") {
      golden.expected_end = parse_end(in);
    } else if (word == "segment" || word == "tail") {
      std::vector<std::byte>& file = word == "tail" ? golden.image.tail : golden.image.segment;
      std::string value;
      in >> at >> value;
      at == "bytes" ? file.resize(number_of(value)) : fill(file, number_of(at), value);
    } else {
      ADD_FAILURE() << "not a line of a golden case: " << line;
    }
  }
  return golden;
}

namespace {

/// A log of two groups, each durable before the next is submitted, so that the second proves the first.
class Story {
 public:
  Story() : model_(42, {.file_bytes = segment_bytes_min, .ring_bytes = 16 * KiB}) {}

  void group(std::initializer_list<std::size_t> bodies, bool durable = true) {
    for (std::size_t body : bodies) model_.append(body);
    model_.flush_to_segment();
    if (durable) model_.complete_all();
  }
  void slot(std::initializer_list<std::size_t> bodies) {
    for (std::size_t body : bodies) model_.append(body);
    model_.flush_to_tail();
    model_.complete_all();
  }
  /// What is in flight reaches the disk but for these sectors of it.
  void tear(std::initializer_list<std::size_t> missing) {
    image_ = model_.crash(0);
    for (const Write& write : model_.flying()) {
      Write torn = write;
      for (std::size_t number : missing)
        std::fill_n(torn.bytes.begin() + static_cast<long>(number * sector), sector, std::byte{0});
      apply_whole({torn}, image_);
    }
  }
  void stop() { image_ = model_.crash(0); }
  void flip(std::uint64_t at) { image_.segment[at] ^= std::byte{1}; }

  LogModel& model() { return model_; }
  Image& image() { return image_; }
  GoldenCase tell(RecoveryRow row, std::string story) {
    GoldenCase golden;
    golden.name = recovery_row_name(row);
    golden.story = std::move(story);
    golden.image = image_;
    golden.led = model_.led();
    return golden;
  }
  SegmentEnd end() {
    Recovered found(model_.input(image_), image_.segment);
    return {found.verdict.segment_id, found.verdict.content_end, found.verdict.chain, found.verdict.next_lsn};
  }

 private:
  LogModel model_;
  Image image_;
};

constexpr std::uint64_t first_group = block_bytes;
constexpr std::uint64_t first_body = first_group + group_header_bytes + batch_header_bytes;

void crash_cases(std::vector<GoldenCase>& cases) {
  {
    Story s;
    s.stop();
    cases.push_back(s.tell(RecoveryRow::clean_empty, "a prepared segment"));
  }
  {
    Story s;
    s.group({100, 50});
    s.group({300});
    s.stop();
    cases.push_back(s.tell(RecoveryRow::clean_end, "two groups, both durable, and a clean stop"));
  }
  {
    Story s;
    s.group({100, 50});
    s.slot({30});
    s.slot({40});
    s.stop();
    cases.push_back(s.tell(RecoveryRow::tail_extends, "a group, then two little commits in the tail"));
  }
  {
    Story s;
    s.group({100, 50});
    s.group({700, 900}, false);
    s.tear({2});
    cases.push_back(s.tell(RecoveryRow::torn_cut, "the second group's third sector never reached the disk"));
  }
  {
    Story s;
    s.group({100, 50});
    s.slot({30});
    s.group({900}, false);
    s.tear({1, 2});
    cases.push_back(
        s.tell(RecoveryRow::tail_then_cut, "what a slot holds was on its way to the segment, with more behind it"));
  }
  {
    Story s;
    s.group({100, 50}, false);
    s.tear({0});
    cases.push_back(s.tell(RecoveryRow::torn_header, "of the very first write the header's sector is missing"));
  }
}

void damage_cases(std::vector<GoldenCase>& cases) {
  {
    Story s;
    s.group({100, 50});
    s.group({300});
    s.stop();
    s.flip(first_body);
    cases.push_back(s.tell(RecoveryRow::damaged_durable, "a flipped bit in a group that the next one proves durable"));
  }
  {
    Story s;
    s.group({100, 50});
    s.slot({30});
    s.slot({40});
    s.stop();
    s.image().tail[block_bytes + tail_slot_header_bytes + batch_header_bytes] ^= std::byte{1};
    cases.push_back(s.tell(RecoveryRow::damaged_tail, "a flipped bit in a slot that the next one proves durable"));
  }
  {
    Story s;
    s.group({100, 50});
    s.stop();
    s.image().segment[8 * MiB] = std::byte{1};
    cases.push_back(s.tell(RecoveryRow::unexplainable_far, "a byte in the middle of nowhere"));
  }
  {
    Story s;
    s.group({100, 50});
    s.stop();
    s.flip(first_body);
    cases.push_back(
        s.tell(RecoveryRow::unexplainable_group, "a flipped bit in the last group; every sector of it is there"));
  }
  {
    Story s;
    s.group({100, 50});
    s.group({300});
    s.stop();
    s.flip(60);
    cases.push_back(s.tell(RecoveryRow::damaged_header, "a flipped bit in the header block"));
  }
}

void other_cases(std::vector<GoldenCase>& cases) {
  Story s;
  s.group({100, 50});
  s.group({300});
  s.stop();
  SegmentEnd end = s.end();
  cases.push_back(s.tell(RecoveryRow::foreign, "a segment of another log"));
  cases.back().image.tail.clear();
  cases.back().log_id = {1, 3};

  cases.push_back(s.tell(RecoveryRow::unsupported, "a segment that only a newer program can read"));
  MutableBytes block = MutableBytes(cases.back().image.segment).first(block_bytes);
  store(block, offsetof(FileHead, oldest_reader), std::uint16_t{2});
  store(block, offsetof(FileHead, checksum), block_checksum(block));

  GoldenCase closed = s.tell(RecoveryRow::closed_ok, "closed, and as its successor says");
  closed.image.tail.clear();
  closed.expected_end = end;
  cases.push_back(closed);

  closed.name = recovery_row_name(RecoveryRow::closed_damaged);
  closed.story = "closed, and a batch of its first group is damaged; the others still serve";
  closed.image.segment[first_body] ^= std::byte{1};
  cases.push_back(closed);

  closed = cases[cases.size() - 2];
  closed.name = recovery_row_name(RecoveryRow::closed_mismatch);
  closed.story = "valid, of the right length, and not what its successor followed";
  closed.expected_end->chain.value ^= 1;
  cases.push_back(closed);
}

}  // namespace

std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  crash_cases(cases);
  damage_cases(cases);
  other_cases(cases);
  return cases;
}

}  // namespace millrace::test
