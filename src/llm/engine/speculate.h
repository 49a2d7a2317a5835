#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "run/loaded_model.h"

namespace busbar {

/// Tokens that are guessed and verified in one step at most: with the token before them, four rows.
constexpr int64_t most_drafts = 3;

/// What may follow a text, by what followed the last time that it ended like this (prompt lookup). Needs no model.
struct Draft {
    std::array<int32_t, most_drafts> tokens{};
    int64_t count = 0;
    int64_t match = 0;  ///< so many last tokens stood before `tokens` already, at most longest_match
};
constexpr int64_t longest_match = 16;

/// The longest match wins, of equal ones the latest. A text that repeats itself to its end is drafted as going on to
/// repeat. Empty (count 0) where the last token is new.
Draft look_up(std::span<const int32_t> text);

enum class Speculate : uint8_t { off, automatic, on };
std::optional<Speculate> parse_speculate(std::string_view word);

struct SpeculationCounts {
    int64_t steps = 0, drafted = 0, accepted = 0;  ///< steps that verified drafts, their drafts, those that were right
    SpeculationCounts& operator-=(const SpeculationCounts& o) {
        steps -= o.steps;
        drafted -= o.drafted;
        accepted -= o.accepted;
        return *this;
    }
};

/// Decides how many drafts the next step of one sequence verifies. Every token that is chosen without a draft is
/// compared with the draft that there would have been: whether drafts come true is known before one is paid for.
/// What steps of 1 to 4 rows cost is measured on the way; only a first step of a size is taken on trust.
class Speculation {
  public:
    explicit Speculation(Speculate mode) : mode_(mode) {}

    /// How many drafts the step after `text` shall verify, at most `most`.
    int64_t propose(std::span<const int32_t> text, int64_t most);
    int32_t draft(int64_t i) const { return draft_.tokens[i]; }
    /// The model chose `token` at the place of draft i, all before it having come true. True: it is draft i, and that
    /// was verified: the row after it counts.
    bool confirm(int64_t i, int32_t token);
    /// A step of this one sequence and so many rows took so long.
    void took(int64_t rows, double seconds);

    const SpeculationCounts& counts() const { return counts_; }

  private:
    static size_t class_of(int64_t match);
    double likelihood(int64_t match) const;
    double seconds_of(int64_t rows) const;

    struct Seen {
        double hits = 0, tries = 0;  ///< the last few dozen weigh most
    };
    Speculate mode_;
    Draft draft_;
    int64_t proposed_ = 0;
    std::array<Seen, 5> seen_{};                                    ///< by class of match
    std::array<double, most_drafts + 2> seconds_{};                 ///< by rows; 0: not measured yet
    std::array<int64_t, most_drafts + 2> tried_{}, since_tried_{};  ///< steps of so many rows, all steps since one
    SpeculationCounts counts_;
};

/// Why a model's steps of a few rows may not stand for steps of one, "" if they may: where every kernel of both is the
/// same and promises the same bits for any number of rows, tokens cannot change. `most`: drafts that fit a step.
std::string why_not_speculate(const LoadedModel& model, int64_t& most);

}  // namespace busbar
