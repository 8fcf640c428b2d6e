// SPDX-License-Identifier: MIT
#pragma once

#include "host.hpp"
#include "stored.hpp"
