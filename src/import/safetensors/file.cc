#include "import/safetensors/file.h"

#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "import/json.h"
#include "import/safetensors/header.h"

namespace busbar::safetensors {

namespace {

constexpr uint64_t max_index_bytes = 100'000'000;

bool exists(const std::string& path) {
    return access(path.c_str(), F_OK) == 0;
}

/// tensor -> shard of model.safetensors.index.json, checked.
std::map<std::string, std::string> read_index(const std::string& path) {
    const Json index = parse_json(read_file(path, max_index_bytes), path);
    const auto found = index.is_object() ? index.find("weight_map") : index.end();
    if (!index.is_object() || found == index.end() || !found->is_object())
        throw bad_input(path, "[safetensors] expected an object with an object 'weight_map', got none");
    std::map<std::string, std::string> shards;
    for (const auto& [tensor, value] : found->items()) {
        const std::string name = value.is_string() ? value.get<std::string>() : "";
        // A shard is a file beside the index. Anything else in its name could lead out of the folder.
        if (!name.ends_with(".safetensors") || name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos ||
            name[0] == '.')
            throw bad_input(path,
                            "[safetensors] tensor {}: expected the name of a .safetensors file in this folder, got {}",
                            quote(tensor), value.is_string() ? quote(name) : std::string(value.type_name()));
        shards.emplace(tensor, name);
    }
    return shards;
}

TensorTable open_sharded(const std::string& folder, const std::string& index) {
    const std::map<std::string, std::string> shard_of = read_index(index);
    std::set<std::string> names;
    for (const auto& [tensor, shard] : shard_of) names.insert(shard);
    std::string missing;
    size_t missing_count = 0;
    for (const std::string& name : names) {
        if (exists(folder + "/" + name)) continue;
        if (++missing_count <= 8) missing += (missing.empty() ? "" : ", ") + quote(name);
    }
    if (missing_count > 0)
        throw bad_input(index,
                        "[safetensors] expected all {} shards beside the index, missing: {}{}; fetch the model again",
                        names.size(), missing, missing_count > 8 ? " ..." : "");
    TensorTable table;
    for (const std::string& name : names) {
        const std::string path = folder + "/" + name;
        TensorTable shard = open(path);
        for (const auto& [tensor, stored] : shard) {
            const auto listed = shard_of.find(tensor);
            if (listed == shard_of.end())
                throw bad_input(path, "[safetensors] tensor {} is not in {}", quote(tensor), index);
            if (listed->second != name)
                throw bad_input(path, "[safetensors] tensor {} is here, but {} says that it is in {}", quote(tensor),
                                index, quote(listed->second));
        }
        table.merge(shard);
    }
    for (const auto& [tensor, shard] : shard_of)
        if (!table.contains(tensor))
            throw bad_input(folder + "/" + shard, "[safetensors] tensor {} is missing, though {} lists it",
                            quote(tensor), index);
    return table;
}

}  // namespace

TensorTable open(const std::string& path) {
    const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
    TensorTable table;
    for (Entry& e : parse_header(file->bytes(), path)) {
        StoredTensor t;
        t.name = e.name;
        t.encoding = e.encoding;
        t.shape = std::move(e.shape);
        t.bytes = file->bytes().subspan(e.offset, e.size);
        t.offset = e.offset;
        t.file = file;
        table.emplace(std::move(e.name), std::move(t));
    }
    file->check_intact();
    return table;
}

TensorTable open_folder(const std::string& folder) {
    const std::string single = folder + "/model.safetensors", index = folder + "/model.safetensors.index.json";
    if (exists(single)) return open(single);
    if (exists(index)) return open_sharded(folder, index);
    const bool pickle = exists(folder + "/pytorch_model.bin") || exists(folder + "/pytorch_model.bin.index.json");
    throw bad_input(folder, "[safetensors] expected model.safetensors or model.safetensors.index.json, found neither{}",
                    pickle ? "; pytorch_model.bin can run code when it is read: convert the model to safetensors" : "");
}

}  // namespace busbar::safetensors
