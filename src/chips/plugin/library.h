#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "busbar_chip.h"

namespace busbar::plugin {

/// What stands after "plugin:": PATH?key=value&key=value. The host's own keys are taken out of `options`.
struct Address {
    std::string path;                                          ///< absolute
    std::vector<std::pair<std::string, std::string>> options;  ///< the chip's
    uint32_t device = 0;                                       ///< device=N
    std::chrono::milliseconds timeout{60000};                  ///< timeout=MS: for one op, or one call
    bool isolate = false;                                      ///< isolate: in a process of its own
    bool guards_after_each = false;                            ///< guards=each: look at guard bytes after every op
    /// Throws Error{usage} for what cannot be read, Error{chip} if there is no such file.
    static Address parse(std::string_view text);
};

/// The record as both sides know it: larger or smaller tables than this build's are cut or filled with zeros.
template <typename Record>
Record sized() {
    Record record{};
    record.struct_size = sizeof(Record);
    return record;
}

/// A call's error record, ready to be handed over.
busbar_error no_error();
/// A stranger's text of a fixed-size field, zero-terminated or not, safe to print.
std::string text_of(const char* field, size_t size);

class Remote;

/// A vendor's library, loaded - here, or in a process of its own - and its table checked. Unloaded with the object
/// unless keep() was called.
class Library {
  public:
    /// Throws Error{chip}: the system's words where it does not load, missing symbol, a version of zero, one that is
    /// too old or too new, tier 0 not whole, some of a group without the others.
    explicit Library(const Address& address);
    ~Library();
    Library(const Library&) = delete;
    Library& operator=(const Library&) = delete;

    const busbar_chip& chip() const { return chip_; }
    /// "0.1", of the header that it was compiled with.
    std::string version() const;
    bool has_streams() const { return chip_.stream_create != nullptr; }
    bool has_packer() const { return chip_.pack_weight != nullptr; }
    bool has_programs() const { return chip_.prepare != nullptr; }
    /// Of busbar_setup.log_context, which leads to the library's process.
    void* context() const { return remote_.get(); }
    /// A thread of it may still run: its code stays mapped. In a process of its own: that is ended.
    void keep();

  private:
    void check(const std::string& path);
    void* handle_ = nullptr;
    std::unique_ptr<Remote> remote_;
    busbar_chip chip_{};
    bool kept_ = false;
};

/// Setup record and what it points to.
struct Setup {
    explicit Setup(const Address& address);
    Setup(const Setup&) = delete;
    Setup& operator=(const Setup&) = delete;
    Address address;
    std::vector<const char*> keys, values;
    busbar_setup record{};
};

/// Opens the library in a child process and asks for the device's properties, so that one that hangs, aborts or lacks a
/// library of its own is an answer and not the end. Throws Error{chip} with what happened.
void look_in_child(const Address& address);

/// Checks that what device_info filled in makes sense. Throws Error{chip}.
void check_info(const busbar_device_info& info, const std::string& path);

/// Throws the Error for a status that is not BUSBAR_OK. `address`: "plugin:minimal: node layer.3.q".
[[noreturn]] void throw_status(const std::string& chip, const std::string& address, const std::string& what,
                               int32_t status, const busbar_error& error);

}  // namespace busbar::plugin
