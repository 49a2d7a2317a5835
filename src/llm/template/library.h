#pragma once
#include <string>
#include <string_view>

#include "llm/template/ast.h"
#include "llm/template/runtime.h"

namespace busbar::jinja {

// print.cc: Python's str() and repr(). What comes from a variable stays untrusted; brackets and quotes around it too.
void append_str(Builder& out, Runtime& rt, const Value& value);
void append_repr(Builder& out, Runtime& rt, const Value& value);
Text str_of(Runtime& rt, const Value& value);
std::string repr_of_real(double value);
std::string decimal(Integer value);
/// True if no part of the value came from a variable.
bool wholly_trusted(const Value& value);

// json.cc: json.dumps as the filter tojson calls it.
struct JsonOptions {
    bool ensure_ascii = false;
    bool sort_keys = false;
    bool has_indent = false;
    std::string indent;
    std::string item_separator = ", ", key_separator = ": ";
};
Text to_json(Runtime& rt, const Value& value, const JsonOptions& options);

// operators.cc
Value arithmetic(Runtime& rt, Op op, const Value& a, const Value& b);
Value negate(Runtime& rt, const Value& value, bool minus);
bool compare(Runtime& rt, Comparison comparison, const Value& a, const Value& b);
/// a < b as Python orders them; fails on types without an order.
bool less(Runtime& rt, const Value& a, const Value& b);
bool contains(Runtime& rt, const Value& container, const Value& item);
Value integer_of(Runtime& rt, const Value& value);  ///< fails unless an integer or boolean

// access.cc: obj.name, obj[key], obj[start:stop:step]
Value attribute(Runtime& rt, const Value& object, const std::string& name);
Value item(Runtime& rt, const Value& object, const Value& key);
Value slice(Runtime& rt, const Value& object, const Value& start, const Value& stop, const Value& step);
/// The byte offset of code point `index` (0 <= index <= length).
size_t offset_of(const String& string, size_t index);

// format.cc
Value percent_format(Runtime& rt, const Value& format, const Value& arguments);
Value brace_format(Runtime& rt, const Value& format, Arguments& arguments);
/// Python's format(value, spec).
void format_value(Builder& out, Runtime& rt, const Value& value, std::string_view spec, bool spec_trusted);

// methods_*.cc: false if the type has no such method. `blocked`: the immutable sandbox refuses it.
bool find_method(Runtime& rt, const Value& self, const std::string& name, Value& method, bool& blocked);
bool find_string_method(Runtime& rt, const Value& self, const std::string& name, Value& method);

// filters*.cc, tests.cc
using Filter = Value (*)(Runtime&, const Value&, Arguments&);
using Test = bool (*)(Runtime&, const Value&, Arguments&);
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
Filter find_text_filter(std::string_view name);
Filter find_sequence_filter(std::string_view name);

// text_functions.cc: string operations that filters and methods share.
enum class Case { upper, lower, capitalize, title, swap, fold };
Text change_case(Runtime& rt, const Text& text, Case to);
/// Strips from the left and the right the characters of `chars`, or whitespace if null.
Text strip(const Text& text, const Text* chars, bool left, bool right);
Text replace(Runtime& rt, const Text& text, const Text& from, const Text& to, int64_t count);
std::vector<Text> split_lines(Runtime& rt, const Text& text, bool keep_ends);
Text escape(Runtime& rt, const Text& text);
size_t find_in(std::string_view text, std::string_view needle, size_t from);
bool parse_integer(std::string_view text, int base, Integer& value, bool& too_large);
bool parse_real(std::string_view text, double& value);
Value pad(Runtime& rt, const Value& text, int64_t width, const Text& fill, bool left, bool right);

// globals.cc
Value global(Runtime& rt, const std::string& name, bool& found);

}  // namespace busbar::jinja
