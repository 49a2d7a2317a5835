#pragma once
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "agree/conform/runner.h"
#include "base/error.h"

namespace busbar::conform {

/// All randomness of the kit: a fresh seed each run, or the one in BUSBAR_SEED, or the one set before the first use.
/// Whoever runs the kit prints it.
uint64_t seed();
void set_seed(uint64_t value);

struct Random {
    std::mt19937_64 engine;
    explicit Random(std::string_view name) : engine(seed() ^ std::hash<std::string_view>{}(name)) {}
    double uniform(double low, double high) { return std::uniform_real_distribution<double>(low, high)(engine); }
    double normal() { return std::normal_distribution<double>()(engine); }
    int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(engine); }
};

/// One input of the op under test.
struct Input {
    enum class Is : uint8_t { values, step, weight, state };
    Is is = Is::values;
    ValueType type;
    std::string name;  ///< of the step record's part, or of the state
    Array data;        ///< numbers at capacity; a weight decoded; a state {sequences, context, heads, width}
    std::shared_ptr<const StoredTensor> weight;
};

/// One op on one set of inputs. Plain data, so that a mutation is a changed copy.
struct Case {
    std::string name;
    std::string node;  ///< name of the node that the chip is given; "" = the op's
    const OpRow* op = nullptr;
    Attributes attributes;
    std::vector<Input> inputs;
    Binding binding;
    StepRecord record{StepLayout{}};
    std::optional<StepRecord> filled_by;  ///< by which the states are filled and read, if not by `record`
    Element cache = Element::f32;         ///< what the chip shall keep states in
    int64_t pages = 0;                    ///< of each state
    std::vector<int64_t> filled;          ///< positions of each sequence appended before the step
    bool equal_terms = false;             ///< a constant input: roundings are not independent, use the bound K u S

    Input& in(std::string_view input);
    const Input& in(std::string_view input) const { return const_cast<Case*>(this)->in(input); }
    /// The op alone in a graph, constants as inputs.
    Graph graph() const;
    std::string title() const;
};

/// Why the chip does not take this very case with this row, "" if it does.
std::string refusal(const Profile& profile, const KernelRow& row, const Case& c);

/// Runs a case. Inputs lie on the device exactly: they were rounded to `Case::cache` or f32 before.
Outcome run_case(Device& device, const Case& c, const KernelRow* row = nullptr);
/// The same through a graph of several nodes (the definition), on the oracle.
Outcome run_expanded(Device& device, const Case& c);

/// Only row r of the step, alone: what it must be bit-equal to in invariant order. False if the case has no rows to
/// take.
bool take_row(Case& c, int64_t r);

// Building cases. Numbers are rounded to f32 so that every chip gets the same.
Array numbers(Random& random, std::vector<int64_t> extents, double scale = 1);
Input values(std::string_view input, std::vector<Dim> dims, Array data);
Input indices(std::string_view input, std::vector<Dim> dims, Array data);
Input step_part(std::string_view part, std::vector<Dim> dims);
Input weight(std::shared_ptr<const StoredTensor> tensor);
/// A weight with sane random blocks in any encoding; `width` a multiple of its block. Its bytes are unaligned and end
/// where their memory ends.
std::shared_ptr<const StoredTensor> random_weight(Random& random, const Encoding& e, std::vector<int64_t> shape,
                                                  std::string name = "w");
std::shared_ptr<const StoredTensor> plain_weight(const Array& data, const Encoding& e, std::string name = "w");
std::shared_ptr<const StoredTensor> with_bytes(const StoredTensor& tensor, std::vector<std::byte> bytes);
/// Bytes of a block that hold its scales (of the whole block or super-block).
std::vector<int> scale_bytes(const Encoding& e);

}  // namespace busbar::conform
