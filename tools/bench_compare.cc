// busbar bench --against: two runs, compared by shares of the roofs, and how both print.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "bench.h"

namespace busbar::bench {

namespace {

const char* const rate_keys[] = {"prefill_tok_s", "decode_tok_s",  "prefill_gop_s", "decode_gb_s",
                                 "roof_gop_s",    "prefill_share", "roof_gb_s",     "decode_share"};
// Runs that were kept before there were integer roofs have none.
const char* const newer_keys[] = {"roof_integer_gop_s", "prefill_product_share"};

Error no_run(const std::string& path, const std::string& what) {
    return bad_input(path, "[bench] expected a run that busbar bench --save wrote, got {}", what);
}

bool is_plain_text(const Json& text) {
    return text.is_string() && std::ranges::none_of(text.get_ref<const std::string&>(),
                                                    [](unsigned char c) { return c < ' ' || c == 127; });
}

bool is_rate(const Json& number) {
    return number.is_number() && std::isfinite(number.get<double>()) && number.get<double>() >= 0;
}

std::vector<double> column(const Json& run, const std::string& key) {
    std::vector<double> values;
    for (const Json& r : run["repeats"]) values.push_back(r[key].get<double>());
    return values;
}

// What the planned products could do on this machine: f32, integers or, in a mixed model, some of both.
std::string share_of_products(const Json& run) {
    const double share = run.value("prefill_product_share", 0.0), integers = run.value("prefill_integer_products", 0.0);
    const double f32 = run["roof_gop_s"].get<double>(), integer = run.value("roof_integer_gop_s", 0.0);
    if (share <= 0)  // an older run, or none was measured
        return f32 > 0 ? fmt::format("{:.0f} % of the f32 roof {:.1f} GFLOP/s",
                                     100 * run["prefill_share"].get<double>(), f32)
                       : "the f32 roof was not measured";
    const std::string of_f32 = fmt::format("the f32 roof {:.1f} GFLOP/s", f32),
                      of_integers = fmt::format("the integer roof {:.1f} GOP/s", integer);
    return integers <= 0   ? fmt::format("{:.0f} % of {}", 100 * share, of_f32)
           : integers >= 1 ? fmt::format("{:.0f} % of {}", 100 * share, of_integers)
                           : fmt::format("{:.0f} % of {} ({:.0f} % of the products) and {}", 100 * share, of_integers,
                                         100 * integers, of_f32);
}

// Empty where a roof was not measured.
std::vector<double> in_units_of(const Json& run, const std::string& rate, const std::string& roof) {
    std::vector<double> values;
    for (const Json& r : run["repeats"]) {
        if (r[roof].get<double>() <= 0) return {};
        values.push_back(r[rate].get<double>() / r[roof].get<double>());
    }
    return values;
}

bool all_positive(const std::vector<double>& v) {
    return std::ranges::all_of(v, [](double x) { return x > 0; });
}

// How many pairs, of the n m, may be left out at each end of the ordered ratios for 95 %; -1: none, not even all pairs
// reach it. Counts of the Mann-Whitney statistic, exactly where that is quick.
int64_t pairs_to_leave_out(int64_t n, int64_t m) {
    constexpr double tail = 0.025;
    if (n * m > 400) {
        const double pairs = static_cast<double>(n * m);
        const double spread = std::sqrt(pairs * static_cast<double>(n + m + 1) / 12);
        return static_cast<int64_t>(std::floor(pairs / 2 - 1.959964 * spread - 0.5));
    }
    // ways[i][u]: orders of i values of one set and the j of the other with u pairs turned round.
    std::vector<std::vector<double>> ways(n + 1, std::vector<double>(n * m + 1, 0));
    for (int64_t i = 0; i <= n; ++i) ways[i][0] = 1;
    for (int64_t j = 1; j <= m; ++j)
        for (int64_t i = 1; i <= n; ++i) {
            // The largest of all is of the second set (i pairs) or of the first (none): ways(i, j) from (i, j - 1),
            // which still stands here, and (i - 1, j), which is done.
            std::vector<double> both(n * m + 1, 0);
            for (int64_t u = 0; u <= n * m; ++u) both[u] = (u >= i ? ways[i][u - i] : 0) + ways[i - 1][u];
            ways[i] = std::move(both);
        }
    double all = 0, sum = 0;
    for (double w : ways[n]) all += w;
    int64_t u = -1;
    while (u + 1 <= n * m && (sum += ways[n][u + 1]) / all <= tail) ++u;
    return u;
}

void check_same(const char* what, const Json& before, const Json& now, const char* fix, const std::string& path) {
    if (before != now)
        throw bad_input(path, "[bench] expected a run with the same {}, {}, got {}: {}", what, now.dump(),
                        before.dump(), fix);
}

Json interval_json(const Ratio& r) {
    return {{"ratio", r.value}, {"low", r.low}, {"high", r.high}};
}

double spread_of(const std::vector<double>& v) {
    return (std::ranges::max(v) - std::ranges::min(v)) / median_of(v);
}

}  // namespace

Json read_stored(const std::string& path) {
    const Json run = Json::parse(read_text(path), nullptr, false);
    if (!run.is_object() || run.value("format", Json()) != "busbar bench 1") throw no_run(path, "another file");
    for (const char* key : {"machine", "model_hash", "threads", "shape", "repeats", "chip", "numerics", "date"})
        if (!run.contains(key)) throw no_run(path, fmt::format("one without {}", quote(key)));
    for (const char* key : {"chip", "numerics", "date", "model_hash"})
        if (!is_plain_text(run[key])) throw no_run(path, fmt::format("one whose {} is no text", quote(key)));
    for (const char* key : rate_keys)
        if (!run.contains(key) || !is_rate(run[key])) throw no_run(path, fmt::format("one without the number {}", key));
    const Json& repeats = run["repeats"];
    if (!repeats.is_array() || repeats.empty() || repeats.size() > 1000) throw no_run(path, "one without repeats");
    for (const Json& r : repeats)
        for (const char* key : rate_keys)
            if (!r.is_object() || !r.contains(key) || !is_rate(r[key]))
                throw no_run(path, fmt::format("a repeat without the number {}", key));
    for (const char* key : newer_keys)
        if (run.contains(key) && !is_rate(run[key])) throw no_run(path, fmt::format("one whose {} is no rate", key));
    for (const char* key : {"prefill_tok_s", "decode_tok_s"})
        if (!all_positive(column(run, key))) throw no_run(path, fmt::format("a {} of 0", key));
    try {
        text_of(run);  // what else it prints is of the right kind
    } catch (const Json::exception& error) {
        throw no_run(path, quote(error.what(), 200));
    }
    return run;
}

Ratio ratio_of(const std::vector<double>& before, const std::vector<double>& now) {
    std::vector<double> ratios;
    for (double a : before)
        for (double b : now) ratios.push_back(b / a);
    std::ranges::sort(ratios);
    Ratio r;
    r.value = median_of(ratios);
    const int64_t out = pairs_to_leave_out(static_cast<int64_t>(before.size()), static_cast<int64_t>(now.size()));
    r.enough = out >= 0;
    const auto at = static_cast<size_t>(std::max<int64_t>(out, 0));
    r.low = ratios[at];
    r.high = ratios[ratios.size() - 1 - at];
    return r;
}

void check_shape(const Json& before, const Json& shape, const std::string& path) {
    check_same("shape", before["shape"], shape, "give -p, -n, --depth and --batch as they were", path);
}

Json compare(const Json& before, const Json& now, const std::string& path, double margin_percent) {
    check_same("machine", before["machine"], now["machine"], "speeds of two machines say nothing about a program",
               path);
    check_same("model (SHA-256)", before["model_hash"], now["model_hash"],
               "keep a run of this model first, with --save", path);
    check_same("threads", before["threads"], now["threads"], "give --threads as it was", path);
    check_shape(before, now["shape"], path);
    Json result = {{"file", path},
                   {"date", before["date"]},
                   {"chip", before["chip"]},
                   {"numerics", before["numerics"]},
                   {"margin_percent", margin_percent},
                   {"figures", Json::object()}};
    bool slower = false, enough = true;
    for (const std::string what : {"prefill", "decode"}) {
        const std::string rate = what + "_tok_s";
        const std::vector<double> rate_a = column(before, rate), rate_b = column(now, rate);
        Json figure = {{"rate", interval_json(ratio_of(rate_a, rate_b))}, {"in_units_of", Json::object()}};
        Ratio ratio = ratio_of(rate_a, rate_b);
        figure["by"] = "the plain rate (no roof was measured)";
        figure["spread"] = {spread_of(rate_a), spread_of(rate_b)};
        bool found = false;
        for (const auto& [roof, key] :
             {std::pair("the read roof", "roof_gb_s"), std::pair("the f32 roof", "roof_gop_s")}) {
            const std::vector<double> a = in_units_of(before, rate, key), b = in_units_of(now, rate, key);
            if (a.empty() || b.empty()) continue;
            const Ratio r = ratio_of(a, b);
            figure["in_units_of"][roof] = interval_json(r);
            if (found && r.high <= ratio.high) continue;
            found = true;
            ratio = r;
            figure["by"] = roof;
            figure["spread"] = {spread_of(a), spread_of(b)};
        }
        figure.update(interval_json(ratio));
        figure["slower"] = ratio.enough && ratio.high < 1 - margin_percent / 100;
        slower = slower || figure["slower"];
        enough = enough && ratio.enough;
        result["figures"][what] = std::move(figure);
    }
    result["repeats"] = {before["repeats"].size(), now["repeats"].size()};
    result["verdict"] = slower ? "slower" : enough ? "not slower" : "not enough evidence";
    result["other_numerics"] = before["numerics"] != now["numerics"];
    return result;
}

int exit_code_of(const Json& comparison) {
    const Json& verdict = comparison["verdict"];
    return verdict == "slower"       ? static_cast<int>(ErrorCode::answer_is_no)
           : verdict == "not slower" ? 0
                                     : static_cast<int>(ErrorCode::no_evidence);
}

std::string text_of_comparison(const Json& c) {
    std::string text = fmt::format("against   {} of {}; {} and {} runs; {}\n", c["file"].get<std::string>(),
                                   c["date"].get<std::string>(), c["repeats"][0].get<int64_t>(),
                                   c["repeats"][1].get<int64_t>(), c["chip"].get<std::string>());
    for (const auto& [what, f] : c["figures"].items())
        text += fmt::format(
            "{}  {:.3f} (95 %: {:.3f} .. {:.3f}) of before in units of {}; plain rate {:.3f}; spread {:.1f} and {:.1f} "
            "%{}\n",
            what == "decode" ? "generate" : "prompt  ", f["ratio"].get<double>(), f["low"].get<double>(),
            f["high"].get<double>(), f["by"].get<std::string>(), f["rate"]["ratio"].get<double>(),
            100 * f["spread"][0].get<double>(), 100 * f["spread"][1].get<double>(),
            f["slower"].get<bool>() ? "  SLOWER" : "");
    if (c["other_numerics"].get<bool>())
        text += fmt::format("numerics  another kind of arithmetic before: {}\n", c["numerics"].get<std::string>());
    text += "verdict   " + c["verdict"].get<std::string>();
    if (c["verdict"] == "not enough evidence")
        text += ": so few runs have no 95 % interval; take --repeat 5 or more both times";
    return text + "\n";
}

std::string text_of(const Json& run) {
    const auto number = [&](const char* key) { return run[key].get<double>(); };
    const auto share = [&](const char* roof, const char* key, const char* of, const char* unit) {
        return number(roof) > 0
                   ? fmt::format("{:.0f} % of the {} roof {:.1f} {}", 100 * number(key), of, number(roof), unit)
                   : fmt::format("the {} roof was not measured", of);
    };
    const auto least_most = [&](const char* key) {
        std::vector<double> v = column(run, key);
        return fmt::format("({:.1f} .. {:.1f})", std::ranges::min(v), std::ranges::max(v));
    };
    const Json& shape = run["shape"];
    const auto of = [&](const char* key) { return shape.value(key, int64_t{0}); };
    std::string text = fmt::format("{}, {}; {} runs: medians (least .. most)\n", run["chip"].get<std::string>(),
                                   run["numerics"].get<std::string>(), run["repeats"].size());
    text += fmt::format("prompt    {:>6} tokens  {:>9.1f} tok/s {}   {:.1f} GOP/s, {}\n",
                        of("batch") * (of("prompt") + of("depth")), number("prefill_tok_s"),
                        least_most("prefill_tok_s"), number("prefill_gop_s"), share_of_products(run));
    text += fmt::format("generate  {:>6} tokens  {:>9.1f} tok/s {}   {:.1f} GB/s, {}; {:.1f} MB a token\n",
                        of("batch") * of("tokens"), number("decode_tok_s"), least_most("decode_tok_s"),
                        number("decode_gb_s"), share("roof_gb_s", "decode_share", "read", "GB/s"),
                        run.value("decode_bytes_per_token", 0.0) / 1e6);
    if (run.contains("logit_error")) {
        const Json& e = run["logit_error"];
        const auto positions = e.at("positions").get<int64_t>();
        text += e.at("bit_equal").get<bool>()
                    ? fmt::format("error     0: bit-equal to {} at {} positions of {}\n",
                                  e.at("against").get<std::string>(), positions, e.at("text").get<std::string>())
                    : fmt::format(
                          "error     mean KL {:.2g} nats ({:.2g} .. {:.2g}), {} of {} first tokens other, {} not "
                          "finite; to {}; {}\n",
                          e.at("mean_kl").get<double>(), e.at("low").get<double>(), e.at("high").get<double>(),
                          e.at("other_first").get<int64_t>(), positions, e.at("broken").get<int64_t>(),
                          e.at("against").get<std::string>(), e.at("text").get<std::string>());
    }
    if (run.contains("start"))
        text += fmt::format("start     ready for a prompt after {:.3f} s, its first token after {:.3f} s\n",
                            run["start"].value("ready_s", 0.0), run["start"].value("first_token_s", 0.0));
    if (run.contains("memory")) {
        const auto mb = [&](const char* key) { return run["memory"].value(key, 0.0) / 1e6; };
        text += fmt::format(
            "memory    planned {:.1f} MB: weights {:.1f}, cache {:.1f}, scratch {:.1f}; peak resident {:.1f} MB\n",
            mb("planned"), mb("weights"), mb("kv"), mb("scratch"), mb("peak_rss"));
    }
    return text;
}

}  // namespace busbar::bench
