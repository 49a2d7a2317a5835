#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "import/config.h"
#include "import/gguf/file.h"
#include "import/json.h"
#include "import/tensor.h"

namespace busbar {

/// A model file or folder, opened: its container's words, not yet a graph.
struct ModelFile {
    std::string path;
    std::optional<gguf::File> gguf;  ///< for a .gguf file
    std::string folder;              ///< for a folder with config.json and *.safetensors
    Json config, generation_config;  ///< of the folder; null where the file is absent
    TensorTable tensors;
};

/// Opens what `path` names. Throws Error{bad_input} with what was expected and found.
ModelFile open_model_file(const std::string& path);

/// What a program needs of a model to run it.
struct ImportedModel {
    Graph graph;  ///< outputs: logits [rows, vocabulary]
    DecoderConfig config;
    std::vector<int64_t> end_ids;  ///< from the model's own files, besides the tokenizer's
    std::vector<std::shared_ptr<const MappedFile>> files;
    uint64_t weight_bytes = 0;  ///< as stored, each weight once
};

/// Turns the file into a graph. `context`: positions to plan for (kind dynamic depends on it).
/// Throws Error{bad_input}: unknown architecture (lists the known ones), unknown fields that may change the result,
/// missing, left-over or misshapen tensors, each by name.
ImportedModel import_model(const ModelFile& file, int64_t context);

/// Configuration alone: for `show file`, and for choosing a context before import.
DecoderConfig read_config(const ModelFile& file);

/// "llama, mistral, qwen2, qwen3": for messages and the support table.
std::string known_families();

}  // namespace busbar
