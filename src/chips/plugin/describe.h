#pragma once
#include <memory>
#include <string>
#include <vector>

#include "busbar_chip.h"
#include "device/device.h"

namespace busbar::plugin {

/// The contract's number of an op; 0 if it has none.
uint32_t id_of(const OpRow& op);
uint32_t id_of(Element element);
/// nullptr-like: false if the contract's number stands for no element of values of this build.
bool element_of(uint32_t id, Element& element);

/// How a weight reaches a chip.
enum class Form : uint8_t {
    values,  ///< not as a weight: f32, like any value
    packed,  ///< by pack_weight
    stored,  ///< the stored blocks in a buffer
    f32,     ///< decoded to f32 rows in a buffer
};
constexpr const char* form_names[] = {"", "packed", "as_stored", "f32_rows"};
Form form_of(std::string_view name);

/// Values of this type and these extents; where they lie is for the caller to fill in.
busbar_tensor describe(const ValueType& type, const std::vector<int64_t>& extents, Element element);
/// A frozen weight as `form` hands it over.
busbar_tensor describe_weight(const Encoding& encoding, const std::vector<int64_t>& extents, Form form);

/// An op record with everything it points to. Records keep their addresses when it moves.
class OpRecord {
  public:
    OpRecord(const OpRow& op, const Attributes& attributes, std::string node_name, int64_t node,
             std::vector<busbar_tensor> inputs, std::vector<busbar_tensor> outputs);
    OpRecord(OpRecord&&) = default;
    busbar_op& record() { return parts_->op; }
    const busbar_op& record() const { return parts_->op; }
    const std::string& node_name() const { return parts_->node_name; }

  private:
    struct Parts {
        busbar_op op{};
        std::string op_name, node_name;
        Attributes attributes;
        std::vector<busbar_tensor> tensors;
        std::vector<busbar_attribute> items;
        std::vector<const busbar_tensor*> inputs, outputs;
        std::vector<const busbar_attribute*> pointers;
    };
    std::unique_ptr<Parts> parts_;
};

}  // namespace busbar::plugin
