#include "chips/plugin/describe.h"

#include <iterator>

#include "base/check.h"
#include "chips/plugin/library.h"

namespace busbar::plugin {

namespace {

struct OpId {
    const OpRow* op;
    uint32_t id;
};
const OpId op_ids[] = {
    {&op_add, BUSBAR_OP_ADD},
    {&op_subtract, BUSBAR_OP_SUBTRACT},
    {&op_multiply, BUSBAR_OP_MULTIPLY},
    {&op_divide, BUSBAR_OP_DIVIDE},
    {&op_exp, BUSBAR_OP_EXP},
    {&op_rsqrt, BUSBAR_OP_RSQRT},
    {&op_cos, BUSBAR_OP_COS},
    {&op_sin, BUSBAR_OP_SIN},
    {&op_mean, BUSBAR_OP_MEAN},
    {&op_sum, BUSBAR_OP_SUM},
    {&op_max, BUSBAR_OP_MAX},
    {&op_matmul, BUSBAR_OP_MATMUL},
    {&op_batch_matmul, BUSBAR_OP_BATCH_MATMUL},
    {&op_gather_rows, BUSBAR_OP_GATHER_ROWS},
    {&op_reshape, BUSBAR_OP_RESHAPE},
    {&op_transpose, BUSBAR_OP_TRANSPOSE},
    {&op_slice, BUSBAR_OP_SLICE},
    {&op_concat, BUSBAR_OP_CONCAT},
    {&op_select, BUSBAR_OP_SELECT},
    {&op_cache_append, BUSBAR_OP_CACHE_APPEND},
    {&op_cache_gather, BUSBAR_OP_CACHE_GATHER},
    {&op_cache_mask, BUSBAR_OP_CACHE_MASK},
    {&op_rms_norm, BUSBAR_OP_RMS_NORM},
    {&op_softmax, BUSBAR_OP_SOFTMAX},
    {&op_silu, BUSBAR_OP_SILU},
    {&op_rotary_table, BUSBAR_OP_ROTARY_TABLE},
    {&op_rotate, BUSBAR_OP_ROTATE},
    {&op_attention, BUSBAR_OP_ATTENTION},
    {&op_add_rms_norm, BUSBAR_OP_ADD_RMS_NORM},
    {&op_gated_silu, BUSBAR_OP_GATED_SILU},
    {&op_multi_matmul, BUSBAR_OP_MULTI_MATMUL},
};

// By busbar::Element's own order.
constexpr uint32_t no_id = 0xFFFFFFFF;  // the contract has no such element
constexpr uint32_t element_ids[] = {BUSBAR_F64, BUSBAR_F32, BUSBAR_F16,  BUSBAR_BF16,  BUSBAR_I32,
                                    no_id,      BUSBAR_I8,  BUSBAR_I6,   BUSBAR_I5,    BUSBAR_I4,
                                    BUSBAR_I3,  BUSBAR_I2,  BUSBAR_E2M1, BUSBAR_TABLE4};

// By busbar::Scale's own order.
constexpr uint32_t scale_ids[] = {BUSBAR_SCALE_NONE, BUSBAR_SCALE_F16,       BUSBAR_SCALE_F16_MIN,
                                  BUSBAR_SCALE_E8M0, BUSBAR_SCALE_TWO_LEVEL, BUSBAR_SCALE_TWO_LEVEL_MIN};

busbar_tensor shaped(const std::vector<int64_t>& extents) {
    auto t = sized<busbar_tensor>();
    BUSBAR_CHECK(extents.size() <= std::size(t.extents), "ranks up to 8");
    t.rank = static_cast<uint32_t>(extents.size());
    std::copy(extents.begin(), extents.end(), t.extents);
    t.where = BUSBAR_IN_BUFFER;
    return t;
}

}  // namespace

uint32_t id_of(const OpRow& op) {
    for (const OpId& entry : op_ids)
        if (entry.op == &op) return entry.id;
    return 0;
}

uint32_t id_of(Element element) {
    const auto i = static_cast<size_t>(element);
    BUSBAR_CHECK(i < std::size(element_ids) && element_ids[i] != no_id, "an element with a number of the contract");
    return element_ids[i];
}

bool element_of(uint32_t id, Element& element) {
    for (const Element e : {Element::f64, Element::f32, Element::f16, Element::bf16, Element::i32, Element::i8})
        if (id_of(e) == id) {
            element = e;
            return true;
        }
    return false;
}

Form form_of(std::string_view name) {
    for (size_t i = 0; i < std::size(form_names); ++i)
        if (name == form_names[i]) return static_cast<Form>(i);
    BUSBAR_CHECK(false, "a form of this chip: " + std::string(name));
}

busbar_tensor describe(const ValueType& type, const std::vector<int64_t>& extents, Element element) {
    busbar_tensor t = shaped(extents);
    t.kind = type.kind == Kind::real ? BUSBAR_REAL : type.kind == Kind::index ? BUSBAR_INDEX : BUSBAR_STATE;
    t.element = id_of(type.kind == Kind::index ? Element::i32 : element);
    t.layout = type.kind == Kind::state ? BUSBAR_LAYOUT_OWN : BUSBAR_LAYOUT_PLAIN;
    t.block = 1;
    t.block_bytes = static_cast<uint32_t>(type.kind == Kind::index ? 4 : bytes_of(element));
    t.role = static_cast<uint32_t>(type.role);
    if (type.shape.rank() > 0) {
        if (type.shape[0].symbol == Symbol::rows) t.leading = BUSBAR_LEADING_ROWS;
        if (type.shape[0].symbol == Symbol::logit_rows) t.leading = BUSBAR_LEADING_LOGIT_ROWS;
    }
    t.bytes = static_cast<uint64_t>(count_of(extents)) * t.block_bytes;
    return t;
}

busbar_tensor describe_weight(const Encoding& stored, const std::vector<int64_t>& extents, Form form) {
    busbar_tensor t = shaped(extents);
    const Encoding& e = form == Form::f32 ? encoding_f32 : stored;
    const auto scale = static_cast<size_t>(e.scale);
    BUSBAR_CHECK(scale < std::size(scale_ids), "a scale with a number of the contract");
    t.kind = BUSBAR_REAL;
    t.flags = BUSBAR_FROZEN;
    t.where = form == Form::packed ? BUSBAR_IN_WEIGHT : BUSBAR_IN_BUFFER;
    t.element = id_of(e.element);
    t.scale = scale_ids[scale];
    t.layout = e.scale == Scale::none ? BUSBAR_LAYOUT_PLAIN : BUSBAR_LAYOUT_GGUF_BLOCKS;
    t.block = static_cast<uint32_t>(e.block);
    t.block_bytes = static_cast<uint32_t>(e.block_bytes);
    t.bytes = static_cast<uint64_t>(count_of(extents)) / e.block * e.block_bytes;
    return t;
}

OpRecord::OpRecord(const OpRow& op, const Attributes& attributes, std::string node_name, int64_t node,
                   std::vector<busbar_tensor> inputs, std::vector<busbar_tensor> outputs)
    : parts_(std::make_unique<Parts>()) {
    Parts& p = *parts_;
    p.op_name = op.name;
    p.node_name = std::move(node_name);
    p.attributes = attributes;
    p.tensors = std::move(inputs);
    const size_t input_count = p.tensors.size();
    p.tensors.insert(p.tensors.end(), outputs.begin(), outputs.end());
    for (size_t i = 0; i < p.tensors.size(); ++i) (i < input_count ? p.inputs : p.outputs).push_back(&p.tensors[i]);
    p.items.reserve(p.attributes.items().size());
    for (const auto& [name, value] : p.attributes.items()) {
        auto a = sized<busbar_attribute>();
        a.flags = BUSBAR_MUST_UNDERSTAND;
        a.name = name.c_str();
        if (const auto* i = std::get_if<int64_t>(&value)) {
            a.type = BUSBAR_INTEGER;
            a.integer = *i;
        } else if (const auto* d = std::get_if<double>(&value)) {
            a.type = BUSBAR_NUMBER;
            a.number = *d;
        } else if (const auto* s = std::get_if<std::string>(&value)) {
            a.type = BUSBAR_WORD;
            a.word = s->c_str();
        } else {
            const auto& list = std::get<std::vector<int64_t>>(value);
            a.type = BUSBAR_INTEGERS;
            a.count = static_cast<uint32_t>(list.size());
            a.integers = list.data();
        }
        p.items.push_back(a);
    }
    for (const busbar_attribute& a : p.items) p.pointers.push_back(&a);
    p.op = sized<busbar_op>();
    p.op.op = id_of(op);
    p.op.schema = 1;
    p.op.node = node;
    p.op.op_name = p.op_name.c_str();
    p.op.node_name = p.node_name.c_str();
    p.op.inputs = p.inputs.data();
    p.op.outputs = p.outputs.data();
    p.op.attributes = p.pointers.data();
    p.op.input_count = static_cast<uint32_t>(p.inputs.size());
    p.op.output_count = static_cast<uint32_t>(p.outputs.size());
    p.op.attribute_count = static_cast<uint32_t>(p.pointers.size());
}

}  // namespace busbar::plugin
