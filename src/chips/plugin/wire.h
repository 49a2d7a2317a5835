#pragma once
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "busbar_chip.h"

namespace busbar::plugin {

/// Records of the contract as bytes between two processes of one build: numbers as they lie in memory, what pointers
/// point to behind them.
class Writer {
  public:
    template <typename T>
    void put(const T& value) {
        const auto* p = reinterpret_cast<const char*>(&value);
        bytes_.insert(bytes_.end(), p, p + sizeof value);
    }
    void text(const char* s);
    void setup(const busbar_setup& s);
    void tensor(const busbar_tensor& t);
    void op(const busbar_op& op);
    void ops(const busbar_op* const* ops, uint32_t count);
    const std::vector<char>& bytes() const { return bytes_; }

  private:
    std::vector<char> bytes_;
};

/// Reads what a Writer wrote. What it makes lives as long as it does. Past the end it gives zeros and is not good().
class Reader {
  public:
    explicit Reader(std::vector<char> bytes) : bytes_(std::move(bytes)) {}
    template <typename T>
    T get() {
        T value{};
        if (bytes_.size() - at_ < sizeof value) {
            good_ = false;
            at_ = bytes_.size();
        } else {
            std::memcpy(&value, bytes_.data() + at_, sizeof value);
            at_ += sizeof value;
        }
        return value;
    }
    const char* text();
    const busbar_setup* setup(const char* library_path);
    const busbar_tensor* tensor();
    const busbar_op* op();
    const std::vector<const busbar_op*>& ops();
    bool good() const { return good_; }

  private:
    std::vector<char> bytes_;
    size_t at_ = 0;
    bool good_ = true;
    std::deque<std::string> texts_;
    std::deque<busbar_setup> setups_;
    std::deque<busbar_tensor> tensors_;
    std::deque<busbar_attribute> attributes_;
    std::deque<busbar_op> op_records_;
    std::deque<std::vector<const char*>> lists_of_texts_;
    std::deque<std::vector<const busbar_tensor*>> lists_of_tensors_;
    std::deque<std::vector<const busbar_attribute*>> lists_of_attributes_;
    std::deque<std::vector<int64_t>> lists_of_integers_;
    std::deque<std::vector<const busbar_op*>> lists_of_ops_;
};

}  // namespace busbar::plugin
