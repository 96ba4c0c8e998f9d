// Who leads: what a node that takes over says to its old leader, and what a person says to the node that shall take over. Meaning:
// replica/REPLICATION.md, "Epochs, fencing, promotion".
//
// Everything here is in namespace wire. Pure; any thread. Encoders append one whole frame; decoders check type and shape and
// give bad_frame (not that message). Texts point into the frame.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.hpp"
#include "base/units.hpp"
#include "protocol/frame.hpp"

namespace millrace::wire {

inline constexpr std::size_t leader_text_max = 64;

struct Fence {
  std::uint64_t request_id = 0;
  Epoch epoch{};          // to be persisted; nothing of a lower one is appended any more
  bool ask_only = false;  // nothing changes: how far does the log go?
  bool leads = false;     // somebody leads under that epoch already: what is not acknowledged yet must not be any more
  std::string_view leader;  // HOST:PORT of who takes over
};

struct Fenced {
  std::uint64_t request_id = 0;
  bool granted = false;
  Epoch epoch{};  // the highest that is persisted there
  Lsn next{};     // where the log ends
  Chain chain{};
  Lsn durable{};
};

struct Promote {
  std::uint64_t request_id = 0;
  bool ask_only = false;     // only tell whether it would be safe
  bool accept_loss = false;  // lead although the old leader may have acknowledged more
};

struct Promoted {
  std::uint64_t request_id = 0;
  bool leads = false;
  bool safe = false;
  Epoch epoch{};
  Lsn next{};
  std::string_view text;  // a sentence for a person
};

void encode(FrameOutput& output, const Fence& message);
void encode(FrameOutput& output, const Fenced& message);
void encode(FrameOutput& output, const Promote& message);
void encode(FrameOutput& output, const Promoted& message);

Result<Fence> decode_fence(const Frame& frame);
Result<Fenced> decode_fenced(const Frame& frame);
Result<Promote> decode_promote(const Frame& frame);
Result<Promoted> decode_promoted(const Frame& frame);

}  // namespace millrace::wire
