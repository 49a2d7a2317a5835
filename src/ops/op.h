#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dtype/shape.h"

namespace busbar {

class Builder;

/// What flows along an edge of the graph.
enum class Kind : uint8_t {
    real,   ///< numbers; each chip computes with its own element (f32, f64 ...)
    index,  ///< 32-bit integers: token ids, positions, row numbers, tables
    state,  ///< outlives a step: a paged cache. Shape {heads, width}; its layout is the chip's own
};

/// What a state is read as; a chip may lay keys and values out differently.
enum class StateRole : uint8_t { none, key, value };

/// Positions per page of a paged state.
constexpr int64_t page_positions = 64;

struct ValueType {
    Kind kind = Kind::real;
    Shape shape;
    StateRole role = StateRole::none;
    bool operator==(const ValueType&) const = default;
    std::string print() const;
};

using Attribute = std::variant<int64_t, double, std::string, std::vector<int64_t>>;
enum class AttributeType : uint8_t { integer, real, word, integers };  // the variant's alternatives, in order

/// Attributes of one node, checked against the op's row when the node is made.
class Attributes {
  public:
    Attributes() = default;
    Attributes(std::initializer_list<std::pair<const std::string, Attribute>> items) : items_(items) {}
    int64_t integer(std::string_view name) const;
    double real(std::string_view name) const;
    const std::string& word(std::string_view name) const;
    const std::vector<int64_t>& integers(std::string_view name) const;
    const std::map<std::string, Attribute, std::less<>>& items() const { return items_; }
    void set(std::string name, Attribute value) { items_[std::move(name)] = std::move(value); }
    bool operator==(const Attributes&) const = default;
    /// "epsilon=1e-05 pairing=half"
    std::string print() const;

  private:
    std::map<std::string, Attribute, std::less<>> items_;
};

struct InputSpec {
    std::string_view name;
    std::string_view meaning;  ///< extents and use, for the printed documentation
    Kind kind = Kind::real;
    bool variadic = false;  ///< the last input only: one or more of these
};

struct AttributeSpec {
    std::string_view name;
    AttributeType type;
    std::string_view meaning;
};

/// Work of one node at bound extents. Bytes of weights are added by the plan, which knows the encodings.
struct Cost {
    double flops = 0;
    double bytes = 0;  ///< activations and states read and written, counting four bytes a number
};

/// A host array in double precision, for folding constants and for the definition of core ops. Index values are whole
/// numbers.
struct Array {
    std::vector<int64_t> extents;
    std::vector<double> data;
    int64_t count() const { return count_of(extents); }
};

struct OpRow {
    std::string_view name;
    std::string_view doc;  ///< one line: the formula and its source
    std::vector<InputSpec> inputs;
    std::vector<std::string_view> outputs;  ///< a variadic op has one per variadic input: {"y..."}
    std::vector<AttributeSpec> attributes;

    /// Types of the outputs. Throws Error{bad_input} "[op] ..." where the inputs do not fit (the caller adds the node's
    /// address).
    std::vector<ValueType> (*infer)(std::span<const ValueType> inputs, const Attributes&) = nullptr;
    Cost (*cost)(std::span<const ValueType> inputs, std::span<const ValueType> outputs, const Binding&) = nullptr;

    /// Core ops: the plain definition, in double precision, outermost loops first. Outputs have their extents set
    /// already.
    void (*evaluate)(std::span<const Array* const> inputs, std::span<Array> outputs, const Attributes&) = nullptr;
    /// Composite ops: the definition in core (or simpler composite) ops: fallback, specification and test oracle at
    /// once.
    std::vector<int> (*define)(Builder&, std::span<const int> inputs, const Attributes&) = nullptr;

    /// Index of the input that the output overwrites (a state), or -1. Aliasing is explicit.
    int updates_input = -1;
    /// The output is the input's memory under another shape: no kernel, no copy.
    bool is_view = false;

    bool is_core() const { return define == nullptr; }
};

/// The op table, in the order of its documentation. Every room uses the same word for an op.
std::span<const OpRow* const> op_table();
/// nullptr if there is no such op.
const OpRow* find_op(std::string_view name);
/// Throws (a check of ours) if the attributes are not exactly those of the row.
void check_attributes(const OpRow& op, const Attributes& attributes);

// The rows by name. Core:
extern const OpRow op_add, op_subtract, op_multiply, op_divide, op_exp, op_rsqrt, op_cos, op_sin, op_mean, op_sum,
    op_max, op_matmul, op_batch_matmul, op_gather_rows, op_reshape, op_transpose, op_slice, op_concat, op_select,
    op_cache_append, op_cache_gather, op_cache_mask;
// Composite, as importers write them:
extern const OpRow op_rms_norm, op_softmax, op_silu, op_rotary_table, op_rotate, op_attention;
// Composite, made by passes:
extern const OpRow op_add_rms_norm, op_gated_silu, op_multi_matmul;

}  // namespace busbar
