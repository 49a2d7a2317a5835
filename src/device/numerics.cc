#include "device/numerics.h"

namespace busbar {

std::string_view name_of(Accuracy a) {
    static constexpr std::string_view words[] = {"strict", "accurate", "fast"};
    return words[static_cast<int>(a)];
}

std::string_view name_of(Order o) {
    return o == Order::free ? "free" : "invariant";
}

std::optional<Accuracy> parse_accuracy(std::string_view word) {
    for (Accuracy a : {Accuracy::strict, Accuracy::accurate, Accuracy::fast})
        if (word == name_of(a)) return a;
    return std::nullopt;
}

std::optional<Order> parse_order(std::string_view word) {
    for (Order o : {Order::free, Order::invariant})
        if (word == name_of(o)) return o;
    return std::nullopt;
}

}  // namespace busbar
