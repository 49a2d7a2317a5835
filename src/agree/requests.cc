#include "agree/requests.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

constexpr int64_t prompt = 70, singles = 6;  // past the first page: the table of pages matters

/// A sequence of the batch: where its text begins, which pages it has, how far it is.
struct Sequence {
    int64_t text = 0;
    std::vector<int32_t> pages;
    int64_t done = 0;
};

class Requests {
  public:
    Requests(LoadedModel& model, std::span<const int32_t> ids) : model_(model), ids_(ids), record_(model.layout()) {
        const StepLayout& l = model.layout();
        pages_each_ = ceil_div(static_cast<uint64_t>(prompt + singles), page_positions);
        sequences_ = std::min({l.max_sequences, l.max_rows, model.cache_pages() / pages_each_, int64_t{4}});
        if (sequences_ < 2 || l.pages < pages_each_ || ids.empty())
            throw does_not_fit("[requests] expected room for two sequences of {} positions, got {} sequences, {} pages",
                               prompt + singles, l.max_sequences, model.cache_pages());
        report_.sequences = sequences_;
        const std::vector<Plan>& plans = model.plans();
        report_.must_be_bits =
            std::ranges::all_of(plans, [&](const Plan& p) { return why_other_bits(plans[0], p).empty(); });
    }

    RequestReport run() {
        const auto start = std::chrono::steady_clock::now();
        const std::vector<float> alone = serve({fresh(0, 0)}, 0, false);
        report_.logits = static_cast<int64_t>(alone.size());
        for (int64_t place = 0; place < sequences_; ++place)
            judge(fmt::format("in a full batch, as number {} of {}", place + 1, sequences_), alone,
                  batch(place, false));
        judge("after others were cancelled, on the pages that they left", alone, after_cancelled());
        judge("beside neighbours whose caches hold NaN", alone, batch(sequences_ / 2, true));
        judge("alone once more", alone, serve({fresh(0, 0)}, 0, false));
        report_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return std::move(report_);
    }

  private:
    int32_t token(const Sequence& s, int64_t position) const {
        return ids_[(s.text + position) % static_cast<int64_t>(ids_.size())];
    }

    // Request `which` with pages from `first_page` on. Request 0 is the one that is looked at.
    Sequence fresh(int64_t which, int64_t first_page) const {
        Sequence s;
        s.text = which * 997;
        for (int64_t p = 0; p < pages_each_; ++p) s.pages.push_back(static_cast<int32_t>(first_page + p));
        return s;
    }

    // Rows of one step: `take[i]` of sequence i, last row's logits of number `watched` if it has any.
    std::vector<float> step(std::vector<Sequence>& all, const std::vector<int64_t>& take, int64_t watched) {
        int32_t row = 0;
        bool asked = false;
        for (size_t i = 0; i < all.size(); ++i) {
            std::ranges::fill(record_.block_row(i), -1);
            std::ranges::copy(all[i].pages, record_.block_row(i).begin());
            for (int64_t k = 0; k < take[i]; ++k, ++row, ++all[i].done) {
                record_.token_ids()[row] = token(all[i], all[i].done);
                record_.positions()[row] = static_cast<int32_t>(all[i].done);
                record_.sequences()[row] = static_cast<int32_t>(i);
            }
            if (static_cast<int64_t>(i) == watched && take[i] > 0) {
                record_.logit_rows()[0] = row - 1;
                asked = true;
            }
        }
        record_.header() = {row, asked ? 1 : 0, static_cast<int32_t>(all.size())};
        if (row == 0) return {};
        model_.step(record_);
        if (!asked) return {};
        const auto logits = model_.logits(0);
        return {logits.begin(), logits.end()};
    }

    // Everybody at once: prompts in uneven chunks, then single tokens. All logits of `watched`, one after the other,
    // from the end of its prompt on.
    std::vector<float> serve(std::vector<Sequence> all, int64_t watched, bool poisoned_by_nan) {
        std::vector<float> out;
        const int64_t rows = model_.layout().max_rows;
        const auto n = static_cast<int64_t>(all.size());
        while (all[watched].done < prompt + singles) {
            std::vector<int64_t> take(all.size(), 0);
            int64_t left = rows;
            for (int64_t i = 0; i < n; ++i) {
                const int64_t want =
                    all[i].done < prompt ? std::min<int64_t>(prompt - all[i].done, 23 + 5 * (i % 3)) : 1;
                const bool is_over = all[i].done >= prompt + singles;
                take[i] = is_over ? 0 : std::clamp<int64_t>(std::min(want, left - (n - i - 1)), 0, want);
                left -= take[i];
            }
            if (poisoned_by_nan) poison(all, watched);
            const bool answers = all[watched].done + take[watched] >= prompt;
            const std::vector<float> logits = step(all, take, answers ? watched : -1);
            out.insert(out.end(), logits.begin(), logits.end());
        }
        return out;
    }

    std::vector<float> batch(int64_t place, bool nan) {
        std::vector<Sequence> all;
        for (int64_t i = 0; i < sequences_; ++i)
            // Pages dealt from the far end, so that the same request never has the same ones.
            all.push_back(fresh(i == place ? 0 : i + 1, (sequences_ - 1 - i) * pages_each_));
        return serve(std::move(all), place, nan);
    }

    // All ones in every byte is NaN in every element.
    void poison(const std::vector<Sequence>& all, int64_t watched) {
        const std::vector<std::byte> nan(model_.page_bytes(), std::byte{0xFF});
        for (size_t i = 0; i < all.size(); ++i)
            if (static_cast<int64_t>(i) != watched)
                for (int32_t page : all[i].pages) model_.write_page(page, nan);
    }

    // Others get half way on all pages and are given up; what they wrote stays there.
    std::vector<float> after_cancelled() {
        std::vector<Sequence> others;
        for (int64_t i = 0; i < sequences_; ++i) others.push_back(fresh(i + 1, i * pages_each_));
        const int64_t chunk = std::min<int64_t>(model_.layout().max_rows / sequences_, 37);
        for (int i = 0; i < 2; ++i) step(others, std::vector<int64_t>(others.size(), chunk), -1);
        std::vector<Sequence> left = {fresh(0, (sequences_ - 1) * pages_each_)};
        return serve(std::move(left), 0, false);
    }

    void judge(std::string name, const std::vector<float>& alone, const std::vector<float>& got) {
        RequestTrial t{std::move(name), true, true, 0, ""};
        BUSBAR_CHECK(alone.size() == got.size());
        double size = 0, worst = 0;
        int64_t at = -1;
        bool broken = false;
        for (size_t i = 0; i < alone.size(); ++i) {
            size = std::max(size, std::abs(double{alone[i]}));
            const double error = std::abs(double{alone[i]} - got[i]);
            broken |= !std::isfinite(got[i]);
            if (std::memcmp(&alone[i], &got[i], 4) == 0) continue;
            t.bits = false;
            if (error > worst || at < 0) at = static_cast<int64_t>(i);
            worst = std::max(worst, error);
        }
        t.worst = broken ? INFINITY : worst / std::max(size, 1e-30);
        // In free order rounding may differ; another request's numbers would differ by the size of the logits.
        t.passed = report_.must_be_bits ? t.bits : t.worst < 0.01;
        if (at >= 0)
            t.detail = fmt::format("token {} after the prompt, logit {}: alone {:.9g}, here {:.9g}",
                                   at / model_.vocabulary(), at % model_.vocabulary(), alone[at], got[at]);
        report_.trials.push_back(std::move(t));
    }

    LoadedModel& model_;
    std::span<const int32_t> ids_;
    StepRecord record_;
    int64_t pages_each_ = 1, sequences_ = 1;
    RequestReport report_;
};

}  // namespace

bool RequestReport::passed() const {
    return std::ranges::all_of(trials, &RequestTrial::passed);
}

std::string RequestReport::text_form() const {
    std::string out =
        fmt::format("requests   one of {} at once, {} logits each time; {}; {:.1f} s\n", sequences, logits,
                    must_be_bits ? "all kernels promise invariant order: bits must be equal"
                                 : "some kernels are free in their order: within 1 % of the logits' size",
                    seconds);
    for (const RequestTrial& t : trials)
        out += fmt::format("  {:<58} {}{}\n", t.name, t.bits ? "bit-equal" : fmt::format("differs by {:.2g}", t.worst),
                           t.passed ? "" : "  FAILED: " + t.detail);
    return out;
}

nlohmann::json RequestReport::json() const {
    nlohmann::json all = nlohmann::json::array();
    for (const RequestTrial& t : trials)
        all.push_back(
            {{"trial", t.name}, {"passed", t.passed}, {"bit_equal", t.bits}, {"worst", t.worst}, {"detail", t.detail}});
    return {{"passed", passed()},
            {"must_be_bits", must_be_bits},
            {"sequences", sequences},
            {"seconds", seconds},
            {"trials", all}};
}

RequestReport check_requests(LoadedModel& model, std::span<const int32_t> ids) {
    return Requests(model, ids).run();
}

}  // namespace busbar::agree
