// The commit that the program was built from.
#pragma once

/// The octet at `index` of the commit's short name, with "+changes" behind it if files differed from that commit, or of
/// "unknown"; 0 after the last.
unsigned char fc_commit_octet(unsigned long index);
