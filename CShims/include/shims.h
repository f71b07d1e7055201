#pragma once

#include "aead.h"
