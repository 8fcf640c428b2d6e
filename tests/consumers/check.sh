#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# check.sh WAY SOURCE INSTALLED WORK CXX: builds and runs main.cpp as a user of the library would.
set -euo pipefail
way=$1 source=$2 installed=$3 work=$4 cxx=$5
here=$source/tests/consumers
rm -rf "$work"
mkdir -p "$work"
configure() { cmake -S "$here/$1" -B "$work" -DCMAKE_CXX_COMPILER="$cxx" "${@:2}"; }
build() { cmake --build "$work" && (cd "$work" && ctest --output-on-failure); }
case $way in
  find_package) configure package -DCMAKE_PREFIX_PATH="$installed" -DWANTED=0.1 && build ;;
  refused_version)
    if configure package -DCMAKE_PREFIX_PATH="$installed" -DWANTED=99 >"$work/log" 2>&1; then
      echo "version 99 was accepted"
      exit 1
    fi
    grep -q 'compatible with' "$work/log"
    ;;
  add_subdirectory) configure subdirectory -DKVEVICT="$source" && build ;;
  pkg_config)
    export PKG_CONFIG_PATH=$installed/share/pkgconfig:$installed/lib/pkgconfig
    read -ra flags <<<"$(pkg-config --cflags --libs kvevict)"
    "$cxx" -std=c++20 "$here/main.cpp" "${flags[@]}" -o "$work/consumer"
    "$work/consumer"
    ;;
esac
