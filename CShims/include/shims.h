#pragma once

#include "aead.h"
#include "database.h"
#include "digest.h"
#include "file.h"
#include "io.h"
#include "io_ring.h"
#include "io_zerocopy.h"
#include "meter.h"
#include "tls.h"
#include "tls_alone.h"
#include "text.h"
#include "xml.h"
