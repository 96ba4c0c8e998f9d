// Copies bytes to memory that nobody reads soon: past the caches where the processor can, so that a copy into a large ring does
// not first read what it overwrites and does not push out what is in use. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace millrace {

/// memcpy; the areas do not overlap. Ordered before any later store once it returns.
inline void stream_copy(std::byte* target, const std::byte* source, std::size_t bytes) {
#if defined(__SSE2__)
  constexpr std::size_t line = 64;
  if (bytes >= 16 * line) {
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(target) % line;
    std::memcpy(target, source, before);
    target += before;
    source += before;
    bytes -= before;
    for (; bytes >= line; bytes -= line, target += line, source += line) {
      const auto* from = reinterpret_cast<const __m128i*>(source);
      auto* to = reinterpret_cast<__m128i*>(target);
      const __m128i a = _mm_loadu_si128(from);
      const __m128i b = _mm_loadu_si128(from + 1);
      const __m128i c = _mm_loadu_si128(from + 2);
      const __m128i d = _mm_loadu_si128(from + 3);
      _mm_stream_si128(to, a);
      _mm_stream_si128(to + 1, b);
      _mm_stream_si128(to + 2, c);
      _mm_stream_si128(to + 3, d);
    }
    _mm_sfence();
  }
#endif
  std::memcpy(target, source, bytes);
}

}  // namespace millrace
