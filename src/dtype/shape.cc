#include "dtype/shape.h"

#include "base/check.h"

namespace busbar {

int64_t Binding::of(Symbol s) const {
    switch (s) {
        case Symbol::rows:
            return rows;
        case Symbol::logit_rows:
            return logit_rows;
        case Symbol::slots:
            return sequences * context;
        case Symbol::sequences:
            return sequences;
        case Symbol::pages:
            return context / 64;
        case Symbol::none:
            break;
    }
    BUSBAR_CHECK(false, "a symbol without a number");
}

std::vector<int64_t> Shape::bind(const Binding& b) const {
    std::vector<int64_t> out;
    for (const Dim& d : dims_) out.push_back(d.bind(b));
    return out;
}

int64_t Shape::count(const Binding& b) const {
    return count_of(bind(b));
}

std::string Shape::print() const {
    static const char* const symbols[] = {"", "rows", "logit_rows", "slots", "sequences", "pages"};
    std::string out = "[";
    for (size_t i = 0; i < dims_.size(); ++i) {
        if (i) out += ", ";
        out +=
            dims_[i].symbol == Symbol::none ? std::to_string(dims_[i].n) : symbols[static_cast<int>(dims_[i].symbol)];
    }
    return out + "]";
}

int64_t count_of(const std::vector<int64_t>& extents) {
    int64_t n = 1;
    for (int64_t e : extents) n *= e;
    return n;
}

}  // namespace busbar
