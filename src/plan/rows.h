#pragma once
#include <string>

#include "plan/plan.h"

namespace busbar {

/// A chip's kernel row for a node, or why there is none.
struct RowChoice {
    const KernelRow* row = nullptr;
    std::string why;
};

/// Why the chip does not take this very node with this row, "" if it does: for the encodings of its weights
/// (KernelRow::encodings), or for what the chip says when asked (Profile::refuses).
std::string refusal(const Profile& chip, const KernelRow& row, const Graph& graph, const Node& node,
                    const Binding& binding);

/// `form`: of the node's weights; "" if it has none, or takes them as values.
RowChoice choose_row(const Profile& chip, const Graph& graph, const Node& node, const std::string& form,
                     const PlanOptions& options);

bool has_row(const Profile& chip, const OpRow& op);
/// True if some row of the chip takes this op's weights in a packed form.
bool takes_form(const Profile& chip, const OpRow& op);

/// The packed form of each weight on this chip, if all of the graph that the chip has rows for ran there: the one of
/// highest preference that holds the weight without loss and serves all its uses at the options' accuracy and order,
/// the same for all weights of a node. nullptr for values that are no weights, and for weights that the chip takes as
/// decoded values.
std::vector<const PackedForm*> choose_forms(const Profile& chip, const Graph& graph, const PlanOptions& options);

/// Work of a node; bytes include weights as `forms` keeps them.
Cost cost_of(const Graph& graph, const Node& node, const std::vector<const PackedForm*>& forms, const Binding& binding);
uint64_t bytes_in(const PackedForm& form, const StoredTensor& tensor);
/// Predicted from the chip's figures; 0 where it has none.
double seconds_of(const Profile& chip, const KernelRow& row, const Cost& cost);

}  // namespace busbar
