#include "agree/verify.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "agree/identity.h"
#include "agree/noise.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

constexpr int64_t least_positions = 12 * block_positions;

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Verifier {
  public:
    Verifier(LoadedModel& chip, const std::function<LoadedModel&()>& oracle, const VerifyOptions& options)
        : chip_(chip), open_oracle_(oracle), options_(options) {
        report_.asked = options;
        report_.positions = std::min<int64_t>(options.positions, static_cast<int64_t>(options.ids.size()));
        if (report_.positions < 1) throw bad_input("text", "[verify] expected at least one token, got none");
        windows_ = windows(report_.positions, chip.context());
    }

    VerifyReport run() {
        const Outputs oracle = outputs_of_oracle();
        const std::vector<Compared> found = compare_chip(oracle);
        report_.exact = std::all_of(found.begin(), found.end(), [](const Compared& c) { return c.equal; });
        for (const Compared& c : found) {
            if (c.broken && report_.broken++ == 0) report_.first_broken = &c - found.data();
            report_.other_first += c.other_first;
        }
        if (report_.exact) {
            report_.verdict = Verdict::agrees;
        } else if (report_.broken > 0) {
            report_.verdict = Verdict::does_not_agree;
        } else {
            report_.bar = take_bar(oracle);
            judge(found);
        }
        say_what_was_not_tested();
        return std::move(report_);
    }

  private:
    int32_t next_of(int64_t p) const {
        return p + 1 < static_cast<int64_t>(options_.ids.size()) ? options_.ids[p + 1] : -1;
    }

    bool advance(const char* what, int64_t done, int64_t all) const {
        if (options_.stop && options_.stop()) throw Error(ErrorCode::interrupted, "", "interrupted");
        if (options_.progress && (done % 16 == 0 || done == all)) options_.progress(what, done, all);
        return true;
    }

    std::string key(std::string_view what) const {
        std::string ids;
        for (int64_t p = 0; p < std::min<int64_t>(report_.positions + 1, static_cast<int64_t>(options_.ids.size()));
             ++p)
            ids += fmt::format("{} ", options_.ids[p]);
        return hash_of(fmt::format("{}|{}|{}|{}|{}|{}|{}", what, options_.model_hash, options_.against,
                                   report_.positions, chip_.context() < 512 ? chip_.context() : 512, build_id(), ids))
            .substr(0, 32);
    }

    Outputs outputs_of_oracle() {
        const double begin = now();
        Outputs outputs(report_.positions, chip_.vocabulary());
        const std::string path = options_.cache.empty() ? "" : options_.cache + "/" + key("outputs");
        if (!path.empty() && outputs.restore(kept(path))) {
            report_.oracle_was_kept = true;
            return outputs;
        }
        LoadedModel& oracle = open_oracle_();
        for (const Window& w : windows_)
            teach(oracle, options_.ids, w, nullptr, [&](int64_t p, std::span<const float> logits) {
                outputs.set(p, logits, next_of(p));
                return advance("oracle", p + 1, report_.positions);
            });
        if (!path.empty()) keep(path, outputs.bytes());
        report_.oracle_seconds = now() - begin;
        return outputs;
    }

    std::vector<Compared> compare_chip(const Outputs& oracle) {
        const double begin = now();
        std::vector<Compared> all(report_.positions);
        for (const Window& w : windows_)
            teach(chip_, options_.ids, w, nullptr, [&](int64_t p, std::span<const float> logits) {
                all[p] = compare(oracle, p, logits, next_of(p));
                return advance("chip", p + 1, report_.positions);
            });
        report_.chip_seconds = now() - begin;
        return all;
    }

    /// Short windows, evenly spread; all of them if there are few.
    std::vector<Window> windows_for_bar() const {
        std::vector<Window> all = windows_, chosen;
        if (report_.positions <= options_.bar_positions) return all;
        const int64_t shortest = std::min_element(all.begin(), all.end(), [](const Window& a, const Window& b) {
                                     return a.length < b.length;
                                 })->length;
        const int64_t usual = std::min<int64_t>(128, std::max<int64_t>(shortest, 1));
        std::erase_if(all, [&](const Window& w) { return w.length > 128 || (w.length < 128 && usual == 128); });
        if (all.empty()) all = {{0, std::min(options_.bar_positions, windows_[0].length)}};
        const auto wanted = static_cast<size_t>(std::max<int64_t>(1, options_.bar_positions / all[0].length));
        for (size_t i = 0; i < std::min(wanted, all.size()); ++i)
            chosen.push_back(all[i * all.size() / std::min(wanted, all.size())]);
        return chosen;
    }

    Bar take_bar(const Outputs& oracle_outputs) {
        const double begin = now();
        const Declared declared = declared_by(chip_);
        const std::vector<Window> chosen = windows_for_bar();
        Bar bar;
        const std::string path =
            options_.cache.empty()
                ? ""
                : options_.cache + "/" +
                      key(fmt::format("bar {} {} {}", declared.print(), options_.seeds, options_.bar_positions));
        if (!path.empty() && bar.restore(kept(path))) {
            report_.bar_was_kept = true;
            return bar;
        }
        LoadedModel& oracle = open_oracle_();
        Noise noise(oracle, declared);
        for (const Window& w : chosen) bar.positions += w.length;
        std::vector<std::vector<Compared>> by_seed(options_.seeds, std::vector<Compared>(report_.positions));
        for (int s = 0; s < options_.seeds; ++s) {
            noise.set_seed(s + 1);
            int64_t done = s * bar.positions;
            for (const Window& w : chosen)
                teach(oracle, options_.ids, w, &noise, [&](int64_t p, std::span<const float> logits) {
                    by_seed[s][p] = compare(oracle_outputs, p, logits, next_of(p));
                    return advance("noise", ++done, options_.seeds * bar.positions);
                });
        }
        gather(bar, by_seed, chosen);
        if (!path.empty()) keep(path, bar.bytes());
        report_.bar_seconds = now() - begin;
        return bar;
    }

    static void gather(Bar& bar, const std::vector<std::vector<Compared>>& by_seed, const std::vector<Window>& chosen) {
        bar.seeds = static_cast<int>(by_seed.size());
        bar.gap_noise.assign(by_seed[0].size(), -1);
        std::vector<double> usual;
        for (const Window& w : chosen)
            for (int64_t p = w.begin; p < w.begin + w.length; ++p) {
                double squares = 0;
                for (const auto& seed : by_seed) squares += seed[p].gap_noise * seed[p].gap_noise;
                usual.push_back(bar.gap_noise[p] = std::sqrt(squares / bar.seeds));
            }
        bar.usual_gap_noise = percentile_99(usual);
        // Windows are sequences of their own, so any choice of a run for each of them is a run of the whole text.
        std::mt19937_64 random(11);
        for (int run = 0; run < 64; ++run) {
            std::vector<double> kl, nll;
            double flips = 0;
            for (const Window& w : chosen) {
                const std::vector<Compared>& seed = by_seed[random() % by_seed.size()];
                for (int64_t p = w.begin; p < w.begin + w.length; ++p) {
                    kl.push_back(seed[p].kl);
                    if (seed[p].has_next) nll.push_back(std::abs(seed[p].nll));
                    flips += seed[p].other_first && seed[p].gap > 8 * bar.noise_at(p);
                }
            }
            bar.mean_kl.push_back(mean_of(kl));
            bar.p99_kl.push_back(percentile_99(kl));
            bar.mean_nll.push_back(mean_of(nll));
            bar.flips.push_back(flips / static_cast<double>(kl.size()));
        }
    }

    void judge(const std::vector<Compared>& found) {
        std::vector<double> kl, nll, flips, signed_nll;
        for (size_t p = 0; p < found.size(); ++p) {
            kl.push_back(found[p].kl);
            nll.push_back(found[p].has_next ? std::abs(found[p].nll) : 0);
            signed_nll.push_back(found[p].has_next ? found[p].nll : 0);
            flips.push_back(found[p].other_first && found[p].gap > 8 * report_.bar.noise_at(static_cast<int64_t>(p)));
        }
        report_.mean_nll = mean_of(signed_nll);
        const Bar& bar = report_.bar;
        const auto add = [&](std::string name, std::span<const double> values, auto statistic,
                             const std::vector<double>& by_seed) {
            Figure f{std::move(name), bootstrap(values, statistic, 7), Bar::of(by_seed)};
            f.judge();
            report_.figures.push_back(std::move(f));
        };
        add("top-1 flips", flips, mean_of, bar.flips);
        add("mean KL", kl, mean_of, bar.mean_kl);
        add("99th percentile KL", kl, percentile_99, bar.p99_kl);
        add("mean |log-likelihood difference|", nll, mean_of, bar.mean_nll);
        report_.verdict = Verdict::agrees;
        for (const Figure& f : report_.figures) report_.verdict = std::max(report_.verdict, f.verdict);
        // Three positions above the percentile and a dozen blocks are the least that an interval can be made of.
        if (report_.positions >= least_positions || report_.verdict != Verdict::agrees) return;
        report_.verdict = Verdict::not_enough_evidence;
        report_.too_few = true;
    }

    void say_what_was_not_tested() {
        int64_t longest = 0;
        for (const Window& w : windows_) longest = std::max(longest, w.length);
        report_.not_tested = {fmt::format("positions from {} on", longest),
                              "several requests in one batch, forked and restored caches",
                              "text other than " + options_.text};
        if (report_.positions < static_cast<int64_t>(options_.ids.size()))
            report_.not_tested.push_back(
                fmt::format("{} tokens of the text (--positions)", options_.ids.size() - report_.positions));
    }

    LoadedModel& chip_;
    const std::function<LoadedModel&()>& open_oracle_;
    const VerifyOptions& options_;
    std::vector<Window> windows_;
    VerifyReport report_;
};

}  // namespace

VerifyReport verify(LoadedModel& chip, const std::function<LoadedModel&()>& oracle, const VerifyOptions& options) {
    return Verifier(chip, oracle, options).run();
}

std::string VerifyReport::text_form() const {
    std::string out = fmt::format(
        "model      {}, sha256 {}\nchip       {}, {}{}{}\nnumerics   {}\nagainst    {}{}{}\ntext       {}, {} "
        "positions\n"
        "build      {}\n\n",
        asked.model, asked.model_hash.substr(0, 16), asked.chip, asked.chip_detail,
        asked.driver.empty() ? "" : ", driver ", asked.driver, asked.numerics, asked.against,
        admitted.empty() ? "" : ", ", admitted, asked.text, positions, build_id());
    if (exact)
        out += fmt::format("bit-equal: the {} largest logits of all {} positions\n", Outputs::most_kept, positions);
    if (broken > 0)
        out += fmt::format("logits that are not finite at {} positions, first at {}\n", broken, first_broken);
    if (!figures.empty()) {
        out += fmt::format("{:<34} {:>10}   {:<25} {:>10}\n", "figure", "found", "95 % interval", "bar");
        for (const Figure& f : figures)
            out += fmt::format("{:<34} {:>10.3g}   {:<25} {:>10.3g}  {}\n", f.name, f.found.value,
                               fmt::format("{:.3g} .. {:.3g}", f.found.low, f.found.high), f.bar, name_of(f.verdict));
        out += fmt::format(
            "top-1 tokens equal {} of {}; of the others, those count as flips whose gap is above 8 x the local noise\n"
            "log-likelihood difference {:+.3g} nats a token\n"
            "bar: {} runs of the oracle under the declared noise, on {} positions\n",
            positions - other_first, positions, mean_nll, bar.seeds, bar.positions);
        if (figures[0].found.value == 0)
            out += fmt::format("no counted flip in {}: a rate below {:.2g} (95 %)\n", positions,
                               3.0 / static_cast<double>(positions));
    }
    for (const std::string& what : not_tested) out += fmt::format("not tested: {}\n", what);
    const auto time = [](bool was_kept, double seconds) {
        return was_kept ? std::string("kept from before") : fmt::format("{:.1f} s", seconds);
    };
    out += fmt::format("time: chip {:.1f} s; oracle {}; bar {}\n\n", chip_seconds,
                       time(oracle_was_kept, oracle_seconds), time(bar_was_kept || exact || broken > 0, bar_seconds));
    if (too_few)
        out += fmt::format("every figure is below its bar, but {} positions cannot carry a verdict: {} are the least\n",
                           positions, least_positions);
    return out + fmt::format("{} {}\n", asked.chip, name_of(verdict));
}

nlohmann::json VerifyReport::json() const {
    using Json = nlohmann::json;
    Json all = Json::array();
    for (const Figure& f : figures) all.push_back(f.json());
    return {{"verdict", name_of(verdict)},
            {"exact", exact},
            {"model", asked.model},
            {"model_hash", asked.model_hash},
            {"chip", asked.chip},
            {"detail", asked.chip_detail},
            {"driver", asked.driver},
            {"numerics", asked.numerics},
            {"against", asked.against},
            {"admitted", admitted},
            {"build", build_id()},
            {"text", asked.text},
            {"positions", positions},
            {"not_finite", broken},
            {"first_not_finite", first_broken},
            {"top1_equal", positions - other_first},
            {"nll_difference", mean_nll},
            {"figures", all},
            {"bar", {{"seeds", bar.seeds}, {"positions", bar.positions}}},
            {"not_tested", not_tested},
            {"timing",
             {{"chip_s", chip_seconds},
              {"oracle_s", oracle_seconds},
              {"bar_s", bar_seconds},
              {"oracle_kept", oracle_was_kept},
              {"bar_kept", bar_was_kept}}}};
}

}  // namespace busbar::agree
