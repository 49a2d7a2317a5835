#include "chips/plugin/claims.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"

namespace busbar::plugin {

namespace {

const OpRow* const weight_ops[] = {&op_matmul, &op_multi_matmul, &op_gather_rows};

ValueType real(std::vector<Dim> dims) {
    return {Kind::real, Shape(std::move(dims))};
}
ValueType index(std::vector<Dim> dims) {
    return {Kind::index, Shape(std::move(dims))};
}
ValueType state(StateRole role) {
    return {Kind::state, Shape({2, 64}), role};
}

}  // namespace

/// An op as most models have it.
struct Claims::Sample {
    std::vector<ValueType> inputs;
    Attributes attributes;

    static Sample of(const OpRow& op) {
        const Dim rows = Symbol::rows;
        const ValueType positions = index({rows}), table = index({Symbol::sequences, Symbol::pages});
        if (&op == &op_matmul) return {{real({rows, 256}), real({64, 256})}, {}};
        if (&op == &op_multi_matmul) return {{real({rows, 256}), real({64, 256}), real({32, 256})}, {}};
        if (&op == &op_batch_matmul) return {{real({rows, 2, 3, 64}), real({2, 64, Symbol::slots})}, {}};
        if (&op == &op_gather_rows) return {{real({64, 256}), index({rows})}, {}};
        if (&op == &op_transpose) return {{real({rows, 2, 64})}, {{"order", std::vector<int64_t>{1, 0, 2}}}};
        if (&op == &op_slice)
            return {{real({rows, 64})}, {{"begin", int64_t{0}}, {"end", int64_t{32}}, {"step", int64_t{1}}}};
        if (&op == &op_concat) return {{real({rows, 32}), real({rows, 32})}, {}};
        if (&op == &op_select) return {{index({rows, 64}), real({rows, 64}), real({rows, 64})}, {}};
        if (&op == &op_cache_append)
            return {{state(StateRole::key), real({rows, 2, 64}), positions, positions, table}, {}};
        if (&op == &op_cache_gather) return {{state(StateRole::key), table}, {}};
        if (&op == &op_cache_mask) return {{positions, positions, table}, {{"window", int64_t{0}}}};
        if (&op == &op_rms_norm) return {{real({rows, 256}), real({256})}, {{"epsilon", 1e-5}}};
        if (&op == &op_add_rms_norm) return {{real({rows, 256}), real({rows, 256}), real({256})}, {{"epsilon", 1e-5}}};
        if (&op == &op_rotary_table) return {{positions, real({32})}, {{"scale", 1.0}}};
        if (&op == &op_rotate)
            return {{real({rows, 6, 64}), real({rows, 32}), real({rows, 32})}, {{"pairing", std::string("half")}}};
        if (&op == &op_attention)
            return {{real({rows, 6, 64}), state(StateRole::key), state(StateRole::value), positions, positions, table},
                    {{"scale", 0.125}, {"window", int64_t{0}}}};
        // The rest works on each number or on each row.
        return {std::vector<ValueType>(op.inputs.size(), real({rows, 256})), {}};
    }
};

namespace {

bool is_weight_input(const OpRow& op, size_t input) {
    if (&op == &op_gather_rows) return input == 0;
    return (&op == &op_matmul || &op == &op_multi_matmul) && input > 0;
}

std::vector<int64_t> bound(const ValueType& t, const Binding& b) {
    return t.shape.bind(b);
}

// One op on bound extents, all handles null. `weight(i)`: the encoding of input i if it is handed over as a weight.
template <typename Weight>
std::shared_ptr<OpRecord> question(const OpRow& op, const Attributes& attributes, const std::vector<ValueType>& inputs,
                                   const std::vector<ValueType>& outputs, const Binding& b, Element cache, Form form,
                                   Weight weight) {
    std::vector<busbar_tensor> in, out;
    const auto plain = [&](const ValueType& t) {
        busbar_tensor described = describe(t, bound(t, b), t.kind == Kind::state ? cache : Element::f32);
        if (t.kind == Kind::index && t.shape.rank() > 0 && t.shape[0].symbol != Symbol::none && &op != &op_select)
            described.where = BUSBAR_IN_STEP;
        return described;
    };
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Encoding* e = form == Form::values ? nullptr : weight(i);
        in.push_back(e ? describe_weight(*e, bound(inputs[i], b), form) : plain(inputs[i]));
    }
    for (const ValueType& t : outputs) {
        out.push_back(plain(t));
        out.back().where = BUSBAR_IN_BUFFER;
    }
    return std::make_shared<OpRecord>(op, attributes, "", -1, std::move(in), std::move(out));
}

bool usable(const busbar_claim& c) {
    return c.verdict != BUSBAR_NO;
}

Accuracy accuracy_of(const Rounding& r) {
    const auto exact = [](Element e) { return e == Element::f32 || e == Element::f64; };
    if (exact(r.activation) && exact(r.accumulate) && r.transcendental_ulp <= 4) return Accuracy::strict;
    if ((exact(r.activation) || r.activation == Element::bf16 || r.activation == Element::f16) && exact(r.accumulate))
        return Accuracy::accurate;
    return Accuracy::fast;
}

}  // namespace

Rounding rounding_of(const busbar_claim& claim) {
    Rounding r;
    element_of(claim.activation, r.activation);
    element_of(claim.accumulate, r.accumulate);
    r.transcendental_ulp = claim.transcendental_ulp;
    r.flushes_denormals = claim.flags & BUSBAR_FLUSHES_DENORMALS;
    return r;
}

Claims::Claims(std::shared_ptr<Core> core) : core_(std::move(core)) {}

busbar_claim Claims::ask(std::shared_ptr<OpRecord> op) const {
    const auto claim = std::make_shared<busbar_claim>(sized<busbar_claim>());
    claim->activation = claim->accumulate = BUSBAR_F32;
    const std::string what = fmt::format("claim of {}", op->record().op_name);
    core_->call(what, op->node_name(), [claim, op](const busbar_chip& chip, busbar_device device, busbar_error* error) {
        return chip.claim(device, &op->record(), claim.get(), error);
    });
    const auto nonsense = [&](const std::string& got) {
        throw chip_error(core_->where(op->node_name()), "[plugin] {}: expected an answer that makes sense, got {}",
                         what, got);
    };
    Element ignored;
    if (claim->verdict > BUSBAR_SLOW) nonsense(fmt::format("a verdict of {}", claim->verdict));
    if (claim->verdict == BUSBAR_NO) return *claim;
    if (!element_of(claim->activation, ignored)) nonsense(fmt::format("activations in element {}", claim->activation));
    if (!element_of(claim->accumulate, ignored)) nonsense(fmt::format("sums in element {}", claim->accumulate));
    if (!(claim->transcendental_ulp >= 0 && claim->transcendental_ulp <= 1e6))
        nonsense(fmt::format("an error of {} ULP", claim->transcendental_ulp));
    if (!(claim->share_of_peak >= 0 && claim->share_of_peak <= 1))
        nonsense(fmt::format("a share of the peak of {}", claim->share_of_peak));
    if (!(claim->weight_bits >= 0 && claim->weight_bits <= 64))
        nonsense(fmt::format("{} bits per weight", claim->weight_bits));
    if (claim->page_bytes > (1ull << 40)) nonsense(fmt::format("pages of {} bytes", with_commas(claim->page_bytes)));
    if (claim->scratch_bytes > (1ull << 44))
        nonsense(fmt::format("a scratch of {} bytes", with_commas(claim->scratch_bytes)));
    return *claim;
}

std::optional<busbar_claim> Claims::ask_sample(const OpRow& op, Form form, const Encoding* encoding,
                                               int64_t rows) const {
    const Sample sample = Sample::of(op);
    const std::vector<ValueType> outputs = op.infer(sample.inputs, sample.attributes);
    const Binding b{rows, 1, 1, 4 * page_positions};
    Element cache = Element::f32;
    if (core_->info().cache_element_count > 0) element_of(core_->info().cache_elements[0], cache);
    auto op_record = question(op, sample.attributes, sample.inputs, outputs, b, cache, form,
                              [&](size_t i) { return is_weight_input(op, i) ? encoding : nullptr; });
    op_record->record().flags = BUSBAR_SAMPLE;
    const busbar_claim claim = ask(op_record);
    if (!usable(claim)) return std::nullopt;
    return claim;
}

void Claims::add_row(Profile& profile, const OpRow& op, Form form, const busbar_claim& claim) const {
    KernelRow row;
    row.op = &op;
    row.form = form_names[static_cast<size_t>(form)];
    row.name = fmt::format("{}.{}{}{}", profile.chip, op.name, row.form.empty() ? "" : ".", row.form);
    row.rounding = rounding_of(claim);
    row.accuracy = accuracy_of(row.rounding);
    row.order = claim.flags & BUSBAR_INVARIANT ? Order::invariant : Order::free;
    row.share_of_peak = claim.share_of_peak > 0 ? claim.share_of_peak : claim.verdict == BUSBAR_SLOW ? 0.01 : 0.5;
    row.index = static_cast<int>(profile.rows.size());
    profile.rows.push_back(std::move(row));
}

Profile Claims::profile() const {
    const busbar_device_info& info = core_->info();
    const auto figure = [](double value, uint32_t origin) {
        return Figure{value,
                      value > 0 ? static_cast<Figure::Origin>(std::min<uint32_t>(origin, 3)) : Figure::Origin::unknown};
    };
    Profile p;
    p.chip = core_->name();
    p.maker = text_of(info.maker, sizeof info.maker);
    p.driver = text_of(info.driver, sizeof info.driver);
    const std::string detail = text_of(info.detail, sizeof info.detail);
    p.detail = fmt::format("contract {}, {}{}{}{}{}", core_->library().version(),
                           core_->library().has_streams() ? "streams" : "synchronous",
                           core_->library().has_packer() ? ", packs weights" : "",
                           core_->library().has_programs() ? ", programs" : "", detail.empty() ? "" : ", ", detail);
    p.threads = static_cast<int>(std::clamp<uint32_t>(info.threads, 1, 4096));
    p.memory_bytes =
        figure(static_cast<double>(info.memory_free ? info.memory_free : info.memory_bytes), BUSBAR_DRIVER);
    p.read_bytes_per_s = figure(info.read_bytes_per_s, info.read_origin);
    p.link_bytes_per_s = figure(info.link_bytes_per_s, info.link_origin);
    p.step_overhead_s = info.op_overhead_s;
    for (uint32_t i = 0; i < info.rate_count; ++i)
        if (info.rates[i].element == BUSBAR_F32 || i == 0)
            p.flops_per_s = figure(info.rates[i].flops_per_s, info.rates[i].origin);
    // A plan needs some figure to predict with.
    if (p.read_bytes_per_s.value == 0) p.read_bytes_per_s.value = 5e9;
    if (p.flops_per_s.value == 0) p.flops_per_s.value = 5e9;

    struct Offer {
        const OpRow* op;
        busbar_claim claim;
        std::set<const Encoding*> encodings;
    };
    for (const Form form : {Form::packed, Form::stored, Form::f32}) {
        if (form == Form::packed && !core_->library().has_packer()) continue;
        std::vector<Offer> offers;
        double bits = 0;
        for (const OpRow* op : weight_ops) {
            Offer offer{op, {}, {}};
            for (const Encoding* e : encodings()) {
                if (form == Form::f32 && e != &encoding_f32) continue;
                auto claim = ask_sample(*op, form, e, 1);
                if (!claim) claim = ask_sample(*op, form, e, 32);
                if (!claim) continue;
                offer.claim = *claim;
                offer.encodings.insert(e);
                bits = std::max(bits, claim->weight_bits > 0 ? claim->weight_bits : e->bits_per_weight());
            }
            if (!offer.encodings.empty()) offers.push_back(std::move(offer));
        }
        // One form serves every use of a weight, so it holds what all of the ops take.
        std::vector<const Encoding*> common;
        for (const Encoding* e : encodings())
            if (!offers.empty() && std::ranges::all_of(offers, [&](const Offer& o) { return o.encodings.contains(e); }))
                common.push_back(e);
        if (common.empty()) continue;
        if (form == Form::stored && common.size() == 1 && common[0] == &encoding_f32) continue;  // that is f32_rows
        PackedForm packed;
        packed.name = form_names[static_cast<size_t>(form)];
        packed.encodings =
            form == Form::f32 ? std::vector<const Encoding*>(encodings().begin(), encodings().end()) : common;
        packed.bits_per_weight = form == Form::packed ? bits : form == Form::f32 ? 32 : 0;
        packed.preference = form == Form::packed ? 3 : form == Form::stored ? 2 : 1;
        packed.reason = form == Form::packed ? "the chip's own form"
                        : form == Form::stored
                            ? "the file's blocks, in the chip's memory"
                            : "decoded to f32, larger than the file: the chip multiplies nothing smaller";
        p.forms.push_back(std::move(packed));
        for (const Offer& o : offers) add_row(p, *o.op, form, o.claim);
    }
    bool keeps_states = false;
    for (const OpRow* op : op_table()) {
        if (op->is_view || id_of(*op) == 0) continue;
        auto claim = ask_sample(*op, Form::values, nullptr, 1);
        if (!claim) claim = ask_sample(*op, Form::values, nullptr, 32);
        if (!claim) continue;
        keeps_states |= op->inputs[0].kind == Kind::state;
        add_row(p, *op, Form::values, *claim);
    }
    for (uint32_t i = 0; i < info.cache_element_count && keeps_states; ++i) {
        Element e;
        if (element_of(info.cache_elements[i], e)) p.cache_elements.push_back(e);
    }
    if (keeps_states && p.cache_elements.empty())
        throw chip_error(
            core_->name(),
            "[plugin] expected device_info to name an element that states are kept in, since cache ops are "
            "claimed; got none that this build knows");
    return p;
}

std::string Claims::refuses(const KernelRow& row, const OpInstance& op) const {
    const Form form = form_of(row.form);
    Element cache = Element::f32;
    if (core_->info().cache_element_count > 0) element_of(core_->info().cache_elements[0], cache);
    const busbar_claim claim =
        ask(question(*op.op, *op.attributes, op.inputs, op.outputs, op.binding, cache, form, [&](size_t i) {
            return i < op.weights.size() && op.weights[i] ? op.weights[i]->encoding : nullptr;
        }));
    if (!usable(claim)) {
        const std::string reason = text_of(claim.reason, sizeof claim.reason);
        return reason.empty() ? "it gives no reason" : reason;
    }
    const Rounding declared = rounding_of(claim);
    if (accuracy_of(declared) > row.accuracy || declared.transcendental_ulp > row.rounding.transcendental_ulp)
        return "it rounds more here than it declared for the op in general";
    return "";
}

uint64_t Claims::page_bytes(const ValueType& type, Element element) const {
    BUSBAR_CHECK(type.kind == Kind::state, "a page of a state");
    const int64_t heads = type.shape[0].n, width = type.shape[1].n;
    const uint64_t plain = static_cast<uint64_t>(page_positions * heads * width) * bytes_of(element);
    const Binding b{1, 1, 1, page_positions};
    const ValueType rows = index({Symbol::rows}), table = index({Symbol::sequences, Symbol::pages});
    const std::vector<ValueType> inputs = {type, real({Symbol::rows, heads, width}), rows, rows, table};
    const busbar_claim claim = ask(question(op_cache_append, {}, inputs, {type}, b, element, Form::values,
                                            [](size_t) -> const Encoding* { return nullptr; }));
    if (!usable(claim))
        throw chip_error(core_->name(),
                         "[plugin] expected a page of a cache of {} heads of {} in {}, the chip refuses: {}", heads,
                         width, name_of(element), text_of(claim.reason, sizeof claim.reason));
    return claim.page_bytes > 0 ? claim.page_bytes : plain;
}

}  // namespace busbar::plugin
