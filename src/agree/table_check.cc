#include "agree/table_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "run/convert.h"

namespace busbar::agree {

namespace {

constexpr int64_t rows_at_once = 256;

// The weight as `step` reads it, row after row; "" or what differs.
std::string check_table(LoadedModel& model, size_t bucket, const PlannedStep& planned, const Value& table, int weight) {
    Device& device = model.device(planned.chip);
    const Element real = device.profile().real;
    const StoredTensor& t = *table.weight;
    const int64_t width = t.width(), rows = t.count() / width;
    const StepLayout layout{rows_at_once, 1, 1, 1};
    const auto out = device.allocate(rows_at_once * width * bytes_of(real));
    ProgramStep step{planned.row, "read " + table.name, {}, {}, {}};
    Operand w, ids, y;
    w.type = table.type;
    w.extents = t.shape;
    w.where = Operand::Where::weight;
    w.weight = &model.weight(bucket, weight);
    ids.type = {Kind::index, Shape({Symbol::rows})};
    ids.extents = {rows_at_once};
    ids.element = Element::i32;
    ids.where = Operand::Where::step;
    ids.offset = static_cast<uint64_t>(layout.token_ids());
    y.type = {Kind::real, Shape({Symbol::rows, width})};
    y.extents = {rows_at_once, width};
    y.element = real;
    y.buffer = out.get();
    step.inputs = {w, ids};
    step.outputs = {y};
    const auto program = device.prepare({step}, layout);
    StepRecord record(layout);
    std::vector<std::byte> bytes(rows_at_once * width * bytes_of(real));
    std::vector<float> decoded(rows_at_once * width);
    for (int64_t begin = 0; begin < rows; begin += rows_at_once) {
        const int64_t n = std::min(rows_at_once, rows - begin);
        record.header() = {static_cast<int32_t>(n), 0, 1};
        for (int64_t i = 0; i < n; ++i) record.token_ids()[i] = static_cast<int32_t>(begin + i);
        program->run(record.words());
        device.read(*out, 0, bytes);
        const std::vector<double> got = as_doubles(bytes, real);
        t.encoding->decode(t.bytes.data() + begin * t.encoding->row_bytes(width), decoded.data(),
                           n * width / t.encoding->block);
        for (int64_t i = 0; i < n * width; ++i)
            if (got[i] != decoded[i] && !(std::isnan(got[i]) && std::isnan(decoded[i])))
                return fmt::format("{} row {}, number {}: the file has {:.9g}, {} holds {:.9g}", table.name,
                                   begin + i / width, i % width, decoded[i], device.profile().chip, got[i]);
    }
    return "";
}

}  // namespace

TableCheck check_tables(LoadedModel& model) {
    TableCheck out;
    const size_t bucket = model.plans().size() - 1;
    const Plan& plan = model.plans()[bucket];
    std::vector<char> multiplied(plan.graph.values().size(), 0);
    for (const Node& n : plan.graph.nodes())
        if (n.op != &op_gather_rows)
            for (int v : n.inputs) multiplied[v] = 1;
    for (const PlannedStep& s : plan.steps) {
        if (s.is_copy() || plan.graph.nodes()[s.node].op != &op_gather_rows) continue;
        const int v = plan.graph.nodes()[s.node].inputs[0];
        const Place& place = plan.place(s.chip, v);
        if (place.where != Place::Where::weight || multiplied[v]) continue;
        ++out.tables;
        out.numbers += plan.graph.values()[v].weight->count();
        out.wrong = check_table(model, bucket, s, plan.graph.values()[v], place.index);
        if (!out.wrong.empty()) break;
    }
    return out;
}

}  // namespace busbar::agree
