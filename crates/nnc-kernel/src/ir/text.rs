//! The text form of kernels: printed for people and dumps, parsed for tests. `print(parse(s)) == s` for printed `s`.
//!
//! ```text
//! kernel "relu" scratch 0 {
//!   in p0 "x": f32
//!   out p1 "y": f32
//!   phase 4 v0 {
//!     v1: i64 = const 16
//!     v2: f32x8 = const 0x0
//!     v3: i64 = mul v0, v1
//!     v4: f32x8 = load p0[v3 + 8]
//!     v5: f32x8 = max v4, v2
//!     store p1[v3 + 8] = v5
//!     for v6 = v1 to v3 step v1 unroll 1 with v7 = v2 {
//!       yield v7
//!     } -> v8
//!     if v9 {
//!       yield v5
//!     } else {
//!       yield v4
//!     } -> v10
//!   }
//! }
//! ```
//! Constants are decimal for indices, hexadecimal bits otherwise. Types of carried values and results stand where they
//! are defined (`v7: f32x8`).

mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::print;
