#include "base/check.h"
#include "chips/reference/kernels.h"

namespace busbar::reference {

int64_t Call::leading(const Operand& o) const {
    if (o.extents.empty()) return 1;
    int64_t n = o.extents[0];
    if (o.type.shape.rank() > 0 && o.type.shape[0].symbol == Symbol::rows) n = header().rows;
    if (o.type.shape.rank() > 0 && o.type.shape[0].symbol == Symbol::logit_rows) n = header().logit_rows;
    BUSBAR_CHECK(n >= 0 && n <= o.extents[0], step.name + ": the step has more rows than the plan");
    return n;
}

int64_t Call::rows(const Operand& o) const {
    if (o.extents.size() < 2) return 1;
    int64_t n = leading(o);
    for (size_t axis = 1; axis + 1 < o.extents.size(); ++axis) n *= o.extents[axis];
    return n;
}

double* Call::reals(const Operand& o) const {
    BUSBAR_CHECK(o.where == Operand::Where::buffer && o.element == Element::f64 && o.type.kind == Kind::real,
                 step.name);
    return reinterpret_cast<double*>(static_cast<std::byte*>(o.buffer->host()) + o.offset);
}

const int32_t* Call::indices(const Operand& o) const {
    BUSBAR_CHECK(o.type.kind == Kind::index && o.where != Operand::Where::weight, step.name);
    if (o.where == Operand::Where::step) return words.data() + o.offset;
    return reinterpret_cast<const int32_t*>(static_cast<std::byte*>(o.buffer->host()) + o.offset);
}

const double* Call::row(const Operand& matrix, int64_t r) const {
    const int64_t width = matrix.extents.empty() ? 1 : matrix.extents.back();
    if (matrix.where != Operand::Where::weight) return reals(matrix) + r * width;
    const StoredTensor& t = *static_cast<const StoredWeight*>(matrix.weight)->tensor;
    const Encoding& e = *t.encoding;
    e.decode(t.bytes.data() + r * e.row_bytes(width), decoded.data(), width / e.block);
    for (int64_t k = 0; k < width; ++k) scratch[k] = decoded[k];
    return scratch.data();
}

double* Call::slot(const Operand& state, const Operand& block_table, int64_t sequence, int64_t position) const {
    const int64_t pages = block_table.extents[1];
    if (sequence < 0 || sequence >= block_table.extents[0] || position < 0 || position >= pages * page_positions)
        throw error(fmt::format("expected a sequence below {} and a position below {}, got {} and {}",
                                block_table.extents[0], pages * page_positions, sequence, position));
    const int64_t page = indices(block_table)[sequence * pages + position / page_positions];
    if (page < 0) return nullptr;
    const int64_t per_slot = state.type.shape[0].n * state.type.shape[1].n;
    const int64_t at = (page * page_positions + position % page_positions) * per_slot;
    if (state.offset + static_cast<uint64_t>(at + per_slot) * sizeof(double) > state.buffer->bytes())
        throw error(fmt::format("expected a page of the cache, got page {}", page));
    return reinterpret_cast<double*>(static_cast<std::byte*>(state.buffer->host()) + state.offset) + at;
}

}  // namespace busbar::reference
