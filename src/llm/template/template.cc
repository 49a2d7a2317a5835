#include "llm/template/template.h"

#include <nlohmann/json.hpp>

#include "llm/template/interpreter.h"
#include "llm/template/library.h"
#include "llm/template/parser.h"
#include "llm/template/unicode.h"

namespace busbar {

struct ChatTemplate::Program {
    jinja::Ast ast;
    std::string address;
};

ChatTemplate::ChatTemplate(std::string source, std::string address) : program_(std::make_unique<Program>()) {
    program_->ast = jinja::parse(source, address);
    program_->address = std::move(address);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

std::vector<RenderedPiece> ChatTemplate::render(const nlohmann::ordered_json& variables,
                                                const TemplateLimits& limits) const {
    return jinja::Interpreter(program_->ast, program_->address, limits, clock_).render(variables).pieces();
}

std::string ChatTemplate::render_text(const nlohmann::ordered_json& variables, const TemplateLimits& limits) const {
    return jinja::Interpreter(program_->ast, program_->address, limits, clock_).render(variables).bytes();
}

namespace jinja {

namespace {

Value string_from_json(const std::string& bytes, bool trusted) {
    auto object = std::make_shared<String>();
    object->ascii = is_ascii(bytes);
    object->weight = 1 + bytes.size() / 64;
    object->text = Text(bytes, trusted);
    return Value(Kind::string, std::move(object));
}

void nest_json(Object& object, const Value& child) {
    object.nesting = std::max(object.nesting, child.nesting() + 1);
    object.weight += child.weight();
}

Value from_json(const nlohmann::ordered_json& json, bool trusted, int depth) {
    // Values of a rendering may nest 200 deep; the variables leave room for what the template builds around them.
    if (depth > 150) throw bad_input("", "[template] expected variables nested at most 150 deep");
    switch (json.type()) {
        case nlohmann::ordered_json::value_t::boolean:
            return Value::boolean(json.get<bool>());
        case nlohmann::ordered_json::value_t::number_integer:
            return Value::integer(json.get<int64_t>(), trusted);
        case nlohmann::ordered_json::value_t::number_unsigned:
            return Value::integer(json.get<uint64_t>(), trusted);
        case nlohmann::ordered_json::value_t::number_float:
            return Value::real(json.get<double>(), trusted);
        case nlohmann::ordered_json::value_t::string:
            return string_from_json(json.get_ref<const std::string&>(), trusted);
        case nlohmann::ordered_json::value_t::array: {
            auto list = std::make_shared<List>();
            for (const auto& item : json) {
                list->items.push_back(from_json(item, trusted, depth + 1));
                nest_json(*list, list->items.back());
            }
            return Value(Kind::list, std::move(list));
        }
        case nlohmann::ordered_json::value_t::object: {
            auto dict = std::make_shared<Dict>();
            for (const auto& [key, item] : json.items()) {
                Value value = from_json(item, trusted, depth + 1);
                nest_json(*dict, value);
                dict->set(string_from_json(key, trusted), std::move(value));
            }
            return Value(Kind::dict, std::move(dict));
        }
        default:
            return Value::none();
    }
}

}  // namespace

Value from_json(const nlohmann::ordered_json& json, bool trusted) {
    return from_json(json, trusted, 0);
}

}  // namespace jinja

}  // namespace busbar
