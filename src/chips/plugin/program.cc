#include "chips/plugin/program.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/check.h"

namespace busbar::plugin {

namespace {

constexpr uint64_t first_runs_watched = 2;  // guard bytes are looked at after every op of these ...
constexpr uint64_t then_every = 64;         // ... and after all ops of every 64th run

// What a call of the worker needs and must outlive the program if the call never returns.
struct Ready {
    std::shared_ptr<Core> core;
    std::vector<OpRecord> ops;
    std::vector<const busbar_op*> pointers;
    busbar_step step = sized<busbar_step>();
    std::vector<int32_t> words;
    struct Outer {
        busbar_buffer buffer;
        uint64_t bytes;
    };
    std::vector<std::vector<Outer>> written;  ///< by op: buffers whose guard bytes it may have changed
    busbar_program program = nullptr;
    busbar_stream stream = nullptr;
    // The buffers that are the program's own.
    std::unique_ptr<PluginBuffer> step_buffer, scratch;
};

// One piece of work on the worker's thread.
struct Work {
    std::shared_ptr<Ready> ready;
    uint32_t first, last;
    bool watch_each, watch_all;
    busbar_error error = no_error();
    int32_t status = BUSBAR_OK;
    uint32_t at = 0;       ///< op that failed or damaged
    bool damaged = false;  ///< guard bytes changed
    std::string what = "run_ops";
};

bool guards_hold(const busbar_chip& chip, busbar_device device, const Ready::Outer& o, Work& w) {
    std::byte seen[2 * guard_bytes];
    for (int end = 0; end < 2; ++end) {
        auto c = sized<busbar_copy>();
        c.from_buffer = o.buffer;
        c.from_offset = end == 0 ? 0 : guard_bytes + o.bytes;
        c.to = seen + end * guard_bytes;
        c.bytes = guard_bytes;
        w.status = chip.copy(device, &c, nullptr, &w.error);
        if (w.status != BUSBAR_OK) {
            w.what = "copy";
            return true;
        }
    }
    return std::ranges::all_of(seen, [](std::byte b) { return b == guard; });
}

void watch(const busbar_chip& chip, busbar_device device, Work& w, uint32_t from, uint32_t to) {
    std::set<busbar_buffer> seen;
    for (uint32_t i = from; i < to && w.status == BUSBAR_OK && !w.damaged; ++i)
        for (const Ready::Outer& o : w.ready->written[i])
            if (seen.insert(o.buffer).second && !guards_hold(chip, device, o, w)) w.damaged = true;
}

void wait_for_stream(const busbar_chip& chip, busbar_device device, Work& w) {
    busbar_event event = nullptr;
    w.status = chip.event_record(device, w.ready->stream, &event, &w.error);
    if (w.status != BUSBAR_OK) {
        w.what = "event_record";
        return;
    }
    constexpr uint64_t slice = 50'000'000;
    do w.status = chip.event_wait(device, event, slice, &w.error);
    while (w.status == BUSBAR_NOT_READY);  // the worker's time limit ends this
    if (w.status != BUSBAR_OK) w.what = "event_wait";
    busbar_error ignored = no_error();
    chip.event_destroy(device, event, &ignored);
}

// Ops one at a time: what hangs, fails or writes where it must not is named exactly, for no more than a call each.
void run_ops(const busbar_chip& chip, busbar_device device, Work& w, std::atomic<int64_t>& progress) {
    Ready& r = *w.ready;
    const bool queued = r.stream && !w.watch_each;
    for (uint32_t i = w.first; i < w.last; ++i) {
        w.at = i;
        progress.store(i);
        w.status = chip.run_ops(device, &r.pointers[i], 1, &r.step, queued ? r.stream : nullptr, &w.error);
        if (w.status != BUSBAR_OK) return;
        if (w.watch_each) watch(chip, device, w, i, i + 1);
        if (w.status != BUSBAR_OK || w.damaged) return;
    }
    if (queued) wait_for_stream(chip, device, w);
}

void do_work(const busbar_chip& chip, busbar_device device, Work& w, std::atomic<int64_t>& progress) {
    Ready& r = *w.ready;
    auto c = sized<busbar_copy>();
    c.from = r.words.data();
    c.to_buffer = r.step.buffer;
    c.to_offset = r.step.offset;
    c.bytes = r.words.size() * 4;
    w.status = chip.copy(device, &c, nullptr, &w.error);
    if (w.status != BUSBAR_OK) {
        w.what = "copy of the step record";
        return;
    }
    bool by_ops = !r.program || w.watch_each;
    if (!by_ops) {
        w.what = "run_program";
        w.status = chip.run_program(device, r.program, &r.step, w.first, w.last, r.stream, &w.error);
        if (w.status == BUSBAR_OK && r.stream) wait_for_stream(chip, device, w);
        if (w.status == BUSBAR_REFUSED && w.last - w.first < r.ops.size()) {
            by_ops = true;
            w.what = "run_ops";
            w.error = no_error();
        }
    }
    if (by_ops) run_ops(chip, device, w, progress);
    if (w.status == BUSBAR_OK && !w.damaged && w.watch_all) watch(chip, device, w, w.first, w.last);
}

class PluginProgram : public Program {
  public:
    PluginProgram(std::shared_ptr<Core> core, const Claims& claims, const std::vector<ProgramStep>& steps,
                  const StepLayout& layout)
        : core_(std::move(core)), ready_(std::make_shared<Ready>()) {
        Ready& r = *ready_;
        r.core = core_;
        lay_out_step(layout);
        for (const ProgramStep& step : steps) add(step);
        claim_scratch(claims);
        for (OpRecord& op : r.ops) r.pointers.push_back(&op.record());
        if (core_->library().has_streams()) {
            core_->call("stream_create", "",
                        [ready = ready_](const busbar_chip& chip, busbar_device d, busbar_error* e) {
                            return chip.stream_create(d, &ready->stream, e);
                        });
        }
        if (core_->library().has_programs() && !r.ops.empty()) {
            core_->call("prepare", "", [ready = ready_](const busbar_chip& chip, busbar_device d, busbar_error* e) {
                return chip.prepare(d, ready->pointers.data(), static_cast<uint32_t>(ready->pointers.size()),
                                    &ready->step, &ready->program, e);
            });
            if (!r.program) throw chip_error(core_->name(), "[plugin] prepare: expected a program, got a null pointer");
        }
    }
    ~PluginProgram() override {
        core_->call_to_free([ready = ready_](const busbar_chip& chip, busbar_device d, busbar_error* e) {
            if (ready->program) chip.program_free(d, ready->program, e);
            if (ready->stream) chip.stream_destroy(d, ready->stream, e);
            return static_cast<int32_t>(BUSBAR_OK);
        });
    }

    size_t steps() const override { return ready_->ops.size(); }

    void run_steps(std::span<const int32_t> words, size_t first, size_t last) override {
        Ready& r = *ready_;
        BUSBAR_CHECK(first <= last && last <= r.ops.size(), "steps that the program has");
        BUSBAR_CHECK(words.size() == r.step.word_count, "a step record of another layout");
        if (first == last) return;
        core_->check_lost();
        std::ranges::copy(words, r.words.begin());
        if (first == 0) ++r.step.number;
        const bool each = core_->address().guards_after_each || r.step.number <= first_runs_watched;
        const auto work = std::make_shared<Work>();
        work->ready = ready_;
        work->first = static_cast<uint32_t>(first);
        work->last = static_cast<uint32_t>(last);
        work->watch_each = each;
        work->watch_all = !each && r.step.number % then_every == 0;
        const bool back =
            core_->run_work([work, progress = core_->worker().progress()](const busbar_chip& chip, busbar_device d) {
                do_work(chip, d, *work, *progress);
            });
        if (!back) {
            const int64_t at = core_->worker().progress()->load();
            const std::string node = at >= 0 ? r.ops[static_cast<size_t>(at)].node_name() : "";
            core_->hung(at >= 0 ? "run_ops" : "run_program", node);
        }
        const std::string node = work->what == "run_ops" && work->at < r.ops.size() ? r.ops[work->at].node_name() : "";
        core_->raise(work->what, node, work->status, work->error);
        if (work->damaged)
            throw chip_error(
                core_->where(each ? node : ""),
                "[plugin] {} wrote before or past a buffer of the chip: {} guard bytes on either side changed{}",
                each ? "this op" : fmt::format("one of the ops {} to {}", first, last - 1), guard_bytes,
                each ? "" : ". ?guards=each names it");
    }

  private:
    void lay_out_step(const StepLayout& layout) {
        Ready& r = *ready_;
        r.words.resize(static_cast<size_t>(layout.words()));
        r.step_buffer = std::make_unique<PluginBuffer>(core_, r.words.size() * 4);
        busbar_step& s = r.step;
        s.buffer = r.step_buffer->handle();
        s.offset = PluginBuffer::start();
        s.word_count = r.words.size();
        s.rows = offsetof(StepHeader, rows) / 4;
        s.logit_rows = offsetof(StepHeader, logit_rows) / 4;
        s.sequence_count = offsetof(StepHeader, sequences) / 4;
        s.token_ids = static_cast<uint32_t>(layout.token_ids());
        s.positions = static_cast<uint32_t>(layout.positions());
        s.sequences = static_cast<uint32_t>(layout.sequences());
        s.logit_row_numbers = static_cast<uint32_t>(layout.logit_rows());
        s.block_table = static_cast<uint32_t>(layout.block_table());
        s.max_rows = static_cast<uint32_t>(layout.max_rows);
        s.max_logit_rows = static_cast<uint32_t>(layout.max_logit_rows);
        s.max_sequences = static_cast<uint32_t>(layout.max_sequences);
        s.pages = static_cast<uint32_t>(layout.pages);
    }

    busbar_tensor tensor_of(const Operand& o) const {
        if (o.where == Operand::Where::weight) {
            const auto* weight = dynamic_cast<const Weight*>(o.weight);
            BUSBAR_CHECK(weight != nullptr, "a weight that this chip packed");
            return weight->tensor;
        }
        busbar_tensor t = describe(o.type, o.extents, o.element);
        t.offset = o.offset;
        if (o.where == Operand::Where::step) {
            t.where = BUSBAR_IN_STEP;
            return t;
        }
        const auto* buffer = dynamic_cast<const PluginBuffer*>(o.buffer);
        BUSBAR_CHECK(buffer != nullptr && &buffer->core() == core_.get(), "a buffer of this device");
        t.buffer = buffer->handle();
        t.offset = PluginBuffer::start() + o.offset;
        if (t.kind == BUSBAR_STATE) t.bytes = buffer->bytes() - o.offset;
        BUSBAR_CHECK(o.offset <= buffer->bytes() && t.bytes <= buffer->bytes() - o.offset,
                     "a tensor inside its buffer");
        return t;
    }

    void add(const ProgramStep& step) {
        Ready& r = *ready_;
        std::vector<busbar_tensor> in, out;
        std::vector<Ready::Outer> written;
        for (const Operand& o : step.inputs) in.push_back(tensor_of(o));
        for (const Operand& o : step.outputs) {
            out.push_back(tensor_of(o));
            BUSBAR_CHECK(o.where == Operand::Where::buffer, step.name);
            written.push_back({out.back().buffer, o.buffer->bytes()});
        }
        r.written.push_back(std::move(written));
        r.ops.emplace_back(*step.row->op, step.attributes, step.name, static_cast<int64_t>(r.ops.size()), std::move(in),
                           std::move(out));
    }

    // The concrete claim, once more with everything in its place: what it asks for, it gets.
    void claim_scratch(const Claims& claims) {
        Ready& r = *ready_;
        uint64_t most = 0;
        for (OpRecord& op : r.ops) {
            const busbar_claim claim = claims.ask(std::shared_ptr<OpRecord>(ready_, &op));
            if (claim.verdict == BUSBAR_NO)
                throw chip_error(core_->where(op.node_name()), "[plugin] the chip refuses this op: {}",
                                 text_of(claim.reason, sizeof claim.reason));
            op.record().scratch_bytes = claim.scratch_bytes;
            most = std::max(most, claim.scratch_bytes);
        }
        if (most == 0) return;
        r.scratch = std::make_unique<PluginBuffer>(core_, most);
        for (size_t i = 0; i < r.ops.size(); ++i) {
            if (r.ops[i].record().scratch_bytes == 0) continue;
            r.ops[i].record().scratch = r.scratch->handle();
            r.ops[i].record().scratch_offset = PluginBuffer::start();
            r.written[i].push_back({r.scratch->handle(), most});
        }
    }

    std::shared_ptr<Core> core_;
    std::shared_ptr<Ready> ready_;
};

}  // namespace

std::unique_ptr<Program> make_program(std::shared_ptr<Core> core, const Claims& claims, std::vector<ProgramStep> steps,
                                      const StepLayout& layout) {
    return std::make_unique<PluginProgram>(std::move(core), claims, steps, layout);
}

}  // namespace busbar::plugin
