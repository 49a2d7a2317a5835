// A chip that computes every op rightly, in plain loops on the processor, and lies in one chosen way on demand. What
// checks chips is itself checked with it. Written on its own: it shares no line with what it is compared with.
#pragma once
#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "busbar_chip.h"

namespace faulty {

// What ?fault= plants. Ops are met by name and layer ("layer.3.q_rotate"), steps by the record's number.
struct Fault {
    std::string name = "none";
    int64_t layer = -1;  // -1: all, and ops outside layers
    uint64_t step = 0;   // from this step on
    double size = -1;    // of the fault's own meaning; -1: its default
    std::string op;      // only ops of this name; "" = the fault's default
    uint64_t from = 0;   // from this step of the device on, whatever program it belongs to

    // Sets it from an option; returns what is wrong, "" if nothing.
    std::string set(const std::string& key, const std::string& value);
    bool is(const char* fault) const { return name == fault; }
    // `count`: steps of the device so far, this one included.
    bool hits(const busbar_op& op, const busbar_step& step, uint64_t count) const;
    double size_or(double other) const { return size >= 0 ? size : other; }
};

// A file from which faults are ordered while the chip serves: one line, "NUMBER fault=NAME&in=STEPS&op=NAME&size=X". A
// number that was not seen before is a new order; in=1 means the step that is about to run. What stood there when the
// device was opened is an old one.
struct Orders {
    std::string path;
    std::string last;  // the number obeyed
    // Reads it; true and a fault where there is a new one. One that is not understood is none.
    bool look(uint64_t steps, Fault* fault);
};
extern const char* const fault_names[];
// Layer in a node's or a tensor's name: the number after "layer.", "layers." or "blk."; -1 if it has none.
int64_t layer_in(const char* name);

// Threads that share out a range, started once.
class Team {
  public:
    explicit Team(int threads);
    ~Team();
    void share(int64_t count, const std::function<void(int64_t begin, int64_t end)>& work);

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace faulty

struct busbar_buffer_of_chip {
    unsigned char* bytes = nullptr;
    uint64_t size = 0;
};
struct busbar_weight_of_chip {
    std::string name;
    std::vector<float> numbers;  // row-major, as many as the stored tensor has
    int64_t rows = 0, width = 0;
};
struct busbar_device_of_chip {
    faulty::Fault fault;
    std::unique_ptr<faulty::Team> team;
    std::map<std::string, busbar_weight> weights;              // by stored name, for layer_swap
    std::map<std::string, std::vector<unsigned char>> before;  // by node, for stale_buffer
    struct Late {
        float* to;
        std::vector<float> numbers;
        int calls_left;
    };
    std::vector<Late> late;  // for missing_sync
    uint64_t calls = 0;
    faulty::Orders orders;
    uint64_t steps = 0;                                     // of all programs
    std::pair<const void*, uint64_t> step_now{nullptr, 0};  // a step may come in parts
    bool one_weight_done = false, lost = false;
    uint64_t memory = 0, used = 0;  // bytes; a limit of 0 is none
};

namespace faulty {

// One op with everything resolved.
struct Run {
    busbar_device device;
    const busbar_op& op;
    const busbar_step& step;
    bool hit;  // the fault is meant for this op, now

    const busbar_tensor& in(uint32_t i) const { return *op.inputs[i]; }
    const busbar_tensor& out(uint32_t i) const { return *op.outputs[i]; }
    bool fault(const char* name) const { return hit && device->fault.is(name); }
    const int32_t* words() const { return reinterpret_cast<const int32_t*>(step.buffer->bytes + step.offset); }
    // Leading extent in use; the numbers of a tensor in use; its rows (all axes but the last).
    int64_t leading(const busbar_tensor& t) const;
    int64_t count(const busbar_tensor& t) const;
    int64_t rows(const busbar_tensor& t) const;
    float* reals(const busbar_tensor& t) const { return reinterpret_cast<float*>(t.buffer->bytes + t.offset); }
    int32_t* indices(const busbar_tensor& t) const;
    // Row-major f32 numbers of a weight or of values.
    const float* matrix(const busbar_tensor& t) const;
    const busbar_attribute& attribute(const char* name) const;
    double number(const char* name) const { return attribute(name).number; }
    int64_t integer(const char* name) const { return attribute(name).integer; }
};

// "" or what went wrong. Each computes one op, wrong in its own way if its fault is planted.
std::string run(const Run& r);
std::string elementwise(const Run& r);
std::string move(const Run& r);
std::string by_rows(const Run& r);
std::string rotary(const Run& r);
std::string product(const Run& r);
std::string cache(const Run& r);
std::string attention(const Run& r);

// Decodes whole rows of stored blocks. False for an encoding that it does not know. `shift`: blocks whose scale comes
// from their neighbour (scale_off_by_one), so many from the start; `flush`: denormal numbers become zero.
bool decode(const busbar_tensor& stored, const unsigned char* bytes, int64_t rows, float* out, int64_t shift,
            bool flush);
bool knows(const busbar_tensor& stored);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float x);
uint16_t float_to_bfloat(float x);
float flushed(float x);

// y[rows][outputs] = x[rows][width] w[outputs][width]^T; every sum in the same order, whatever the rows.
void multiply(Team& team, const float* x, int64_t rows, const float* w, int64_t outputs, int64_t width, float* y);
void multiply_in_half(Team& team, const float* x, int64_t rows, const float* w, int64_t outputs, int64_t width,
                      float* y);

}  // namespace faulty
