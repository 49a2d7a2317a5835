#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "agree/conform/suite.h"

namespace busbar::conform {

/// From best to worst; a kernel row's verdict is that of its worst case.
enum class Word : uint8_t {
    refused,  ///< the chip says that it does not take this very op: no fault
    exact,    ///< every bit is the oracle's number, rounded once
    strict,   ///< within the bound that follows from what the row declares, of this level of accuracy
    accurate,
    fast,
    untested,     ///< no case of the kit reaches this row, or its cases were not run any more
    fail,         ///< outside its bound, or memory moved that is not its own
    wrong_claim,  ///< the row says something of itself that is not so
    hang,
    crash,
};
std::string_view name_of(Word w);
bool is_good(Word w);

/// A case on a kernel row.
struct CaseResult {
    std::string row, op, encoding, name;  ///< encoding: of its weights, "" if it has none
    int64_t rows = 0;
    Word verdict = Word::untested;
    std::string why;  ///< of a verdict that is not good, or of a refusal
    double max_abs = 0, max_relative = 0, max_ulp = 0, nmse = 0;
    double share = 0;          ///< largest error as a share of what is allowed
    std::string worst;         ///< "output 0[3,17]: expected 0.25, got 0.251"
    int64_t non_finite = 0;    ///< NaN or infinity where the other has none, or another one
    bool repeat_equal = true;  ///< the same case again: the same bits
    double seconds = 0;        ///< of one run, memory included
    std::string waiver;        ///< reason for which a bad verdict is let pass; "" = not waived
};

/// One line of a waivers file: `ROW [ENCODING]: REASON`, # starts a comment. It belongs to whoever runs the kit; limits
/// belong to the kit.
struct Waiver {
    std::string row, encoding, reason;
    int used = 0;
};
/// Throws Error{bad_input} with name and line.
std::vector<Waiver> parse_waivers(std::string_view text, const std::string& name);

struct Options {
    std::string op, encoding;  ///< "" = all
    bool quick = false;        ///< at most two cases of each row and encoding
    std::chrono::milliseconds case_deadline{20000};
    std::chrono::milliseconds first_deadline{120000};  ///< for the first case of a row: some chips compile then
    std::chrono::milliseconds open_deadline{120000};
    int give_up_after = 3;  ///< crashes and hangs of one row, after which its other cases are not run
    std::vector<Waiver> waivers;
    std::function<void(int64_t done, int64_t all)> progress;
    std::function<bool()> stop;  ///< asked between cases; true ends the run with Error{interrupted}
};

struct Report {
    std::string chip, detail, maker, driver;
    uint64_t seed = 0;
    std::vector<CaseResult> cases;
    std::vector<std::string> rows;      ///< every kernel row of the chip that the options ask for
    std::vector<std::string> not_done;  ///< in words: what was not tested and why
    std::vector<Waiver> waivers;
    int workers = 1;  ///< processes that were needed

    /// Every row is good or waived.
    bool conforms() const;
    std::string text(bool all_cases) const;
    nlohmann::json json() const;
};

/// Opens a device. Called in the worker process.
using Open = std::function<std::unique_ptr<Device>()>;

/// Every kernel row of a chip against the oracle: op x encoding x shape x what the row declares. The chip runs in a
/// worker process, started again after a crash or a hang, which becomes a result. Throws Error{chip} if the chip cannot
/// be opened, Error{usage} if the options name no row.
Report run(const Open& chip, const Open& oracle, const Options& options);

/// One case on one kernel row, in this process: figures and verdict. Throws ChipLost.
CaseResult test_case(Device& device, Device& oracle, const Case& c, const KernelRow& row);

/// The row's declared accuracy and what it declares that it rounds: "" if one allows the other, else why not.
std::string wrong_declaration(const KernelRow& row);

// The worker process and its parent speak JSON, a line each.
nlohmann::json to_json(const CaseResult& r);
CaseResult case_result(const nlohmann::json& line);
/// Runs the cases from number `first` on, but those of rows in `given_up`; tells of each before and after.
void work(const Open& chip, const Open& oracle, const Options& options, int64_t first,
          const std::vector<std::string>& given_up, const std::function<void(std::string_view)>& tell);

}  // namespace busbar::conform
