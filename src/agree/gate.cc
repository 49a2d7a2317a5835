#include "agree/gate.h"

#include "agree/table_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

using Clock = std::chrono::steady_clock;

struct Row {
    int32_t sequence, position;
};

class Gate {
  public:
    Gate(LoadedModel& model, Device& reference, const GateOptions& options)
        : model_(model),
          o_(options),
          checker_(model, reference, {2, 48, options.seed ? options.seed : conform::seed(), options.threads}),
          record_(model.layout()) {
        const StepLayout& l = model.layout();
        has_neighbour_ = l.max_sequences >= 2 && l.max_rows >= 2 && model.cache_pages() >= 2;
        const int64_t own_pages = std::min(l.pages, model.cache_pages() - (has_neighbour_ ? 1 : 0));
        length_ = std::min(own_pages * page_positions, o_.far + 8);
        for (int64_t p = 0; p * page_positions < length_; ++p) pages_.push_back(static_cast<int32_t>(p));
        neighbour_page_ = static_cast<int32_t>(pages_.size());
    }

    GateReport run() {
        const auto start = Clock::now();
        tables();
        prompt_and_tokens();
        far_tokens();
        if (report_.findings.empty() && checker_.findings().empty()) poisons();
        report_.findings = checker_.findings();
        report_.steps = checker_.steps_checked();
        report_.outputs += checker_.outputs_checked();
        report_.seconds = std::chrono::duration<double>(Clock::now() - start).count();
        return std::move(report_);
    }

  private:
    int32_t token(int64_t position) const {
        if (!o_.tokens.empty()) return o_.tokens[position % static_cast<int64_t>(o_.tokens.size())];
        return static_cast<int32_t>((static_cast<uint64_t>(position + 1) * 2654435761u) % model_.vocabulary());
    }

    void set(const std::vector<Row>& rows) {
        record_.header() = {static_cast<int32_t>(rows.size()), 1, has_neighbour_ ? 2 : 1};
        for (size_t i = 0; i < rows.size(); ++i) {
            record_.token_ids()[i] = token(rows[i].position + 1000 * rows[i].sequence);
            record_.positions()[i] = rows[i].position;
            record_.sequences()[i] = rows[i].sequence;
        }
        record_.logit_rows()[0] = 0;
        for (size_t i = 0; i < rows.size(); ++i)
            if (rows[i].sequence == 0) record_.logit_rows()[0] = static_cast<int32_t>(i);
        std::ranges::fill(record_.block_row(0), -1);
        std::ranges::copy(pages_, record_.block_row(0).begin());
        if (!has_neighbour_) return;
        std::ranges::fill(record_.block_row(1), -1);
        record_.block_row(1)[0] = neighbour_page_;
    }

    std::vector<float> step(const std::vector<Row>& rows, bool watched) {
        set(rows);
        model_.step(record_, watched ? &checker_ : nullptr);
        const auto logits = model_.logits(0);
        return {logits.begin(), logits.end()};
    }

    std::vector<float> chunk(int64_t begin, int64_t end, bool watched) {
        std::vector<Row> rows;
        for (int64_t p = begin; p < end; ++p) rows.push_back({0, static_cast<int32_t>(p)});
        return step(rows, watched);
    }

    template <typename Work>
    void probe(std::string name, Work work) {
        if (o_.progress) o_.progress(name.c_str());
        const auto start = Clock::now();
        const size_t before = checker_.findings().size();
        GateProbe p{std::move(name), true, 0, ""};
        p.detail = work(p.passed);
        if (checker_.findings().size() > before) {
            p.passed = false;
            p.detail = checker_.findings()[before].print();
        }
        p.seconds = std::chrono::duration<double>(Clock::now() - start).count();
        report_.probes.push_back(std::move(p));
    }

    // Weights that are only looked up in: whatever a short text reads of them, all rows are read here. All other
    // weights take part in products, whose sums see every number.
    void tables() {
        probe("tables", [&](bool& passed) {
            const TableCheck check = check_tables(model_);
            report_.outputs += check.numbers;
            passed = check.wrong.empty();
            return passed ? fmt::format("{} looked up whole", check.tables) : check.wrong;
        });
    }

    // A chunk of a prompt, the same last token again alone, a smaller chunk, two tokens: the kernels of every bucket.
    void prompt_and_tokens() {
        const int64_t first = std::min({int64_t{24}, model_.layout().max_rows, length_ - 4});
        std::vector<float> whole;
        probe("prompt", [&](bool&) {
            whole = chunk(0, first, true);
            return fmt::format("{} tokens, every op checked on its own inputs", first);
        });
        probe("decode against prefill", [&](bool& passed) {
            const std::vector<float> alone = chunk(first - 1, first, false);
            return compare(whole, alone, first, passed);
        });
        probe("tokens", [&](bool&) {
            const int64_t second = std::min({int64_t{12}, model_.layout().max_rows, length_ - first - 2});
            if (second > 1) chunk(first, first + second, true);
            done_ = first + std::max<int64_t>(second, 0);
            for (int i = 0; i < 2 && done_ < length_; ++i, ++done_) chunk(done_, done_ + 1, true);
            return fmt::format("{} more, the last two one by one", done_ - first);
        });
    }

    std::string compare(const std::vector<float>& whole, const std::vector<float>& alone, int64_t rows, bool& passed) {
        const bool bits =
            why_other_bits(model_.plans()[model_.bucket_for(rows)], model_.plans()[model_.bucket_for(1)]).empty();
        double error = 0, size = 0;
        bool equal = true;
        for (size_t i = 0; i < whole.size(); ++i) {
            error += std::pow(double{whole[i]} - alone[i], 2);
            size += std::pow(double{whole[i]}, 2);
            equal &= std::memcmp(&whole[i], &alone[i], 4) == 0;
        }
        const double relative = std::sqrt(error / std::max(size, 1e-300));
        // In free order: a hundredth of the logits' size is far above any declared rounding, far below another
        // position's.
        passed = bits ? equal : relative < 0.01;
        return fmt::format("logits of token {}: {}", rows - 1,
                           equal ? "bit-equal"
                                 : fmt::format("differ by {:.2g} of their size{}", relative,
                                               bits ? ", and its rows promise the same bits" : ""));
    }

    // Late positions, without computing what comes before: the cache is filled with stored numbers.
    void far_tokens() {
        probe(fmt::format("past position {}", length_ - 8), [&](bool&) {
            at_ = std::max(done_, length_ - 2);
            if (at_ > done_) checker_.fill_cache(model_, pages_, done_, at_);
            std::vector<Row> rows = {{0, static_cast<int32_t>(at_)}};
            if (has_neighbour_) {
                checker_.fill_cache(model_, {neighbour_page_}, 0, 5);
                rows.push_back({1, 5});
            }
            if (at_ < length_) step(rows, true);
            return fmt::format("token {}{}", at_, has_neighbour_ ? ", beside another sequence" : "");
        });
    }

    // What a step does not write may hold anything, and so may a neighbour's cache: the bits must not change.
    void poisons() {
        probe("poisons", [&](bool& passed) -> std::string {
            if (at_ >= length_) at_ = length_ - 1;
            std::vector<Row> rows = {{0, static_cast<int32_t>(at_)}};
            if (has_neighbour_) rows.push_back({1, 5});
            std::vector<std::vector<float>> seen;
            // Small and finite in every element, and unlike each other; the second one twice.
            for (const uint8_t pattern : {0x3C, 0x40, 0x40}) {
                model_.fill_scratch(std::byte{pattern});
                if (has_neighbour_)
                    model_.write_page(neighbour_page_, std::vector<std::byte>(model_.page_bytes(), std::byte{pattern}));
                seen.push_back(step(rows, false));
            }
            const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
                return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
            };
            passed = same(seen[0], seen[1]) && same(seen[1], seen[2]);
            if (!same(seen[1], seen[2])) return "the same step twice gave different bits: something is not waited for";
            if (!passed)
                return has_neighbour_ ? "what lay in scratch or in another sequence's cache changed the logits"
                                      : "what lay in scratch changed the logits";
            return has_neighbour_ ? "scratch and another sequence's cache change no bit"
                                  : "scratch changes no bit; neighbours not tested: loaded for one sequence";
        });
    }

    LoadedModel& model_;
    const GateOptions& o_;
    NodeChecker checker_;
    StepRecord record_;
    bool has_neighbour_ = false;
    int64_t length_ = 0, done_ = 0, at_ = 0;
    std::vector<int32_t> pages_;
    int32_t neighbour_page_ = 0;
    GateReport report_;
};

}  // namespace

bool GateReport::passed() const {
    return findings.empty() && std::ranges::all_of(probes, &GateProbe::passed);
}

std::string GateReport::first() const {
    for (const GateProbe& p : probes)
        if (!p.passed) return fmt::format("{}: {}", p.name, p.detail);
    return findings.empty() ? "" : findings[0].print();
}

std::string GateReport::line() const {
    if (!passed()) return "failed: " + first();
    return fmt::format("passed in {:.2f} s: {} steps and {} outputs checked (so faults are rarer than 3 in {})",
                       seconds, steps, with_commas(outputs), with_commas(outputs));
}

nlohmann::json GateReport::json() const {
    nlohmann::json all = nlohmann::json::array(), found = nlohmann::json::array();
    for (const GateProbe& p : probes)
        all.push_back({{"probe", p.name}, {"passed", p.passed}, {"seconds", p.seconds}, {"detail", p.detail}});
    for (const NodeFinding& f : findings)
        found.push_back({{"what", name_of(f.what)},
                         {"node", f.node},
                         {"op", f.op},
                         {"row", f.row},
                         {"chip", f.chip},
                         {"layer", f.layer},
                         {"position", f.position},
                         {"worst", f.worst},
                         {"why", f.why}});
    return {{"passed", passed()}, {"seconds", seconds}, {"steps", steps},
            {"outputs", outputs}, {"probes", all},      {"findings", found}};
}

GateReport run_gate(LoadedModel& model, Device& reference, const GateOptions& options) {
    return Gate(model, reference, options).run();
}

}  // namespace busbar::agree
