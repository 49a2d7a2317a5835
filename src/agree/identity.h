#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "run/packed_file.h"

namespace busbar::agree {

/// SHA-256 in hexadecimal digits.
std::string hash_of(std::string_view text);
/// Of the contents of all files, in the order of their names. Reading gigabytes takes seconds, so that the result is
/// kept in the cache folder by path, inode, size and time of change; without a cache folder it is taken anew.
std::string hash_of(const std::vector<std::shared_ptr<const MappedFile>>& files);
/// Of the running program: what was found by another build is not believed. 16 digits.
const std::string& build_id();

/// Where packed weights of these files are kept: beside the other results. An empty path where nothing can be kept.
KeepPacked keep_packed(const std::vector<std::shared_ptr<const MappedFile>>& files);

/// Where results are kept between runs: BUSBAR_CACHE, else XDG_CACHE_HOME/busbar, else ~/.cache/busbar; with `folder`
/// in it made. "" where none can be made.
std::string cache_folder(std::string_view folder);
/// Whole files or none: written beside and renamed. False if the disk does not take it.
bool keep(const std::string& path, std::string_view bytes);
/// "" if there is no such file.
std::string kept(const std::string& path);

}  // namespace busbar::agree
