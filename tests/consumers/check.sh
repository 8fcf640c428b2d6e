#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh WAY SOURCE INSTALLED WORK CXX: builds and runs cpu.cpp or kvevict.cpp, named after the target that they
# need, as a user of the library would.
set -euo pipefail
way=$1 source=$2 installed=$3 work=$4 cxx=$5
here=$source/tests/consumers
rm -rf "$work"
mkdir -p "$work"
configure() {
  rm -rf "$work/build"
  cmake -S "$1" -B "$work/build" -DCMAKE_CXX_COMPILER="$cxx" -DLINKED=cpu "${@:2}"
}
build() { cmake --build "$work/build" && (cd "$work/build" && ctest --output-on-failure); }
refused() {  # TEXT SOURCE OPTION...
  if configure "${@:2}" >"$work/log" 2>&1; then
    echo "accepted: ${*:2}"
    exit 1
  fi
  grep -q "$1" "$work/log" || { cat "$work/log" && exit 1; }
}
install() {
  configure "$source" -DKVEVICT_BUILD_TESTS=OFF -DKVEVICT_BUILD_EXAMPLES=OFF "$@"
  cmake --install "$work/build" --prefix "$work/installed"
}
find_package() {  # LINKED PREFIX
  configure "$here/package" -DLINKED="$1" -DCMAKE_PREFIX_PATH="$2" -DWANTED=0.1 && build
}
pkg_config() {  # LINKED PATH
  export PKG_CONFIG_PATH=$2
  read -ra flags <<<"$(pkg-config --cflags --libs kvevict)"
  "$cxx" -std=c++20 "$here/$1.cpp" "${flags[@]}" -o "$work/consumer"
  "$work/consumer"
}
case $way in
  find_package) find_package cpu "$installed" ;;
  refused_version) refused 'compatible with' "$here/package" -DCMAKE_PREFIX_PATH="$installed" -DWANTED=99 ;;
  add_subdirectory) configure "$here/subdirectory" -DKVEVICT="$source" && build ;;
  pkg_config) pkg_config cpu "$installed/share/pkgconfig:$installed/lib/pkgconfig" ;;
  directories)  # relative ones are found after a move
    absolute=$(mktemp -d)  # CMake refuses one in the source's own folder
    trap 'rm -rf "$absolute"' EXIT
    for directories in "include/kv share" "inc/kv usr/share" "$absolute/kv share"; do
      read -r headers data <<<"$directories"
      install -DCMAKE_INSTALL_INCLUDEDIR="$headers" -DCMAKE_INSTALL_DATADIR="$data"
      rm -rf "$work/moved"
      mv "$work/installed" "$work/moved"
      find_package kvevict "$work/moved/${data%share}"
      pkg_config kvevict "$work/moved/$data/pkgconfig"
    done
    ;;
  without_eigen)
    without=-DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON
    install "$without"
    for user in "package -DCMAKE_PREFIX_PATH=$work/installed -DWANTED=0.1" "subdirectory -DKVEVICT=$source"; do
      read -ra user <<<"$here/$user"
      refused 'kvevict::cpu needs Eigen 3.4' "${user[@]}" "$without"
      configure "${user[@]}" "$without" -DLINKED=kvevict
      build
    done
    ;;
esac
