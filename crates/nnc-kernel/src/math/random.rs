//! Counter-based random numbers: Threefry-2x32 with 20 rounds.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), and the reference code and known
//! answers of Random123. The words are u32, carried in i32 lanes, whose arithmetic wraps alike.

use crate::ir::{Builder, Elem, Value};

/// The key schedule's parity constant of Threefish with 32-bit words.
const PARITY: i32 = 0x1bd1_1bda;
/// Rotations of the eight rounds of a cycle.
const ROTATIONS: [i32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
const ROUNDS: usize = 20;

/// The two output words for a key and a counter of two words each, all in i32 lanes.
pub fn threefry2x32(b: &mut Builder, key: [Value; 2], counter: [Value; 2]) -> [Value; 2] {
    let lanes = b.lanes(counter[0]);
    let parity = b.i32(PARITY, lanes);
    let mixed = b.xor(key[0], key[1]);
    let third = b.xor(mixed, parity);
    let keys = [key[0], key[1], third];
    let mut x = [b.add(counter[0], key[0]), b.add(counter[1], key[1])];
    for round in 0..ROUNDS {
        x[0] = b.add(x[0], x[1]);
        let rotated = rotate(b, x[1], ROTATIONS[round % 8]);
        x[1] = b.xor(rotated, x[0]);
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            let number = b.i32(injection as i32, lanes);
            x[0] = b.add(x[0], keys[injection % 3]);
            let second = b.add(keys[(injection + 1) % 3], number);
            x[1] = b.add(x[1], second);
        }
    }
    x
}

/// A word as a uniform number on [0, 1): its upper 24 bits, times 2^-24.
pub fn uniform_f32(b: &mut Builder, word: Value) -> Value {
    let lanes = b.lanes(word);
    let eight = b.i32(8, lanes);
    let bits = b.shr(word, eight);
    let number = b.convert(bits, Elem::F32);
    let scale = b.f32(1.0 / 16_777_216.0, lanes);
    b.mul(number, scale)
}

fn rotate(b: &mut Builder, x: Value, by: i32) -> Value {
    let lanes = b.lanes(x);
    let (left, right) = (b.i32(by, lanes), b.i32(32 - by, lanes));
    let (left, right) = (b.shl(x, left), b.shr(x, right));
    b.or(left, right)
}
