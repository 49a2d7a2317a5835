#include "agree/identity.h"

#include <elf.h>
#include <link.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

class Sha256 {
  public:
    Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
        BUSBAR_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
    }
    void add(const void* bytes, size_t n) { EVP_DigestUpdate(context_.get(), bytes, n); }
    std::string hex() {
        unsigned char digest[32];
        unsigned length = 0;
        EVP_DigestFinal_ex(context_.get(), digest, &length);
        std::string out;
        for (unsigned char byte : digest) out += fmt::format("{:02x}", byte);
        return out;
    }

  private:
    std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

std::string key_of(const std::string& path) {
    struct stat s {};
    if (stat(path.c_str(), &s) != 0) return "";
    return fmt::format("{} {} {} {}.{:09}", std::filesystem::absolute(path).string(), s.st_ino, s.st_size,
                       s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}

}  // namespace

std::string hash_of(std::string_view text) {
    Sha256 sha;
    sha.add(text.data(), text.size());
    return sha.hex();
}

std::string hash_of(const std::vector<std::shared_ptr<const MappedFile>>& files) {
    const std::string folder = cache_folder("hashes");
    std::vector<std::string> parts;
    for (const auto& file : files) {
        const std::string key = key_of(file->path());
        const std::string path = folder.empty() || key.empty() ? "" : folder + "/" + hash_of(key).substr(0, 32);
        std::string hash = path.empty() ? "" : kept(path);
        if (hash.size() != 64) {
            Sha256 sha;
            sha.add(file->bytes().data(), file->bytes().size());
            file->check_intact();
            hash = sha.hex();
            if (!path.empty()) keep(path, hash);
        }
        parts.push_back(std::filesystem::path(file->path()).filename().string() + " " + hash);
    }
    if (parts.size() == 1) return parts[0].substr(parts[0].size() - 64);  // as sha256sum prints it
    std::sort(parts.begin(), parts.end());
    return hash_of(fmt::format("{}", fmt::join(parts, "\n")));
}

namespace {

// Of the file that this code was linked into: the note that the linker wrote into it, a hash of all its contents. ""
// where it wrote none.
std::string linked_id() {
    struct Search {
        ElfW(Addr) code;
        std::string id;
    } search{reinterpret_cast<ElfW(Addr)>(&linked_id), ""};
    dl_iterate_phdr(
        [](dl_phdr_info* file, size_t, void* data) {
            auto& search = *static_cast<Search*>(data);
            const std::span headers(file->dlpi_phdr, file->dlpi_phnum);
            const bool ours = std::ranges::any_of(headers, [&](const ElfW(Phdr) & h) {
                const ElfW(Addr) begin = file->dlpi_addr + h.p_vaddr;
                return h.p_type == PT_LOAD && search.code >= begin && search.code < begin + h.p_memsz;
            });
            if (!ours) return 0;
            for (const ElfW(Phdr) & h : headers) {
                if (h.p_type != PT_NOTE) continue;
                const auto* note = reinterpret_cast<const std::byte*>(file->dlpi_addr + h.p_vaddr);
                for (size_t at = 0; at + sizeof(ElfW(Nhdr)) <= h.p_memsz;) {
                    const auto head = load<ElfW(Nhdr)>(note + at);
                    const size_t name = at + sizeof head, id = name + round_up(head.n_namesz, 4);
                    if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && std::memcmp(note + name, "GNU", 4) == 0)
                        for (size_t i = 0; i < head.n_descsz; ++i)
                            search.id += fmt::format("{:02x}", static_cast<unsigned>(note[id + i]));
                    at = id + round_up(head.n_descsz, 4);
                }
            }
            return 1;
        },
        &search);
    return search.id;
}

std::string hash_of_program() {
    std::ifstream self("/proc/self/exe", std::ios::binary);
    Sha256 sha;
    std::vector<char> buffer(1 << 20);
    while (self.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), self.gcount() > 0)
        sha.add(buffer.data(), static_cast<size_t>(self.gcount()));
    return sha.hex();
}

}  // namespace

const std::string& build_id() {
    static const std::string id = [] {
        // Hashing the program at each start would cost as much as planning a small model.
        std::string linked = linked_id();
        return (linked.size() >= 16 ? linked : hash_of_program()).substr(0, 16);
    }();
    return id;
}

std::string cache_folder(std::string_view folder) {
    std::filesystem::path base;
    if (const char* given = std::getenv("BUSBAR_CACHE"); given && *given)
        base = given;
    else if (const char* shared = std::getenv("XDG_CACHE_HOME"); shared && *shared)
        base = std::filesystem::path(shared) / "busbar";
    else if (const char* home = std::getenv("HOME"); home && *home)
        base = std::filesystem::path(home) / ".cache" / "busbar";
    else
        return "";
    std::error_code failed;
    std::filesystem::create_directories(base / folder, failed);
    return failed ? "" : (base / folder).string();
}

bool keep(const std::string& path, std::string_view bytes) {
    const std::string beside = fmt::format("{}.{}", path, getpid());
    {
        std::ofstream out(beside, std::ios::binary);
        out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        out.close();
        if (!out) {
            unlink(beside.c_str());
            return false;
        }
    }
    return rename(beside.c_str(), path.c_str()) == 0;
}

std::string kept(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return in ? std::string(std::istreambuf_iterator<char>(in), {}) : "";
}

KeepPacked keep_packed(const std::vector<std::shared_ptr<const MappedFile>>& files) {
    const std::string folder = cache_folder("packed");
    if (folder.empty() || files.empty()) return {};
    const std::string source = hash_of(files);
    return {
        fmt::format("{}/{}-{}", folder, std::filesystem::path(files[0]->path()).stem().string(), source.substr(0, 16)),
        source};
}

}  // namespace busbar::agree
