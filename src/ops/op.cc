#include "ops/op.h"

#include <fmt/format.h>

#include "base/check.h"

namespace busbar {

namespace {

const OpRow* const table[] = {
    &op_add,          &op_subtract,     &op_multiply,     &op_divide,     &op_exp,          &op_rsqrt,
    &op_cos,          &op_sin,          &op_mean,         &op_sum,        &op_max,          &op_matmul,
    &op_batch_matmul, &op_gather_rows,  &op_reshape,      &op_transpose,  &op_slice,        &op_concat,
    &op_select,       &op_cache_append, &op_cache_gather, &op_cache_mask, &op_rms_norm,     &op_softmax,
    &op_silu,         &op_rotary_table, &op_rotate,       &op_attention,  &op_add_rms_norm, &op_gated_silu,
    &op_multi_matmul,
};

template <typename T>
const T& get(const std::map<std::string, Attribute, std::less<>>& items, std::string_view name) {
    const auto it = items.find(name);
    BUSBAR_CHECK(it != items.end(), std::string(name));
    const T* value = std::get_if<T>(&it->second);
    BUSBAR_CHECK(value != nullptr, std::string(name));
    return *value;
}

}  // namespace

std::span<const OpRow* const> op_table() {
    return table;
}

const OpRow* find_op(std::string_view name) {
    for (const OpRow* op : table)
        if (op->name == name) return op;
    return nullptr;
}

int64_t Attributes::integer(std::string_view name) const {
    return get<int64_t>(items_, name);
}
double Attributes::real(std::string_view name) const {
    return get<double>(items_, name);
}
const std::string& Attributes::word(std::string_view name) const {
    return get<std::string>(items_, name);
}
const std::vector<int64_t>& Attributes::integers(std::string_view name) const {
    return get<std::vector<int64_t>>(items_, name);
}

std::string Attributes::print() const {
    std::string out;
    for (const auto& [name, value] : items_) {
        if (!out.empty()) out += ' ';
        out += name + '=';
        if (const auto* i = std::get_if<int64_t>(&value)) out += fmt::format("{}", *i);
        if (const auto* d = std::get_if<double>(&value)) out += fmt::format("{}", *d);
        if (const auto* s = std::get_if<std::string>(&value)) out += *s;
        if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) out += fmt::format("[{}]", fmt::join(*v, ","));
    }
    return out;
}

void check_attributes(const OpRow& op, const Attributes& attributes) {
    for (const AttributeSpec& spec : op.attributes) {
        const auto it = attributes.items().find(spec.name);
        BUSBAR_CHECK(it != attributes.items().end(), fmt::format("{} lacks attribute {}", op.name, spec.name));
        BUSBAR_CHECK(it->second.index() == static_cast<size_t>(spec.type),
                     fmt::format("{} attribute {} has another type", op.name, spec.name));
    }
    BUSBAR_CHECK(attributes.items().size() == op.attributes.size(),
                 fmt::format("{} has an unknown attribute", op.name));
}

std::string ValueType::print() const {
    static const char* const kinds[] = {"real", "index", "state"};
    static const char* const roles[] = {"", ":key", ":value"};
    return std::string(kinds[static_cast<int>(kind)]) + roles[static_cast<int>(role)] + shape.print();
}

}  // namespace busbar
