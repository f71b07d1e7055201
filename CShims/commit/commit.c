// The name changes with each commit, so it has a target to itself: nothing else is compiled anew for it.
#include "commit.h"

unsigned char fc_commit_octet(unsigned long index) {
    static const char name[] = FLEXICAST_COMMIT;
    return index < sizeof name ? (unsigned char)name[index] : 0;
}
