#include "chips/plugin/plugin.h"

#include "base/check.h"
#include "chips/plugin/program.h"

namespace busbar {

namespace {

using namespace plugin;

uint64_t inside(const Buffer& buffer, uint64_t offset, uint64_t bytes) {
    BUSBAR_CHECK(offset <= buffer.bytes() && bytes <= buffer.bytes() - offset, "an access outside a buffer");
    return PluginBuffer::start() + offset;
}

class PluginDevice : public Device {
  public:
    explicit PluginDevice(const Address& address)
        : core_(std::make_shared<Core>(address)),
          claims_(std::make_shared<Claims>(core_)),
          profile_(claims_->profile()) {
        profile_.refuses = [claims = claims_](const KernelRow& row, const OpInstance& op) {
            return claims->refuses(row, op);
        };
    }

    const Profile& profile() const override { return profile_; }
    std::unique_ptr<Buffer> allocate(uint64_t bytes) override { return std::make_unique<PluginBuffer>(core_, bytes); }
    void write(Buffer& to, uint64_t offset, Bytes data) override {
        core_->write(handle(to), inside(to, offset, data.size()), data);
    }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> out) override {
        core_->read(handle(from), inside(from, offset, out.size()), out);
    }
    void copy(Buffer& to, uint64_t to_offset, const Buffer& from, uint64_t from_offset, uint64_t bytes) override {
        auto c = sized<busbar_copy>();
        c.from_buffer = handle(from);
        c.from_offset = inside(from, from_offset, bytes);
        c.to_buffer = handle(to);
        c.to_offset = inside(to, to_offset, bytes);
        c.bytes = bytes;
        if (bytes == 0) return;
        core_->call("copy", "", [c](const busbar_chip& chip, busbar_device device, busbar_error* error) {
            return chip.copy(device, &c, nullptr, error);
        });
    }

    std::unique_ptr<PackedWeight> pack(std::shared_ptr<const StoredTensor> tensor, const PackedForm& form) override {
        return pack_weight(core_, *tensor, form_of(form.name));
    }
    uint64_t page_bytes(const ValueType& state, Element element) const override {
        return claims_->page_bytes(state, element);
    }
    std::unique_ptr<Program> prepare(std::vector<ProgramStep> steps, const StepLayout& layout) override {
        return make_program(core_, *claims_, std::move(steps), layout);
    }

  private:
    static busbar_buffer handle(const Buffer& buffer) {
        const auto* own = dynamic_cast<const PluginBuffer*>(&buffer);
        BUSBAR_CHECK(own != nullptr, "a buffer of this device");
        return own->handle();
    }
    std::shared_ptr<Core> core_;
    std::shared_ptr<Claims> claims_;
    Profile profile_;
};

}  // namespace

std::unique_ptr<Device> make_plugin(std::string_view detail) {
    return std::make_unique<PluginDevice>(Address::parse(detail));
}

}  // namespace busbar
