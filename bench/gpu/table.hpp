// SPDX-License-Identifier: MIT
#pragma once

#include "measured.hpp"

/// The tables that a run leaves.
namespace measured {

/// What a run was: written above its figures.
struct run_notes {
  std::string date, command;
  std::string state;              ///< what the machine says of its driver and clocks
  std::vector<std::string> also;  ///< sentences below the table
};

/// A row as a line of Markdown.
std::string line_of(const row& r, const ceilings& limits);
/// Writes FOLDER/gpu.md and FOLDER/gpu.json; says what went wrong, or nothing.
std::string write_tables(const std::string& folder, const run_notes& notes, const ceilings& limits,
                         const std::vector<row>& rows);

}  // namespace measured
