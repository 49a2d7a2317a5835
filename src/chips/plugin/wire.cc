#include "chips/plugin/wire.h"

namespace busbar::plugin {

namespace {

constexpr uint32_t no_text = UINT32_MAX;
constexpr uint32_t most = 1u << 20;  // of anything in a list: far more than a plan has

}  // namespace

void Writer::text(const char* s) {
    const uint32_t size = s ? static_cast<uint32_t>(std::strlen(s)) : no_text;
    put(size);
    if (s) bytes_.insert(bytes_.end(), s, s + size);
}

const char* Reader::text() {
    const auto size = get<uint32_t>();
    if (size == no_text) return nullptr;
    if (size > bytes_.size() - at_) {
        good_ = false;
        return "";
    }
    texts_.emplace_back(bytes_.data() + at_, size);
    at_ += size;
    return texts_.back().c_str();
}

void Writer::setup(const busbar_setup& s) {
    put(s);
    for (uint32_t i = 0; i < s.option_count; ++i) {
        text(s.keys[i]);
        text(s.values[i]);
    }
}

const busbar_setup* Reader::setup(const char* library_path) {
    setups_.push_back(get<busbar_setup>());
    busbar_setup& s = setups_.back();
    auto& keys = lists_of_texts_.emplace_back();
    auto& values = lists_of_texts_.emplace_back();
    for (uint32_t i = 0; i < s.option_count && i < most && good_; ++i) {
        keys.push_back(text());
        values.push_back(text());
    }
    s.keys = keys.data();
    s.values = values.data();
    s.library_path = library_path;
    s.log = [](void*, int32_t, const char*) {};
    s.log_context = nullptr;
    return &s;
}

void Writer::tensor(const busbar_tensor& t) {
    put(t);
    text(t.name);
}

const busbar_tensor* Reader::tensor() {
    tensors_.push_back(get<busbar_tensor>());
    tensors_.back().name = text();
    return &tensors_.back();
}

void Writer::op(const busbar_op& op) {
    put(op);
    text(op.op_name);
    text(op.node_name);
    for (uint32_t i = 0; i < op.input_count; ++i) tensor(*op.inputs[i]);
    for (uint32_t i = 0; i < op.output_count; ++i) tensor(*op.outputs[i]);
    for (uint32_t i = 0; i < op.attribute_count; ++i) {
        const busbar_attribute& a = *op.attributes[i];
        put(a);
        text(a.name);
        text(a.word);
        for (uint32_t k = 0; k < a.count; ++k) put(a.integers[k]);
    }
}

const busbar_op* Reader::op() {
    op_records_.push_back(get<busbar_op>());
    busbar_op& o = op_records_.back();
    o.op_name = text();
    o.node_name = text();
    auto& inputs = lists_of_tensors_.emplace_back();
    auto& outputs = lists_of_tensors_.emplace_back();
    auto& attributes = lists_of_attributes_.emplace_back();
    for (uint32_t i = 0; i < o.input_count && i < most && good_; ++i) inputs.push_back(tensor());
    for (uint32_t i = 0; i < o.output_count && i < most && good_; ++i) outputs.push_back(tensor());
    for (uint32_t i = 0; i < o.attribute_count && i < most && good_; ++i) {
        attributes_.push_back(get<busbar_attribute>());
        busbar_attribute& a = attributes_.back();
        a.name = text();
        a.word = text();
        auto& integers = lists_of_integers_.emplace_back();
        for (uint32_t k = 0; k < a.count && k < most && good_; ++k) integers.push_back(get<int64_t>());
        a.integers = integers.data();
        attributes.push_back(&a);
    }
    o.inputs = inputs.data();
    o.outputs = outputs.data();
    o.attributes = attributes.data();
    return &o;
}

void Writer::ops(const busbar_op* const* list, uint32_t count) {
    put(count);
    for (uint32_t i = 0; i < count; ++i) op(*list[i]);
}

const std::vector<const busbar_op*>& Reader::ops() {
    auto& list = lists_of_ops_.emplace_back();
    const auto count = get<uint32_t>();
    for (uint32_t i = 0; i < count && i < most && good_; ++i) list.push_back(op());
    return list;
}

}  // namespace busbar::plugin
