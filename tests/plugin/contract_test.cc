// The border to strangers' libraries: records of other ages, answers that make no sense, chips that hang, die, lose
// their device or write where they must not. Each must end in an Error that says what to do, and the host lives.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "base/error.h"
#include "busbar_chip.h"
#include "chips/registry.h"
#include "device/device.h"

namespace busbar {

namespace {

using Clock = std::chrono::steady_clock;

std::string library(const std::string& name) {
    return std::string(BUSBAR_BINARY_DIR) + "/" + name + ".so";
}
std::string mock(const std::string& variant = "") {
    return library("tests/plugin/libbusbar_mock" + (variant.empty() ? "" : "_" + variant));
}

std::unique_ptr<Device> open(const std::string& path_and_options) {
    return open_chip("plugin:" + path_and_options);
}

/// Opens, and gives what the Error says; its code in `code`.
std::string refused(const std::string& path_and_options, ErrorCode code = ErrorCode::chip) {
    try {
        open(path_and_options);
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        return e.what();
    }
    return "opened";
}

#define EXPECT_SAYS(text, words) EXPECT_NE(std::string(text).find(words), std::string::npos) << text

/// y = a + b on a device, [capacity, 8] with `rows` in use, as one program.
struct Adding {
    Device& device;
    std::unique_ptr<Buffer> a, b, y;
    std::unique_ptr<Program> program;
    StepRecord record;
    std::vector<float> p, q;

    explicit Adding(Device& d, int64_t rows = 3, int64_t capacity = 5)
        : device(d), record(StepLayout{capacity, 1, 1, 1}), p(capacity * 8), q(p) {
        std::mt19937 random(7);
        for (float& x : p) x = std::normal_distribution<float>()(random);
        for (float& x : q) x = std::normal_distribution<float>()(random);
        const uint64_t bytes = p.size() * 4;
        a = device.allocate(bytes);
        b = device.allocate(bytes);
        y = device.allocate(bytes);
        device.write(*a, 0, std::as_bytes(std::span(p)));
        device.write(*b, 0, std::as_bytes(std::span(q)));
        record.header().rows = static_cast<int32_t>(rows);
        ProgramStep step;
        for (const KernelRow& row : device.profile().rows)
            if (row.op == &op_add) step.row = &row;
        if (!step.row) throw chip_error("test", "no row for add");
        step.name = "layer.4.residual";
        for (Buffer* buffer : {a.get(), b.get(), y.get()}) {
            Operand o;
            o.type = {Kind::real, Shape({Symbol::rows, 8})};
            o.extents = {capacity, 8};
            o.buffer = buffer;
            (buffer == y.get() ? step.outputs : step.inputs).push_back(o);
        }
        program = device.prepare({step}, record.layout());
    }
    void run() { program->run(record.words()); }
    bool is_right() const {
        std::vector<float> got(static_cast<size_t>(record.words()[0]) * 8);
        device.read(*y, 0, std::as_writable_bytes(std::span(got)));
        for (size_t i = 0; i < got.size(); ++i)
            if (got[i] != p[i] + q[i]) return false;
        return true;
    }
};

/// Runs an addition and gives what the Error says.
template <typename Expected = Error>
std::string failed(const std::string& path_and_options, ErrorCode code = ErrorCode::chip) {
    try {
        const auto device = open(path_and_options);
        Adding adding(*device);
        adding.run();
        adding.is_right();
    } catch (const Expected& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        return e.what();
    }
    return "ran";
}

TEST(Contract, a_well_behaved_plugin_of_a_later_minor_with_a_longer_table_runs) {
    const auto device = open(mock());
    EXPECT_EQ(device->profile().chip, "plugin:mock");
    EXPECT_SAYS(device->profile().detail, "device 0");
    ASSERT_EQ(device->profile().rows.size(), 1u);
    EXPECT_TRUE(device->profile().cache_elements.empty()) << "no op on states is claimed";
    Adding adding(*device);
    adding.run();
    EXPECT_TRUE(adding.is_right());
    adding.record.header().rows = 5;
    for (int i = 0; i < 70; ++i) adding.run();  // past the runs whose guard bytes are looked at op by op
    EXPECT_TRUE(adding.is_right());
}

TEST(Contract, close_and_load_again_and_two_at_once) {
    for (int i = 0; i < 3; ++i) {
        const auto device = open(mock());
        Adding adding(*device);
        adding.run();
        EXPECT_TRUE(adding.is_right());
    }
    const auto one = open(mock()), two = open(mock() + "?device=1");
    EXPECT_SAYS(two->profile().detail, "device 1");
    Adding first(*one), second(*two);
    second.run();
    first.run();
    EXPECT_TRUE(first.is_right() && second.is_right());
}

TEST(Contract, buffers_outlive_the_device_object) {
    std::unique_ptr<Buffer> kept;
    {
        const auto device = open(mock());
        kept = device->allocate(100);
    }
    EXPECT_EQ(kept->bytes(), 100u);
}

TEST(Contract, a_host_of_another_age_is_not_written_past_its_records) {
    for (const std::string& path : {mock(), library("libbusbar_chip_minimal"), library("libbusbar_chip_faulty"),
                                    library("libbusbar_chip_skeleton")}) {
        void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(handle, nullptr) << dlerror();
        const auto entry = reinterpret_cast<decltype(&busbar_chip_0)>(dlsym(handle, BUSBAR_CHIP_SYMBOL));
        ASSERT_NE(entry, nullptr);
        busbar_host host{sizeof host, BUSBAR_CHIP_VERSION + 5, "a test"};
        busbar_error error{};
        error.struct_size = sizeof error;
        // An older host's table: 64 bytes. What lies behind is not the plugin's to touch.
        alignas(8) unsigned char memory[sizeof(busbar_chip)];
        std::memset(memory, 0xEE, sizeof memory);
        auto* table = reinterpret_cast<busbar_chip*>(memory);
        table->struct_size = 64;
        ASSERT_EQ(entry(&host, table, &error), BUSBAR_OK);
        for (size_t i = 64; i < sizeof memory; ++i) ASSERT_EQ(memory[i], 0xEE) << path << " wrote byte " << i;
        EXPECT_LE(table->struct_size, 64u);
        // A later host's: longer than any plugin of today knows.
        struct {
            busbar_chip chip;
            unsigned char later[64];
        } longer{};
        std::memset(longer.later, 0xEE, sizeof longer.later);
        longer.chip.struct_size = path == mock() ? sizeof(busbar_chip) : sizeof longer;
        ASSERT_EQ(entry(&host, &longer.chip, &error), BUSBAR_OK);
        for (unsigned char c : longer.later) ASSERT_EQ(c, 0xEE) << path;
        // The same for a record that device_info fills.
        busbar_setup setup{};
        setup.struct_size = sizeof setup;
        setup.library_path = path.c_str();
        alignas(8) unsigned char info_memory[sizeof(busbar_device_info)];
        std::memset(info_memory, 0xEE, sizeof info_memory);
        auto* info = reinterpret_cast<busbar_device_info*>(info_memory);
        info->struct_size = 400;
        ASSERT_EQ(longer.chip.device_info(&setup, info, &error), BUSBAR_OK) << error.message;
        for (size_t i = 400; i < sizeof info_memory; ++i) ASSERT_EQ(info_memory[i], 0xEE) << path << " byte " << i;
        dlclose(handle);
    }
    EXPECT_EQ(open(mock() + "?mode=short_info")->profile().chip, "plugin:mock");  // an older plugin's shorter record
}

TEST(Contract, numbers_that_a_chip_does_not_know_are_refused_with_a_reason) {
    for (const char* name : {"libbusbar_chip_minimal", "libbusbar_chip_faulty", "libbusbar_chip_skeleton"}) {
        void* handle = dlopen(library(name).c_str(), RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(handle, nullptr) << dlerror();
        const auto entry = reinterpret_cast<decltype(&busbar_chip_0)>(dlsym(handle, BUSBAR_CHIP_SYMBOL));
        busbar_host host{sizeof host, BUSBAR_CHIP_VERSION, "a test"};
        busbar_error error{};
        error.struct_size = sizeof error;
        busbar_chip chip{};
        chip.struct_size = sizeof chip;
        ASSERT_EQ(entry(&host, &chip, &error), BUSBAR_OK);
        busbar_setup setup{};
        setup.struct_size = sizeof setup;
        busbar_device device = nullptr;
        ASSERT_EQ(chip.device_open(&setup, &device, &error), BUSBAR_OK) << error.message;

        busbar_tensor x{};
        x.struct_size = sizeof x;
        x.kind = BUSBAR_REAL;
        x.where = BUSBAR_IN_BUFFER;
        x.element = BUSBAR_F32;
        x.layout = BUSBAR_LAYOUT_PLAIN;
        x.block = 1;
        x.block_bytes = 4;
        x.rank = 2;
        x.extents[0] = x.extents[1] = 8;
        busbar_tensor w = x, y = x;
        w.flags = BUSBAR_FROZEN;
        busbar_attribute attribute{};
        attribute.struct_size = sizeof attribute;
        attribute.type = BUSBAR_INTEGER;
        attribute.name = "transposed";
        const busbar_tensor* inputs[] = {&x, &w};
        const busbar_tensor* outputs[] = {&y};
        const busbar_attribute* attributes[] = {&attribute};
        busbar_op op{};
        op.struct_size = sizeof op;
        op.op = BUSBAR_OP_MATMUL;
        op.schema = 1;
        op.op_name = "matmul";
        op.node_name = "a node";
        op.inputs = inputs;
        op.outputs = outputs;
        op.attributes = attributes;
        op.input_count = 2;
        op.output_count = 1;
        const auto verdict = [&] {
            busbar_claim claim{};
            claim.struct_size = sizeof claim;
            EXPECT_EQ(chip.claim(device, &op, &claim, &error), BUSBAR_OK) << error.message;
            EXPECT_TRUE(claim.verdict != BUSBAR_NO || claim.reason[0] != 0) << name << " gives no reason";
            return claim.verdict;
        };
        EXPECT_EQ(verdict(), BUSBAR_YES) << name;
        op.attribute_count = 1;  // new, but may be ignored
        EXPECT_EQ(verdict(), BUSBAR_YES) << name;
        attribute.flags = BUSBAR_MUST_UNDERSTAND;
        EXPECT_EQ(verdict(), BUSBAR_NO) << name;
        op.attribute_count = 0;
        op.op = 9999;
        EXPECT_EQ(verdict(), BUSBAR_NO) << name;
        op.op = BUSBAR_OP_MATMUL;
        op.schema = 2;
        EXPECT_EQ(verdict(), BUSBAR_NO) << name;
        op.schema = 1;
        op.required = 1u << 9;
        EXPECT_EQ(verdict(), BUSBAR_NO) << name;
        op.required = 0;
        for (uint32_t busbar_tensor::*field : {&busbar_tensor::element, &busbar_tensor::scale, &busbar_tensor::layout,
                                               &busbar_tensor::kind, &busbar_tensor::required}) {
            const uint32_t before = w.*field;
            w.*field = 321;
            EXPECT_EQ(verdict(), BUSBAR_NO) << name;
            w.*field = before;
        }
        EXPECT_EQ(verdict(), BUSBAR_YES) << name;
        EXPECT_EQ(chip.device_close(device, &error), BUSBAR_OK);
        dlclose(handle);
    }
}

TEST(Contract, libraries_that_are_no_chip_of_this_contract) {
    EXPECT_SAYS(refused("nowhere/libx.so"), "No such file");
    EXPECT_SAYS(refused("", ErrorCode::usage), "plugin:PATH");
    EXPECT_SAYS(refused(std::string(BUSBAR_SOURCE_DIR) + "/README.md"), "expected a library that loads");
    EXPECT_SAYS(refused(mock("no_symbol")), "expected the symbol busbar_chip_0");
    EXPECT_SAYS(refused(mock("zero_version")), "got 0");
    EXPECT_SAYS(refused(mock("new_major")), "too new");
    EXPECT_SAYS(refused(mock("short_table")), "table of at least");
    EXPECT_SAYS(refused(mock("no_claim")), "claim");
    EXPECT_SAYS(refused(mock("half_group")), "pack_weight, weight_free");
    EXPECT_SAYS(refused(mock("refuses_to_start")), "the licence has run out");
    EXPECT_SAYS(refused(mock("missing_library")), "mock_gone");
    EXPECT_SAYS(refused(mock("abort_on_open")), "killed by signal 6");
}

TEST(Contract, options) {
    EXPECT_SAYS(refused(mock() + "?colour=red"), "expected the option mode");
    EXPECT_SAYS(refused(mock() + "?timeout=soon", ErrorCode::usage), "timeout");
    EXPECT_SAYS(refused(mock() + "?guards=some", ErrorCode::usage), "guards=each");
    EXPECT_SAYS(refused(mock() + "?=3", ErrorCode::usage), "key=value");
    EXPECT_SAYS(refused(mock() + "?device=2"), "there are two devices");
    EXPECT_SAYS(refused(library("libbusbar_chip_faulty") + "?fault=typo"), "rope_layout");
}

TEST(Contract, hangs_and_deaths_when_asked_for_the_device) {
    const auto begin = Clock::now();
    EXPECT_SAYS(refused(mock() + "?mode=hang_info&timeout=300"), "took longer than its deadline");
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5));
    EXPECT_SAYS(refused(mock() + "?mode=abort_info"), "killed by signal 6");
    EXPECT_SAYS(refused(mock() + "?mode=exit_info"), "exited with 0");
}

TEST(Contract, nonsense_is_an_error_that_says_what) {
    EXPECT_SAYS(refused(mock() + "?mode=no_name"), "no name");
    EXPECT_SAYS(refused(mock() + "?mode=too_many_rates"), "1000 rates");
    EXPECT_SAYS(refused(mock() + "?mode=bad_figure"), "-1");
    EXPECT_SAYS(refused(mock() + "?mode=null_device"), "null pointer");
    EXPECT_SAYS(refused(mock() + "?mode=bad_verdict"), "a verdict of 42");
    EXPECT_SAYS(refused(mock() + "?mode=bad_element"), "element 999");
    EXPECT_SAYS(refused(mock() + "?mode=bad_ulp"), "-3 ULP");
    EXPECT_SAYS(refused(mock() + "?mode=much_scratch"), "scratch");
    EXPECT_SAYS(failed(mock() + "?mode=null_buffer"), "null pointer");
    EXPECT_SAYS(failed(mock() + "?mode=bad_status"), "4711");
    EXPECT_SAYS(failed(mock() + "?mode=fickle"), "not this one");
    const auto wild = open(mock() + "?mode=wild_text");  // fixed-size texts without their zero
    EXPECT_EQ(wild->profile().chip, "plugin:" + std::string(64, 'x'));
    EXPECT_SAYS(wild->profile().maker, "\\x07");
}

TEST(Contract, errors_of_a_run_name_the_node) {
    EXPECT_SAYS(failed(mock() + "?mode=fail_run"),
                "plugin:mock: node layer.4.residual: [plugin] run_ops: failed: a fan stopped");
    EXPECT_SAYS(failed(mock() + "?mode=refuse_run"), "refused, though the chip claimed it: changed my mind");
    EXPECT_EQ(failed(mock() + "?mode=scratch"), "ran");
}

TEST(Contract, a_hang_is_named_and_the_device_is_lost) {
    const auto device = open(mock() + "?mode=hang_run&timeout=200");
    Adding adding(*device);
    const auto begin = Clock::now();
    try {
        adding.run();
        ADD_FAILURE() << "it returned";
    } catch (const ChipLost& e) {
        EXPECT_SAYS(e.what(), "node layer.4.residual: [plugin] run_ops did not return within 200 ms");
        EXPECT_EQ(e.chip(), "plugin:mock");
    }
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(3));
    EXPECT_THROW(adding.run(), ChipLost);
    EXPECT_THROW(device->allocate(64), ChipLost);
    EXPECT_TRUE(Adding(*open(mock())).program != nullptr) << "the library still serves others";
}

TEST(Contract, a_lost_device_stays_lost_until_it_is_opened_again) {
    const auto device = open(mock() + "?mode=lost_run");
    Adding adding(*device);
    for (int i = 0; i < 2; ++i) {
        try {
            adding.run();
            ADD_FAILURE() << "it ran";
        } catch (const ChipLost& e) {
            EXPECT_SAYS(e.what(), "the cable is out");
            EXPECT_EQ(e.chip(), "plugin:mock");
        }
    }
    EXPECT_SAYS(failed<ChipLost>(mock() + "?mode=lost_copy"), "the cable is out");
}

TEST(Contract, out_of_memory_does_not_fit) {
    EXPECT_SAYS(failed(mock() + "?mode=no_memory", ErrorCode::does_not_fit), "0 are free");
    const auto device = open(mock());
    EXPECT_THROW(device->allocate(uint64_t{1} << 40), Error);
    EXPECT_THROW(device->allocate(~uint64_t{0} - 100), Error);
    EXPECT_NE(device->allocate(64), nullptr);
    const auto small = open(mock() + "?mode=small_buffers");
    try {
        small->allocate(5000);
        ADD_FAILURE() << "more than its largest buffer";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::does_not_fit);
        EXPECT_SAYS(e.what(), "4,096");
    }
    // Frees count: many times what the chip has, one after another.
    const auto faulty = open(library("libbusbar_chip_faulty") + "?memory=1000000");
    for (int i = 0; i < 5; ++i) EXPECT_NE(faulty->allocate(700000), nullptr);
    EXPECT_THROW(faulty->allocate(1100000), Error);
}

TEST(Contract, writes_past_a_buffer_are_seen_and_named) {
    for (const char* mode : {"write_past", "write_before"})
        EXPECT_SAYS(failed(mock() + "?mode=" + mode), "node layer.4.residual: [plugin] this op wrote before or past");
    // Later than the runs that are watched op by op.
    const auto device = open(library("libbusbar_chip_faulty") + "?fault=overrun&step=10");
    Adding adding(*device);
    std::string said = "nothing";
    for (int i = 1; i <= 64 && said == "nothing"; ++i) {
        try {
            adding.run();
        } catch (const Error& e) {
            said = e.what();
        }
    }
    EXPECT_SAYS(said, "guards=each");
    const auto watched = open(library("libbusbar_chip_faulty") + "?fault=overrun&step=10&guards=each");
    Adding again(*watched);
    for (int i = 1; i < 10; ++i) again.run();
    EXPECT_THROW(again.run(), Error);
}

TEST(Isolated, a_library_in_a_process_of_its_own_does_the_same) {
    const auto device = open(mock() + "?isolate");
    EXPECT_EQ(device->profile().chip, "plugin:mock");
    Adding adding(*device);
    for (int i = 0; i < 70; ++i) adding.run();
    EXPECT_TRUE(adding.is_right());
    // More than the two share at a time, there and back.
    std::mt19937 random(3);
    std::vector<uint32_t> data((9u << 20) / 4 + 1), got(data.size());
    for (uint32_t& x : data) x = random();
    const auto a = device->allocate(data.size() * 4), b = device->allocate(data.size() * 4);
    device->write(*a, 0, std::as_bytes(std::span(data)));
    device->copy(*b, 0, *a, 0, data.size() * 4);
    device->read(*b, 0, std::as_writable_bytes(std::span(got)));
    EXPECT_EQ(data, got);
    // Programs, and what it says of itself.
    const auto skeleton = open(library("libbusbar_chip_skeleton") + "?isolate&step=6");
    EXPECT_EQ(skeleton->profile().rows.size(), open(library("libbusbar_chip_skeleton"))->profile().rows.size());
    Adding through_program(*skeleton);
    for (int i = 0; i < 5; ++i) through_program.run();
    EXPECT_TRUE(through_program.is_right());
    EXPECT_SAYS(refused(mock() + "?isolate&colour=red"), "expected the option mode");
    EXPECT_SAYS(refused(mock("zero_version") + "?isolate"), "got 0");
    EXPECT_SAYS(refused(mock("abort_on_open") + "?isolate"), "killed by signal 6");
    EXPECT_SAYS(failed(mock() + "?isolate&mode=write_past"), "node layer.4.residual");
    EXPECT_SAYS(failed(mock() + "?isolate&mode=no_memory", ErrorCode::does_not_fit), "0 are free");
}

TEST(Isolated, a_crash_or_a_hang_is_a_lost_device) {
    const auto device = open(mock() + "?isolate&mode=crash_run");
    Adding adding(*device);
    for (int i = 0; i < 2; ++i) {
        try {
            adding.run();
            ADD_FAILURE() << "it ran";
        } catch (const ChipLost& e) {
            EXPECT_SAYS(e.what(), "killed by signal 11");
            if (i == 0) {
                EXPECT_SAYS(e.what(), "node layer.4.residual");
            }
        }
    }
    EXPECT_SAYS(failed<ChipLost>(mock() + "?isolate&mode=hang_run&timeout=200"),
                "node layer.4.residual: [plugin] run_ops did not return within 200 ms");
}

}  // namespace

}  // namespace busbar
