#include "agree/reproduction.h"

#include <fmt/format.h>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "agree/identity.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "import/json.h"

namespace busbar::agree {

namespace {

using conform::Input;

constexpr int version = 1;
constexpr std::string_view element_words[] = {"f64", "f32", "f16", "bf16", "i16", "i8"};
constexpr Element elements[] = {Element::f64, Element::f32, Element::f16, Element::bf16, Element::i16, Element::i8};

std::string word_of(Element e) {
    for (size_t i = 0; i < std::size(elements); ++i)
        if (elements[i] == e) return std::string(element_words[i]);
    return "f32";
}

Element element_of(const std::string& word) {
    for (size_t i = 0; i < std::size(elements); ++i)
        if (element_words[i] == word) return elements[i];
    throw bad_input("", "[replay] expected one of {}, got {}", fmt::join(element_words, ", "), quote(word));
}

void write(const std::string& path, std::string_view bytes) {
    if (!keep(path, bytes)) throw bad_input(path, "[replay] cannot write: {}", std::strerror(errno));
}

// NumPy's .npy, version 1.0: magic, version, header length, a Python dict padded to 64 bytes, then the numbers.
void write_npy(const std::string& path, const Array& a) {
    std::string extents;
    for (int64_t n : a.extents) extents += fmt::format("{}, ", n);
    std::string header = fmt::format("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}), }}", extents);
    header.append(63 - (10 + header.size()) % 64, ' ');
    header += '\n';
    const auto length = static_cast<uint16_t>(header.size());
    std::string out("\x93NUMPY\x01\x00", 8);
    out.append(reinterpret_cast<const char*>(&length), 2);
    out += header;
    out.append(reinterpret_cast<const char*>(a.data.data()), a.data.size() * 8);
    write(path, out);
}

// What a stranger's file may ask for: as much as fits in memory and is no matter to multiply.
constexpr int64_t most_numbers = int64_t{1} << 31, most_of_step = 1 << 24;

int64_t whole(const Json& j, int64_t least, int64_t most) {
    if (!j.is_number_integer() || (j.is_number_unsigned() && j.get<uint64_t>() > static_cast<uint64_t>(most)) ||
        j.get<int64_t>() < least || j.get<int64_t>() > most)
        throw bad_input("", "[replay] expected a whole number from {} to {}, got {}", least, most, quote(j.dump()));
    return j.get<int64_t>();
}

std::vector<int64_t> wholes(const Json& j, int64_t least, int64_t most) {
    if (!j.is_array()) throw bad_input("", "[replay] expected a list of whole numbers, got {}", quote(j.dump()));
    std::vector<int64_t> out;
    for (const Json& n : j) out.push_back(whole(n, least, most));
    return out;
}

void check_size(const std::vector<int64_t>& extents) {
    int64_t n = 1;
    for (const int64_t e : extents)
        if (e < 0 || e > most_numbers || (n *= std::max<int64_t>(e, 1)) > most_numbers)
            throw bad_input("", "[replay] expected at most {} numbers, got {}", most_numbers, fmt::join(extents, "x"));
}

std::vector<int64_t> extents_of(const Json& j) {
    auto extents = wholes(j, 0, most_numbers);
    check_size(extents);
    return extents;
}

Array npy(const std::string& name, const std::string& bytes, std::vector<int64_t> extents) {
    Array a{std::move(extents), {}};
    uint16_t length = 0;
    if (bytes.size() >= 10) std::memcpy(&length, bytes.data() + 8, 2);
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0 ||
        bytes.size() != 10 + static_cast<size_t>(length) + static_cast<size_t>(a.count()) * 8)
        throw bad_input(name, "[replay] expected {} numbers of float64 in a .npy file, got {} bytes", a.count(),
                        bytes.size());
    a.data.resize(a.count());
    std::memcpy(a.data.data(), bytes.data() + 10 + length, a.data.size() * 8);
    return a;
}

Json dims_of(const Shape& shape) {
    Json out = Json::array();
    for (const Dim& d : shape.dims()) {
        if (d.symbol == Symbol::none)
            out.push_back(d.n);
        else
            out.push_back(Shape({d}).print());
    }
    return out;
}

Shape shape_of(const Json& dims) {
    std::vector<Dim> out;
    for (const Json& d : dims) {
        if (d.is_number()) {
            out.emplace_back(whole(d, 0, most_numbers));
            continue;
        }
        bool known = false;
        for (Symbol s : {Symbol::rows, Symbol::logit_rows, Symbol::slots, Symbol::sequences, Symbol::pages})
            if (Shape({Dim(s)}).print() == d.get<std::string>()) {
                out.emplace_back(s);
                known = true;
            }
        if (!known) throw bad_input("", "[replay] expected an extent, got {}", quote(d.get<std::string>()));
    }
    return Shape(std::move(out));
}

Json attributes_json(const Attributes& attributes) {
    Json out = Json::object();
    for (const auto& [name, value] : attributes.items())
        std::visit([&, &name = name](const auto& v) { out[name] = v; }, value);
    return out;
}

Attributes attributes_of(const OpRow& op, const Json& j) {
    Attributes out;
    for (const AttributeSpec& spec : op.attributes) {
        const Json& v = j.at(std::string(spec.name));
        const std::string name(spec.name);
        // A step, an axis, a window: 62 bits, so that adding two is no matter.
        constexpr int64_t most = int64_t{1} << 62;
        if (spec.type == AttributeType::integer) out.set(name, whole(v, -most, most));
        if (spec.type == AttributeType::real) out.set(name, v.get<double>());
        if (spec.type == AttributeType::word) out.set(name, v.get<std::string>());
        if (spec.type == AttributeType::integers) out.set(name, wholes(v, -most, most));
    }
    return out;
}

constexpr const char* input_words[] = {"values", "step", "weight", "state"};
constexpr const char* kind_words[] = {"real", "index", "state"};
constexpr const char* role_words[] = {"none", "key", "value"};

template <typename T, size_t n>
T one_of_words(const char* const (&words)[n], const Json& j) {
    for (size_t i = 0; i < n; ++i)
        if (j.get<std::string>() == words[i]) return static_cast<T>(i);
    throw bad_input("", "[replay] expected one of {}, got {}", fmt::join(words, ", "), quote(j.get<std::string>()));
}

Json save_input(const Input& in, size_t i, const std::string& folder) {
    Json j = {{"is", input_words[static_cast<size_t>(in.is)]},
              {"name", in.name},
              {"kind", kind_words[static_cast<size_t>(in.type.kind)]},
              {"role", role_words[static_cast<size_t>(in.type.role)]},
              {"shape", dims_of(in.type.shape)}};
    if (in.is == Input::Is::step) return j;
    if (in.is == Input::Is::weight) {
        j["encoding"] = in.weight->encoding->name;
        j["extents"] = in.weight->shape;
        j["file"] = fmt::format("input{}.bin", i);
        write(folder + "/" + j["file"].get<std::string>(),
              {reinterpret_cast<const char*>(in.weight->bytes.data()), in.weight->bytes.size()});
        return j;
    }
    j["extents"] = in.data.extents;
    j["file"] = fmt::format("input{}.npy", i);
    write_npy(folder + "/" + j["file"].get<std::string>(), in.data);
    return j;
}

std::string file_of(const Json& j) {
    const std::string name = j.at("file");
    if (name.empty() || name.find('/') != std::string::npos)
        throw bad_input("", "[replay] expected a file beside case.json, got {}", quote(name));
    return name;
}

Input load_input(const Json& j, const Files& files) {
    Input in;
    in.is = one_of_words<Input::Is>(input_words, j.at("is"));
    in.name = j.at("name");
    in.type = {one_of_words<Kind>(kind_words, j.at("kind")), shape_of(j.at("shape")),
               one_of_words<StateRole>(role_words, j.at("role"))};
    if (in.is == Input::Is::step) return in;
    const auto extents = extents_of(j.at("extents"));
    const std::string file = file_of(j), bytes = files(file);
    if (in.is != Input::Is::weight) {
        in.data = npy(file, bytes, extents);
        return in;
    }
    StoredTensor t;
    t.name = in.name;
    t.encoding = find_encoding(j.at("encoding").get<std::string>());
    t.shape = extents;
    if (!t.encoding || extents.empty() || t.width() == 0 || t.width() % t.encoding->block != 0 ||
        bytes.size() != static_cast<size_t>(t.count() / t.width()) * t.encoding->row_bytes(t.width()))
        throw bad_input(file, "[replay] expected a weight of {} in {}, got {} bytes", fmt::join(extents, "x"),
                        quote(j.at("encoding").get<std::string>()), bytes.size());
    const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
    in = conform::weight(conform::with_bytes(t, {begin, begin + bytes.size()}));
    return in;
}

void save_record(const StepRecord& record, Json& j) {
    const StepLayout& l = record.layout();
    j["layout"] = {l.max_rows, l.max_logit_rows, l.max_sequences, l.pages};
    j["record"] = std::vector<int32_t>(record.words().begin(), record.words().end());
}

StepRecord load_record(const Json& j) {
    const auto l = wholes(j.at("layout"), 1, most_of_step);
    if (l.size() != 4) throw bad_input("", "[replay] expected 4 numbers of a layout, got {}", l.size());
    const StepLayout layout{l[0], l[1], l[2], l[3]};
    constexpr int64_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
    const auto words = wholes(j.at("record"), least, most);
    if (static_cast<int64_t>(words.size()) != layout.words())
        throw bad_input("", "[replay] expected {} words of a step record, got {}", layout.words(), words.size());
    StepRecord record(layout);
    const auto part = [&](int64_t offset, std::span<int32_t> to) {
        std::copy_n(words.begin() + offset, to.size(), to.begin());
    };
    const auto number = [&](int i, int64_t capacity) {
        if (words[i] < 0 || words[i] > capacity)
            throw bad_input("", "[replay] expected a step record of 0 to {}, got {}", capacity, words[i]);
        return static_cast<int32_t>(words[i]);
    };
    record.header() = {number(0, l[0]), number(1, l[1]), number(2, l[2]), {}};
    part(layout.token_ids(), record.token_ids());
    part(layout.positions(), record.positions());
    part(layout.sequences(), record.sequences());
    part(layout.logit_rows(), record.logit_rows());
    for (int64_t s = 0; s < layout.max_sequences; ++s)
        part(layout.block_table() + s * layout.pages, record.block_row(s));
    return record;
}

void expect(bool so, std::string_view what) {
    if (!so) throw bad_input("", "[replay] expected {}", what);
}

/// What kernels are promised of a step: they look up positions, sequences and pages and check nothing.
void check_record(conform::Case& c) {
    StepRecord& record = c.record;
    const StepLayout& l = record.layout();
    const StepHeader& header = record.header();
    expect(c.binding.rows == l.max_rows && c.binding.logit_rows == l.max_logit_rows &&
               c.binding.sequences == l.max_sequences &&
               (c.binding.context == 0 || c.binding.context == l.pages * page_positions),
           "a binding and a layout of one step");
    for (int32_t r = 0; r < header.rows; ++r) {
        const int32_t position = record.positions()[r], sequence = record.sequences()[r];
        expect(position >= 0 && position < l.pages * page_positions, "positions that a sequence has");
        expect(sequence >= 0 && sequence < l.max_sequences, "sequences of the block table");
        expect(record.token_ids()[r] >= 0, "token ids from 0");
        expect(c.pages == 0 || record.block_row(sequence)[position / page_positions] >= 0, "a page for each row");
    }
    for (int64_t s = 0; s < l.max_sequences; ++s)
        for (const int32_t page : record.block_row(s)) expect(page >= -1 && page < c.pages, "pages of the states");
}

void check_input(const conform::Case& c, const Input& in) {
    const StepLayout& l = c.record.layout();
    const Shape& shape = in.type.shape;
    check_size(shape.bind(c.binding));
    if (in.is == Input::Is::step) {
        const std::vector<int64_t> per_row = {l.max_rows},
                                   part = in.name == "logit_rows"    ? std::vector<int64_t>{l.max_logit_rows}
                                          : in.name == "block_table" ? std::vector<int64_t>{l.max_sequences, l.pages}
                                                                     : per_row;
        expect(l.offset_of(in.name) >= 0 && in.type.kind == Kind::index && shape.bind(c.binding) == part,
               "a part of the step record as long as its layout has it");
    } else if (in.is == Input::Is::state) {
        expect(in.type.kind == Kind::state && shape.rank() == 2 && shape[0].symbol == Symbol::none &&
                   shape[1].symbol == Symbol::none,
               "a state of heads and width");
        expect(
            in.data.extents == std::vector<int64_t>{l.max_sequences, l.pages * page_positions, shape[0].n, shape[1].n},
            "the numbers of a state for each sequence and position");
        check_size({c.pages, page_positions, shape[0].n, shape[1].n});
        expect(static_cast<int64_t>(c.filled.size()) == l.max_sequences, "how far each sequence is filled");
        for (const int64_t n : c.filled) expect(n >= 0 && n <= l.pages * page_positions, "positions that there are");
    } else {
        expect(in.type.kind != Kind::state && in.data.extents == shape.bind(c.binding), "as many numbers as the type");
        if (in.type.kind == Kind::index)
            for (const double x : in.data.data)
                expect(x == std::trunc(x) && std::abs(x) < 0x1p31, "whole numbers of 32 bits as indices");
    }
}

/// Kernels read the rows that they are told.
void check_gather(const conform::Case& c) {
    const auto extents = [&](const Input& in) { return in.type.shape.bind(c.binding); };
    const std::vector<int64_t> table = extents(c.inputs[0]);
    const Input& rows = c.inputs[1];
    if (table.empty()) return;
    const auto in_table = [&](double n) { expect(n >= 0 && n < static_cast<double>(table[0]), "rows of the table"); };
    for (const double n : rows.data.data) in_table(n);
    if (rows.is != Input::Is::step) return;
    const int64_t at = c.record.layout().offset_of(rows.name);
    const int32_t n = rows.name == "logit_rows" ? c.record.header().logit_rows : c.record.header().rows;
    for (int32_t i = 0; i < n; ++i) in_table(c.record.words()[at + i]);
}

/// All that a kernel takes on trust: replaying a stranger's folder runs it as a plan's step.
void check_case(conform::Case& c) {
    const auto& wanted = c.op->inputs;
    const bool variadic = wanted.back().variadic;
    if (variadic ? c.inputs.size() < wanted.size() : c.inputs.size() != wanted.size())
        throw bad_input("", "[replay] expected {} inputs of {}, got {}", wanted.size(), c.op->name, c.inputs.size());
    for (const Input& in : c.inputs) check_input(c, in);
    check_record(c);
    if (c.op == &op_gather_rows) check_gather(c);
}

}  // namespace

void save(const Reproduction& r, const std::string& folder) {
    std::error_code failed;
    std::filesystem::create_directories(folder, failed);
    if (failed) throw bad_input(folder, "[replay] cannot make the folder: {}", failed.message());
    const conform::Case& c = r.c;
    Json j = {{"busbar reproduction", version},
              {"op", c.op->name},
              {"node", c.node},
              {"name", c.name},
              {"attributes", attributes_json(c.attributes)},
              {"binding", {c.binding.rows, c.binding.logit_rows, c.binding.sequences, c.binding.context}},
              {"cache", word_of(c.cache)},
              {"pages", c.pages},
              {"filled", c.filled},
              {"rounding",
               {{"activation", word_of(r.rounding.activation)},
                {"accumulate", word_of(r.rounding.accumulate)},
                {"transcendental_ulp", r.rounding.transcendental_ulp},
                {"flushes_denormals", r.rounding.flushes_denormals}}},
              {"real", word_of(r.real)},
              {"row", r.row},
              {"chip", r.chip},
              {"model", r.model},
              {"why", r.why},
              {"inputs", Json::array()}};
    save_record(c.record, j);
    for (size_t i = 0; i < c.inputs.size(); ++i) j["inputs"].push_back(save_input(c.inputs[i], i, folder));
    for (const auto& [word, arrays] : {std::pair{"expected", &r.expected}, std::pair{"got", &r.got}})
        for (size_t i = 0; i < arrays->size(); ++i) {
            const std::string file = fmt::format("{}{}.npy", word, i);
            write_npy(folder + "/" + file, (*arrays)[i]);
            j[word].push_back({{"file", file}, {"extents", (*arrays)[i].extents}});
        }
    write(folder + "/case.json", j.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Reproduction parse(std::string_view text, const Files& files) {
    const Json j = parse_json(text, "case.json");
    if (!j.is_object() || j.value("busbar reproduction", Json()) != Json(version))
        throw bad_input("", "[replay] expected a reproduction of version {}", version);
    Reproduction r;
    const std::string op = j.at("op");
    r.c.op = find_op(op);
    if (!r.c.op) throw bad_input("", "[replay] expected an op of this build, got {}", quote(op));
    r.c.node = j.at("node");
    r.c.name = j.at("name");
    r.c.attributes = attributes_of(*r.c.op, j.at("attributes"));
    const auto b = wholes(j.at("binding"), 0, most_of_step);
    if (b.size() != 4) throw bad_input("", "[replay] expected 4 numbers of a binding, got {}", b.size());
    r.c.binding = {b[0], b[1], b[2], b[3]};
    r.c.cache = element_of(j.at("cache"));
    r.c.pages = whole(j.at("pages"), 0, most_of_step);
    r.c.filled = wholes(j.at("filled"), 0, most_numbers);
    r.c.record = load_record(j);
    const Json& rounding = j.at("rounding");
    r.rounding = {element_of(rounding.at("activation")), element_of(rounding.at("accumulate")),
                  rounding.at("transcendental_ulp"), rounding.at("flushes_denormals")};
    r.real = element_of(j.at("real"));
    r.row = j.at("row");
    r.chip = j.at("chip");
    r.model = j.at("model");
    r.why = j.at("why");
    for (const Json& in : j.at("inputs")) r.c.inputs.push_back(load_input(in, files));
    for (const auto& [word, arrays] : {std::pair{"expected", &r.expected}, std::pair{"got", &r.got}})
        if (j.contains(word))
            for (const Json& a : j[word]) {
                const std::string file = file_of(a);
                arrays->push_back(npy(file, files(file), extents_of(a.at("extents"))));
            }
    check_case(r.c);
    (void)r.c.graph();  // types and attributes fit, or an error says which does not
    return r;
}

Reproduction load(const std::string& folder) {
    const std::string path = folder + "/case.json";
    const std::string text = read_file(path);
    try {
        return parse(text, [&](const std::string& name) { return read_file(folder + "/" + name); });
    } catch (const nlohmann::json::exception& e) {
        throw bad_input(path, "[replay] {}", e.what());
    } catch (const Error& e) {
        const std::string& at = e.address();
        throw bad_input(at.empty() ? path : at.starts_with(folder) ? "" : folder, "{}", e.what());
    }
}

std::vector<conform::CaseResult> replay(const Reproduction& r, Device& chip, Device& oracle) {
    std::vector<conform::CaseResult> all;
    const Graph graph = r.c.graph();
    for (const KernelRow* row : conform::rows_for(chip.profile(), graph, graph.nodes()[0], r.c.binding))
        all.push_back(conform::test_case(chip, oracle, r.c, *row));
    return all;
}

}  // namespace busbar::agree
