#pragma once
#include <map>
#include <string>
#include <vector>

#include "run/loaded_model.h"

namespace busbar::agree {

/// What a chip declares that it rounds, by op: the worst over the kernel rows that its plans use.
struct Declared {
    std::map<const OpRow*, Rounding> by_op;
    Rounding worst;  ///< for ops that its plans do not have under this name
    Element real = Element::f32, cache = Element::f32;
    const Rounding& of(const OpRow& op) const;
    /// Equal words, equal noise: for the key of a cached bar.
    std::string print() const;
};
Declared declared_by(const LoadedModel& model);

/// Adds to every output of every node of the oracle, as it runs, independent noise of the standard deviation that the
/// roundings declared by the chip and those of the oracle itself predict (docs/agreement.md, "The bar"). States get the
/// rounding of the chip's cache element where they are appended.
class Noise : public StepObserver {
  public:
    Noise(const LoadedModel& oracle, Declared chip);
    void set_seed(uint64_t seed);
    void before(LoadedModel& model, size_t bucket, size_t index) override;
    void after(LoadedModel& model, size_t bucket, size_t index) override;

  private:
    struct Site;
    struct Variance;
    double normal();
    const std::vector<double>& weight_norms(const LoadedModel& model, size_t bucket, int chip, int value);
    void perturb(Array& y, const Variance& v);
    void add_product(LoadedModel& model, const Site& site, size_t output, const Rounding& rounding, const Array& x,
                     Variance& v);
    void add_rotary_table(LoadedModel& model, const Site& site, const Array& y, const Rounding& rounding, Element real,
                          Variance& v);
    void add_other(LoadedModel& model, const Site& site, size_t output, const Array& y, const Rounding& rounding,
                   Element real, Variance& v);

    Declared chip_, oracle_;
    uint64_t state_ = 1;
    std::map<const StoredTensor*, std::vector<double>> norms_;
    std::map<std::pair<size_t, int>, std::vector<double>> norms_of_values_;
};

}  // namespace busbar::agree
