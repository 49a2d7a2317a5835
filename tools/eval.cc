// busbar eval: negative log-likelihood, perplexity and, on demand, all logits of a given text.
#include <fmt/format.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "common.h"
#include "ids.h"
#include "llm/engine/evaluate.h"
#include "llm/sample/sample.h"
#include "progress.h"

namespace busbar {

namespace {

struct EvalOptions {
    CommonOptions common;
    std::string text, ids, logits;
};

// NumPy's .npy, version 1.0: magic, version, header length, a Python dict padded to 64 bytes, then the numbers.
class NpyWriter {
  public:
    NpyWriter(const std::string& path, int64_t rows, int64_t columns) : path_(path), out_(path, std::ios::binary) {
        std::string header =
            fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, columns);
        header.append(63 - (10 + header.size()) % 64, ' ');
        header += '\n';
        const auto length = static_cast<uint16_t>(header.size());
        out_.write("\x93NUMPY\x01\x00", 8);
        out_.write(reinterpret_cast<const char*>(&length), 2);
        out_ << header;
        check();
    }
    void write(std::span<const float> row) {
        out_.write(reinterpret_cast<const char*>(row.data()), static_cast<std::streamsize>(row.size_bytes()));
        check();
    }
    void close() {
        out_.close();
        check();
    }

  private:
    void check() {
        if (!out_) throw bad_input(path_, "[eval] cannot write the logits: {}", std::strerror(errno));
    }
    std::string path_;
    std::ofstream out_;
};

int eval(const EvalOptions& o) {
    apply_common(o.common);
    if (o.text.empty() == o.ids.empty())
        throw usage_error("[cli] expected one of --text and --ids, got {}", o.ids.empty() ? "none" : "both");
    OpenModel model = open_model(o.common, [](LoadOptions& load) {
        load.chunk = 128;  // logits of every row: 128 rows of a vocabulary of 150,000 are 77 MB
        load.logit_rows = 128;
    });
    const std::vector<int32_t> ids = o.ids.empty() ? open_tokenizer_of(model)->encode(read_text(o.text), true)
                                                   : parse_ids(read_text(o.ids), o.ids, model.loaded->vocabulary());
    print_placement(model);
    std::optional<NpyWriter> npy;
    if (!o.logits.empty()) npy.emplace(o.logits, static_cast<int64_t>(ids.size()), model.loaded->vocabulary());
    double sum = 0;
    const double begin = seconds_since_start();
    const auto count = static_cast<int64_t>(ids.size());
    Progress progress("text", "tokens");
    evaluate(*model.loaded, ids, [&](int64_t position, std::span<const float> logits) {
        if (npy) npy->write(logits);
        if (position + 1 < count) sum += log_sum_exp(logits) - logits[ids[position + 1]];
        if ((position + 1) % 128 == 0 || position + 1 == count)
            progress.update(static_cast<double>(position + 1), static_cast<double>(count));
        return !interrupted();
    });
    progress.clear();
    stop_if_interrupted();
    if (npy) npy->close();
    const double nll = count > 1 ? sum / static_cast<double>(count - 1) : 0;
    const double seconds = seconds_since_start() - begin;
    if (o.common.json) {
        put_json({{"tokens", count},
                  {"nll", nll},
                  {"perplexity", std::exp(nll)},
                  {"placement", placement_json(*model.loaded)},
                  {"timing", {{"load_s", model.load_seconds}, {"eval_s", seconds}}},
                  {"memory", memory_json(*model.loaded)}});
    } else {
        put(fmt::format("tokens {}  nll {:.6f}  perplexity {:.4f}\n", count, nll, std::exp(nll)));
        note("{:.1f} tok/s, {} MB peak", static_cast<double>(count) / seconds, peak_resident_bytes() / 1000000);
    }
    return 0;
}

}  // namespace

void add_eval(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<EvalOptions>();
    CLI::App* sub =
        app.add_subcommand("eval", "negative log-likelihood, perplexity and, on demand, all logits of a given text");
    sub->footer(
        "Examples:\n"
        "  busbar eval model.gguf --text book.txt\n"
        "  busbar eval folder/ --ids ids.txt --logits out.npy --numerics strict --json");
    add_model(*sub, o->common);
    sub->add_option("--text", o->text, "a file that holds the text; - reads stdin")->type_name("FILE");
    sub->add_option("--ids", o->ids, "a file of decimal ids, fed as they are; - reads stdin")->type_name("FILE");
    sub->add_option("--logits", o->logits, "write float32 [tokens, vocabulary] in NumPy's .npy format")
        ->type_name("FILE");
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = eval(*o); });
}

}  // namespace busbar
