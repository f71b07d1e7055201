// What tests need of Linux that Swift's Glibc module does not have.
#ifndef TESTSHIMS_H
#define TESTSHIMS_H

/// Opens `interface` for whole Ethernet frames, in the network namespace of `process`. The calling thread stays in that
/// namespace, so it should end. Returns a descriptor, or -errno.
int ts_open_link(int process, const char *interface);

#endif
