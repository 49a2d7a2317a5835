#include "agree/noise.h"

#include <algorithm>
#include <cmath>

#include "agree/conform/bound.h"
#include "base/check.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

using conform::largest_code;
using conform::significant_bits;
using conform::ulp_at;
using conform::unit_roundoff;

Element coarser(Element a, Element b) {
    return significant_bits(b) < significant_bits(a) ? b : a;
}

Rounding worse(const Rounding& a, const Rounding& b) {
    return {coarser(a.activation, b.activation), coarser(a.accumulate, b.accumulate),
            std::max(a.transcendental_ulp, b.transcendental_ulp), a.flushes_denormals || b.flushes_denormals};
}

std::string print(const Rounding& r) {
    return fmt::format("{}/{}/{}", name_of(r.activation), name_of(r.accumulate), r.transcendental_ulp);
}

/// Rounding steps of a row of activations, squared and added up.
double steps_squared(const double* x, int64_t width, Element activation) {
    double sum = 0;
    if (activation == Element::f16 || activation == Element::bf16) {
        for (int64_t k = 0; k < width; ++k) sum += std::pow(ulp_at(x[k], activation), 2);
    } else if (const int codes = largest_code(activation)) {
        for (int64_t k0 = 0; k0 < width; k0 += 32) {
            const int64_t n = std::min<int64_t>(32, width - k0);
            double largest = 0;
            for (int64_t k = k0; k < k0 + n; ++k) largest = std::max(largest, std::abs(x[k]));
            sum += static_cast<double>(n) * std::pow(largest / codes, 2);
        }
    }
    return sum;
}

/// Relative variance of one rounding: (ULP(y) / y)^2 / 12 in the mean over a binade.
double rounding_once(Element e) {
    return std::pow(2 * unit_roundoff(e), 2) * 0.541 / 12;
}

bool is_product(const OpRow& op) {
    return &op == &op_matmul || &op == &op_multi_matmul;
}

bool only_moves(const OpRow& op) {
    return &op == &op_gather_rows || &op == &op_transpose || &op == &op_slice || &op == &op_concat ||
           &op == &op_select || &op == &op_reshape || &op == &op_cache_append || &op == &op_cache_gather ||
           &op == &op_cache_mask || &op == &op_max;
}

}  // namespace

const Rounding& Declared::of(const OpRow& op) const {
    const auto found = by_op.find(&op);
    return found == by_op.end() ? worst : found->second;
}

std::string Declared::print() const {
    std::string out = fmt::format("real {} cache {} worst {}", name_of(real), name_of(cache), agree::print(worst));
    for (const OpRow* op : op_table())
        if (by_op.contains(op)) out += fmt::format(" {} {}", op->name, agree::print(by_op.at(op)));
    return out;
}

Declared declared_by(const LoadedModel& model) {
    Declared d;
    d.real = Element::f64;
    d.cache = Element::f64;
    d.worst.activation = d.worst.accumulate = Element::f64;
    for (const Plan& plan : model.plans()) {
        for (const PlannedState& s : plan.states) d.cache = coarser(d.cache, s.element);
        for (const Profile* chip : plan.chips) d.real = coarser(d.real, chip->real);
        for (const PlannedStep& s : plan.steps) {
            if (s.is_copy()) continue;
            // Where several chips serve one model, the coarsest of them counts for all: a bar is no place to be exact.
            Rounding r = s.row->rounding;
            r.activation = coarser(r.activation, plan.chips[s.chip]->real);
            r.accumulate = coarser(r.accumulate, plan.chips[s.chip]->real);
            if (plan.chips[s.chip]->real == Element::f64) r.activation = r.accumulate = Element::f64;
            const auto [at, is_new] = d.by_op.emplace(s.row->op, r);
            if (!is_new) at->second = worse(at->second, r);
            d.worst = worse(d.worst, r);
        }
    }
    return d;
}

struct Noise::Site {
    size_t bucket;
    int chip;
    const Node* node;
};

Noise::Noise(const LoadedModel& oracle, Declared chip) : chip_(std::move(chip)), oracle_(declared_by(oracle)) {}

void Noise::set_seed(uint64_t seed) {
    state_ = seed * 0x9E3779B97F4A7C15ull + 0x632BE59BD9B4E019ull;
}

// Four sums of uniform numbers are close enough to a normal one: the noise of a node is summed many times more.
double Noise::normal() {
    state_ += 0x9E3779B97F4A7C15ull;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    const auto sum = static_cast<double>((z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48));
    return (sum / 65536 - 2) * 1.7320508;  // variance of the sum: 4 / 12
}

const std::vector<double>& Noise::weight_norms(const LoadedModel& model, size_t bucket, int chip, int v) {
    const Value& value = model.plans()[bucket].graph.values()[v];
    if (!value.weight) {
        std::vector<double>& norms = norms_of_values_[{bucket, v}];
        const Array w = model.read_value(bucket, chip, v);
        norms.assign(w.extents[0], 0);
        for (int64_t i = 0; i < w.count(); ++i) norms[i / w.extents.back()] += w.data[i] * w.data[i];
        return norms;
    }
    std::vector<double>& norms = norms_[value.weight.get()];
    if (!norms.empty()) return norms;
    const StoredTensor& w = *value.weight;
    const int64_t width = w.width(), rows = w.count() / width;
    std::vector<float> row(width);
    for (int64_t n = 0; n < rows; ++n) {
        w.encoding->decode(w.bytes.data() + n * w.encoding->row_bytes(width), row.data(), width / w.encoding->block);
        double sum = 0;
        for (float x : row) sum += static_cast<double>(x) * x;
        norms.push_back(sum);
    }
    return norms;
}

/// Of element k of row r: of_itself y^2 + row[r] + per_norm[r] norms[k] + each[i].
struct Noise::Variance {
    int64_t width = 1;
    double of_itself = 0;
    std::vector<double> row, per_norm, each;
    const std::vector<double>* norms = nullptr;
};

void Noise::perturb(Array& y, const Variance& v) {
    const auto n = static_cast<int64_t>(y.data.size());
    for (int64_t begin = 0, r = 0; begin < n; begin += v.width, ++r) {
        const double row = v.row.empty() ? 0 : v.row[r], per_norm = v.per_norm.empty() ? 0 : v.per_norm[r];
        for (int64_t k = 0; k < v.width; ++k) {
            double& x = y.data[begin + k];
            double variance = v.of_itself * x * x + row;
            if (v.norms) variance += per_norm * (*v.norms)[k];
            if (!v.each.empty()) variance += v.each[begin + k];
            const double noise = std::sqrt(variance) * normal();
            if (std::isfinite(noise)) x += noise;
        }
    }
}

// Partial sums of independent terms grow as the root of their number, so that the mean of sum_k(s_k^2) is K / 2 times
// the sum of the squared terms; and that sum is, for independent x and w, |x|^2 |w|^2 / K.
void Noise::add_product(LoadedModel& model, const Site& site, size_t output, const Rounding& rounding, const Array& x,
                        Variance& v) {
    v.norms = &weight_norms(model, site.bucket, site.chip, site.node->inputs[output + 1]);
    const int64_t width = x.extents.back(), rows = x.count() / width;
    const double u = unit_roundoff(rounding.accumulate);
    v.per_norm.resize(rows);
    for (int64_t r = 0; r < rows; ++r) {
        const double* xs = x.data.data() + r * width;
        double square = 0;
        for (int64_t k = 0; k < width; ++k) square += xs[k] * xs[k];
        v.per_norm[r] +=
            u * u * square / 6 + steps_squared(xs, width, rounding.activation) / static_cast<double>(width) / 12;
    }
}

void Noise::add_rotary_table(LoadedModel& model, const Site& site, const Array& y, const Rounding& rounding,
                             Element real, Variance& v) {
    const Array positions = model.read_value(site.bucket, site.chip, site.node->inputs[0]),
                frequencies = model.read_value(site.bucket, site.chip, site.node->inputs[1]);
    const int64_t angles = frequencies.count();
    const double scale = std::abs(site.node->attributes.real("scale")), u = unit_roundoff(rounding.accumulate),
                 E = rounding.transcendental_ulp * 2 * unit_roundoff(real);
    v.each.resize(y.data.size());
    for (size_t i = 0; i < v.each.size(); ++i)
        v.each[i] += std::pow(scale * u * std::abs(positions.data[i / angles] * frequencies.data[i % angles]) +
                                  std::abs(y.data[i]) * (E + u),
                              2) /
                     3;
}

// Half of what each op's level-1 bound allows, at two of its three standard deviations. What an op sums is counted by
// what its error is relative to: the number itself, or the root mean square of its row.
void Noise::add_other(LoadedModel& model, const Site& site, size_t output, const Array& y, const Rounding& rounding,
                      Element real, Variance& v) {
    const OpRow& op = *site.node->op;
    const double u = unit_roundoff(rounding.accumulate), E = rounding.transcendental_ulp * 2 * unit_roundoff(real);
    double of_itself = 0, of_row = 0;
    if (&op == &op_rms_norm || (&op == &op_add_rms_norm && output == 1)) {
        of_itself = u * (std::sqrt(static_cast<double>(v.width)) / 6 + 2) + E / 2;
    } else if (&op == &op_silu || &op == &op_gated_silu || &op == &op_softmax || &op == &op_exp || &op == &op_rsqrt ||
               &op == &op_cos || &op == &op_sin) {
        of_itself = (E + 4 * u) / 2;
    } else if (&op == &op_rotate) {
        of_row = u;
    } else if (&op == &op_batch_matmul || &op == &op_sum || &op == &op_mean) {
        of_row = u * 8;
    } else if (&op == &op_attention) {
        const Array positions = model.read_value(site.bucket, site.chip, site.node->inputs[3]);
        double longest = 1;
        for (double p : positions.data) longest = std::max(longest, p + 1);
        // Scores of a few units, each with the rounding of a dot product; then a sum over the positions.
        of_row = u * (4 + std::sqrt(longest) / 2) + E;
        if (significant_bits(rounding.activation) < significant_bits(Element::f32))
            of_row += 2 * unit_roundoff(rounding.activation);
    }
    v.of_itself += of_itself * of_itself;
    if (of_row == 0) return;
    v.row.resize(y.data.size() / v.width);
    for (size_t r = 0; r < v.row.size(); ++r) {
        double squares = 0;
        for (int64_t k = 0; k < v.width; ++k) squares += y.data[r * v.width + k] * y.data[r * v.width + k];
        v.row[r] += of_row * of_row * squares / static_cast<double>(v.width);
    }
}

void Noise::before(LoadedModel& model, size_t bucket, size_t index) {
    const Plan& plan = model.plans()[bucket];
    const PlannedStep& step = plan.steps[index];
    if (step.is_copy() || plan.graph.nodes()[step.node].op != &op_cache_append) return;
    if (significant_bits(chip_.cache) >= significant_bits(oracle_.cache)) return;
    const int x = plan.graph.nodes()[step.node].inputs[1];
    if (plan.place(step.chip, x).where != Place::Where::scratch) return;
    Array y = model.read_value(bucket, step.chip, x);
    Variance v;
    v.width = y.extents.back();
    v.of_itself = rounding_once(chip_.cache);
    perturb(y, v);
    model.write_value(bucket, step.chip, x, y);
}

void Noise::after(LoadedModel& model, size_t bucket, size_t index) {
    const Plan& plan = model.plans()[bucket];
    const PlannedStep& step = plan.steps[index];
    if (step.is_copy()) return;
    const Node& node = plan.graph.nodes()[step.node];
    if (only_moves(*node.op)) return;
    const Site site{bucket, step.chip, &node};
    Array x;
    if (is_product(*node.op)) x = model.read_value(bucket, step.chip, node.inputs[0]);
    for (size_t o = 0; o < node.outputs.size(); ++o) {
        if (plan.graph.type_of(node.outputs[o]).kind != Kind::real) continue;
        Array y = model.read_value(bucket, step.chip, node.outputs[o]);
        if (y.data.empty()) continue;
        Variance v;
        v.width = y.extents.empty() ? 1 : y.extents.back();
        for (const Declared* d : {&chip_, &oracle_}) {
            const Rounding& rounding = d->of(*node.op);
            v.of_itself += rounding_once(d->real);
            if (is_product(*node.op))
                add_product(model, site, o, rounding, x, v);
            else if (node.op == &op_rotary_table)
                add_rotary_table(model, site, y, rounding, d->real, v);
            else
                add_other(model, site, o, y, rounding, d->real, v);
        }
        perturb(y, v);
        model.write_value(bucket, step.chip, node.outputs[o], y);
    }
}

}  // namespace busbar::agree
