#pragma once
#include <csignal>
#include <thread>

#include "chips.h"

namespace busbar::conform {

enum class Fault {
    none,
    does_nothing,
    writes_before,
    writes_past,
    changes_an_input,
    one_row_less,
    dies,  ///< SIGSEGV
    hangs,
    throws,  ///< Error{chip}
    is_lost,
    sometimes_off  ///< every second run has one bit flipped
};

/// The oracle with a fault planted in each run.
class WrongDevice : public Device {
  public:
    explicit WrongDevice(Fault fault) : fault_(fault) {}
    const Profile& profile() const override { return oracle().profile(); }
    std::unique_ptr<Buffer> allocate(uint64_t bytes) override { return oracle().allocate(bytes); }
    void write(Buffer& to, uint64_t offset, Bytes data) override { oracle().write(to, offset, data); }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> out) override {
        oracle().read(from, offset, out);
    }
    void copy(Buffer& to, uint64_t to_offset, const Buffer& from, uint64_t from_offset, uint64_t bytes) override {
        oracle().copy(to, to_offset, from, from_offset, bytes);
    }
    std::unique_ptr<PackedWeight> pack(std::shared_ptr<const StoredTensor> t, const PackedForm& form) override {
        return oracle().pack(std::move(t), form);
    }
    uint64_t page_bytes(const ValueType& state, Element element) const override {
        return oracle().page_bytes(state, element);
    }

    std::unique_ptr<Program> prepare(std::vector<ProgramStep> steps, const StepLayout& layout) override {
        struct Wrong : Program {
            std::unique_ptr<Program> right;
            ProgramStep step;
            Fault fault;
            size_t steps() const override { return right->steps(); }
            void run_steps(std::span<const int32_t> words, size_t first, size_t last) override {
                std::vector<int32_t> changed(words.begin(), words.end());
                if (fault == Fault::one_row_less) changed[0] -= 1;
                if (fault == Fault::dies) raise(SIGSEGV);
                if (fault == Fault::hangs) std::this_thread::sleep_for(std::chrono::hours(1));
                if (fault == Fault::throws) throw chip_error("step 0", "[wrong] a driver's words");
                if (fault == Fault::is_lost) throw ChipLost("wrong", "step 0", "[wrong] the device is gone");
                if (fault != Fault::does_nothing) right->run_steps(changed, first, last);
                const auto flip = [](const Operand& o, int64_t at) {
                    static_cast<std::byte*>(o.buffer->host())[o.offset + at] ^= std::byte{1};
                };
                const int64_t bytes = count_of(step.outputs[0].extents) * 8;
                if (fault == Fault::writes_before) flip(step.outputs[0], -1);
                if (fault == Fault::writes_past) flip(step.outputs[0], bytes);
                if (fault == Fault::changes_an_input) flip(step.inputs[0], 3);
                static int runs = 0;
                if (fault == Fault::sometimes_off && ++runs % 2 == 0) flip(step.outputs[0], 0);
            }
        };
        auto wrong = std::make_unique<Wrong>();
        wrong->step = steps.back();
        wrong->fault = fault_;
        wrong->right = oracle().prepare(std::move(steps), layout);
        return wrong;
    }

  private:
    Fault fault_;
};

}  // namespace busbar::conform
