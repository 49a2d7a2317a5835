#pragma once
#include "common.h"

namespace busbar {

/// What this build can do, printed from the tables that run: README's table is this text.
Json support_json();
std::string support_text();
std::string support_markdown();

/// The op table's own documentation.
Json ops_json();
std::string ops_text();

}  // namespace busbar
