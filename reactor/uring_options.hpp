// What a UringKernel may use. Everything is on by default and falls back by itself where the system lacks it; switching
// a line off forces that fallback, which is how tests run every mode on one machine.
#pragma once

namespace millrace {

struct UringOptions {
  unsigned submission_entries = 1024;  // a power of two
  unsigned completion_entries = 4096;  // a power of two, at least four times the submissions
  bool no_sq_array = true;             // IORING_SETUP_NO_SQARRAY (6.6)
  bool defer_taskrun = true;           // IORING_SETUP_SINGLE_ISSUER | DEFER_TASKRUN (6.1)
  bool multishot = true;               // accept and receive that keep going (6.0)
  bool provided_ring = true;           // a ring of provided buffers (5.19)
  bool registered_memory = true;       // register_memory() pins pages, reads and writes inside use them
  bool registered_files = true;        // open_file() puts descriptors into the ring's own table
  bool no_iowait = true;     // a wait with no disk operation in flight is not counted as waiting for I/O (6.15)
  bool message_wake = true;  // wake() by IORING_REGISTER_SEND_MSG_RING (6.13), else by an eventfd
};

}  // namespace millrace
