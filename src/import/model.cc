#include "import/model.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <set>

#include "base/error.h"
#include "import/arch/family.h"
#include "import/safetensors/file.h"

namespace busbar {

namespace {

const Family* const table[] = {&family_llama, &family_mistral, &family_qwen2, &family_qwen3};
constexpr uint64_t config_limit = 16u << 20;

bool exists(const std::string& path) {
    struct stat st {};
    return stat(path.c_str(), &st) == 0;
}

const Family& find_family(const ModelFile& file) {
    std::string word;
    if (file.gguf) {
        word = file.gguf->need_string("general.architecture");
        for (const Family* f : table)
            if (!f->gguf_architecture.empty() && f->gguf_architecture == word) return *f;
    } else {
        const auto it = file.config.find("model_type");
        if (it == file.config.end() || !it->is_string())
            throw bad_input(file.folder + "/config.json", "[config] expected a field 'model_type', found none");
        word = it->get<std::string>();
        for (const Family* f : table)
            if (f->model_type == word) return *f;
    }
    throw bad_input(file.path, "[import] architecture {} is not one this build knows. Known: {}", quote(word),
                    known_families());
}

void check_config(const DecoderConfig& c, const std::string& path) {
    const auto positive = [&](std::string_view what, int64_t n) {
        if (n < 1 || n > (int64_t{1} << 31))
            throw bad_input(path, "[{}] expected {} between 1 and 2^31, got {}", c.family, what, n);
    };
    positive("layers", c.layers);
    positive("the width", c.hidden);
    positive("heads", c.heads);
    positive("key heads", c.kv_heads);
    positive("the head width", c.head_dim);
    positive("the inner width", c.intermediate);
    positive("the vocabulary", c.vocabulary);
    positive("the context length", c.context);
    if (c.heads % c.kv_heads != 0)
        throw bad_input(path, "[{}] expected heads to be a multiple of key heads, got {} and {}", c.family, c.heads,
                        c.kv_heads);
    if (c.head_dim % 2 != 0) throw bad_input(path, "[{}] expected an even head width, got {}", c.family, c.head_dim);
    if (!(c.norm_epsilon > 0))
        throw bad_input(path, "[{}] expected a norm epsilon above 0, got {}", c.family, c.norm_epsilon);
}

void add_ids(const Json& ids, std::vector<int64_t>& out) {
    if (ids.is_number_integer()) out.push_back(ids.get<int64_t>());
    if (ids.is_array())
        for (const Json& id : ids)
            if (id.is_number_integer()) out.push_back(id.get<int64_t>());
}

}  // namespace

std::span<const Family* const> families() {
    return table;
}

std::string known_families() {
    std::string out;
    for (const Family* f : table) out += (out.empty() ? "" : ", ") + std::string(f->name);
    return out;
}

ModelFile open_model_file(const std::string& path) {
    ModelFile file;
    file.path = path;
    struct stat st {};
    if (stat(path.c_str(), &st) != 0)
        throw bad_input(
            path,
            "[model] expected a .gguf file or a folder with config.json and *.safetensors, found nothing of that name");
    if (!S_ISDIR(st.st_mode)) {
        file.gguf = gguf::File::open(path);
        file.tensors = file.gguf->tensors();
        return file;
    }
    file.folder = path;
    const std::string config = path + "/config.json";
    if (!exists(config))
        throw bad_input(path, "[model] expected a folder with config.json and *.safetensors, found no config.json");
    file.config = parse_json(read_file(config, config_limit), config);
    if (!file.config.is_object())
        throw bad_input(config, "[config] expected an object, got {}", file.config.type_name());
    const std::string generation = path + "/generation_config.json";
    if (exists(generation)) file.generation_config = parse_json(read_file(generation, config_limit), generation);
    file.tensors = safetensors::open_folder(path);
    return file;
}

DecoderConfig read_config(const ModelFile& file) {
    const Family& family = find_family(file);
    DecoderConfig c =
        file.gguf ? family.from_gguf(*file.gguf) : family.from_config(file.config, file.folder + "/config.json");
    c.family = family.name;
    check_config(c, file.path);
    return c;
}

ImportedModel import_model(const ModelFile& file, int64_t context) {
    ImportedModel model;
    model.config = read_config(file);
    model.graph = build_decoder(model.config, file, context);
    if (!file.gguf) {
        const auto end = file.generation_config.is_object() ? file.generation_config.find("eos_token_id")
                                                            : file.generation_config.end();
        if (file.generation_config.is_object() && end != file.generation_config.end()) add_ids(*end, model.end_ids);
        if (const auto it = file.config.find("eos_token_id"); it != file.config.end()) add_ids(*it, model.end_ids);
    }
    std::set<const MappedFile*> seen;
    for (const Value& v : model.graph.values()) {
        if (v.source != Source::weight) continue;
        model.weight_bytes += v.weight->bytes.size();
        if (v.weight->file && seen.insert(v.weight->file.get()).second) model.files.push_back(v.weight->file);
    }
    return model;
}

}  // namespace busbar
