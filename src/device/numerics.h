#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "dtype/element.h"

namespace busbar {

/// What a kernel row may round (shared contract: docs/agreement.md). Later levels allow what earlier ones do.
enum class Accuracy : uint8_t {
    strict,    ///< f32 or better everywhere, transcendentals within 4 ULP
    accurate,  ///< activations of a product keep at least bf16's 8 significant bits, sums in f32
    fast,      ///< activations may be int8 per 32
};

/// invariant: accumulation order and every rounding depend only on the reduction length and the packed form, never on
/// rows, bucket, threads, chunking or neighbours; attention splits at fixed absolute positions.
enum class Order : uint8_t { free, invariant };

std::string_view name_of(Accuracy a);
std::string_view name_of(Order o);
std::optional<Accuracy> parse_accuracy(std::string_view word);
std::optional<Order> parse_order(std::string_view word);

/// What a row declares that it rounds; its bound in conformance follows from this.
struct Rounding {
    Element activation = Element::f32;  ///< of inputs as used in a product
    Element accumulate = Element::f32;
    double transcendental_ulp = 0;  ///< E: error of its exp, rsqrt ... in ULP of the result's element; 0 if it has none
    bool flushes_denormals = false;
};

}  // namespace busbar
