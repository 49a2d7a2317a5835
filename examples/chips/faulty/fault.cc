// Which fault, where and when; and those that no kernel needs to know of.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>

#include "faulty.h"

namespace faulty {

const char* const fault_names[] = {"none",
                                   "rope_layout",
                                   "half_accumulate",
                                   "noop_kernel",
                                   "stale_buffer",
                                   "missing_sync",
                                   "scale_off_by_one",
                                   "nan_long",
                                   "mask_off_by_one",
                                   "eps_wrong",
                                   "bf16_flush",
                                   "one_weight",
                                   "layer_swap",
                                   "leak_batch",
                                   "rare",
                                   "lost",
                                   "hang",
                                   "slow",
                                   "overrun",
                                   "refuse"};

std::string Fault::set(const std::string& key, const std::string& value) {
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    const bool is_number = !value.empty() && *end == 0 && number >= 0;
    if (key == "fault") {
        std::string known;
        for (const char* n : fault_names) {
            if (value == n) name = value;
            known += (known.empty() ? "" : ", ") + std::string(n);
        }
        return name == value ? "" : "expected fault= one of " + known;
    }
    if (key == "op") {
        op = value;
        return "";
    }
    if (!is_number) return "expected " + key + "= a number";
    if (key == "layer")
        layer = static_cast<int64_t>(number);
    else if (key == "step")
        step = static_cast<uint64_t>(number);
    else if (key == "in")
        from = static_cast<uint64_t>(number);
    else if (key == "size")
        size = number;
    else
        return "expected options fault, layer, step, in, size, op, orders, threads or memory, got " + key;
    return "";
}

int64_t layer_in(const char* name) {
    for (const char* word : {"layer.", "layers.", "blk."}) {
        const char* at = std::strstr(name, word);
        if (at && std::isdigit(static_cast<unsigned char>(at[std::strlen(word)])))
            return std::atoll(at + std::strlen(word));
    }
    return -1;
}

bool Orders::look(uint64_t steps, Fault* fault) {
    if (path.empty()) return false;
    std::ifstream file(path);
    std::string number, text;
    if (!(file >> number >> text) || number == last) return false;
    last = number;
    Fault fresh;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('&', at), text.size()), equals = text.find('=', at);
        if (equals >= end ||
            !fresh.set(text.substr(at, equals - at), text.substr(equals + 1, end - equals - 1)).empty())
            return false;
        at = end + 1;
    }
    fresh.from += steps;
    *fault = fresh;
    return true;
}

bool Fault::hits(const busbar_op& o, const busbar_step& s, uint64_t count) const {
    if (s.number < step || count < from) return false;
    if (is("layer_swap")) {  // two neighbours, 0 and 1 unless told
        const int64_t here = layer_in(o.node_name ? o.node_name : ""), first = layer < 0 ? 0 : layer;
        return here == first || here == first + 1;
    }
    if (layer >= 0 && layer_in(o.node_name ? o.node_name : "") != layer) return false;
    if (!op.empty()) return op == o.op_name;
    // Faults of any op have one that they are planted in unless another is named.
    if (is("noop_kernel")) return o.op == BUSBAR_OP_GATED_SILU || o.op == BUSBAR_OP_SILU;
    if (is("stale_buffer") || is("missing_sync")) return o.op == BUSBAR_OP_MATMUL;
    return true;
}

}  // namespace faulty
