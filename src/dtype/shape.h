#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace busbar {

/// What varies from step to step. A plan binds each symbol to a number (a bucket's capacity).
enum class Symbol : uint8_t {
    none,
    rows,         ///< tokens in the step
    logit_rows,   ///< rows whose logits are asked for
    slots,        ///< cache slots in view: sequences x context
    sequences,    ///< rows of the block table
    pages,        ///< columns of the block table: context / 64
};

/// The numbers a plan binds the symbols to.
struct Binding {
    int64_t rows = 1;
    int64_t logit_rows = 1;
    int64_t sequences = 1;   ///< rows of the block table
    int64_t context = 0;     ///< positions per sequence, a multiple of the page
    int64_t of(Symbol s) const;
};

/// One extent: a number or a symbol.
struct Dim {
    int64_t n = 0;
    Symbol symbol = Symbol::none;
    Dim(int64_t n) : n(n) {}   // NOLINT: shapes are written {Symbol::rows, 576}
    Dim(Symbol s) : symbol(s) {}
    int64_t bind(const Binding& b) const { return symbol == Symbol::none ? n : b.of(symbol); }
    bool operator==(const Dim&) const = default;
};

/// Logical extents, outermost first; the last one is contiguous. {} is a scalar.
class Shape {
  public:
    Shape() = default;
    Shape(std::initializer_list<Dim> dims) : dims_(dims) {}
    explicit Shape(std::vector<Dim> dims) : dims_(std::move(dims)) {}

    size_t rank() const { return dims_.size(); }
    const Dim& operator[](size_t i) const { return dims_[i]; }
    const Dim& last() const { return dims_.back(); }
    const std::vector<Dim>& dims() const { return dims_; }
    std::vector<int64_t> bind(const Binding& b) const;
    int64_t count(const Binding& b) const;
    /// "[rows, 576]"
    std::string print() const;
    bool operator==(const Shape&) const = default;

  private:
    std::vector<Dim> dims_;
};

int64_t count_of(const std::vector<int64_t>& extents);

}  // namespace busbar
