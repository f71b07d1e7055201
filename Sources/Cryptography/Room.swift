// The room for Cryptography.
