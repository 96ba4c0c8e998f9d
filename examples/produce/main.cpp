// A program that produces: a little shop that logs its orders. Every order is on the server's disk before its customer is told
// so; page views are logged too, but nobody waits for those.
//
//   millrace serve --data ./data &
//   ./example-produce 127.0.0.1:7070 1000
#include <charconv>
#include <chrono>
#include <cstdio>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include "millrace/client.hpp"

namespace {

constexpr std::uint16_t type_order = 1;
constexpr std::uint16_t type_view = 2;

int fail(const millrace::Problem& problem) {
  std::fprintf(stderr, "%s\n", problem.text().c_str());
  return 1;
}

/// What one customer did: looked at some pages, then ordered.
struct Visit {
  int customer;
  std::vector<std::string> pages;
  std::string order;
};

Visit make_visit(int number) {
  Visit visit{number % 97, {}, {}};
  for (int page = 0; page <= number % 4; ++page)
    visit.pages.push_back("{\"customer\":" + std::to_string(visit.customer) + ",\"page\":\"/item/" +
                          std::to_string((number * 7 + page) % 50) + "\"}");
  visit.order = "{\"customer\":" + std::to_string(visit.customer) + ",\"order\":" + std::to_string(number) +
                ",\"cents\":" + std::to_string(199 + number * 37 % 5000) + "}";
  return visit;
}

int run(const std::string& server, int visits) {
  auto client = millrace::Client::connect({.server = server, .identity = "example-produce"});
  if (!client) return fail(client.problem());

  // Orders are few and somebody waits for each: they go out at once.
  auto orders = client->producer({.stream = "shop/orders"});
  if (!orders) return fail(orders.problem());
  // Views are many and nobody waits: a batch may gather for 20 ms.
  auto views = client->producer({.stream = "shop/views", .linger = std::chrono::milliseconds(20)});
  if (!views) return fail(views.problem());

  std::vector<std::future<millrace::Expected<millrace::Position>>> confirmations;
  for (int i = 0; i < visits; ++i) {
    const Visit visit = make_visit(i);
    for (const std::string& page : visit.pages)
      if (views->append(millrace::Record(page, type_view)) != millrace::AppendStatus::accepted)
        return fail(views->problem());

    // The key names what the record is about; it is stored beside the payload.
    const std::string customer = std::to_string(visit.customer);
    millrace::Record record(visit.order, type_order);
    record.key = millrace::view_of(customer);
    confirmations.push_back(orders->append_future(record));
  }

  // Here a real shop would answer its customers as their orders become durable.
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  for (std::size_t i = 0; i < confirmations.size(); ++i) {
    const auto position = confirmations[i].get();
    if (!position) return fail(position.problem());
    if (i == 0) first = position.value().offset;
    last = position.value().offset;
  }
  if (const auto flushed = views->flush(); !flushed) return fail(flushed.problem());
  std::printf("%zu orders are on disk, at offsets %llu to %llu of %s\n", confirmations.size(),
              static_cast<unsigned long long>(first), static_cast<unsigned long long>(last), orders->stream().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 3 || (argc > 1 && argv[1][0] == '-')) {
    std::fprintf(stderr, "usage: %s [HOST:PORT [VISITS]]\n", argv[0]);
    return argc == 2 && std::string(argv[1]) == "--help" ? 0 : 2;
  }
  int visits = 1000;
  if (argc > 2) {
    const std::string_view text = argv[2];
    std::from_chars(text.data(), text.data() + text.size(), visits);
  }
  return run(argc > 1 ? argv[1] : "127.0.0.1:7070", visits);
}
