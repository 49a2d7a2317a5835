#include "progress.h"

#include <unistd.h>

#include <iostream>

#include "base/error.h"
#include "base/trace.h"

namespace busbar {

Progress::Progress(std::string what, std::string unit)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      begin_(seconds_since_start()),
      wanted_(log_wants(LogLevel::notes) && isatty(STDERR_FILENO)) {}

void Progress::update(double done, double all) {
    const double now = seconds_since_start(), taken = now - begin_;
    if (!wanted_ || taken < 2 || now - drawn_at_ < 0.1) return;
    drawn_at_ = now;
    drawn_ = true;
    std::string line = fmt::format("{} {} of {} {}", what_, with_commas(static_cast<uint64_t>(done)),
                                   with_commas(static_cast<uint64_t>(all)), unit_);
    if (done > 0) line += fmt::format(", {:.0f} s left", taken / done * (all - done));
    std::cerr << "\r\033[K" << line << std::flush;
}

void Progress::clear() {
    if (drawn_) std::cerr << "\r\033[K" << std::flush;
    drawn_ = false;
}

}  // namespace busbar
