// SPDX-License-Identifier: MIT
#pragma once

// The only place of the version; the build reads it from here.
#define KVEVICT_VERSION_MAJOR 0
#define KVEVICT_VERSION_MINOR 1
#define KVEVICT_VERSION_PATCH 0
