#include "replica/frame_reader.hpp"

#include <utility>

namespace millrace {

Task<Frame> FrameReader::next() {
  while (true) {
    if (!input_.empty()) {
      auto frame = parser_.next(input_);
      if (!frame) co_return fail(frame.error());
      if (*frame) co_return **frame;
    }
    give_back();
    auto received = co_await socket_.receive();
    if (!received) co_return fail(received.error());
    if (received->length == 0) co_return fail(Error::connection_lost);
    buffer_ = *received;
    input_ = Bytes(received->data, received->length);
  }
}

void FrameReader::give_back() {
  if (buffer_) socket_.recycle(*std::exchange(buffer_, std::nullopt));
}

}  // namespace millrace
