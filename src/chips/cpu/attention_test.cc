#include "base/error.h"
#include "chips/cpu/test_bench.h"

namespace busbar::cpu {
namespace {

// Rows of some sequences go through append and attention as the engine would send them; the oracle is plain loops in
// double over what was appended, rounded to the cache's element.
struct Model {
    int64_t heads = 6, kv_heads = 2, width = 16, value_width = 16, window = 0;
    Element element = Element::f32;
    double scale = 0.25;
};

struct Row {
    int sequence, position;
};

class CpuAttention : public CpuOps {
  protected:
    static constexpr int64_t max_pages = 24, sequences = 3;
    Model model;
    std::map<std::pair<int, int>, std::vector<float>> q_, k_, v_;  // by sequence and position

    const std::vector<float>& number_of(std::map<std::pair<int, int>, std::vector<float>>& of, Row row, int64_t count) {
        std::vector<float>& x = of[{row.sequence, row.position}];
        if (x.empty()) {
            std::normal_distribution<float> d;
            for (int64_t i = 0; i < count; ++i) x.push_back(d(random));
        }
        return x;
    }
    const std::vector<float>& q(Row r) { return number_of(q_, r, model.heads * model.width); }
    const std::vector<float>& k(Row r) { return number_of(k_, r, model.kv_heads * model.width); }
    const std::vector<float>& v(Row r) { return number_of(v_, r, model.kv_heads * model.value_width); }
    double kept(float x) const {
        return model.element == Element::f16    ? f16_to_f32(f32_to_f16(x))
               : model.element == Element::bf16 ? bf16_to_f32(f32_to_bf16(x))
                                                : x;
    }

    // A device with its caches, fed step by step.
    struct Session {
        CpuAttention& test;
        std::unique_ptr<Device> device;
        ValueType key_type, value_type;
        std::unique_ptr<Buffer> keys, values, numbers;
        StepLayout layout;
        std::map<std::pair<int, int64_t>, int> pages;  // scattered on purpose
        std::vector<int> free;

        Session(CpuAttention& test, int threads, double poison = 0)
            : test(test), device(make_cpu(threads, GetParam())) {
            const Model& m = test.model;
            key_type = {Kind::state, Shape({m.kv_heads, m.width}), StateRole::key};
            value_type = {Kind::state, Shape({m.kv_heads, m.value_width}), StateRole::value};
            const int64_t all = max_pages * sequences;
            keys = device->allocate(all * device->page_bytes(key_type, m.element));
            values = device->allocate(all * device->page_bytes(value_type, m.element));
            if (poison != 0)  // as left behind by another request
                for (Buffer* b : {keys.get(), values.get()}) std::memset(b->host(), 0xFF, b->bytes());
            numbers = device->allocate(4 << 20);
            for (int i = 0; i < all; ++i) free.push_back(i);
            std::shuffle(free.begin(), free.end(), test.random);
            layout.max_rows = 600;
            layout.max_sequences = sequences;
            layout.pages = max_pages;
        }

        std::vector<float> step(const std::vector<Row>& rows) {
            const Model& m = test.model;
            StepRecord record(layout);
            record.header().rows = static_cast<int>(rows.size());
            record.header().sequences = sequences;
            auto* at = static_cast<float*>(numbers->host());
            uint64_t offset = 0;
            const auto place = [&](ValueType type, auto get) {
                Operand o;
                o.type = std::move(type);
                o.extents = o.type.shape.bind({.rows = layout.max_rows});
                o.buffer = numbers.get();
                o.offset = offset * 4;
                const int64_t each = count_of(o.extents) / layout.max_rows;
                for (size_t r = 0; r < rows.size(); ++r) {
                    const std::vector<float>& x = get(rows[r]);
                    std::copy(x.begin(), x.end(), at + offset + r * each);
                }
                offset += count_of(o.extents);
                return o;
            };
            for (size_t r = 0; r < rows.size(); ++r) {
                record.positions()[r] = rows[r].position;
                record.sequences()[r] = rows[r].sequence;
                const auto [page, made] = pages.try_emplace({rows[r].sequence, rows[r].position / page_positions}, 0);
                if (made) page->second = free.back(), free.pop_back();
            }
            for (const auto& [where, page] : pages) record.block_row(where.first)[where.second] = page;
            const Operand q = place(reals({Symbol::rows, m.heads, m.width}), [&](Row r) { return test.q(r); });
            const Operand k = place(reals({Symbol::rows, m.kv_heads, m.width}), [&](Row r) { return test.k(r); });
            const Operand v = place(reals({Symbol::rows, m.kv_heads, m.value_width}), [&](Row r) { return test.v(r); });
            Operand y = place(reals({Symbol::rows, m.heads, m.value_width}),
                              [&](Row) { return std::vector<float>(m.heads * m.value_width, NAN); });
            const auto of_step = [&](ValueType type, int64_t words) {
                Operand o;
                o.type = std::move(type);
                o.extents = o.type.shape.bind({.rows = layout.max_rows});
                o.where = Operand::Where::step;
                o.offset = words;
                return o;
            };
            const Operand positions = of_step(index({Symbol::rows}), layout.positions()),
                          numbers_of = of_step(index({Symbol::rows}), layout.sequences());
            const Operand table = of_step(index({sequences, max_pages}), layout.block_table());
            Operand key_state{key_type, {m.kv_heads, m.width}, m.element, Operand::Where::buffer, keys.get()};
            Operand value_state{
                value_type, {m.kv_heads, m.value_width}, m.element, Operand::Where::buffer, values.get()};
            std::vector<ProgramStep> steps(3);
            const auto row_of = [&](const OpRow& op) {
                for (const KernelRow& row : device->profile().rows)
                    if (row.op == &op) return &row;
                return static_cast<const KernelRow*>(nullptr);
            };
            steps[0] = {
                row_of(op_cache_append), "append keys", {}, {key_state, k, positions, numbers_of, table}, {key_state}};
            steps[1] = {row_of(op_cache_append),
                        "append values",
                        {},
                        {value_state, v, positions, numbers_of, table},
                        {value_state}};
            steps[2] = {row_of(op_attention),
                        "attend",
                        {{"scale", m.scale}, {"window", m.window}},
                        {q, key_state, value_state, positions, numbers_of, table},
                        {y}};
            device->prepare(std::move(steps), layout)->run(record.words());
            const float* result = at + y.offset / 4;
            return {result, result + rows.size() * m.heads * m.value_width};
        }
    };

    std::vector<double> oracle(Row row) {
        const Model& m = model;
        const int64_t group = m.heads / m.kv_heads;
        std::vector<double> y;
        for (int64_t head = 0; head < m.heads; ++head) {
            const int first = m.window > 0 ? std::max<int>(0, row.position - static_cast<int>(m.window) + 1) : 0;
            std::vector<double> p;
            double most = -INFINITY, sum = 0;
            for (int at = first; at <= row.position; ++at) {
                double s = 0;
                for (int64_t d = 0; d < m.width; ++d)
                    s += static_cast<double>(q(row)[head * m.width + d]) *
                         kept(k({row.sequence, at})[head / group * m.width + d]);
                p.push_back(s * m.scale);
                most = std::max(most, p.back());
            }
            for (double& x : p) sum += x = std::exp(x - most);
            for (int64_t d = 0; d < m.value_width; ++d) {
                double s = 0;
                for (size_t i = 0; i < p.size(); ++i)
                    s += p[i] / sum *
                         kept(v({row.sequence, first + static_cast<int>(i)})[head / group * m.value_width + d]);
                y.push_back(s);
            }
        }
        return y;
    }

    static std::vector<Row> rows_of(int sequence, int from, int to) {
        std::vector<Row> rows;
        for (int p = from; p < to; ++p) rows.push_back({sequence, p});
        return rows;
    }
    void check(const std::vector<float>& got, const std::vector<Row>& rows, int every = 1) {
        const size_t each = model.heads * model.value_width;
        for (size_t r = 0; r < rows.size(); r += every) {
            const std::vector<double> want = oracle(rows[r]);
            for (size_t i = 0; i < each; ++i)
                ASSERT_NEAR(got[r * each + i], want[i], 4e-6) << "row " << r << " element " << i;
        }
    }
};

TEST_P(CpuAttention, PromptThenTokens) {
    const Model models[] = {
        {},  // grouped heads
        {.heads = 4, .kv_heads = 4, .width = 64, .value_width = 64},
        {.heads = 8, .kv_heads = 1, .width = 40, .value_width = 24},  // value width no multiple of the lanes
        {.heads = 3, .kv_heads = 1, .width = 7, .value_width = 5},
        {.window = 1},
        {.window = 5},
        {.window = 64},
        {.window = 100},
        {.element = Element::f16},
        {.window = 70, .element = Element::bf16},
    };
    for (const Model& m : models) {
        model = m;
        q_.clear(), k_.clear(), v_.clear();
        for (const int threads : {1, 2}) {
            Session session(*this, threads, 1);
            check(session.step(rows_of(0, 0, 150)), rows_of(0, 0, 150), 7);
            for (int p = 150; p < 154; ++p) check(session.step({{0, p}}), {{0, p}});
        }
    }
}

TEST_P(CpuAttention, LongContextIsFoldedInRanges) {
    for (const int64_t window : {0, 600}) {
        model = {.heads = 3, .kv_heads = 1, .width = 16, .value_width = 16, .window = window};
        q_.clear(), k_.clear(), v_.clear();
        Session session(*this, 2);
        session.step(rows_of(1, 0, 600));
        check(session.step(rows_of(1, 600, 1200)), rows_of(1, 600, 1200), 101);
        check(session.step({{1, 1200}}), {{1, 1200}});
        check(session.step({{1, 1201}, {1, 1202}}), {{1, 1201}, {1, 1202}});
    }
}

// Alone or together, in one chunk or in many, on any number of threads, beside poisoned pages: the same bits.
TEST_P(CpuAttention, BitsDependOnTheQueryAlone) {
#ifdef __SANITIZE_THREAD__  // every access is watched, and threads share the work alike whatever is in view
    const std::vector<int64_t> windows = {37};
#else
    const std::vector<int64_t> windows = {0, 37, 600};
#endif
    for (const int64_t window : windows)
        for (const Element element : {Element::f32, Element::bf16}) {
            model = {.heads = 6, .kv_heads = 2, .width = 16, .value_width = 20, .window = window, .element = element};
            q_.clear(), k_.clear(), v_.clear();
            std::vector<float> first;
            for (const int threads : {1, 2, 3})
                for (const int chunk : {1, 5, 64, 600}) {
                    if (chunk == 1 && (threads == 1 || window != 0)) continue;  // slow, and shown by one
                    Session session(*this, threads, threads - 1);
                    std::vector<float> all;
                    for (int p = 0; p < 600; p += chunk) {
                        std::vector<Row> rows = rows_of(0, p, std::min(600, p + chunk));
                        const size_t own = rows.size() * model.heads * model.value_width;
                        if (chunk == 5) {  // with a neighbour in the same step, before and after
                            rows.push_back({1, p / 5});
                            rows.push_back({2, p / 5});
                        }
                        const std::vector<float> y = session.step(rows);
                        all.insert(all.end(), y.begin(), y.begin() + own);
                    }
                    if (first.empty()) first = all;
                    ASSERT_EQ(std::memcmp(all.data(), first.data(), all.size() * sizeof(float)), 0)
                        << threads << " threads, chunks of " << chunk << ", window " << window;
                }
        }
}

TEST_P(CpuAttention, SplitAndWholeAreTheSameBits) {
    model = {.heads = 3, .kv_heads = 1, .width = 16, .value_width = 16};
    const std::vector<Row> prompt = rows_of(0, 0, 590);
    std::vector<float> bits[3];
    for (const int threads : {1, 2, 3}) {
        Session session(*this, threads);
        session.step(prompt);
        session.step(rows_of(0, 590, 1100));
        bits[threads - 1] = session.step({{0, 1100}});  // split over the threads where there are several
    }
    EXPECT_EQ(bits[0], bits[1]);
    EXPECT_EQ(bits[0], bits[2]);
    Session together(*this, 2);
    together.step(prompt);
    const std::vector<float> all = together.step(rows_of(0, 590, 1101));
    EXPECT_TRUE(std::equal(bits[0].begin(), bits[0].end(), all.end() - bits[0].size()));
}

TEST_P(CpuAttention, ANaNOfALaterRowStaysThere) {
    model = {};
    Session session(*this, 2);
    const std::vector<Row> rows = rows_of(0, 0, 40);
    for (float& x : const_cast<std::vector<float>&>(v({0, 25}))) x = NAN;
    for (float& x : const_cast<std::vector<float>&>(k({0, 25}))) x = NAN;
    const std::vector<float> y = session.step(rows);
    const size_t each = model.heads * model.value_width;
    for (size_t r = 0; r < rows.size(); ++r)
        for (size_t i = 0; i < each; ++i) ASSERT_EQ(std::isnan(y[r * each + i]), r >= 25) << r;
}

TEST_P(CpuAttention, AMissingPageIsAnErrorOfTheChip) {
    model = {};
    for (const int bad : {-1, 1000000}) {
        Session session(*this, 2);
        session.step(rows_of(0, 0, 70));
        session.pages[{0, 0}] = bad;
        EXPECT_THROW(session.step({{0, 70}}), Error);
    }
}

TEST_P(CpuAttention, GatherReadsBackWhatWasAppended) {
    for (const Element element : {Element::f32, Element::f16, Element::bf16}) {
        model = {.element = element};
        q_.clear(), k_.clear(), v_.clear();
        Session session(*this, 2);
        session.step(rows_of(0, 0, 130));
        session.step(rows_of(2, 0, 3));
        for (const bool key : {true, false}) {
            StepRecord record(session.layout);
            for (const auto& [where, page] : session.pages) record.block_row(where.first)[where.second] = page;
            const int64_t slots = sequences * max_pages * page_positions;
            const ValueType type = key ? session.key_type : session.value_type;
            Operand state{type,
                          {model.kv_heads, 16},
                          element,
                          Operand::Where::buffer,
                          key ? session.keys.get() : session.values.get()};
            Operand table{index({sequences, max_pages}),
                          {sequences, max_pages},
                          Element::f32,
                          Operand::Where::step,
                          nullptr,
                          static_cast<uint64_t>(session.layout.block_table())};
            const auto out = session.device->allocate(4 * slots * model.kv_heads * 16);
            Operand y{reals({Symbol::slots, model.kv_heads, 16}),
                      {slots, model.kv_heads, 16},
                      Element::f32,
                      Operand::Where::buffer,
                      out.get()};
            const KernelRow* gather = nullptr;
            for (const KernelRow& row : session.device->profile().rows)
                if (row.op == &op_cache_gather) gather = &row;
            std::vector<ProgramStep> steps;
            steps.push_back({gather, "gather", {}, {state, table}, {y}});
            session.device->prepare(std::move(steps), session.layout)->run(record.words());
            const auto* got = static_cast<const float*>(out->host());
            for (int s = 0; s < sequences; ++s)
                for (int p = 0; p < max_pages * page_positions; ++p) {
                    const bool there = (s == 0 && p < 130) || (s == 2 && p < 3);
                    for (int i = 0; i < model.kv_heads * 16; ++i) {
                        const double want = there ? kept(key ? k({s, p})[i] : v({s, p})[i]) : 0;
                        ASSERT_EQ(got[(s * max_pages * page_positions + p) * model.kv_heads * 16 + i], want)
                            << s << ' ' << p;
                    }
                }
        }
    }
}

TEST_P(CpuAttention, Mask) {
    for (const int64_t window : {0, 3}) {
        const Bench bench{*device, op_cache_mask, {{"window", window}}, {.rows = 3, .sequences = 2, .context = 128}};
        const Inputs in = {{index({Symbol::rows}), {{3}, {0, 70, 127}}},
                           {index({Symbol::rows}), {{3}, {1, 0, 1}}},
                           {index({2, 2}), {{2, 2}, {0, 1, 2, 3}}}};
        compare(bench.run(in)[0], bench.oracle(in)[0], 0);
    }
}

BUSBAR_EACH_ISA(CpuAttention);

}  // namespace
}  // namespace busbar::cpu
