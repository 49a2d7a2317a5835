#include "llm/tokenizer/vocabulary.h"

#include <bit>
#include <random>

#include "base/bytes.h"

namespace busbar {

namespace {

uint64_t process_seed() {
    static const uint64_t seed = [] {
        std::random_device device;
        return (static_cast<uint64_t>(device()) << 32 | device()) | 1;
    }();
    return seed;
}

uint64_t mix(uint64_t a, uint64_t b) {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

constexpr uint64_t odd = 0x9E3779B97F4A7C15ull;  // 2^64 divided by the golden ratio

}  // namespace

uint64_t hash_bytes(std::string_view bytes) {
    const uint64_t seed = process_seed();
    uint64_t h = seed ^ bytes.size();
    const char* p = bytes.data();
    size_t n = bytes.size();
    for (; n >= 8; n -= 8, p += 8) h = mix(h ^ load<uint64_t>(p), odd ^ seed);
    uint64_t tail = 0;
    if (n >= 4) {
        tail = load<uint32_t>(p) | static_cast<uint64_t>(load<uint32_t>(p + n - 4)) << 32;
    } else if (n > 0) {
        tail = static_cast<uint8_t>(p[0]) | static_cast<uint64_t>(static_cast<uint8_t>(p[n / 2])) << 8 |
               static_cast<uint64_t>(static_cast<uint8_t>(p[n - 1])) << 16;
    }
    return mix(mix(h ^ tail, odd ^ seed), seed ^ 0xD6E8FEB86659FD93ull);
}

uint64_t hash_pair(uint32_t a, uint32_t b) {
    const uint64_t seed = process_seed();
    return mix((static_cast<uint64_t>(a) << 32 | b) ^ seed, odd ^ seed);
}

Vocabulary::Vocabulary(size_t count) {
    pieces_.reserve(count);
    grow(std::bit_ceil(count * 2 + 16));
}

void Vocabulary::grow(size_t slots) {
    std::vector<Slot> old(slots);
    old.swap(slots_);
    for (const Slot& slot : old)
        if (slot.id >= 0) insert(hash_bytes(pieces_[slot.id]), slot.id);
}

void Vocabulary::insert(uint64_t hash, TokenId id) {
    const size_t mask = slots_.size() - 1;
    size_t i = hash & mask;
    while (slots_[i].id >= 0) i = (i + 1) & mask;
    slots_[i] = {static_cast<uint32_t>(hash >> 32), id};
}

size_t Vocabulary::slot_of(uint64_t hash, std::string_view piece) const {
    const uint32_t tag = static_cast<uint32_t>(hash >> 32);
    const size_t mask = slots_.size() - 1;
    size_t i = hash & mask;
    while (slots_[i].id >= 0 && !(slots_[i].tag == tag && pieces_[slots_[i].id] == piece)) i = (i + 1) & mask;
    return i;
}

bool Vocabulary::add(std::string_view piece, TokenId id) {
    if (static_cast<size_t>(id) >= pieces_.size()) pieces_.resize(id + 1);
    if (!pieces_[id].empty()) return pieces_[id] == piece;
    pieces_[id] = piece;
    if (piece.empty()) return true;
    if ((used_ + 1) * 3 > slots_.size() * 2) grow(slots_.size() * 2);
    const uint64_t hash = hash_bytes(piece);
    Slot& slot = slots_[slot_of(hash, piece)];
    if (slot.id >= 0) return true;
    slot = {static_cast<uint32_t>(hash >> 32), id};
    longest_ = std::max(longest_, piece.size());
    ++used_;
    return true;
}

std::string_view Vocabulary::own(std::string piece) {
    return owned_.emplace_back(std::move(piece));
}

TokenId Vocabulary::find(std::string_view piece) const {
    return slots_[slot_of(hash_bytes(piece), piece)].id;
}

}  // namespace busbar
