#pragma once

#include "aead.h"
#include "digest.h"
