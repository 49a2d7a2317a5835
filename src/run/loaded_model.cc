#include "run/loaded_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/error.h"

namespace busbar {

namespace {

std::string megabytes(uint64_t bytes) {
    return fmt::format("{} MB", with_commas((bytes + 500000) / 1000000));
}

// Decoded values as the chip keeps them between ops.
std::vector<std::byte> as_real(const std::vector<double>& values, Element real) {
    std::vector<std::byte> out(values.size() * bytes_of(real));
    for (size_t i = 0; i < values.size(); ++i) {
        if (real == Element::f64) {
            std::memcpy(out.data() + 8 * i, &values[i], 8);
        } else {
            BUSBAR_CHECK(real == Element::f32);
            const auto x = static_cast<float>(values[i]);
            std::memcpy(out.data() + 4 * i, &x, 4);
        }
    }
    return out;
}

}  // namespace

LoadedModel::LoadedModel(std::vector<Plan> plans, std::vector<std::shared_ptr<const MappedFile>> files, Device& device,
                         int64_t cache_pages)
    : plans_(std::move(plans)), files_(std::move(files)), device_(device) {
    BUSBAR_CHECK(!plans_.empty());
    for (const Plan& plan : plans_) BUSBAR_CHECK(plan.layout == plans_[0].layout);
    layout_ = plans_[0].layout;
    vocabulary_ = plans_[0].graph.type_of(plans_[0].graph.outputs[0]).shape.last().n;
    cache_pages_ = cache_pages > 0 ? cache_pages : layout_.pages * layout_.max_sequences;
    last_logit_rows_.resize(layout_.max_logit_rows);
    count_memory();
    check_fit();
    load_weights();
    load_constants();
    for (size_t b = 0; b < plans_.size(); ++b) prepare(b);
}

LoadedModel::~LoadedModel() = default;

void LoadedModel::count_memory() {
    const Plan& plan = plans_.front();
    for (const PlannedWeight& w : plan.weights)
        (w.form->in_place ? memory_.mapped_weights : memory_.packed_weights) += w.bytes;
    for (const Plan& p : plans_) {
        memory_.scratch = std::max(memory_.scratch, p.scratch_bytes[0]);
        memory_.constants += p.constant_bytes[0];
    }
    for (const PlannedState& s : plan.states) {
        state_page_bytes_.push_back(device_.page_bytes(plan.graph.type_of(s.value), s.element));
        page_bytes_ += state_page_bytes_.back();
    }
    memory_.cache = page_bytes_ * cache_pages_;
}

void LoadedModel::check_fit() const {
    const auto available = static_cast<uint64_t>(device_.profile().memory_bytes.value);
    if (available == 0 || memory_.total() <= available) return;
    const uint64_t without_cache = memory_.total() - memory_.cache;
    std::string fix = "no context fits: a smaller or more compressed model is needed";
    if (without_cache < available && page_bytes_ > 0)
        fix = fmt::format("--context {} would fit",
                          (available - without_cache) / page_bytes_ / layout_.max_sequences * page_positions);
    throw does_not_fit("[memory] {} needs {} (weights {}, cache {} for {} positions, scratch {}), {} has {}; {}",
                       plans_[0].graph.title, megabytes(memory_.total()),
                       megabytes(memory_.mapped_weights + memory_.packed_weights + memory_.constants),
                       megabytes(memory_.cache), cache_pages_ * page_positions, megabytes(memory_.scratch),
                       device_.profile().chip, megabytes(available), fix);
}

void LoadedModel::load_weights() {
    const Plan& plan = plans_.front();
    for (const PlannedWeight& w : plan.weights)
        weights_.push_back(device_.pack(plan.graph.values()[w.value].weight, *w.form));
    for (uint64_t bytes : state_page_bytes_)
        states_.push_back(device_.allocate(std::max<uint64_t>(bytes * cache_pages_, 64)));
    scratch_ = device_.allocate(std::max<uint64_t>(memory_.scratch, 64));
}

void LoadedModel::load_constants() {
    const Element real = device_.profile().real;
    for (const Plan& plan : plans_) {
        constants_.push_back(device_.allocate(std::max<uint64_t>(plan.constant_bytes[0], 64)));
        for (size_t v = 0; v < plan.graph.values().size(); ++v) {
            const Value& value = plan.graph.values()[v];
            if (plan.places[v].where != Place::Where::constant || value.source == Source::node) continue;
            std::vector<double> data = value.constant.data;
            if (value.source == Source::weight) {
                const Encoding& e = *value.weight->encoding;
                std::vector<float> decoded(value.weight->count());
                e.decode(value.weight->bytes.data(), decoded.data(), decoded.size() / e.block);
                data.assign(decoded.begin(), decoded.end());
            }
            device_.write(*constants_.back(), plan.places[v].offset, as_real(data, real));
        }
    }
    for (const auto& file : files_) file->check_intact();
}

void LoadedModel::prepare(size_t bucket) {
    const Plan& plan = plans_[bucket];
    const auto operand = [&](int v) {
        const Place& place = plan.places[v];
        Operand o;
        o.type = plan.graph.type_of(v);
        o.extents = o.type.shape.bind(plan.options.binding);
        o.element = o.type.kind == Kind::index ? Element::i32 : device_.profile().real;
        o.offset = place.offset;
        switch (place.where) {
            case Place::Where::scratch:
                o.buffer = scratch_.get();
                break;
            case Place::Where::constant:
                o.buffer = constants_[bucket].get();
                break;
            case Place::Where::state:
                o.buffer = states_[place.index].get();
                o.element = plan.states[place.index].element;
                o.offset = 0;
                break;
            case Place::Where::weight:
                o.where = Operand::Where::weight;
                o.weight = weights_[place.index].get();
                break;
            case Place::Where::step:
                o.where = Operand::Where::step;
                break;
            case Place::Where::none:
                BUSBAR_CHECK(false, "a value without a place: " + plan.graph.values()[v].name);
        }
        return o;
    };
    std::vector<ProgramStep> steps;
    for (const PlannedStep& planned : plan.steps) {
        const Node& n = plan.graph.nodes()[planned.node];
        ProgramStep step{planned.row, n.name, n.attributes, {}, {}};
        for (int v : n.inputs) step.inputs.push_back(operand(v));
        for (int v : n.outputs) step.outputs.push_back(operand(v));
        steps.push_back(std::move(step));
    }
    programs_.push_back(device_.prepare(std::move(steps), layout_));
}

void LoadedModel::step(const StepRecord& record) {
    BUSBAR_CHECK(record.layout() == layout_);
    const int64_t rows = record.header().rows;
    size_t bucket = 0;
    while (bucket + 1 < plans_.size() && plans_[bucket].options.binding.rows < rows) ++bucket;
    BUSBAR_CHECK(rows <= plans_[bucket].options.binding.rows &&
                 record.header().logit_rows <= plans_[bucket].options.binding.logit_rows);
    last_bucket_ = bucket;
    std::copy_n(record.words().begin() + layout_.logit_rows(), record.header().logit_rows, last_logit_rows_.begin());
    programs_[bucket]->run(record.words());
    for (const auto& file : files_) file->check_intact();
}

std::span<const float> LoadedModel::logits(int64_t i) const {
    const Plan& plan = plans_[last_bucket_];
    const int output = plan.graph.outputs[0];
    const Element real = device_.profile().real;
    const size_t n = vocabulary(), bytes = n * bytes_of(real);
    if (plan.graph.type_of(output).shape[0] == Dim(Symbol::rows)) i = last_logit_rows_[i];
    const uint64_t offset = plan.places[output].offset + i * bytes;
    if (scratch_->host() && real == Element::f32)
        return {reinterpret_cast<const float*>(static_cast<const std::byte*>(scratch_->host()) + offset), n};
    staged_.resize(bytes);
    device_.read(*scratch_, offset, staged_);
    converted_.resize(n);
    for (size_t k = 0; k < n; ++k)
        converted_[k] = real == Element::f64 ? static_cast<float>(load<double>(staged_.data() + 8 * k))
                                             : load<float>(staged_.data() + 4 * k);
    return converted_;
}

void LoadedModel::copy_page(int64_t from, int64_t to) {
    for (size_t s = 0; s < states_.size(); ++s)
        device_.copy(*states_[s], to * state_page_bytes_[s], *states_[s], from * state_page_bytes_[s],
                     state_page_bytes_[s]);
}

void LoadedModel::read_page(int64_t page, std::span<std::byte> out) const {
    BUSBAR_CHECK(out.size() == page_bytes_);
    for (size_t s = 0, at = 0; s < states_.size(); at += state_page_bytes_[s++])
        device_.read(*states_[s], page * state_page_bytes_[s], out.subspan(at, state_page_bytes_[s]));
}

void LoadedModel::write_page(int64_t page, Bytes data) {
    BUSBAR_CHECK(data.size() == page_bytes_);
    for (size_t s = 0, at = 0; s < states_.size(); at += state_page_bytes_[s++])
        device_.write(*states_[s], page * state_page_bytes_[s], data.subspan(at, state_page_bytes_[s]));
}

}  // namespace busbar
