// Tests of Interop.
