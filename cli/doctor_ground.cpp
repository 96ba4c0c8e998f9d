#include "cli/doctor_ground.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace millrace {

namespace {

namespace fs = std::filesystem;

constexpr int layers_max = 8;  // images on filesystems on images

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

/// The mount that holds `path`.
Mount mount_of(const std::string& path) {
  Mount best;
  std::ifstream file("/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, options, word, type, source, super;
    words >> id >> parent >> device >> root >> point >> options;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> super;
    bool inside = path == point || point == "/" || path.rfind(point + "/", 0) == 0;
    if (inside && point.size() >= best.point.size()) best = {point, type, options + "," + super, device, source};
  }
  return best;
}

std::string option_of(const Mount& mount, const std::string& name) {
  std::istringstream options(mount.options);
  for (std::string option; std::getline(options, option, ',');)
    if (option.rfind(name + "=", 0) == 0) return option.substr(name.size() + 1);
  return "";
}

std::string real_path(const std::string& path) {
  std::error_code failed;
  const fs::path found = fs::canonical(path, failed);
  return failed ? "" : found.string();
}

/// Filesystems over several devices have a number of their own; then what was mounted leads to one of them.
std::string device_directory(const Mount& mount) {
  std::string found = real_path("/sys/dev/block/" + mount.device);
  struct stat status{};
  if (!found.empty() || mount.source.rfind("/dev/", 0) != 0 || ::stat(mount.source.c_str(), &status) != 0 ||
      !S_ISBLK(status.st_mode))
    return found;
  return real_path("/sys/dev/block/" + std::to_string(major(status.st_rdev)) + ":" +
                   std::to_string(minor(status.st_rdev)));
}

std::string whole_disk(const std::string& device) {
  return fs::exists(device + "/partition") ? fs::path(device).parent_path().string() : device;
}

std::string memory_below(const std::string& path, int layers);

std::string memory_in(const std::string& device, int layers) {
  if (device.empty() || layers == 0) return "";
  const std::string disk = whole_disk(device), name = fs::path(disk).filename();
  if (name.rfind("zram", 0) == 0 || name.rfind("ram", 0) == 0) return name;
  std::string image = first_line(disk + "/loop/backing_file");
  if (const auto gone = image.rfind(" (deleted)"); gone != std::string::npos) image.resize(gone);
  if (!image.empty()) {
    const std::string below = memory_below(image, layers - 1);
    return below.empty() ? "" : "the image " + image + " on " + below;
  }
  std::error_code failed;
  for (const auto& part : fs::directory_iterator(disk + "/slaves", failed))
    if (const std::string below = memory_in(real_path(part.path()), layers - 1); !below.empty()) return below;
  return "";
}

std::string memory_below(const std::string& path, int layers) {
  const Mount mount = mount_of(path);
  if (mount.type == "tmpfs" || mount.type == "ramfs" || mount.type == "devtmpfs")
    return mount.type + " at " + mount.point;
  // In a container the path may be one of the host's: then nothing is known.
  if (mount.type == "overlay")
    if (const std::string upper = real_path(option_of(mount, "upperdir")); !upper.empty() && layers > 0)
      return memory_below(upper, layers - 1);
  return memory_in(device_directory(mount), layers);
}

}  // namespace

Ground ground_of(const std::string& path) {
  Ground ground;
  ground.mount = mount_of(path);
  ground.device = device_directory(ground.mount);
  ground.memory = memory_below(path, layers_max);
  return ground;
}

std::string device_says(const Ground& ground, const std::string& name) {
  if (ground.device.empty()) return "";
  const std::string value = first_line(ground.device + "/" + name);
  return value.empty() ? first_line(whole_disk(ground.device) + "/" + name) : value;
}

std::string disk_name(const Ground& ground) {
  return ground.device.empty() ? "" : fs::path(whole_disk(ground.device)).filename().string();
}

}  // namespace millrace
