#pragma once
#include <string>

namespace busbar {

/// "prompt 512 of 4,096 tokens, 12 s left", redrawn in place: on stderr, on a terminal only, unless --quiet, and only
/// for work that has taken two seconds. Gone without a trace when it is done.
class Progress {
  public:
    Progress(std::string what, std::string unit);
    ~Progress() { clear(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void update(double done, double all);
    void clear();

  private:
    std::string what_, unit_;
    double begin_, drawn_at_ = 0;
    bool wanted_, drawn_ = false;
};

}  // namespace busbar
