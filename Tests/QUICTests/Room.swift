// Tests of QUIC.
