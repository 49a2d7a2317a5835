// Ops on each element, with NumPy's broadcasting.
#include <array>
#include <cmath>

#include "chips/cpu/step.h"
#include "ops/infer.h"

namespace busbar::cpu {

namespace {

constexpr int64_t grain = 8192;

// The walk of N inputs over an output as runs along its last axis. Axes that all inputs walk in step are merged, so
// that equal extents, a row vector over rows and a scalar all become long runs. The leading axis stays apart: its count
// varies.
template <size_t N>
class Broadcast {
  public:
    Broadcast(const Place& y, const std::array<const Place*, N>& in) {
        const std::vector<int64_t>& over = y.extents();
        std::array<std::vector<int64_t>, N> strides;
        for (size_t i = 0; i < N; ++i) strides[i] = broadcast_strides(in[i]->extents(), over);
        for (size_t i = 0; i < N; ++i) leading_[i] = over.empty() ? 0 : strides[i][0];
        for (size_t axis = 1; axis < over.size(); ++axis) {
            if (over[axis] == 1) continue;
            Axis next{over[axis], {}};
            for (size_t i = 0; i < N; ++i) next.stride[i] = strides[i][axis];
            bool merge = !axes_.empty();
            for (size_t i = 0; i < N && merge; ++i) merge = axes_.back().stride[i] == next.stride[i] * next.extent;
            if (merge) {
                axes_.back().extent *= next.extent;
                axes_.back().stride = next.stride;
            } else {
                axes_.push_back(next);
            }
        }
        if (axes_.empty()) axes_.push_back({1, {}});
        run_ = axes_.back();
        axes_.pop_back();
        for (const Axis& a : axes_) outer_ *= a.extent;
        // The leading axis joins a single run if every input steps over exactly that run, or stays where it is all
        // along.
        flat_ = axes_.empty();
        for (size_t i = 0; i < N; ++i)
            flat_ = flat_ && leading_[i] == run_.extent * run_.stride[i] && (run_.extent > 1 || leading_[i] <= 1);
        if (axes_.empty() && run_.extent == 1) {  // a column: the leading axis is the run
            flat_ = true;
            run_.stride = leading_;
        }
        whole_ = outer_ * run_.extent;
    }

    int64_t units(int64_t leading) const {
        return flat_ ? units_of(leading * whole_, grain) : units_of(leading * outer_, runs_per_unit());
    }

    /// fn(offset of each input, its step (0 or 1), offset in the output, count)
    template <typename F>
    void unit(int64_t leading, int64_t unit, F fn) const {
        if (flat_) {
            const int64_t begin = unit * grain, n = std::min(grain, leading * whole_ - begin);
            std::array<int64_t, N> at;
            for (size_t i = 0; i < N; ++i) at[i] = begin * run_.stride[i];
            fn(at, run_.stride, begin, n);
            return;
        }
        const int64_t begin = unit * runs_per_unit(), end = std::min(begin + runs_per_unit(), leading * outer_);
        for (int64_t r = begin; r < end; ++r) {
            int64_t rest = r % outer_;
            std::array<int64_t, N> at;
            for (size_t i = 0; i < N; ++i) at[i] = r / outer_ * leading_[i];
            for (size_t axis = axes_.size(); axis-- > 0; rest /= axes_[axis].extent)
                for (size_t i = 0; i < N; ++i) at[i] += rest % axes_[axis].extent * axes_[axis].stride[i];
            fn(at, run_.stride, r * run_.extent, run_.extent);
        }
    }

  private:
    struct Axis {
        int64_t extent = 1;
        std::array<int64_t, N> stride{};
    };
    int64_t runs_per_unit() const { return std::max<int64_t>(1, grain / std::max<int64_t>(run_.extent, 1)); }
    std::vector<Axis> axes_;
    Axis run_;
    std::array<int64_t, N> leading_{};
    int64_t outer_ = 1, whole_ = 1;
    bool flat_ = false;
};

class BinaryStep : public Step {
  public:
    BinaryStep(const Prepare& p, Kernels::Binary kernel)
        : kernel_(kernel), a_(p.in(0)), b_(p.in(1)), y_(p.out(0)), walk_(y_, {&a_, &b_}) {}
    int64_t units(const Run& run, int) const override { return walk_.units(y_.leading(run)); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        walk_.unit(y_.leading(run), unit, [&](const auto& at, const auto& step, int64_t to, int64_t n) {
            kernel_(a_.reals(run) + at[0], step[0], b_.reals(run) + at[1], step[1], y_.reals(run) + to, n);
        });
    }

  private:
    Kernels::Binary kernel_;
    Place a_, b_, y_;
    Broadcast<2> walk_;
};

class UnaryStep : public Step {
  public:
    UnaryStep(const Prepare& p, Kernels::Unary kernel) : kernel_(kernel), x_(p.in(0)), y_(p.out(0)) {}
    int64_t units(const Run& run, int) const override { return units_of(y_.count(run), grain); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * grain;
        kernel_(x_.reals(run) + begin, y_.reals(run) + begin, std::min(grain, y_.count(run) - begin));
    }

  private:
    Kernels::Unary kernel_;
    Place x_, y_;
};

class GatedStep : public Step {
  public:
    explicit GatedStep(const Prepare& p) : kernel_(p.kernels.gated_silu), gate_(p.in(0)), up_(p.in(1)), y_(p.out(0)) {}
    int64_t units(const Run& run, int) const override { return units_of(y_.count(run), grain); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t begin = unit * grain;
        kernel_(gate_.reals(run) + begin, up_.reals(run) + begin, y_.reals(run) + begin,
                std::min(grain, y_.count(run) - begin));
    }

  private:
    void (*kernel_)(const float*, const float*, float*, int64_t);
    Place gate_, up_, y_;
};

class SelectStep : public Step {
  public:
    explicit SelectStep(const Prepare& p)
        : mask_(p.in(0)), a_(p.in(1)), b_(p.in(2)), y_(p.out(0)), walk_(y_, {&mask_, &a_, &b_}) {}
    int64_t units(const Run& run, int) const override { return walk_.units(y_.leading(run)); }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int32_t* mask = mask_.indices(run);
        walk_.unit(y_.leading(run), unit, [&](const auto& at, const auto& step, int64_t to, int64_t n) {
            for (int64_t i = 0; i < n; ++i)
                y_.reals(run)[to + i] = mask[at[0] + i * step[0]] != 0 ? value(run, a_, at[1] + i * step[1])
                                                                       : value(run, b_, at[2] + i * step[2]);
        });
    }

  private:
    // An index that is selected becomes a number: how a definition turns positions into reals.
    static float value(const Run& run, const Place& p, int64_t at) {
        return p.kind() == Kind::index ? static_cast<float>(p.indices(run)[at]) : p.reals(run)[at];
    }
    Place mask_, a_, b_, y_;
    Broadcast<3> walk_;
};

// Used by definitions only: the math library in double is right for every argument.
void cosines(const float* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(std::cos(static_cast<double>(x[i])));
}
void sines(const float* x, float* y, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(std::sin(static_cast<double>(x[i])));
}

}  // namespace

std::unique_ptr<Step> make_add(const Prepare& p) {
    return std::make_unique<BinaryStep>(p, p.kernels.add);
}
std::unique_ptr<Step> make_subtract(const Prepare& p) {
    return std::make_unique<BinaryStep>(p, p.kernels.subtract);
}
std::unique_ptr<Step> make_multiply(const Prepare& p) {
    return std::make_unique<BinaryStep>(p, p.kernels.multiply);
}
std::unique_ptr<Step> make_divide(const Prepare& p) {
    return std::make_unique<BinaryStep>(p, p.kernels.divide);
}
std::unique_ptr<Step> make_exp(const Prepare& p) {
    return std::make_unique<UnaryStep>(p, p.kernels.exp);
}
std::unique_ptr<Step> make_rsqrt(const Prepare& p) {
    return std::make_unique<UnaryStep>(p, p.kernels.rsqrt);
}
std::unique_ptr<Step> make_silu(const Prepare& p) {
    return std::make_unique<UnaryStep>(p, p.kernels.silu);
}
std::unique_ptr<Step> make_cos(const Prepare& p) {
    return std::make_unique<UnaryStep>(p, cosines);
}
std::unique_ptr<Step> make_sin(const Prepare& p) {
    return std::make_unique<UnaryStep>(p, sines);
}
std::unique_ptr<Step> make_gated_silu(const Prepare& p) {
    return std::make_unique<GatedStep>(p);
}
std::unique_ptr<Step> make_select(const Prepare& p) {
    return std::make_unique<SelectStep>(p);
}

}  // namespace busbar::cpu
