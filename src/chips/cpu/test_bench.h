#pragma once
#include <gtest/gtest.h>

// GCC 12 takes the end of a list of Shapes for a use after free.
#pragma GCC diagnostic ignored "-Wuse-after-free"

#include <random>

#include "chips/cpu/cpu.h"
#include "ops/builder.h"

namespace busbar::cpu {

/// Evaluates what is emitted at once, in double precision: the oracle of all ops that have a definition in numbers.
class Eager : public Builder {
  public:
    int input(ValueType type, Array array) {
        types_.push_back(std::move(type));
        arrays_.push_back(std::move(array));
        return static_cast<int>(arrays_.size()) - 1;
    }
    int constant(Array array) override {
        std::vector<Dim> dims(array.extents.begin(), array.extents.end());
        return input({Kind::real, Shape(std::move(dims))}, std::move(array));
    }
    const ValueType& type_of(int value) const override { return types_[value]; }
    const Array& array(int value) const { return arrays_[value]; }
    Binding binding;

    std::vector<int> emit(const OpRow& op, std::span<const int> inputs, Attributes attributes) override {
        if (op.define != nullptr) return op.define(*this, inputs, attributes);
        std::vector<ValueType> in;
        for (int i : inputs) in.push_back(types_[i]);
        std::vector<Array> out;
        const std::vector<ValueType> types = op.infer(in, attributes);
        for (const ValueType& t : types) {
            out.push_back({t.shape.bind(binding), {}});
            out.back().data.resize(out.back().count());
        }
        std::vector<const Array*> arrays;
        for (int i : inputs) arrays.push_back(&arrays_[i]);
        op.evaluate(arrays, out, attributes);
        std::vector<int> values;
        for (size_t i = 0; i < out.size(); ++i) values.push_back(input(types[i], std::move(out[i])));
        return values;
    }

  private:
    std::vector<ValueType> types_;
    std::vector<Array> arrays_;
};

/// One op on the chip: buffers are made for its inputs and outputs, reals as f32. Outputs start as NaN, so that what a
/// kernel leaves out shows.
struct Bench {
    struct In {
        ValueType type;
        Array array;                                 ///< at capacity
        std::shared_ptr<const StoredTensor> weight;  ///< instead of the array's numbers
    };
    Device& device;
    const OpRow& op;
    Attributes attributes;
    Binding binding;                 ///< capacities
    int rows = -1, logit_rows = -1;  ///< active; -1: all
    std::string form = "";
    Element activation = Element::f64;  ///< of the row to take, f64: any

    std::vector<Array> run(const std::vector<In>& inputs) const {
        ProgramStep step;
        for (const KernelRow& row : device.profile().rows)
            if (row.op == &op && row.form == form &&
                (activation == Element::f64 || row.rounding.activation == activation))
                step.row = &row;
        EXPECT_NE(step.row, nullptr) << op.name;
        step.name = std::string(op.name);
        step.attributes = attributes;
        std::vector<std::unique_ptr<Buffer>> buffers;
        std::vector<std::unique_ptr<PackedWeight>> weights;
        std::vector<ValueType> types;
        for (const In& in : inputs) {
            Operand o;
            o.type = in.type;
            o.extents = in.type.shape.bind(binding);
            types.push_back(in.type);
            if (in.weight) {
                weights.push_back(
                    device.pack(in.weight, *device.profile().find_form(form.empty() ? "as_stored" : form)));
                o.where = Operand::Where::weight;
                o.weight = weights.back().get();
            } else {
                EXPECT_EQ(count_of(o.extents), static_cast<int64_t>(in.array.data.size()));
                buffers.push_back(device.allocate(4 * in.array.data.size()));
                o.buffer = buffers.back().get();
                fill(*o.buffer, in.array.data, in.type.kind);
            }
            step.inputs.push_back(std::move(o));
        }
        std::vector<Array> out;
        const std::vector<ValueType> out_types = op.infer(types, attributes);
        for (const ValueType& t : out_types) {
            Operand o;
            o.type = t;
            o.extents = t.shape.bind(binding);
            buffers.push_back(device.allocate(4 * count_of(o.extents)));
            o.buffer = buffers.back().get();
            out.push_back({o.extents, std::vector<double>(count_of(o.extents), NAN)});
            fill(*o.buffer, out.back().data, Kind::real);
            step.outputs.push_back(std::move(o));
        }
        StepLayout layout;
        layout.max_rows = binding.rows;
        layout.max_logit_rows = binding.logit_rows;
        StepRecord record(layout);
        record.header().rows = rows < 0 ? static_cast<int>(binding.rows) : rows;
        record.header().logit_rows = logit_rows < 0 ? static_cast<int>(binding.logit_rows) : logit_rows;
        const std::vector<Operand> outputs = step.outputs;
        std::vector<ProgramStep> steps;
        steps.push_back(std::move(step));
        device.prepare(std::move(steps), layout)->run(record.words());
        for (size_t i = 0; i < out.size(); ++i)
            for (int64_t at = 0; at < out[i].count(); ++at) {
                const auto* p = static_cast<const std::byte*>(outputs[i].buffer->host()) + 4 * at;
                out[i].data[at] =
                    out_types[i].kind == Kind::index ? load<int32_t>(p) : static_cast<double>(load<float>(p));
            }
        return out;
    }

    std::vector<Array> oracle(const std::vector<In>& inputs) const {
        Eager eager;
        eager.binding = binding;
        std::vector<int> in;
        for (const In& i : inputs) {
            Array a = i.array;
            a.extents = i.type.shape.bind(binding);
            in.push_back(eager.input(i.type, std::move(a)));
        }
        std::vector<Array> out;
        for (int value : eager.emit(op, in, attributes)) out.push_back(eager.array(value));
        return out;
    }

    static void fill(Buffer& buffer, const std::vector<double>& numbers, Kind kind) {
        for (size_t i = 0; i < numbers.size(); ++i) {
            auto* p = static_cast<std::byte*>(buffer.host()) + 4 * i;
            if (kind == Kind::index) {
                const auto n = static_cast<int32_t>(numbers[i]);
                std::memcpy(p, &n, 4);
            } else {
                const auto x = static_cast<float>(numbers[i]);
                std::memcpy(p, &x, 4);
            }
        }
    }
};

/// Distance of two f32 in steps of the wanted value's ULP (of the smallest normal, below it). Equal infinities and NaNs
/// are 0 apart.
inline double ulps(double got, double want) {
    const auto rounded = static_cast<float>(want);
    if (std::isnan(got) && std::isnan(want)) return 0;
    if (std::isinf(rounded) || std::isinf(got) || std::isnan(got) || std::isnan(want))
        return got == static_cast<double>(rounded) ? 0 : INFINITY;
    const int exponent = std::max(std::ilogb(std::max(std::fabs(want), 1e-45)), -126);
    return std::fabs(got - want) / std::ldexp(1.0, exponent - 23);
}

/// A fresh seed each run, printed where it is used.
inline uint64_t fresh_seed() {
    static const uint64_t seed =
        std::getenv("BUSBAR_SEED") ? std::strtoull(std::getenv("BUSBAR_SEED"), nullptr, 10) : std::random_device{}();
    static const bool printed = [] {
        return std::printf("seed %llu (BUSBAR_SEED repeats it)\n", static_cast<unsigned long long>(seed)) > 0;
    }();
    static_cast<void>(printed);
    return seed;
}

using Inputs = std::vector<Bench::In>;

/// Tests of ops, once per instruction set that this processor can run.
class CpuOps : public testing::TestWithParam<std::string> {
  protected:
    std::unique_ptr<Device> device = make_cpu(2, GetParam());
    std::mt19937_64 random{fresh_seed()};
    Array normal(std::vector<int64_t> extents, double spread = 1) {
        Array a{extents, std::vector<double>(count_of(extents))};
        std::normal_distribution<double> d(0, spread);
        for (double& x : a.data) x = static_cast<float>(d(random));
        return a;
    }
    // Numbers of all sizes, with the odd ones among them.
    Array wild(std::vector<int64_t> extents) {
        Array a = normal(std::move(extents));
        const double odd[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-40, -1e-45, 3e38, -3e38, 1e-38};
        for (double& x : a.data) {
            const auto pick = random() % 40;
            x = pick < std::size(odd)
                    ? static_cast<double>(static_cast<float>(odd[pick]))
                    : static_cast<double>(static_cast<float>(std::ldexp(x, static_cast<int>(random() % 60) - 30)));
        }
        return a;
    }
    void compare(const Array& got, const Array& want, double limit, int64_t active = -1) {
        ASSERT_EQ(got.data.size(), want.data.size());
        const int64_t n = active < 0 ? want.count() : active;
        for (int64_t i = 0; i < n; ++i)
            ASSERT_LE(ulps(got.data[i], want.data[i]), limit)
                << "at " << i << ": got " << got.data[i] << ", want " << want.data[i];
    }
};

inline ValueType reals(std::initializer_list<Dim> dims) {
    return {Kind::real, Shape(dims)};
}
inline ValueType index(std::initializer_list<Dim> dims) {
    return {Kind::index, Shape(dims)};
}

#define BUSBAR_EACH_ISA(suite)                                                 \
    INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::ValuesIn(usable_cpu_isas()), \
                             [](const auto& info) { return info.param; })

}  // namespace busbar::cpu
