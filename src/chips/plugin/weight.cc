#include <algorithm>
#include <cstring>

#include "chips/plugin/program.h"

namespace busbar::plugin {

Weight::~Weight() {
    if (handle)
        core->call_to_free([h = handle](const busbar_chip& chip, busbar_device device, busbar_error* error) {
            return chip.weight_free(device, h, error);
        });
}

namespace {

// Rows decoded a few at a time: the whole of an embedding in f32 need not lie in the host's memory.
void upload_decoded(PluginBuffer& to, const StoredTensor& t) {
    const int64_t width = t.width(), rows = width > 0 ? t.count() / width : 0;
    const int64_t together =
        std::clamp<int64_t>((1 << 20) / std::max<int64_t>(width, 1), 1, std::max<int64_t>(rows, 1));
    std::vector<float> decoded(static_cast<size_t>(together * width));
    for (int64_t r = 0; r < rows; r += together) {
        const int64_t n = std::min(together, rows - r);
        const size_t numbers = static_cast<size_t>(n * width);
        t.encoding->decode(t.bytes.data() + static_cast<uint64_t>(r) * t.encoding->row_bytes(width), decoded.data(),
                           numbers / t.encoding->block);
        to.core().write(to.handle(), PluginBuffer::start() + static_cast<uint64_t>(r * width) * sizeof(float),
                        std::as_bytes(std::span(decoded.data(), numbers)));
    }
}

}  // namespace

std::unique_ptr<PackedWeight> pack_weight(const std::shared_ptr<Core>& core, const StoredTensor& t, Form form) {
    if (t.width() % t.encoding->block != 0)
        throw bad_input(t.name, "[plugin] expected rows of whole blocks of {} in {}, got a width of {}",
                        t.encoding->block, t.encoding->name, t.width());
    auto weight = std::make_unique<Weight>();
    weight->core = core;
    weight->tensor = describe_weight(*t.encoding, t.shape, form);
    const uint64_t stored = describe_weight(*t.encoding, t.shape, Form::stored).bytes;
    if (t.bytes.size() < stored)
        throw bad_input(t.name, "[plugin] expected {} bytes of weights, got {}", with_commas(stored),
                        with_commas(t.bytes.size()));
    if (form == Form::packed) {
        struct Packing {
            std::string name;
            busbar_tensor described;
            std::vector<std::byte> bytes;  // of the call's own: it might never return
            busbar_weight handle = nullptr;
            uint64_t kept = 0;
        };
        const auto packing = std::make_shared<Packing>();
        packing->name = t.name;
        packing->described = describe_weight(*t.encoding, t.shape, Form::stored);
        packing->described.name = packing->name.c_str();
        packing->bytes.assign(t.bytes.begin(), t.bytes.begin() + static_cast<int64_t>(stored));
        core->call("pack_weight", t.name,
                   [packing](const busbar_chip& chip, busbar_device device, busbar_error* error) {
                       return chip.pack_weight(device, &packing->described, packing->bytes.data(), &packing->handle,
                                               &packing->kept, error);
                   });
        weight->handle = packing->handle;
        if (!weight->handle)
            throw chip_error(core->where(t.name), "[plugin] pack_weight: expected a weight, got a null pointer");
        weight->kept = packing->kept;
        weight->tensor.weight = weight->handle;
        return weight;
    }
    weight->kept = weight->tensor.bytes;
    weight->buffer = std::make_unique<PluginBuffer>(core, weight->kept);
    weight->tensor.buffer = weight->buffer->handle();
    weight->tensor.offset = PluginBuffer::start();
    if (form == Form::stored) {
        core->write(weight->buffer->handle(), PluginBuffer::start(), t.bytes.first(stored));
    } else {
        upload_decoded(*weight->buffer, t);
    }
    return weight;
}

}  // namespace busbar::plugin
