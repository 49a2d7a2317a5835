// The table, and what happens around a kernel: results that come late, inputs that are old, devices that go.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <new>
#include <thread>

#include "faulty.h"

namespace {

using namespace faulty;

int32_t device_info(const busbar_setup* setup, busbar_device_info* info, busbar_error* error) {
    if (setup->index > 0) return busbar_fail(error, BUSBAR_NOT_FOUND, "there is one device");
    busbar_device_info mine = {};
    const uint32_t size = info->struct_size;
    std::strcpy(mine.name, "faulty");
    std::string detail = "fault none";
    for (uint32_t i = 0; i < setup->option_count; ++i)
        if (std::strcmp(setup->keys[i], "fault") == 0) detail = std::string("fault ") + setup->values[i];
    std::strncpy(mine.detail, detail.c_str(), sizeof mine.detail - 1);
    std::strcpy(mine.maker, "Busbar's examples");
    mine.flags = BUSBAR_UNIFIED_MEMORY | BUSBAR_DETERMINISTIC;
    mine.threads = 2;
    mine.rate_count = 1;
    mine.rates[0] = {BUSBAR_F32, BUSBAR_F32, 2e10, BUSBAR_UNKNOWN, 0};
    mine.read_bytes_per_s = 8e9;
    mine.cache_element_count = 3;
    mine.cache_elements[0] = BUSBAR_F32;
    mine.cache_elements[1] = BUSBAR_F16;
    mine.cache_elements[2] = BUSBAR_BF16;
    std::memcpy(info, &mine, size < sizeof mine ? size : sizeof mine);
    info->struct_size = size;
    return BUSBAR_OK;
}

int32_t device_open(const busbar_setup* setup, busbar_device* device, busbar_error* error) {
    auto made = std::make_unique<busbar_device_of_chip>();
    int threads = static_cast<int>(std::thread::hardware_concurrency() >= 2 ? 2 : 1);
    for (uint32_t i = 0; i < setup->option_count; ++i) {
        const std::string key = setup->keys[i], value = setup->values[i];
        std::string wrong;
        if (key == "threads" && std::atoi(value.c_str()) > 0)
            threads = std::atoi(value.c_str());
        else if (key == "memory" && std::atoll(value.c_str()) > 0)
            made->memory = std::strtoull(value.c_str(), nullptr, 10);
        else if (key == "orders")
            made->orders.path = value;
        else
            wrong = made->fault.set(key, value);
        if (!wrong.empty()) return busbar_fail(error, BUSBAR_BAD_ARGUMENT, wrong.c_str());
    }
    Fault old;
    made->orders.look(0, &old);
    made->team = std::make_unique<Team>(threads);
    *device = made.release();
    return BUSBAR_OK;
}

int32_t device_close(busbar_device device, busbar_error*) {
    delete device;
    return BUSBAR_OK;
}

int32_t take(busbar_device device, uint64_t bytes, busbar_error* error) {
    if (device->memory > 0 && bytes > device->memory - device->used) {
        const std::string why = "expected " + std::to_string(bytes) + " bytes, " +
                                std::to_string(device->memory - device->used) + " of " +
                                std::to_string(device->memory) + " are free";
        return busbar_fail(error, BUSBAR_NO_MEMORY, why.c_str());
    }
    device->used += bytes;
    return BUSBAR_OK;
}

int32_t buffer_alloc(busbar_device device, uint32_t kind, uint64_t bytes, busbar_buffer* out, busbar_error* error) {
    if (kind != 0) return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "expected memory kind 0");
    if (device->lost) return busbar_fail(error, BUSBAR_LOST, "the device was lost");
    if (const int32_t status = take(device, bytes, error); status != BUSBAR_OK) return status;
    auto buffer = std::make_unique<busbar_buffer_of_chip>();
    void* memory = nullptr;
    // A little more than asked for, so that overrun breaks the host's guard bytes and not the heap.
    if (bytes > (uint64_t{1} << 46) || posix_memalign(&memory, 64, bytes + 64) != 0)
        return busbar_fail(error, BUSBAR_NO_MEMORY, "the system has no memory of that size left");
    std::memset(memory, 0, bytes + 64);
    buffer->bytes = static_cast<unsigned char*>(memory);
    buffer->size = bytes;
    *out = buffer.release();
    return BUSBAR_OK;
}

int32_t buffer_free(busbar_device device, busbar_buffer buffer, busbar_error*) {
    device->step_now = {nullptr, 0};  // a program may have gone, and the next one may lie where it lay
    device->used -= device->memory > 0 ? buffer->size : 0;
    // What has not arrived by now never will.
    const auto *begin = reinterpret_cast<float*>(buffer->bytes), *end = begin + buffer->size / 4;
    auto& late = device->late;
    late.erase(std::remove_if(late.begin(), late.end(), [&](const auto& l) { return l.to >= begin && l.to < end; }),
               late.end());
    std::free(buffer->bytes);
    delete buffer;
    return BUSBAR_OK;
}

int32_t copy(busbar_device device, const busbar_copy* c, busbar_stream, busbar_error* error) {
    if (device->lost) return busbar_fail(error, BUSBAR_LOST, "the device was lost");
    if (c->required != 0) return busbar_fail(error, BUSBAR_REFUSED, "a copy of a new kind");
    const auto* from = c->from_buffer ? c->from_buffer->bytes : static_cast<const unsigned char*>(c->from);
    auto* to = c->to_buffer ? c->to_buffer->bytes : const_cast<unsigned char*>(static_cast<unsigned char*>(c->to));
    if ((c->from_buffer && c->from_offset + c->bytes > c->from_buffer->size) ||
        (c->to_buffer && c->to_offset + c->bytes > c->to_buffer->size))
        return busbar_fail(error, BUSBAR_BAD_ARGUMENT, "a copy past the end of a buffer");
    std::memcpy(to + c->to_offset, from + c->from_offset, c->bytes);
    return BUSBAR_OK;
}

struct Claimed {
    uint32_t op;
    double ulp;  // of its exp, sin ... : computed in double, rounded once
    std::vector<const char*> attributes;
};
const std::vector<Claimed>& claimed() {
    static const std::vector<Claimed> all = {
        {BUSBAR_OP_ADD, 0, {}},
        {BUSBAR_OP_SUBTRACT, 0, {}},
        {BUSBAR_OP_MULTIPLY, 0, {}},
        {BUSBAR_OP_DIVIDE, 0, {}},
        {BUSBAR_OP_EXP, 1, {}},
        {BUSBAR_OP_RSQRT, 1, {}},
        {BUSBAR_OP_COS, 1, {}},
        {BUSBAR_OP_SIN, 1, {}},
        {BUSBAR_OP_MEAN, 0, {}},
        {BUSBAR_OP_SUM, 0, {}},
        {BUSBAR_OP_MAX, 0, {}},
        {BUSBAR_OP_MATMUL, 0, {}},
        {BUSBAR_OP_BATCH_MATMUL, 0, {}},
        {BUSBAR_OP_GATHER_ROWS, 0, {}},
        {BUSBAR_OP_TRANSPOSE, 0, {"order"}},
        {BUSBAR_OP_SLICE, 0, {"begin", "end", "step"}},
        {BUSBAR_OP_CONCAT, 0, {}},
        {BUSBAR_OP_SELECT, 0, {}},
        {BUSBAR_OP_CACHE_APPEND, 0, {}},
        {BUSBAR_OP_CACHE_GATHER, 0, {}},
        {BUSBAR_OP_CACHE_MASK, 0, {"window"}},
        {BUSBAR_OP_RMS_NORM, 1, {"epsilon"}},
        {BUSBAR_OP_SOFTMAX, 1, {}},
        {BUSBAR_OP_SILU, 1, {}},
        {BUSBAR_OP_ROTARY_TABLE, 1, {"scale"}},
        {BUSBAR_OP_ROTATE, 0, {"pairing"}},
        {BUSBAR_OP_ATTENTION, 1, {"scale", "window"}},
        {BUSBAR_OP_ADD_RMS_NORM, 1, {"epsilon"}},
        {BUSBAR_OP_GATED_SILU, 1, {}},
        {BUSBAR_OP_MULTI_MATMUL, 0, {}},
    };
    return all;
}

// "" if the tensor is one that this chip reads.
std::string unreadable(const busbar_tensor& t) {
    if (t.required != 0) return "a tensor of a new kind";
    if (t.kind != BUSBAR_REAL && t.kind != BUSBAR_INDEX && t.kind != BUSBAR_STATE) return "a tensor of a new kind";
    if (t.kind == BUSBAR_INDEX) return t.element == BUSBAR_I32 ? "" : "indices other than i32";
    if (t.kind == BUSBAR_STATE)
        return t.element == BUSBAR_F32 || t.element == BUSBAR_F16 || t.element == BUSBAR_BF16
                   ? ""
                   : "a state in another element than f32, f16 and bf16";
    if (t.where == BUSBAR_IN_WEIGHT) return knows(t) ? "" : "a weight in an encoding that is new to this chip";
    return t.element == BUSBAR_F32 && t.scale == BUSBAR_SCALE_NONE && t.layout == BUSBAR_LAYOUT_PLAIN
               ? ""
               : "values other than plain f32";
}

int32_t claim(busbar_device device, const busbar_op* op, busbar_claim* claim, busbar_error* error) {
    if (device->lost) return busbar_fail(error, BUSBAR_LOST, "the device was lost");
    const Claimed* found = nullptr;
    for (const Claimed& c : claimed())
        if (c.op == op->op) found = &c;
    if (!found || op->schema != 1 || op->required != 0) return busbar_refuse(claim, "an op that is new to this chip");
    if (device->fault.is("refuse") && device->fault.op == op->op_name) return busbar_refuse(claim, "told to refuse it");
    for (uint32_t i = 0; i < op->attribute_count; ++i) {
        bool known = (op->attributes[i]->flags & BUSBAR_MUST_UNDERSTAND) == 0;
        for (const char* name : found->attributes) known |= std::strcmp(name, op->attributes[i]->name) == 0;
        if (!known) return busbar_refuse(claim, "an attribute that is new to this chip");
    }
    for (uint32_t i = 0; i < op->input_count + op->output_count; ++i) {
        const std::string why = unreadable(i < op->input_count ? *op->inputs[i] : *op->outputs[i - op->input_count]);
        if (!why.empty()) return busbar_refuse(claim, why.c_str());
    }
    claim->verdict = BUSBAR_YES;
    claim->flags = BUSBAR_INVARIANT;
    claim->activation = BUSBAR_F32;
    claim->accumulate = BUSBAR_F32;
    claim->transcendental_ulp = found->ulp;
    claim->share_of_peak = 0.5;
    claim->weight_bits = 32;
    return BUSBAR_OK;
}

int32_t pack_weight(busbar_device device, const busbar_tensor* stored, const void* bytes, busbar_weight* out,
                    uint64_t* kept, busbar_error* error) {
    auto weight = std::make_unique<busbar_weight_of_chip>();
    weight->name = stored->name ? stored->name : "";
    weight->width = stored->rank > 0 ? stored->extents[stored->rank - 1] : 1;
    weight->rows = 1;
    for (uint32_t axis = 0; axis + 1 < stored->rank; ++axis) weight->rows *= stored->extents[axis];
    const auto numbers = static_cast<uint64_t>(weight->rows * weight->width);
    if (const int32_t status = take(device, numbers * 4, error); status != BUSBAR_OK) return status;
    weight->numbers.resize(numbers);
    const Fault& fault = device->fault;
    const int64_t layer = layer_in(weight->name.c_str());
    const bool here = fault.layer < 0 || fault.layer == layer;
    int64_t shift = 0;
    if (fault.is("scale_off_by_one") && here)
        shift = fault.size >= 0 ? static_cast<int64_t>(fault.size) : static_cast<int64_t>(numbers);
    if (!decode(*stored, static_cast<const unsigned char*>(bytes), weight->rows, weight->numbers.data(), shift,
                fault.is("bf16_flush") && here))
        return busbar_fail(error, BUSBAR_REFUSED, "an encoding that was not claimed");
    if (fault.is("one_weight") && here && !device->one_weight_done && numbers > 0 &&
        (fault.layer >= 0 || layer < 0 || layer == 0)) {
        device->one_weight_done = true;
        uint32_t bits;
        float& x = weight->numbers[numbers / 2];
        std::memcpy(&bits, &x, 4);
        bits ^= 1u << (static_cast<int>(fault.size_or(27)) & 31);
        std::memcpy(&x, &bits, 4);
    }
    *kept = numbers * 4;
    device->weights[weight->name] = weight.get();
    *out = weight.release();
    return BUSBAR_OK;
}

int32_t weight_free(busbar_device device, busbar_weight weight, busbar_error*) {
    device->used -= device->memory > 0 ? weight->numbers.size() * 4 : 0;
    const auto found = device->weights.find(weight->name);
    if (found != device->weights.end() && found->second == weight) device->weights.erase(found);
    delete weight;
    return BUSBAR_OK;
}

// A number that looks random but is the same every time: of a call and a place.
uint64_t scrambled(uint64_t a, uint64_t b) {
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x632BE59BD9B4E019u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

unsigned char* bytes_of(const busbar_tensor& t) {
    return t.buffer->bytes + t.offset;
}

// The first input as it was when this node ran the last time.
std::string run_on_stale(const Run& r) {
    const busbar_tensor& x = r.in(0);
    std::vector<unsigned char> now(bytes_of(x), bytes_of(x) + x.bytes);
    std::vector<unsigned char>& before = r.device->before[r.op.node_name];
    if (before.size() == now.size()) std::memcpy(bytes_of(x), before.data(), now.size());
    std::string wrong = run(r);
    std::memcpy(bytes_of(x), now.data(), now.size());
    before = std::move(now);
    return wrong;
}

// The result arrives only after the next op has run.
std::string run_late(const Run& r) {
    const busbar_tensor& y = r.out(0);
    std::vector<float> before(r.reals(y), r.reals(y) + y.bytes / 4);
    std::string wrong = run(r);
    r.device->late.push_back({r.reals(y), {r.reals(y), r.reals(y) + y.bytes / 4}, 2});
    std::memcpy(r.reals(y), before.data(), y.bytes);
    return wrong;
}

void deliver(busbar_device device) {
    std::vector<busbar_device_of_chip::Late> waiting;
    for (auto& late : device->late) {
        if (--late.calls_left > 0)
            waiting.push_back(std::move(late));
        else
            std::memcpy(late.to, late.numbers.data(), late.numbers.size() * 4);
    }
    device->late = std::move(waiting);
}

void make_rare(const Run& r) {
    for (uint32_t o = 0; o < r.op.output_count; ++o) {
        if (r.out(o).kind != BUSBAR_REAL) continue;
        float* y = r.reals(r.out(o));
        const int64_t n = r.count(r.out(o));
        for (int64_t i = 0; i < n; ++i)
            if (scrambled(r.device->calls * 8 + o, static_cast<uint64_t>(i)) % 10000 == 0)
                y[i] = static_cast<float>(y[i] * (1 + r.device->fault.size_or(0.0625)));
    }
}

std::string run_one(const Run& r) {
    const Fault& fault = r.device->fault;
    if (!r.hit) return run(r);
    if (fault.is("hang")) {
        const auto begin = std::chrono::steady_clock::now();
        do std::this_thread::sleep_for(std::chrono::milliseconds(20));
        while (fault.size < 0 || std::chrono::steady_clock::now() - begin < std::chrono::duration<double>(fault.size));
        r.device->fault = {};  // once
        return run(r);
    }
    if (fault.is("slow"))
        std::this_thread::sleep_for(std::chrono::microseconds(static_cast<int64_t>(1000 * fault.size_or(1))));
    if (fault.is("noop_kernel")) return "";
    if (fault.is("stale_buffer") && r.in(0).where == BUSBAR_IN_BUFFER) return run_on_stale(r);
    if (fault.is("missing_sync") && r.out(0).kind == BUSBAR_REAL &&
        scrambled(r.device->calls, 1) % 1000 < static_cast<uint64_t>(1000 * fault.size_or(0.05)))
        return run_late(r);
    std::string wrong = run(r);
    if (fault.is("rare")) make_rare(r);
    if (fault.is("overrun")) {
        busbar_buffer b = r.out(0).buffer;
        b->bytes[b->size - 1] ^= 1;
    }
    return wrong;
}

int32_t run_ops(busbar_device device, const busbar_op* const* ops, uint32_t count, const busbar_step* step,
                busbar_stream, busbar_error* error) {
    try {
        if (const auto now = std::make_pair(static_cast<const void*>(step), step->number); now != device->step_now) {
            device->step_now = now;
            device->orders.look(device->steps, &device->fault);
            ++device->steps;
        }
        for (uint32_t i = 0; i < count; ++i) {
            const bool hit = device->fault.hits(*ops[i], *step, device->steps);
            if (hit && device->fault.is("lost")) device->lost = true;
            if (device->lost) return busbar_fail_op(error, BUSBAR_LOST, ops[i], "the device fell off the bus");
            ++device->calls;
            const std::string wrong = run_one({device, *ops[i], *step, hit});
            if (!wrong.empty()) return busbar_fail_op(error, BUSBAR_FAILED, ops[i], wrong.c_str());
            deliver(device);
        }
    } catch (const std::bad_alloc&) {
        return busbar_fail(error, BUSBAR_NO_MEMORY, "the system has no memory left for an op's own");
    }
    return BUSBAR_OK;
}

}  // namespace

int32_t busbar_chip_0(const busbar_host*, busbar_chip* chip, busbar_error*) {
    busbar_chip mine = {};
    mine.struct_size = sizeof mine;
    mine.version = BUSBAR_CHIP_VERSION;
    mine.device_info = device_info;
    mine.device_open = device_open;
    mine.device_close = device_close;
    mine.buffer_alloc = buffer_alloc;
    mine.buffer_free = buffer_free;
    mine.copy = copy;
    mine.claim = claim;
    mine.run_ops = run_ops;
    mine.pack_weight = pack_weight;
    mine.weight_free = weight_free;
    return busbar_give_chip(chip, &mine);
}
