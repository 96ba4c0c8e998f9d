// A script that consumes: adds up what the shop of example-produce sold, customer by customer. It says where it stopped, and
// goes on from there when it is told to, so each order is counted once however often it runs.
//
//   ./example-consume 127.0.0.1:7070             everything so far
//   ./example-consume 127.0.0.1:7070 1000        from offset 1000 on
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "millrace/client.hpp"

namespace {

constexpr std::uint16_t type_order = 1;

int fail(const millrace::Problem& problem) {
  std::fprintf(stderr, "%s\n", problem.text().c_str());
  return 1;
}

/// The number behind `"name":` in a small JSON object that we wrote ourselves.
long long number_of(std::string_view json, const std::string& name) {
  const std::size_t at = json.find("\"" + name + "\":");
  return at == std::string_view::npos ? 0 : std::atoll(json.data() + at + name.size() + 3);
}

int run(const std::string& server, std::uint64_t from) {
  auto client = millrace::Client::connect({.server = server, .identity = "example-consume"});
  if (!client) return fail(client.problem());
  millrace::ConsumerOptions options;
  options.stream = "shop/orders";
  options.from = millrace::Place::at_offset(from);
  options.type = type_order;
  auto consumer = client->consumer(options);
  if (!consumer) return fail(consumer.problem());

  std::map<std::string, long long> cents_of;
  std::uint64_t orders = 0;
  bool whole = true;
  for (bool more = true; more;) {
    const millrace::ReadResult& result = consumer->next();
    switch (result.event) {
      case millrace::ReadEvent::record: {
        const std::string payload(millrace::text_view(result.record.payload));
        cents_of[std::string(millrace::text_view(result.record.key))] += number_of(payload, "cents");
        orders += 1;
        break;
      }
      case millrace::ReadEvent::data_loss:
        std::fprintf(stderr, "offsets %llu to %llu are lost\n", static_cast<unsigned long long>(result.loss_first),
                     static_cast<unsigned long long>(result.loss_end - 1));
        whole = false;
        break;
      case millrace::ReadEvent::failed: return fail(result.problem);
      case millrace::ReadEvent::end: more = false; break;
      case millrace::ReadEvent::day_finished:
      case millrace::ReadEvent::timed_out: break;
    }
  }
  for (const auto& [customer, cents] : cents_of)
    std::printf("customer %s: %lld.%02lld\n", customer.c_str(), cents / 100, cents % 100);
  std::printf("%llu orders; next time go on from %llu\n", static_cast<unsigned long long>(orders),
              static_cast<unsigned long long>(consumer->next_offset()));
  return whole ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 3 || (argc > 1 && argv[1][0] == '-')) {
    std::fprintf(stderr, "usage: %s [HOST:PORT [FROM_OFFSET]]\n", argv[0]);
    return argc == 2 && std::string(argv[1]) == "--help" ? 0 : 2;
  }
  return run(argc > 1 ? argv[1] : "127.0.0.1:7070", argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
}
