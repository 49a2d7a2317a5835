#include "agree/reproduction.h"

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "agree/identity.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

using Json = nlohmann::json;
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

Array read_npy(const std::string& path, std::vector<int64_t> extents) {
    const std::string bytes = read_file(path);
    Array a{std::move(extents), {}};
    uint16_t length = 0;
    if (bytes.size() >= 10) std::memcpy(&length, bytes.data() + 8, 2);
    if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0 || a.count() < 0 ||
        bytes.size() != 10 + static_cast<size_t>(length) + static_cast<size_t>(a.count()) * 8)
        throw bad_input(path, "[replay] expected {} numbers of float64 in a .npy file, got {} bytes", a.count(),
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
            out.emplace_back(d.get<int64_t>());
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
        if (spec.type == AttributeType::integer) out.set(name, v.get<int64_t>());
        if (spec.type == AttributeType::real) out.set(name, v.get<double>());
        if (spec.type == AttributeType::word) out.set(name, v.get<std::string>());
        if (spec.type == AttributeType::integers) out.set(name, v.get<std::vector<int64_t>>());
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

std::string file_in(const std::string& folder, const Json& j) {
    const std::string name = j.at("file");
    if (name.find('/') != std::string::npos)
        throw bad_input(folder, "[replay] expected a file beside case.json, got {}", quote(name));
    return folder + "/" + name;
}

Input load_input(const Json& j, const std::string& folder) {
    Input in;
    in.is = one_of_words<Input::Is>(input_words, j.at("is"));
    in.name = j.at("name");
    in.type = {one_of_words<Kind>(kind_words, j.at("kind")), shape_of(j.at("shape")),
               one_of_words<StateRole>(role_words, j.at("role"))};
    if (in.is == Input::Is::step) return in;
    const auto extents = j.at("extents").get<std::vector<int64_t>>();
    if (in.is != Input::Is::weight) {
        in.data = read_npy(file_in(folder, j), extents);
        return in;
    }
    const std::string bytes = read_file(file_in(folder, j));
    StoredTensor t;
    t.name = in.name;
    t.encoding = find_encoding(j.at("encoding").get<std::string>());
    t.shape = extents;
    if (!t.encoding || extents.empty() || t.width() % t.encoding->block != 0 ||
        bytes.size() != static_cast<size_t>(t.count() / t.width()) * t.encoding->row_bytes(t.width()))
        throw bad_input(file_in(folder, j), "[replay] expected a weight of {} in {}, got {} bytes",
                        fmt::join(extents, "x"), quote(j.at("encoding").get<std::string>()), bytes.size());
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
    const auto l = j.at("layout").get<std::vector<int64_t>>();
    const auto words = j.at("record").get<std::vector<int32_t>>();
    constexpr int64_t most = 1 << 24;
    for (int64_t n : l)
        if (n < 1 || n > most) throw bad_input("", "[replay] expected a layout of the step record, got {}", n);
    if (l.size() != 4) throw bad_input("", "[replay] expected 4 numbers of a layout, got {}", l.size());
    StepRecord record({l[0], l[1], l[2], l[3]});
    if (words.size() != record.words().size())
        throw bad_input("", "[replay] expected {} words of a step record, got {}", record.words().size(), words.size());
    record.header() = {words[0], words[1], words[2], {}};
    if (words[0] < 0 || words[0] > l[0] || words[1] < 0 || words[1] > l[1])
        throw bad_input("", "[replay] expected at most {} rows, got {}", l[0], words[0]);
    const auto copy = [&](int64_t offset, std::span<int32_t> to) {
        std::copy_n(words.begin() + offset, to.size(), to.begin());
    };
    const StepLayout& layout = record.layout();
    copy(layout.token_ids(), record.token_ids());
    copy(layout.positions(), record.positions());
    copy(layout.sequences(), record.sequences());
    copy(layout.logit_rows(), record.logit_rows());
    for (int64_t s = 0; s < layout.max_sequences; ++s)
        copy(layout.block_table() + s * layout.pages, record.block_row(s));
    return record;
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

Reproduction load(const std::string& folder) {
    const std::string path = folder + "/case.json";
    const std::string text = read_file(path);
    try {
        const Json j = Json::parse(text);
        if (j.value("busbar reproduction", 0) != version)
            throw bad_input("", "[replay] expected a reproduction of version {}", version);
        Reproduction r;
        const std::string op = j.at("op");
        r.c.op = find_op(op);
        if (!r.c.op) throw bad_input("", "[replay] expected an op of this build, got {}", quote(op));
        r.c.node = j.at("node");
        r.c.name = j.at("name");
        r.c.attributes = attributes_of(*r.c.op, j.at("attributes"));
        const auto b = j.at("binding").get<std::vector<int64_t>>();
        if (b.size() != 4) throw bad_input("", "[replay] expected 4 numbers of a binding, got {}", b.size());
        r.c.binding = {b[0], b[1], b[2], b[3]};
        r.c.cache = element_of(j.at("cache"));
        r.c.pages = j.at("pages");
        r.c.filled = j.at("filled").get<std::vector<int64_t>>();
        r.c.record = load_record(j);
        const Json& rounding = j.at("rounding");
        r.rounding = {element_of(rounding.at("activation")), element_of(rounding.at("accumulate")),
                      rounding.at("transcendental_ulp"), rounding.at("flushes_denormals")};
        r.real = element_of(j.at("real"));
        r.row = j.at("row");
        r.chip = j.at("chip");
        r.model = j.at("model");
        r.why = j.at("why");
        for (const Json& in : j.at("inputs")) r.c.inputs.push_back(load_input(in, folder));
        for (const auto& [word, arrays] : {std::pair{"expected", &r.expected}, std::pair{"got", &r.got}})
            if (j.contains(word))
                for (const Json& a : j[word])
                    arrays->push_back(read_npy(file_in(folder, a), a.at("extents").get<std::vector<int64_t>>()));
        (void)r.c.graph();  // types and attributes fit, or an error says which does not
        return r;
    } catch (const Json::exception& e) {
        throw bad_input(path, "[replay] {}", e.what());
    } catch (const Error& e) {
        throw bad_input(e.address().empty() ? path : "", "{}", e.what());
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
