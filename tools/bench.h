#pragma once
#include <string>
#include <vector>

#include "common.h"

namespace busbar::bench {

struct Options {
    CommonOptions common;
    int64_t prompt = 512, tokens = 64, depth = 0, batch = 1, repeat = 5;
    int64_t error_positions = 256;  ///< of text, for the logit error; 0: not taken
    std::string error_text;         ///< a file; "" = Busbar's own text
    std::string save, against, stored;
    double margin = 2;  ///< per cent; what two processes differ by and no spread of one process shows
};

/// The middle of the values, or between the two in the middle; 0 of none.
double median_of(std::vector<double> values);

/// Runs it. The document is what --json prints and --save keeps: medians, each repeat with the roofs measured around
/// it, and what must be equal for two runs to be compared (machine, model, shape, threads). Rates are per second over
/// all sequences of the batch.
Json measure(const Options& options);

/// How far the model as it is planned is from the fallback chip with --numerics strict --order invariant: mean KL in
/// nats over `error_positions` of a text in windows of 512, with a 95 % interval; and apart over the second halves of
/// whole windows, as llama-perplexity counts. Loads one model after the other.
Json logit_error(const Options& options);

/// A run that --save or --json wrote. Throws Error{bad_input} if it is none.
Json read_stored(const std::string& path);

/// 95 % interval of by how much `now` is larger than `before`, from the ratios of all pairs [Hodges and Lehmann 1963]:
/// makes no assumption on the distribution. `enough` is false where so few values allow no such interval.
struct Ratio {
    double value = 0, low = 0, high = 0;
    bool enough = false;
};
Ratio ratio_of(const std::vector<double>& before, const std::vector<double>& now);

/// Both documents are of one machine, model, shape and thread count, else Error{bad_input} that names what differs.
/// Compares rates in units of the roofs, so that a machine that is slower today is no regression. A step is a mix of
/// reading and arithmetic: on a machine whose read roof moved by a and whose f32 roof by b, an unchanged program's rate
/// moves by something between a and b. So a figure counts as slower only if it is in units of either. Plain rates where
/// no roof was measured. The result's "verdict" is "slower", "not slower" or "not enough evidence".
Json compare(const Json& before, const Json& now, const std::string& path, double margin_percent);
/// The part of that which is known before a run.
void check_shape(const Json& before, const Json& shape, const std::string& path);
Json shape_of(const Options& options);
int exit_code_of(const Json& comparison);

std::string text_of(const Json& run);
std::string text_of_comparison(const Json& comparison);

}  // namespace busbar::bench
