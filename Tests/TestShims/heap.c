#include "testshims.h"

#include <malloc.h>

void ts_trim_heap(void) { malloc_trim(0); }
