#include "base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/error.h"
#include "base/large_pages.h"

namespace busbar {

namespace {

// The table of live mappings that the SIGBUS handler reads. Plain atomics: a handler may take no lock.
struct Mapping {
    std::atomic<const std::byte*> data{nullptr};
    std::atomic<uint64_t> size{0};
    std::atomic<bool> cut{false};
    int fd = -1;  // kept open to ask for the file's size; not read by the handler
};
constexpr int max_mappings = 4096;
Mapping mappings[max_mappings];
std::mutex mappings_mutex;
struct sigaction previous_action;

void on_sigbus(int signal, siginfo_t* info, void* context) {
    const auto* address = static_cast<const std::byte*>(info->si_addr);
    for (Mapping& m : mappings) {
        const std::byte* data = m.data.load(std::memory_order_acquire);
        if (!data || address < data || address >= data + m.size.load(std::memory_order_relaxed)) continue;
        // The reader that faulted goes on with a page of zeros; the flag tells it that what it computed is void.
        const uintptr_t page = reinterpret_cast<uintptr_t>(address) & ~uintptr_t{4095};
        // The bare system call, not the library's mmap: nothing but the kernel is involved in a signal handler, and tools
        // that watch mmap do not take the page of zeros for somebody's write.
        const long zero = syscall(SYS_mmap, page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zero == -1) break;
        m.cut.store(true, std::memory_order_release);
        return;
    }
    // Not ours: behave as if we had never been here.
    sigaction(SIGBUS, &previous_action, nullptr);
    (void)signal;
    (void)context;
}

void install_handler() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action {};
        action.sa_sigaction = on_sigbus;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        sigaction(SIGBUS, &action, &previous_action);
    });
}

}  // namespace

std::shared_ptr<MappedFile> MappedFile::open(const std::string& path) {
    install_handler();
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) throw bad_input(path, "[file] cannot open: {}", std::strerror(errno));
    struct stat st {};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        throw bad_input(path, "[file] expected a regular file, got {}", S_ISDIR(st.st_mode) ? "a folder" : "something else");
    }
    std::shared_ptr<MappedFile> file(new MappedFile);
    file->path_ = path;
    file->size_ = st.st_size;
    if (file->size_ > 0) {
        void* data = map_file(file->size_, PROT_READ, MAP_PRIVATE, fd);
        if (data == MAP_FAILED) {
            const int error = errno;
            close(fd);
            if (error == ENOMEM)
                throw does_not_fit("[memory] {}: the system gives no {} bytes of address space to map it (ulimit -v?)",
                                   path, with_commas(file->size_));
            throw bad_input(path, "[file] cannot map {} bytes: {}", with_commas(file->size_), std::strerror(error));
        }
        file->data_ = static_cast<const std::byte*>(data);
        std::lock_guard lock(mappings_mutex);
        for (int i = 0; i < max_mappings && file->slot_ < 0; ++i) {
            if (mappings[i].data.load() != nullptr) continue;
            mappings[i].cut = false;
            mappings[i].size = file->size_;
            mappings[i].fd = fd;
            mappings[i].data.store(file->data_, std::memory_order_release);
            file->slot_ = i;
        }
        if (file->slot_ < 0) {
            close(fd);
            throw bad_input(path, "[file] more than {} files are open at once", max_mappings);
        }
    } else {
        close(fd);
    }
    return file;
}

MappedFile::~MappedFile() {
    if (slot_ >= 0) {
        std::lock_guard lock(mappings_mutex);
        close(mappings[slot_].fd);
        mappings[slot_].data.store(nullptr, std::memory_order_release);
    }
    if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::check_intact() const {
    if (slot_ < 0) return;
    // A cut inside the last page raises no signal (the rest of the page reads as zeros), so the size is asked for as well.
    struct stat st {};
    const bool shorter = fstat(mappings[slot_].fd, &st) == 0 && static_cast<uint64_t>(st.st_size) < size_;
    if (shorter || mappings[slot_].cut.load(std::memory_order_acquire))
        throw bad_input(path_, "[file] expected {} bytes, but the file was cut short while in use; put the whole file back and start again",
                        with_commas(size_));
}

void MappedFile::drop(uint64_t offset, uint64_t length) const {
    if (offset >= size_) return;
    const uint64_t begin = offset & ~uint64_t{4095};
    madvise(const_cast<std::byte*>(data_) + begin, std::min(size_, offset + length) - begin, MADV_DONTNEED);
}

std::string read_file(const std::string& path, uint64_t limit) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw bad_input(path, "[file] cannot open: {}", std::strerror(errno));
    std::string text;
    char buffer[65536];
    while (true) {
        const ssize_t n = ::read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        const int error = errno;
        if (n <= 0 || text.size() + n > limit) {
            close(fd);
            if (n < 0) throw bad_input(path, "[file] cannot read: {}", std::strerror(error));
            if (n > 0) throw bad_input(path, "[file] expected at most {} bytes, got more", with_commas(limit));
            return text;
        }
        text.append(buffer, n);
    }
}

}  // namespace busbar
