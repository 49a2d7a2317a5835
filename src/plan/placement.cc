#include "plan/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>

#include "base/check.h"
#include "base/error.h"
#include "plan/rows.h"

namespace busbar {

namespace {

constexpr double assumed_rate = 1e9;  // of a chip that says nothing of itself: bytes and operations per second

std::string megabytes(double bytes) {
    return fmt::format("{} MB", with_commas(static_cast<uint64_t>(bytes / 1e6 + 0.5)));
}

struct Load {
    double seconds = 0, bytes = 0, cache = 0;  ///< cache: the part of bytes that grows with the context
    Load& operator+=(const Load& o) {
        seconds += o.seconds;
        bytes += o.bytes;
        cache += o.cache;
        return *this;
    }
};

class Dealer {
  public:
    Dealer(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options, int64_t cache_pages)
        : g_(graph), chips_(chips), o_(options), pages_(cache_pages), layers_(layers_of(graph)) {
        for (const Profile* chip : chips_) forms_.push_back(choose_forms(*chip, g_, o_));
        crossing_bytes_ = 0;
        for (const Node& n : g_.nodes())
            if (layer_of(n) >= 0 && g_.type_of(n.outputs[0]).kind == Kind::real) {
                crossing_bytes_ = 4.0 * static_cast<double>(g_.type_of(n.outputs[0]).shape.count(o_.binding));
                break;
            }
        for (int c = 0; c < asked(); ++c) loads_.push_back(loads_of(c));
    }

    Placement deal() {
        const int k = asked();
        const size_t masks = size_t{1} << k;
        const double never = std::numeric_limits<double>::infinity();
        struct Best {
            double seconds;
            int64_t from = 0;
            int chip = -1;
        };
        // best[used chips][layers dealt out]: the last run that got there.
        std::vector<std::vector<Best>> best(masks, std::vector<Best>(layers_ + 1, {never}));
        best[0][0].seconds = 0;
        for (size_t mask = 0; mask < masks; ++mask)
            for (int64_t i = 0; i < layers_; ++i) {
                if (best[mask][i].seconds == never) continue;
                for (int c = 0; c < k; ++c) {
                    if (mask >> c & 1) continue;
                    for (int64_t j = i + 1; j <= layers_; ++j) {
                        const Load load = run(c, i, j);
                        if (!fits(c, load)) continue;
                        const double t =
                            best[mask][i].seconds + load.seconds + (i > 0 ? crossing(best[mask][i].chip, c) : 0);
                        Best& b = best[mask | size_t{1} << c][j];
                        if (t < b.seconds) b = {t, i, c};
                    }
                }
            }
        size_t mask = 0;
        for (size_t m = 0; m < masks; ++m)
            if (best[m][layers_].seconds < best[mask][layers_].seconds || mask == 0) mask = m;
        if (best[mask][layers_].seconds == never) throw no_fit();
        Placement out;
        out.layers.resize(layers_);
        std::vector<std::string> runs;
        for (int64_t j = layers_; j > 0;) {
            const Best& b = best[mask][j];
            std::fill(out.layers.begin() + b.from, out.layers.begin() + j, b.chip);
            const Load load = run(b.chip, b.from, j);
            runs.push_back(fmt::format("{} takes layers {}-{}: {:.2f} ms predicted, {} there", name(b.chip), b.from,
                                       j - 1, 1e3 * load.seconds, megabytes(load.bytes)));
            mask &= ~(size_t{1} << b.chip);
            j = b.from;
        }
        out.why.assign(runs.rbegin(), runs.rend());
        for (int c = 0; c < k; ++c) {
            const Load all = run(c, 0, layers_);
            if (std::ranges::find(out.layers, c) == out.layers.end())
                out.why.push_back(
                    fmt::format("{} takes none: all layers would take {:.2f} ms there{}; --split places them "
                                "by hand",
                                name(c), 1e3 * all.seconds, fits(c, all) ? "" : " and do not fit"));
            else if (!fits(c, all))
                out.why.push_back(
                    fmt::format("{} cannot hold all: {} of {}", name(c), megabytes(all.bytes), megabytes(room(c))));
        }
        return out;
    }

  private:
    int asked() const { return static_cast<int>(o_.asked); }
    const std::string& name(int c) const { return chips_[c]->chip; }
    double room(int c) const { return chips_[c]->memory_bytes.value; }
    // Scratch and constants are not known before the plan is made: a twentieth is kept for them.
    bool fits(int c, const Load& load) const { return room(c) <= 0 || load.bytes <= 0.95 * room(c); }

    double crossing(int a, int b) const {
        double slowest = 0;
        for (int c : {a, b})
            if (const double rate = chips_[c]->link_bytes_per_s.value; rate > 0)
                slowest = std::max(slowest, crossing_bytes_ / rate);
        return slowest + chips_[a]->step_overhead_s + chips_[b]->step_overhead_s;
    }

    double seconds_on(int c, const Node& n) const {
        const Profile& chip = *chips_[c];
        std::string form;
        for (int v : n.inputs)
            if (forms_[c][v]) form = forms_[c][v]->name;
        const KernelRow* row = choose_row(chip, g_, n, form, o_).row;
        const Cost cost = cost_of(g_, n, forms_[c], o_.binding);
        if (row == nullptr && n.op->is_core()) return -1;
        KernelRow whole;  // a composite that is written out: as if it had a row
        if (const double t = seconds_of(chip, row ? *row : whole, cost); t > 0) return t;
        return std::max(cost.bytes, cost.flops) / assumed_rate;
    }

    // Times and bytes of what stands before the layers, of each layer, and of what comes after.
    std::vector<Load> loads_of(int c) const {
        std::vector<Load> out(layers_ + 2);
        std::vector<int64_t> counted(g_.values().size(), -2);
        int64_t part = 0;
        for (const Node& n : g_.nodes()) {
            if (const int64_t layer = layer_of(n); layer >= 0)
                part = layer + 1;
            else if (part > 0)
                part = layers_ + 1;
            if (n.op->is_view) continue;
            double t = seconds_on(c, n);
            for (int other = 0; t < 0 && other < static_cast<int>(chips_.size()); ++other)
                if (const double there = seconds_on(other, n); there >= 0) t = there + 2 * crossing(c, other);
            out[part].seconds += std::max(t, 0.0);
            for (int v : n.inputs) {
                const Value& value = g_.values()[v];
                if (counted[v] == part) continue;
                counted[v] = part;
                if (value.source == Source::weight)
                    out[part].bytes += forms_[c][v] ? static_cast<double>(bytes_in(*forms_[c][v], *value.weight))
                                                    : 4.0 * static_cast<double>(value.weight->count());
                if (value.source == Source::state) {
                    const Element e =
                        chips_[c]->cache_elements.empty() ? Element::f32 : chips_[c]->cache_elements.front();
                    const double bytes = static_cast<double>(page_positions * pages_ * value.type.shape[0].n *
                                                             value.type.shape[1].n * bytes_of(e));
                    out[part].bytes += bytes;
                    out[part].cache += bytes;
                }
            }
        }
        return out;
    }

    // Layers i .. j - 1 on chip c; the embedding goes with the first run, the head with the last.
    Load run(int c, int64_t i, int64_t j) const {
        Load sum;
        for (int64_t part = i == 0 ? 0 : i + 1; part <= (j == layers_ ? layers_ + 1 : j); ++part)
            sum += loads_[c][part];
        return sum;
    }

    Error no_fit() const {
        double room_in_all = 0;
        std::string rooms;
        for (int c = 0; c < asked(); ++c) {
            room_in_all += room(c);
            rooms += fmt::format("{}{} has {}", c ? ", " : "", name(c), megabytes(room(c)));
        }
        const Load all = run(0, 0, layers_);
        std::string fix = "a smaller or more compressed model is needed, or another chip beside these";
        if (all.bytes - all.cache < 0.9 * room_in_all)
            fix = fmt::format("--context {} would fit",
                              static_cast<int64_t>((0.9 * room_in_all - (all.bytes - all.cache)) / all.cache *
                                                   static_cast<double>(o_.binding.context)) /
                                  page_positions * page_positions);
        return does_not_fit("[memory] {} needs {} (weights {}, cache {}), {} more than there is: {}; {}", g_.title,
                            megabytes(all.bytes), megabytes(all.bytes - all.cache), megabytes(all.cache),
                            megabytes(std::max(all.bytes - room_in_all, 0.0)), rooms, fix);
    }

    const Graph& g_;
    std::span<const Profile* const> chips_;
    const PlanOptions& o_;
    int64_t pages_, layers_;
    double crossing_bytes_ = 0;
    std::vector<std::vector<const PackedForm*>> forms_;
    std::vector<std::vector<Load>> loads_;
};

}  // namespace

int64_t layer_of(const Node& node) {
    constexpr std::string_view prefix = "layer.";
    if (!node.name.starts_with(prefix)) return -1;
    int64_t layer = -1;
    std::from_chars(node.name.data() + prefix.size(), node.name.data() + node.name.size(), layer);
    return layer;
}

int64_t layers_of(const Graph& graph) {
    int64_t n = 0;
    for (const Node& node : graph.nodes()) n = std::max(n, layer_of(node) + 1);
    return n;
}

std::vector<int> parse_split(const std::string& split, const std::vector<std::string>& names, int64_t layers) {
    std::vector<int> out;
    for (size_t begin = 0; begin <= split.size();) {
        const size_t end = std::min(split.find(',', begin), split.size());
        const std::string part = split.substr(begin, end - begin);
        begin = end + 1;
        const size_t colon = part.rfind(':');
        int64_t from = -1, to = -1;
        int used = 0;
        if (colon == std::string::npos || std::sscanf(part.c_str() + colon + 1, "%ld-%ld%n", &from, &to, &used) != 2 ||
            part[colon + 1 + used] != 0)
            throw usage_error("[split] expected CHIP:FIRST-LAST, got {}", quote(part));
        const auto name = std::ranges::find(names, part.substr(0, colon));
        if (name == names.end())
            throw usage_error("[split] expected chips that --chip names ({}), got {}", fmt::join(names, ", "),
                              quote(part.substr(0, colon)));
        if (from != static_cast<int64_t>(out.size()) || to < from || to >= layers)
            throw usage_error("[split] expected layer {} of 0-{} to come next, got {}-{}: every layer once, in order",
                              out.size(), layers - 1, from, to);
        out.resize(to + 1, static_cast<int>(name - names.begin()));
    }
    if (static_cast<int64_t>(out.size()) != layers)
        throw usage_error("[split] expected layers 0-{}, got 0-{}", layers - 1, static_cast<int64_t>(out.size()) - 1);
    return out;
}

std::vector<int> meant_chips(const Graph& graph, const std::vector<int>& layers) {
    std::vector<int> out(graph.nodes().size(), 0);
    if (layers.empty()) return out;
    int current = layers.front();
    bool inside = false;
    for (size_t i = 0; i < out.size(); ++i) {
        const int64_t layer = layer_of(graph.nodes()[i]);
        if (layer >= 0) {
            BUSBAR_CHECK(layer < static_cast<int64_t>(layers.size()), graph.nodes()[i].name);
            current = layers[layer];
            inside = true;
        } else if (inside) {
            current = layers.back();
        }
        out[i] = current;
    }
    return out;
}

Placement place_layers(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options,
                       int64_t cache_pages) {
    if (options.asked == 1) return {};
    return Dealer(graph, chips, options, cache_pages).deal();
}

}  // namespace busbar
