#include "base/result.hpp"

#include <array>
#include <cerrno>

namespace millrace {

namespace {

struct Entry {
  Error error;
  std::string_view name;
  std::string_view text;
};

constexpr std::array entries{
    Entry{Error::retry_later, "retry_later",
          "the shard is at its limit; send the same request again after the time named"},
    Entry{Error::unknown_outcome, "unknown_outcome",
          "the commit failed part-way, or waits for a file; ask again with the same sequence to learn what happened"},
    Entry{Error::no_space, "no_space", "the disk is full; service resumes by itself when space returns"},
    Entry{Error::not_ready, "not_ready", "the server is starting, recovering or being stopped; try again"},
    Entry{Error::timed_out, "timed_out", "no answer in time"},
    Entry{Error::connection_lost, "connection_lost", "the connection was closed by the other side"},
    Entry{Error::cancelled, "cancelled", "the request was given up because its owner is closing"},
    Entry{Error::would_block, "would_block", "nothing there yet"},
    Entry{Error::too_many_files, "too_many_files",
          "out of file descriptors or kernel memory; raise the limit (ulimit -n)"},
    Entry{Error::invalid_argument, "invalid_argument", "the request is not well formed"},
    Entry{Error::too_large, "too_large", "over a limit; the limits are in the handshake and in docs/limits.md"},
    Entry{Error::unknown_stream, "unknown_stream", "there is no stream of this name"},
    Entry{Error::out_of_range, "out_of_range", "the offset is outside what can be read here"},
    Entry{Error::out_of_order, "out_of_order", "the producer's sequence skipped ahead; send the missing batches first"},
    Entry{Error::duplicate, "duplicate", "this batch is stored already, too long ago to say at which offset"},
    Entry{Error::fenced, "fenced", "a newer epoch took over; this one may not write any more"},
    Entry{Error::unknown_producer, "unknown_producer", "the server no longer knows this producer; register again"},
    Entry{Error::wrong_shard, "wrong_shard", "the stream lives on another shard; connect to the one named"},
    Entry{Error::unsupported_version, "unsupported_version",
          "version or feature not known to this program; upgrade it"},
    Entry{Error::name_collision, "name_collision", "another stream has the same id; choose another name"},
    Entry{Error::permission_denied, "permission_denied", "not allowed"},
    Entry{Error::over_credit, "over_credit", "more bytes in flight than the server granted"},
    Entry{Error::bad_frame, "bad_frame", "not a frame of this protocol; the connection is closed"},
    Entry{Error::bad_body, "bad_body", "the body's hash or structure is wrong; nothing was stored"},
    Entry{Error::not_found, "not_found", "there is no such file or name"},
    Entry{Error::already_exists, "already_exists", "it exists already"},
    Entry{Error::unsupported, "unsupported", "the kernel or filesystem cannot do this"},
    Entry{Error::address_in_use, "address_in_use", "another program listens on this address"},
    Entry{Error::connection_refused, "connection_refused", "nobody listens on this address"},
    Entry{Error::not_leader, "not_leader", "this node is a follower; send appends to its leader"},
    Entry{Error::io_failed, "io_failed", "the device or filesystem reported a failure"},
    Entry{Error::corrupt, "corrupt", "bytes on disk are not what was written"},
    Entry{Error::data_loss, "data_loss", "a range that was durable cannot be read any more"},
    Entry{Error::locked, "locked", "another process has this data directory open"},
    Entry{Error::foreign, "foreign", "this belongs to another cluster, log or program"},
    Entry{Error::clock_jumped, "clock_jumped", "the wall clock is not believable; check it, or pass --accept-clock"},
    Entry{Error::closed, "closed",
          "the log is closed after a second failure; restart the server after looking at the disk"},
    Entry{Error::read_only, "read_only", "the filesystem is read-only"},
    Entry{Error::diverged, "diverged",
          "leader and follower hold different bytes at one place; nothing was changed, compare the two"},
    Entry{Error::internal, "internal", "a bug in millrace; please report it"},
};

struct ErrnoRow {
  int system_errno;
  Error error;
};

constexpr std::array errno_rows{
    ErrnoRow{EAGAIN, Error::would_block},
    ErrnoRow{EINTR, Error::would_block},
    ErrnoRow{ENOBUFS, Error::would_block},
    ErrnoRow{EBUSY, Error::would_block},
    ErrnoRow{ENOSPC, Error::no_space},
    ErrnoRow{EDQUOT, Error::no_space},
    ErrnoRow{EFBIG, Error::no_space},
    ErrnoRow{EMFILE, Error::too_many_files},
    ErrnoRow{ENFILE, Error::too_many_files},
    ErrnoRow{ENOMEM, Error::too_many_files},
    ErrnoRow{ECANCELED, Error::cancelled},
    ErrnoRow{ETIME, Error::timed_out},
    ErrnoRow{ETIMEDOUT, Error::timed_out},
    ErrnoRow{ECONNRESET, Error::connection_lost},
    ErrnoRow{EPIPE, Error::connection_lost},
    ErrnoRow{ECONNABORTED, Error::connection_lost},
    ErrnoRow{ENOTCONN, Error::connection_lost},
    ErrnoRow{ECONNREFUSED, Error::connection_refused},
    ErrnoRow{EADDRINUSE, Error::address_in_use},
    ErrnoRow{EADDRNOTAVAIL, Error::invalid_argument},
    ErrnoRow{EACCES, Error::permission_denied},
    ErrnoRow{EPERM, Error::permission_denied},
    ErrnoRow{ENOENT, Error::not_found},
    ErrnoRow{ENOTDIR, Error::not_found},
    ErrnoRow{EEXIST, Error::already_exists},
    ErrnoRow{ENOTEMPTY, Error::already_exists},
    ErrnoRow{EROFS, Error::read_only},
    ErrnoRow{EINVAL, Error::invalid_argument},
    ErrnoRow{EOPNOTSUPP, Error::unsupported},
    ErrnoRow{ENOSYS, Error::unsupported},
    ErrnoRow{EIO, Error::io_failed},
};

}  // namespace

std::string_view error_name(Error error) {
  for (const Entry& entry : entries)
    if (entry.error == error) return entry.name;
  return "unknown_error";
}

std::string_view error_text(Error error) {
  for (const Entry& entry : entries)
    if (entry.error == error) return entry.text;
  return "an error this program does not know; it may be newer than this program";
}

bool is_error(std::uint16_t number) {
  for (const Entry& entry : entries)
    if (static_cast<std::uint16_t>(entry.error) == number) return true;
  return false;
}

Error error_from_errno(int system_errno) {
  for (const ErrnoRow& row : errno_rows)
    if (row.system_errno == system_errno) return row.error;
  return Error::io_failed;
}

}  // namespace millrace
