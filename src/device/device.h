#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "device/profile.h"
#include "device/step_record.h"

namespace busbar {

/// Memory of a chip.
class Buffer {
  public:
    virtual ~Buffer() = default;
    virtual uint64_t bytes() const = 0;
    /// The memory itself on chips with host_memory, else nullptr.
    virtual void* host() { return nullptr; }
};

/// A weight in one of the chip's packed forms. In place: it keeps the mapping alive.
class PackedWeight {
  public:
    virtual ~PackedWeight() = default;
    /// Memory of its own, 0 in place.
    virtual uint64_t bytes() const = 0;
};

/// One input or output of a step, resolved: where the plan put it.
struct Operand {
    ValueType type;                  ///< extents with symbols; the leading symbol's active count is in the step header
    std::vector<int64_t> extents;    ///< bound to the plan's capacities
    Element element = Element::f32;  ///< of reals and states; indices are i32
    enum class Where : uint8_t { buffer, weight, step } where = Where::buffer;
    Buffer* buffer = nullptr;  ///< scratch, constant or state
    uint64_t offset = 0;       ///< bytes in buffer; 32-bit words in the step record
    const PackedWeight* weight = nullptr;
};

struct ProgramStep {
    const KernelRow* row = nullptr;
    std::string name;  ///< the node's, for errors and traces
    Attributes attributes;
    std::vector<Operand> inputs, outputs;
};

/// Steps prepared once and replayed; what varies comes in the step record.
class Program {
  public:
    virtual ~Program() = default;
    /// Runs steps first .. last - 1 on this record and returns when they are done. Allocates nothing, decides nothing.
    /// `words` has the layout given to prepare(). In parts or at once: the same bits. Throws Error{chip} if the chip
    /// failed, ChipLost if it is gone for good.
    virtual void run_steps(std::span<const int32_t> words, size_t first, size_t last) = 0;
    /// How many it was prepared from.
    virtual size_t steps() const = 0;
    void run(std::span<const int32_t> words) { run_steps(words, 0, steps()); }
};

/// The chip contract inside the program. A device answers through its profile and receives work; it never calls upwards
/// and knows no models. Not thread-safe: one caller at a time.
class Device {
  public:
    virtual ~Device() = default;
    virtual const Profile& profile() const = 0;
    /// Measures what the chip can read and multiply, a fraction of a second, and enters it in the profile. Never on the
    /// way to a first token.
    virtual void measure() {}

    /// Zeroed, aligned to 64 bytes or more. Throws Error{does_not_fit} with the numbers.
    virtual std::unique_ptr<Buffer> allocate(uint64_t bytes) = 0;
    virtual void write(Buffer& to, uint64_t offset, Bytes data) = 0;
    virtual void read(const Buffer& from, uint64_t offset, std::span<std::byte> out) = 0;
    virtual void copy(Buffer& to, uint64_t to_offset, const Buffer& from, uint64_t from_offset, uint64_t bytes) = 0;

    /// Load stage: converts a frozen weight to `form` without loss.
    virtual std::unique_ptr<PackedWeight> pack(std::shared_ptr<const StoredTensor> tensor, const PackedForm& form) = 0;

    /// The same in memory of the caller's that lives as long as `owner`, form.bytes(*tensor) of it, for forms with a
    /// layout number. `packed`: it holds the weight already, as pack_at left it in an earlier run; nullptr if a look at
    /// it shows that it does not.
    virtual std::unique_ptr<PackedWeight> pack_at(std::shared_ptr<const StoredTensor> tensor, const PackedForm& form,
                                                  std::span<std::byte> memory, bool packed,
                                                  std::shared_ptr<const void> owner) {
        BUSBAR_CHECK(false, "a form that is not kept: " + form.name);
    }

    /// Bytes of one page (64 positions) of a state of this type kept in `element`. Page p of a state's buffer starts at
    /// p times this, so that whole pages can be copied (fork), read back (snapshot) and written (restore) without
    /// knowing their layout.
    virtual uint64_t page_bytes(const ValueType& state, Element element) const = 0;

    /// Memory of its own that the programs prepared so far work in, beyond buffers and weights.
    virtual uint64_t working_bytes() const { return 0; }

    virtual std::unique_ptr<Program> prepare(std::vector<ProgramStep> steps, const StepLayout& layout) = 0;
};

}  // namespace busbar
