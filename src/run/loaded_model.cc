#include "run/loaded_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "base/check.h"
#include "base/error.h"
#include "run/convert.h"

namespace busbar {

namespace {

std::string megabytes(uint64_t bytes) {
    return fmt::format("{} MB", with_commas((bytes + 500000) / 1000000));
}

}  // namespace

MemoryUse& MemoryUse::operator+=(const MemoryUse& o) {
    mapped_weights += o.mapped_weights;
    packed_weights += o.packed_weights;
    constants += o.constants;
    cache += o.cache;
    scratch += o.scratch;
    return *this;
}

LoadedModel::LoadedModel(std::vector<Plan> plans, std::vector<std::shared_ptr<const MappedFile>> files,
                         std::vector<Device*> devices, int64_t cache_pages, bool programs_late, const KeepPacked& keep)
    : plans_(std::move(plans)), files_(std::move(files)), devices_(std::move(devices)) {
    BUSBAR_CHECK(!plans_.empty());
    for (const Plan& plan : plans_)
        BUSBAR_CHECK(plan.layout == plans_[0].layout && plan.chips.size() == devices_.size());
    layout_ = plans_[0].layout;
    vocabulary_ = plans_[0].graph.type_of(plans_[0].graph.outputs[0]).shape.last().n;
    cache_pages_ = cache_pages > 0 ? cache_pages : layout_.pages * layout_.max_sequences;
    last_logit_rows_.resize(layout_.max_logit_rows);
    find_states();
    count_memory();
    check_fit();
    load_weights(keep);
    load_constants();
    parts_.resize(plans_.size());
    for (size_t b = 0; b < plans_.size() && !programs_late; ++b) prepare(b);
    // Memory that is short is left to pages that the system can drop.
    bool room = true;
    for (size_t c = 0; c < devices_.size(); ++c)
        room = room && static_cast<double>(memory_[c].total()) <= devices_[c]->profile().memory_bytes.value / 2;
    if (room) large_weights_ = LargeWeights(mapped_weights());
}

LoadedModel::~LoadedModel() = default;

// Plans of several buckets number states as their graphs do; the model's word for a state is the same in all.
void LoadedModel::find_states() {
    std::map<std::string, int> known;
    for (const Plan& plan : plans_) {
        std::vector<int>& planned = planned_states_.emplace_back();
        for (const PlannedState& s : plan.states) {
            const Value& value = plan.graph.values()[s.value];
            const auto [at, is_new] = known.emplace(value.name, static_cast<int>(states_.size()));
            if (is_new) states_.push_back({s.chip, nullptr, devices_[s.chip]->page_bytes(value.type, s.element)});
            BUSBAR_CHECK(states_[at->second].chip == s.chip, "a state on two chips: " + value.name);
            planned.push_back(at->second);
        }
    }
}

void LoadedModel::count_memory() {
    memory_.resize(devices_.size());
    std::map<std::pair<const StoredTensor*, int>, bool> seen;
    for (const Plan& plan : plans_) {
        for (const PlannedWeight& w : plan.weights) {
            if (!seen.emplace(std::pair(plan.graph.values()[w.value].weight.get(), w.chip), true).second) continue;
            MemoryUse& m = memory_[w.chip];
            (w.form->in_place ? m.mapped_weights : m.packed_weights) += w.bytes;
        }
        for (size_t c = 0; c < devices_.size(); ++c) {
            memory_[c].scratch = std::max(memory_[c].scratch, plan.scratch_bytes[c]);
            memory_[c].constants += plan.constant_bytes[c];
        }
    }
    for (const LoadedState& s : states_) {
        page_bytes_ += s.page_bytes;
        memory_[s.chip].cache += s.page_bytes * cache_pages_;
    }
}

MemoryUse LoadedModel::memory() const {
    MemoryUse sum;
    for (const MemoryUse& m : memory_) sum += m;
    for (const Device* device : devices_) sum.scratch += device->working_bytes();
    return sum;
}

void LoadedModel::check_fit() const {
    for (size_t c = 0; c < devices_.size(); ++c) {
        const MemoryUse& m = memory_[c];
        const auto available = static_cast<uint64_t>(devices_[c]->profile().memory_bytes.value);
        if (available == 0 || m.total() <= available) continue;
        const uint64_t without_cache = m.total() - m.cache;
        std::string fix =
            "no context fits: a smaller or more compressed model, or another chip beside this one, is needed";
        if (without_cache < available && m.cache > 0)
            fix = fmt::format("--context {} would fit",
                              static_cast<int64_t>(static_cast<double>(available - without_cache) /
                                                   static_cast<double>(m.cache) * static_cast<double>(cache_pages_)) /
                                  std::max<int64_t>(cache_pages_ / layout_.pages, 1) * page_positions);
        throw does_not_fit("[memory] {} needs {} (weights {}, cache {} for {} positions, scratch {}), {} has {}; {}",
                           plans_[0].graph.title, megabytes(m.total()),
                           megabytes(m.mapped_weights + m.packed_weights + m.constants), megabytes(m.cache),
                           std::max<int64_t>(cache_pages_ / layout_.pages, 1) * context(), megabytes(m.scratch),
                           devices_[c]->profile().chip, megabytes(available), fix);
    }
}

// Weights in forms that may be kept: from the file of an earlier run, or packed into a new one. False if there is no
// file to be had; then they are packed like all others.
bool LoadedModel::pack_kept(const KeepPacked& keep) {
    constexpr uint64_t worth_it = 16 << 20;  // less is packed faster than a file is opened
    struct Kept {
        std::shared_ptr<const StoredTensor> tensor;
        int chip;
        const PackedForm* form;
    };
    std::vector<Kept> kept;
    std::vector<PackedFile::Entry> entries;
    uint64_t bytes = 0;
    for (const Plan& plan : plans_)
        for (const PlannedWeight& w : plan.weights) {
            const auto& tensor = plan.graph.values()[w.value].weight;
            const std::pair key(tensor.get(), w.chip);
            if (w.form->layout == 0 || weights_.contains(key)) continue;
            weights_.emplace(key, nullptr);
            entries.push_back({tensor->name, w.form->name, w.form->layout, w.form->bytes(*tensor)});
            kept.push_back({tensor, w.chip, w.form});
            bytes += entries.back().bytes;
        }
    if (keep.path.empty() || bytes < worth_it) return false;
    const auto all = [&](bool packed) {
        for (size_t i = 0; i < kept.size(); ++i) {
            const auto& [tensor, chip, form] = kept[i];
            auto& weight = weights_[{tensor.get(), chip}];
            weight = devices_[chip]->pack_at(tensor, *form, packed_file_->at(i), packed, packed_file_);
            if (!weight) return false;
            if (!packed && tensor->file) tensor->file->drop(tensor->offset, tensor->bytes.size());
        }
        return true;
    };
    packed_file_ = PackedFile::open(keep, entries);
    if (packed_file_ && all(true)) return true;
    for (const Kept& k : kept) weights_[{k.tensor.get(), k.chip}].reset();
    packed_file_ = PackedFile::create(keep, entries);
    if (!packed_file_) return false;
    all(false);
    packed_file_->keep();
    return true;
}

void LoadedModel::load_weights(const KeepPacked& keep) {
    pack_kept(keep);
    for (const Plan& plan : plans_) {
        std::vector<const PackedWeight*>& planned = planned_weights_.emplace_back();
        for (const PlannedWeight& w : plan.weights) {
            const auto& tensor = plan.graph.values()[w.value].weight;
            auto& packed = weights_[{tensor.get(), w.chip}];
            if (!packed) {
                packed = devices_[w.chip]->pack(tensor, *w.form);
                // What was packed is not read from the file again: memory holds weights once.
                if (!w.form->in_place && tensor->file) tensor->file->drop(tensor->offset, tensor->bytes.size());
            }
            planned.push_back(packed.get());
        }
    }
    for (LoadedState& s : states_)
        s.buffer = devices_[s.chip]->allocate(std::max<uint64_t>(s.page_bytes * cache_pages_, 64));
    for (size_t c = 0; c < devices_.size(); ++c)
        scratch_.push_back(devices_[c]->allocate(std::max<uint64_t>(memory_[c].scratch, 64)));
}

void LoadedModel::load_constants() {
    for (const Plan& plan : plans_) {
        auto& buffers = constants_.emplace_back();
        for (size_t c = 0; c < devices_.size(); ++c) {
            buffers.push_back(devices_[c]->allocate(std::max<uint64_t>(plan.constant_bytes[c], 64)));
            for (size_t v = 0; v < plan.graph.values().size(); ++v) {
                const Value& value = plan.graph.values()[v];
                const Place& place = plan.places[c][v];
                if (place.where != Place::Where::constant || value.source == Source::node) continue;
                std::vector<double> data = value.constant.data;
                if (value.source == Source::weight) {
                    const Encoding& e = *value.weight->encoding;
                    std::vector<float> decoded(value.weight->count());
                    e.decode(value.weight->bytes.data(), decoded.data(), decoded.size() / e.block);
                    data.assign(decoded.begin(), decoded.end());
                }
                devices_[c]->write(*buffers.back(), place.offset, as_real(data, devices_[c]->profile().real));
            }
        }
    }
    for (const auto& file : files_) file->check_intact();
}

std::vector<Bytes> LoadedModel::mapped_weights() const {
    std::vector<Bytes> all;
    std::set<const StoredTensor*> seen;
    if (packed_file_) all.push_back(packed_file_->packed());
    for (const Plan& plan : plans_)
        for (const PlannedWeight& w : plan.weights) {
            const StoredTensor& tensor = *plan.graph.values()[w.value].weight;
            const bool read_in_file = w.form->in_place && tensor.file && devices_[w.chip]->profile().host_memory;
            if (read_in_file && seen.insert(&tensor).second) all.push_back(tensor.bytes);
        }
    return all;
}

Operand LoadedModel::operand(size_t bucket, int chip, int v) const {
    const Plan& plan = plans_[bucket];
    const Place& place = plan.place(chip, v);
    Operand o;
    o.type = plan.graph.type_of(v);
    o.extents = o.type.shape.bind(plan.options.binding);
    o.element = o.type.kind == Kind::index ? Element::i32 : devices_[chip]->profile().real;
    o.offset = place.offset;
    switch (place.where) {
        case Place::Where::scratch:
            o.buffer = scratch_[chip].get();
            break;
        case Place::Where::constant:
            o.buffer = constants_[bucket][chip].get();
            break;
        case Place::Where::state:
            o.buffer = &state_buffer(bucket, place.index);
            o.element = plan.states[place.index].element;
            o.offset = 0;
            break;
        case Place::Where::weight:
            o.where = Operand::Where::weight;
            o.weight = planned_weights_[bucket][place.index];
            break;
        case Place::Where::step:
            o.where = Operand::Where::step;
            break;
        case Place::Where::none:
            BUSBAR_CHECK(false, "a value without a place: " + plan.graph.values()[v].name);
    }
    return o;
}

void LoadedModel::prepare(size_t bucket) {
    const Plan& plan = plans_[bucket];
    std::vector<Part>& parts = parts_[bucket];
    for (size_t first = 0; first < plan.steps.size();) {
        const PlannedStep& begin = plan.steps[first];
        size_t last = first + 1;
        if (begin.is_copy()) {
            const uint64_t bytes = plan.graph.type_of(begin.value).shape.count(plan.options.binding) * sizeof(double);
            if (staged_.size() < bytes) staged_.resize(bytes);
            parts.push_back({first, last, begin.chip, nullptr});
            first = last;
            continue;
        }
        while (last < plan.steps.size() && !plan.steps[last].is_copy() && plan.steps[last].chip == begin.chip) ++last;
        std::vector<ProgramStep> steps;
        for (size_t i = first; i < last; ++i) {
            const Node& n = plan.graph.nodes()[plan.steps[i].node];
            ProgramStep step{plan.steps[i].row, n.name, n.attributes, {}, {}};
            for (int v : n.inputs) step.inputs.push_back(operand(bucket, begin.chip, v));
            for (int v : n.outputs) step.outputs.push_back(operand(bucket, begin.chip, v));
            steps.push_back(std::move(step));
        }
        parts.push_back({first, last, begin.chip, devices_[begin.chip]->prepare(std::move(steps), layout_)});
        first = last;
    }
}

size_t LoadedModel::bucket_for(int64_t rows) const {
    size_t bucket = 0;
    while (bucket + 1 < plans_.size() && plans_[bucket].options.binding.rows < rows) ++bucket;
    return bucket;
}

void LoadedModel::step(const StepRecord& record, StepObserver* observer) {
    BUSBAR_CHECK(record.layout() == layout_);
    const size_t bucket = bucket_for(record.header().rows);
    BUSBAR_CHECK(record.header().rows <= plans_[bucket].options.binding.rows &&
                 record.header().logit_rows <= plans_[bucket].options.binding.logit_rows);
    if (parts_[bucket].empty()) prepare(bucket);
    last_bucket_ = bucket;
    record_ = &record;
    std::copy_n(record.words().begin() + layout_.logit_rows(), record.header().logit_rows, last_logit_rows_.begin());
    for (const Part& part : parts_[bucket]) run_part(part, bucket, observer);
    for (const auto& file : files_) file->check_intact();
    if (packed_file_) packed_file_->check_intact();
    large_weights_.step_done();
}

void LoadedModel::run_part(const Part& part, size_t bucket, StepObserver* observer) {
    const auto run = [&](size_t first, size_t last) {
        if (first == last) return;
        if (part.program)
            part.program->run_steps(record_->words(), first - part.first, last - part.first);
        else
            copy_value(plans_[bucket], plans_[bucket].steps[first]);
    };
    size_t done = part.first;
    for (size_t i = part.first; observer != nullptr && i < part.last; ++i) {
        if (!observer->wants(bucket, i)) continue;
        run(done, i);
        observer->before(*this, bucket, i);
        run(i, done = i + 1);
        observer->after(*this, bucket, i);
    }
    run(done, part.last);
}

std::vector<int64_t> LoadedModel::extents_in_use(const Plan& plan, int value) const {
    const Shape& shape = plan.graph.type_of(value).shape;
    std::vector<int64_t> extents = shape.bind(plan.options.binding);
    if (extents.empty() || record_ == nullptr) return extents;
    if (shape[0] == Dim(Symbol::rows)) extents[0] = record_->header().rows;
    if (shape[0] == Dim(Symbol::logit_rows)) extents[0] = record_->header().logit_rows;
    return extents;
}

// Only rows in use cross. Where both ends are ordinary memory, the value is moved once; else by way of the host.
void LoadedModel::copy_value(const Plan& plan, const PlannedStep& step) {
    const auto start = std::chrono::steady_clock::now();
    Device &from = *devices_[step.from], &to = *devices_[step.chip];
    const Place &source = plan.place(step.from, step.value), &target = plan.place(step.chip, step.value);
    const int64_t n = count_of(extents_in_use(plan, step.value));
    const bool real = plan.graph.type_of(step.value).kind == Kind::real;
    const Element a = real ? from.profile().real : Element::i32, b = real ? to.profile().real : Element::i32;
    const uint64_t bytes = n * bytes_of(a);
    const auto* here = static_cast<const std::byte*>(scratch_[step.from]->host());
    auto* there = static_cast<std::byte*>(scratch_[step.chip]->host());
    if (a != b) {
        from.read(*scratch_[step.from], source.offset, {staged_.data(), bytes});
        to.write(*scratch_[step.chip], target.offset, as_real(as_doubles({staged_.data(), bytes}, a), b));
    } else if (here) {
        to.write(*scratch_[step.chip], target.offset, {here + source.offset, bytes});
    } else if (there) {
        from.read(*scratch_[step.from], source.offset, {there + target.offset, bytes});
    } else {
        from.read(*scratch_[step.from], source.offset, {staged_.data(), bytes});
        to.write(*scratch_[step.chip], target.offset, {staged_.data(), bytes});
    }
    ++copied_.copies;
    copied_.bytes += bytes;
    copied_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::span<const float> LoadedModel::logits(int64_t i) const {
    const Plan& plan = plans_[last_bucket_];
    const int output = plan.graph.outputs[0], chip = plan.output_chip();
    const Element real = devices_[chip]->profile().real;
    const size_t n = vocabulary(), bytes = n * bytes_of(real);
    if (plan.graph.type_of(output).shape[0] == Dim(Symbol::rows)) i = last_logit_rows_[i];
    const uint64_t offset = plan.place(chip, output).offset + i * bytes;
    Buffer& scratch = *scratch_[chip];
    if (scratch.host() && real == Element::f32)
        return {reinterpret_cast<const float*>(static_cast<const std::byte*>(scratch.host()) + offset), n};
    if (staged_.size() < bytes) staged_.resize(bytes);
    devices_[chip]->read(scratch, offset, {staged_.data(), bytes});
    converted_.resize(n);
    for (size_t k = 0; k < n; ++k)
        converted_[k] = real == Element::f64 ? static_cast<float>(load<double>(staged_.data() + 8 * k))
                                             : load<float>(staged_.data() + 4 * k);
    return converted_;
}

Array LoadedModel::read_value(size_t bucket, int chip, int value) const {
    const Plan& plan = plans_[bucket];
    const ValueType& type = plan.graph.type_of(value);
    Array out{extents_in_use(plan, value), {}};
    const int64_t n = out.count();
    const Place& place = plan.place(chip, value);
    BUSBAR_CHECK(type.kind != Kind::state && place.where != Place::Where::weight && place.where != Place::Where::none,
                 "a value that can be read: " + plan.graph.values()[value].name);
    if (place.where == Place::Where::step) {
        const auto words = record_->words().subspan(place.offset, n);
        out.data.assign(words.begin(), words.end());
        return out;
    }
    const Buffer& buffer = place.where == Place::Where::scratch ? *scratch_[chip] : *constants_[bucket][chip];
    const Element e = type.kind == Kind::index ? Element::i32 : devices_[chip]->profile().real;
    std::vector<std::byte> bytes(n * bytes_of(e));
    devices_[chip]->read(buffer, place.offset, bytes);
    out.data = as_doubles(bytes, e);
    return out;
}

void LoadedModel::write_value(size_t bucket, int chip, int value, const Array& data) {
    const Place& place = plans_[bucket].place(chip, value);
    BUSBAR_CHECK(place.where == Place::Where::scratch && data.extents == extents_in_use(plans_[bucket], value));
    devices_[chip]->write(*scratch_[chip], place.offset, as_real(data.data, devices_[chip]->profile().real));
}

void LoadedModel::fill_scratch(std::byte with) {
    for (size_t c = 0; c < devices_.size(); ++c)
        devices_[c]->write(*scratch_[c], 0, std::vector<std::byte>(scratch_[c]->bytes(), with));
}

Buffer& LoadedModel::state_buffer(size_t bucket, int planned_state) const {
    return *states_[planned_states_[bucket][planned_state]].buffer;
}

const PackedWeight& LoadedModel::weight(size_t bucket, int planned_weight) const {
    return *planned_weights_[bucket][planned_weight];
}

void LoadedModel::copy_page(int64_t from, int64_t to) {
    for (LoadedState& s : states_)
        devices_[s.chip]->copy(*s.buffer, to * s.page_bytes, *s.buffer, from * s.page_bytes, s.page_bytes);
}

void LoadedModel::read_page(int64_t page, std::span<std::byte> out) const {
    BUSBAR_CHECK(out.size() == page_bytes_);
    for (size_t at = 0; const LoadedState& s : states_) {
        devices_[s.chip]->read(*s.buffer, page * s.page_bytes, out.subspan(at, s.page_bytes));
        at += s.page_bytes;
    }
}

void LoadedModel::write_page(int64_t page, Bytes data) {
    BUSBAR_CHECK(data.size() == page_bytes_);
    for (size_t at = 0; LoadedState & s : states_) {
        devices_[s.chip]->write(*s.buffer, page * s.page_bytes, data.subspan(at, s.page_bytes));
        at += s.page_bytes;
    }
}

}  // namespace busbar
