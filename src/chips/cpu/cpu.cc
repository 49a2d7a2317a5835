#include "chips/cpu/cpu.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/check.h"
#include "base/error.h"
#include "base/threads.h"
#include "chips/cpu/cache.h"
#include "chips/cpu/panels.h"
#include "chips/cpu/probe.h"
#include "chips/cpu/program.h"

namespace busbar {

namespace cpu {

namespace {

// Pages of the system, zero until touched. Large ones ask for huge pages: weights and caches are read end to end.
class HostBuffer : public Buffer {
  public:
    HostBuffer(uint64_t bytes, uint64_t& total) : bytes_(bytes), total_(total) {
        if (bytes_ > 0) {
            data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (data_ == MAP_FAILED)
                throw does_not_fit("[cpu] expected {} bytes of memory, the system refused: {}", with_commas(bytes_),
                                   std::strerror(errno));
            if (bytes_ >= 8u << 20) madvise(data_, bytes_, MADV_HUGEPAGE);
        }
        total_ += bytes_;
    }
    ~HostBuffer() override {
        if (bytes_ > 0) munmap(data_, bytes_);
        total_ -= bytes_;
    }
    HostBuffer(const HostBuffer&) = delete;
    HostBuffer& operator=(const HostBuffer&) = delete;
    uint64_t bytes() const override { return bytes_; }
    void* host() override { return bytes_ > 0 ? data_ : empty_; }

  private:
    uint64_t bytes_;
    uint64_t& total_;
    void* data_ = nullptr;
    alignas(64) std::byte empty_[1] = {};
};

std::byte* inside(const Buffer& buffer, uint64_t offset, uint64_t bytes) {
    BUSBAR_CHECK(offset <= buffer.bytes() && bytes <= buffer.bytes() - offset, "a copy past the end of a buffer");
    return static_cast<std::byte*>(const_cast<Buffer&>(buffer).host()) + offset;
}

class CpuDevice : public Device {
  public:
    CpuDevice(int threads, const InstructionSet& isa)
        : kernels_(*isa.kernels), pool_(threads), shared_(pool_.threads()), memory_(available_memory()) {
        profile_.chip = "cpu";
        profile_.detail = fmt::format("{}, {} thread{}", isa.words, pool_.threads(), pool_.threads() == 1 ? "" : "s");
        profile_.maker = processor_name();
        profile_.driver = fmt::format("kernels {}", kernels_.name);
        profile_.cache_elements = {Element::f32, Element::f16, Element::bf16};
        profile_.host_memory = true;
        profile_.threads = pool_.threads();
        profile_.memory_bytes = {static_cast<double>(memory_), Figure::Origin::driver};
        // Guesses for predictions until measure_roofs(): what a thread of a server reads, two units at 2.5 GHz.
        profile_.read_bytes_per_s = {12e9 * pool_.threads(), Figure::Origin::unknown};
        const std::string_view name = kernels_.name;
        const double lanes = name == "portable" ? 2 : name == "avx2" ? 8 : 16;
        profile_.flops_per_s = {2.5e9 * 4 * lanes * pool_.threads(), Figure::Origin::unknown};
        profile_.step_overhead_s = pool_.threads() == 1 ? 5e-8 : 5e-7;
        PackedForm form;
        form.name = "as_stored";
        form.encodings.assign(encodings().begin(), encodings().end());
        form.in_place = true;
        form.preference = 1;
        form.reason = "read in place from the mapping: no load time, no second copy";
        profile_.forms.push_back(std::move(form));
        if (kernels_.product->words != nullptr) profile_.forms.push_back(panels());
        add_rows();
    }

    const Profile& profile() const override { return profile_; }

    std::unique_ptr<Buffer> allocate(uint64_t bytes) override {
        // Pages come when they are touched, so the sum of what was promised counts, not what the system has left just
        // now.
        if (const uint64_t left = memory_ > promised_ ? memory_ - promised_ : 0; bytes > left)
            throw does_not_fit("[cpu] expected {} bytes of memory, {} of {} are free", with_commas(bytes),
                               with_commas(left), with_commas(memory_));
        return std::make_unique<HostBuffer>(bytes, promised_);
    }
    void write(Buffer& to, uint64_t offset, Bytes data) override {
        if (!data.empty()) std::memcpy(inside(to, offset, data.size()), data.data(), data.size());
    }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> out) override {
        if (!out.empty()) std::memcpy(out.data(), inside(from, offset, out.size()), out.size());
    }
    void copy(Buffer& to, uint64_t to_offset, const Buffer& from, uint64_t from_offset, uint64_t bytes) override {
        if (bytes > 0) std::memmove(inside(to, to_offset, bytes), inside(from, from_offset, bytes), bytes);
    }

    std::unique_ptr<PackedWeight> pack(std::shared_ptr<const StoredTensor> tensor, const PackedForm& form) override {
        const StoredTensor& t = *tensor;
        if (t.width() % t.encoding->block != 0)
            throw bad_input(t.name, "[cpu] expected rows of whole blocks of {} in {}, got a width of {}",
                            t.encoding->block, t.encoding->name, t.width());
        const uint64_t expected =
            t.width() == 0 ? 0 : t.encoding->row_bytes(t.width()) * static_cast<uint64_t>(t.count() / t.width());
        if (t.bytes.size() < expected)
            throw bad_input(t.name, "[cpu] expected {} bytes of weights, got {}", with_commas(expected),
                            with_commas(t.bytes.size()));
        if (form.name == "as_stored") return std::make_unique<Weight>(std::move(tensor));
        BUSBAR_CHECK(form.name == "panels", "a form that this chip does not offer: " + form.name);
        std::shared_ptr<Buffer> buffer = allocate(bytes_of_panels(t));
        return pack_at(std::move(tensor), form, {static_cast<std::byte*>(buffer->host()), buffer->bytes()}, false,
                       buffer);
    }

    std::unique_ptr<PackedWeight> pack_at(std::shared_ptr<const StoredTensor> tensor, const PackedForm&,
                                          std::span<std::byte> memory, bool packed,
                                          std::shared_ptr<const void> owner) override {
        const StoredTensor& t = *tensor;
        const int64_t outputs = t.width() == 0 ? 0 : t.count() / t.width();
        if (packed) {
            if (outputs > 0 && !holds_row(t, memory.data(), 0)) return nullptr;
        } else {
            pool_.parallel_for(ceil_div(outputs, panel_outputs), 1,
                               [&](int64_t begin, int64_t end) { pack_panels(t, begin, end, memory.data()); });
        }
        return std::make_unique<PanelWeight>(std::move(tensor), Bytes(memory), std::move(owner));
    }

    uint64_t page_bytes(const ValueType& state, Element element) const override {
        return static_cast<uint64_t>(page_elements({state.shape[0].n, state.shape[1].n})) * bytes_of(element);
    }

    std::unique_ptr<Program> prepare(std::vector<ProgramStep> steps, const StepLayout& layout) override {
        return make_program(std::move(steps), layout, kernels_, pool_, shared_);
    }

    uint64_t working_bytes() const override { return shared_.bytes(); }

    void measure();

  private:
    static uint64_t bytes_of_panels(const StoredTensor& t) {
        return t.width() == 0 ? 0 : panel_bytes(*panel_layout(*t.encoding), t.count() / t.width(), t.width());
    }
    static bool holds_row(const StoredTensor& t, const std::byte* panels, int64_t row) {
        const int64_t width = t.width();
        std::vector<float> stored(width), packed(width);
        t.encoding->decode(t.bytes.data() + row * t.encoding->row_bytes(width), stored.data(),
                           width / t.encoding->block);
        decode_panel_row(*panel_layout(*t.encoding), panels, row, width, packed.data());
        return std::memcmp(stored.data(), packed.data(), width * sizeof(float)) == 0;
    }
    PackedForm panels() const {
        PackedForm form;
        form.name = "panels";
        for (const Encoding* e : encodings())
            if (panel_layout(*e) != nullptr && kernels_.product->words->takes(*e)) form.encodings.push_back(e);
        form.bytes = bytes_of_panels;
        form.layout = panel_layout_version;
        form.preference = 2;
        form.reason = "16 outputs side by side: integer products without sums across lanes";
        return form;
    }
    void add_rows() {
        for (size_t i = 0; i < offers().size(); ++i) {
            const Offer& offer = offers()[i];
            KernelRow row;
            row.op = offer.op;
            row.rounding.transcendental_ulp = offer.transcendental_ulp;
            row.share_of_peak = offer.share_of_peak;
            row.index = static_cast<int>(i);
            if (offer.values) {
                row.name = fmt::format("cpu.{}.f32", offer.op->name);
                profile_.rows.push_back(row);
            }
            if (offer.weights) {
                row.name = fmt::format("cpu.{}.as_stored", offer.op->name);
                row.form = "as_stored";
                profile_.rows.push_back(row);
            }
            if (offer.rounds == Element::f64) continue;
            row.rounding.activation = offer.rounds;
            row.accuracy = offer.rounds == Element::f32  ? Accuracy::strict
                           : offer.rounds == Element::i8 ? Accuracy::fast
                                                         : Accuracy::accurate;
            if (offer.rounds == Element::bf16) {
                row.name = fmt::format("cpu.{}.as_stored.bf16", offer.op->name);
                row.form = "as_stored";
                row.rounding.flushes_denormals = true;
                row.encodings = {&encoding_bf16};
                row.others = "is not multiplied by activations in bf16";
                if (kernels_.bf16 != nullptr) profile_.rows.push_back(row);
            } else {
                row.name = fmt::format("cpu.{}.panels{}", offer.op->name, offer.rounds == Element::i8 ? ".i8" : "");
                row.form = "panels";
                const PackedForm* const form = profile_.find_form("panels");
                if (form == nullptr) continue;
                if (offer.rounds == Element::i8) {
                    for (const Encoding* e : form->encodings)
                        if (kernels_.product->bytes->takes(*e)) row.encodings.push_back(e);
                    row.others = fmt::format("gains nothing from activations of 8 bits on {}", kernels_.name);
                    if (row.encodings.empty()) continue;
                }
                profile_.rows.push_back(row);
            }
        }
    }

    const Kernels& kernels_;
    ThreadPool pool_;
    Shared shared_;
    uint64_t memory_, promised_ = 0;
    Profile profile_;
};

// The best of as many rounds as fit in a tenth of a second: what disturbs a round only makes it slower.
template <typename Round>
double best_rate(Round round) {
    using Clock = std::chrono::steady_clock;
    const auto stop = Clock::now() + std::chrono::milliseconds(100);
    double best = 0;
    do {
        const auto start = Clock::now();
        const double done = round();
        best = std::max(best, done / std::chrono::duration<double>(Clock::now() - start).count());
    } while (Clock::now() < stop);
    return best;
}

void CpuDevice::measure() {
#ifdef BUSBAR_SANITIZED  // the figures mean nothing there, and every byte is watched
    const uint64_t all = 4u << 20;
#else
    const uint64_t all = std::clamp<uint64_t>(4 * last_cache_bytes(), 64u << 20, 1u << 30);
#endif
    const uint64_t share = round_up(all / pool_.threads(), 4096);
    const auto buffer = allocate(share * pool_.threads());
    auto* data = static_cast<std::byte*>(buffer->host());
    pool_.run([&](int thread) {
        std::memset(data + thread * share, 1, share);
    });  // untouched pages would all be one page of zeros
    std::atomic<double> sink{0};
    double best = 0;
    for (const bool prefetch : {false, true})
        best = std::max(best, best_rate([&] {
                            pool_.run([&](int thread) {
                                sink.store(kernels_.read(data + thread * share, share, prefetch),
                                           std::memory_order_relaxed);
                            });
                            return static_cast<double>(share * pool_.threads());
                        }));
    profile_.read_bytes_per_s = {best, Figure::Origin::measured};
    profile_.flops_per_s = {best_rate([&] {
                                std::atomic<double> flops{0};
                                pool_.run([&](int) {
                                    float numbers[2] = {0.5f, 0.25f};
                                    flops += kernels_.multiply_add(200000, numbers);
                                    sink.store(numbers[0], std::memory_order_relaxed);
                                });
                                return flops.load();
                            }),
                            Figure::Origin::measured};
    if (kernels_.product->words == nullptr) return;
    profile_.integer_ops_per_s = {best_rate([&] {
                                      std::atomic<double> done{0};
                                      pool_.run([&](int) {
                                          int32_t numbers[2] = {0x00010002, 0x00030004};
                                          done += kernels_.product->words->multiply(20000, numbers);
                                          sink.store(numbers[0], std::memory_order_relaxed);
                                      });
                                      return done.load();
                                  }),
                                  Figure::Origin::measured};
}

}  // namespace

std::unique_ptr<Device> make_cpu_with(const InstructionSet& set, int threads) {
    return std::make_unique<CpuDevice>(threads, set);
}

}  // namespace cpu

std::unique_ptr<Device> make_cpu(int threads, std::string_view force_isa) {
    const auto& sets = cpu::instruction_sets();
    const cpu::InstructionSet* chosen = nullptr;
    for (const cpu::InstructionSet& set : sets)
        if (set.usable && (force_isa.empty() ? set.pays : force_isa == set.kernels->name)) chosen = &set;
    if (chosen == nullptr)
        throw usage_error("[cpu] expected an instruction set of this processor ({}), got {}",
                          fmt::join(usable_cpu_isas(), ", "), quote(force_isa));
    return cpu::make_cpu_with(*chosen, threads);
}

std::vector<std::string> usable_cpu_isas() {
    std::vector<std::string> words;
    for (const cpu::InstructionSet& set : cpu::instruction_sets())
        if (set.usable) words.emplace_back(set.kernels->name);
    return words;
}

void measure_roofs(Device& device) {
    auto* cpu = dynamic_cast<cpu::CpuDevice*>(&device);
    BUSBAR_CHECK(cpu != nullptr, "measure_roofs of another chip");
    cpu->measure();
}

}  // namespace busbar
