#pragma once
#include <functional>

#include "agree/conform/bound.h"

namespace busbar::conform {

/// A small change that must not pass. `apply` returns false where it does not fit the case. Where it changes one
/// number, attempts 0 .. 63 change others: not every number of every case is read, or large enough to matter.
struct Mutation {
    static constexpr int attempts = 64;
    std::string name;  ///< "attribute epsilon ...", "input x ...": what it touches stands first
    std::function<bool(Case&, int attempt)> apply;
};

/// The conformance of one op.
struct Suite {
    const OpRow* op;
    std::vector<Case> (*cases)(Random&);
    BoundRule bound;
    /// Beyond those that every op gets from its row (see mutations_of).
    std::vector<Mutation> (*mutations)() = nullptr;
};

/// All suites, in the order of the op table: one file of this folder each, listed in suite.cc. (Nothing here adds
/// itself: a linker drops the files of a library that nobody calls.)
const std::vector<Suite>& suites();
/// nullptr if the op has none.
const Suite* suite_of(const OpRow& op);

std::vector<Suite> attention_suites();
std::vector<Suite> cache_suites();
std::vector<Suite> elementwise_suites();
std::vector<Suite> gather_rows_suites();
std::vector<Suite> matmul_suites();
std::vector<Suite> move_suites();
std::vector<Suite> reduce_suites();
std::vector<Suite> rms_norm_suites();
std::vector<Suite> rotary_table_suites();
std::vector<Suite> rotate_suites();
std::vector<Suite> silu_suites();
std::vector<Suite> softmax_suites();

/// The suite's own mutations, and one per attribute and input of the op's row.
std::vector<Mutation> mutations_of(const Suite& suite);

/// What the oracle is given: as the case, but with what is stored rounded to the stored type first.
Case for_oracle(Case c);
/// The chip that the kit is tested with: the oracle's numbers rounded once to f32, and what it declares.
Outcome rounded_to_f32(Outcome o, const Case& c);
Rounding declared_f32();

/// A step of `rows` rows (of a capacity of `capacity`), row r at position r of sequence 0, and an op without inputs
/// yet.
Case step_case(const OpRow& op, std::string name, int64_t rows, int64_t capacity, int64_t sequences = 1,
               int64_t pages = 1);
/// Zeros of both signs, subnormals, infinities, NaN, huge and tiny numbers among ordinary ones.
Array edge_numbers(Random& random, std::vector<int64_t> extents, double huge = 1e30);
Array filled_with(std::vector<int64_t> extents, double x);

}  // namespace busbar::conform
