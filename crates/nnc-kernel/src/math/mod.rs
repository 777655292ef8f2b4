//! Elementary functions, expanded in the kernel IR, so that every backend computes the same bits.
