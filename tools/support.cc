#include "support.h"

#include <fmt/format.h>

#include "import/arch/family.h"

namespace busbar {

namespace {

struct Line {
    std::string what, works;
};

std::string join_names(const auto& items, auto name) {
    std::string out;
    for (const auto& item : items) out += (out.empty() ? "" : ", ") + std::string(name(item));
    return out;
}

std::vector<Line> lines() {
    std::vector<Line> out;
    out.push_back({"Models", join_names(families(), [](const Family* f) { return f->models; })});
    out.push_back({"Containers", "GGUF v2 and v3, whole or split; safetensors folders, single or sharded"});
    out.push_back({"Weight encodings", join_names(encodings(), [](const Encoding* e) { return e->name; })});
    out.push_back({"Rope kinds", known_rope_kinds()});
    out.push_back(
        {"Chips", join_names(chip_table(), [](const ChipSpec& s) { return fmt::format("{} ({})", s.word, s.doc); })});
    out.push_back({"Passes", join_names(pipeline(), [](const Pass& p) { return p.name; })});
    out.push_back({"Ops", join_names(op_table(), [](const OpRow* op) { return op->name; })});
    return out;
}

}  // namespace

Json support_json() {
    Json out = Json::object();
    for (const Line& l : lines()) out[l.what] = l.works;
    return out;
}

std::string support_text() {
    std::string out;
    for (const Line& l : lines()) out += fmt::format("{:<18} {}\n", l.what, l.works);
    return out;
}

std::string support_markdown() {
    std::string out = "| | works today |\n|---|---|\n";
    for (const Line& l : lines()) out += fmt::format("| {} | {} |\n", l.what, l.works);
    return out;
}

Json ops_json() {
    Json out = Json::array();
    for (const OpRow* op : op_table()) {
        Json inputs = Json::array(), attributes = Json::array();
        for (const InputSpec& in : op->inputs) inputs.push_back({{"name", in.name}, {"meaning", in.meaning}});
        for (const AttributeSpec& a : op->attributes) attributes.push_back({{"name", a.name}, {"meaning", a.meaning}});
        out.push_back({{"name", op->name},
                       {"doc", op->doc},
                       {"core", op->is_core()},
                       {"inputs", inputs},
                       {"outputs", op->outputs},
                       {"attributes", attributes}});
    }
    return out;
}

std::string ops_text() {
    std::string out;
    for (const OpRow* op : op_table()) {
        out += fmt::format("{:<14} {}  {}\n", op->name, op->is_core() ? "core     " : "composite", op->doc);
        for (const InputSpec& in : op->inputs) out += fmt::format("                 {:<12} {}\n", in.name, in.meaning);
        for (const AttributeSpec& a : op->attributes)
            out += fmt::format("                 {:<12} {}\n", a.name, a.meaning);
    }
    return out;
}

}  // namespace busbar
