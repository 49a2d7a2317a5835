#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "device/numerics.h"
#include "dtype/encoding.h"
#include "dtype/stored_tensor.h"
#include "ops/op.h"

namespace busbar {

/// A figure of a chip and where it comes from.
struct Figure {
    enum class Origin : uint8_t { unknown, datasheet, driver, measured };
    double value = 0;
    Origin origin = Origin::unknown;
};
std::string_view name_of(Figure::Origin origin);

/// What a chip multiplies: a layout that some encodings convert to without loss (architecture.md section 4).
struct PackedForm {
    std::string name;                        ///< "as_stored": the file's own blocks, read in place
    std::vector<const Encoding*> encodings;  ///< what converts to it
    bool in_place = false;                   ///< uses the mapping, takes no memory of its own
    double bits_per_weight = 0;              ///< 0: as the encoding has it
    int layout = 0;                          ///< number of a layout that may be kept in a file, Device::pack_at; 0: not
    uint64_t (*bytes)(const StoredTensor&) = nullptr;  ///< of a weight in this form, where that is more than its bits
    double preference = 0;                             ///< the plan takes the highest that serves all uses of a weight
    std::string reason;                                ///< printed with the choice
};

/// What a chip offers: one kernel for one op on one packed form. What a chip can do is derived from its rows and
/// written nowhere else.
struct KernelRow {
    std::string name;  ///< "cpu.matmul.as_stored"
    const OpRow* op = nullptr;
    std::string form;                        ///< packed form of its weight inputs; "" if it takes values only
    std::vector<const Encoding*> encodings;  ///< of its weights; empty: all that its form holds
    std::string others;    ///< why it takes no others: "gains nothing from ...", printed behind the encoding's name
    int64_t min_rows = 1;  ///< of the leading extent at the plan's bucket
    int64_t max_rows = std::numeric_limits<int64_t>::max();
    Accuracy accuracy = Accuracy::strict;  ///< the strictest level it satisfies
    Order order = Order::invariant;
    Rounding rounding;
    double share_of_peak = 1;  ///< for predictions: of the chip's flops or bandwidth, whichever binds
    int index = -1;            ///< the chip's own number for it
};

/// One concrete op, as a plan asks a chip about it.
struct OpInstance {
    const OpRow* op = nullptr;
    const Attributes* attributes = nullptr;
    std::vector<ValueType> inputs, outputs;
    Binding binding;
    std::vector<const StoredTensor*> weights;  ///< by input: the stored tensor of a weight, else nullptr
};

/// A chip as data. Passes and plans see this, never a device; tests make synthetic ones.
struct Profile {
    std::string chip;    ///< the word of --chip: "cpu"
    std::string detail;  ///< "avx2+fma, 2 threads"
    std::string maker, driver;
    Element real = Element::f32;          ///< element of values between ops
    std::vector<Element> cache_elements;  ///< what it can keep states in; the first is its most exact one
    bool host_memory = false;             ///< its buffers are ordinary memory: no copies to reach them
    int threads = 1;
    Figure memory_bytes, read_bytes_per_s, flops_per_s;
    Figure integer_ops_per_s;    ///< of products whose activations are rounded to integers; unknown: it has none
    double step_overhead_s = 0;  ///< per kernel: barrier or launch
    std::vector<PackedForm> forms;
    std::vector<KernelRow> rows;
    Figure link_bytes_per_s;  ///< between its memory and the host's; unknown: as fast as reading, where host_memory
    /// What a row's data cannot say, since somebody else knows it: why the chip does not take this very op with this
    /// row, "" if it does. Null: all that the rows promise. Must give the same answer whenever it is asked, which is
    /// for every node of a plan. Ask through refusal() of plan/rows.h.
    std::function<std::string(const KernelRow&, const OpInstance&)> refuses;

    const PackedForm* find_form(std::string_view name) const;
};

}  // namespace busbar
