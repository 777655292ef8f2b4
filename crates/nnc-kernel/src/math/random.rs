//! Counter-based random numbers: Threefry-2x32 with 20 rounds.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), and the reference code and
//! known answers of Random123. The words are u32, carried in i32 lanes, whose arithmetic wraps alike.

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

/// The uniform numbers on [0, 1) that the graph's `random` defines, in f32: the key is made of the words of `seed`
/// (i64), of `stream` and of the upper word of `counter` (i64); the counter of `position` (i32) and the lower word of
/// `counter`. All have the lanes of `position`.
pub fn uniform(b: &mut Builder, seed: Value, stream: u64, counter: Value, position: Value) -> Value {
    let lanes = b.lanes(position);
    let (seed_low, seed_high) = words(b, seed);
    let (counter_low, counter_high) = words(b, counter);
    let (stream_low, stream_high) = (b.i32(stream as u32 as i32, lanes), b.i32((stream >> 32) as u32 as i32, lanes));
    let first = b.xor(seed_low, stream_low);
    let second = b.xor(seed_high, stream_high);
    let second = b.xor(second, counter_high);
    let [word, _] = threefry2x32(b, [first, second], [position, counter_low]);
    uniform_f32(b, word)
}

/// The lower and the upper word of i64 lanes.
fn words(b: &mut Builder, x: Value) -> (Value, Value) {
    let ty = b.type_of(x);
    let width = b.constant(ty, 32);
    let upper = b.shr(x, width);
    (b.convert(x, Elem::I32), b.convert(upper, Elem::I32))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Elem, KernelBuilder, interpret, verify};
    use crate::program::ArgRef;

    /// Runs the generator in the interpreter on one key and counter.
    fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
        let mut kernel = KernelBuilder::new("threefry");
        let input = kernel.input("input", Elem::I32);
        let output = kernel.output("output", Elem::I32);
        kernel.phase(1, |b, _| {
            let origin = b.index(0);
            let words = b.load(input, origin, 4);
            let [first, second, third, fourth] = [0, 1, 2, 3].map(|lane| b.extract(words, lane));
            let out = threefry2x32(b, [first, second], [third, fourth]);
            for (at, word) in out.into_iter().enumerate() {
                let at = b.index(at as i64);
                b.store(output, at, word);
            }
        });
        let kernel = kernel.finish();
        verify::verify(&kernel).unwrap();
        let input = [key, counter].concat().iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut buffers = vec![input, vec![0; 8]];
        let args = [0, 1].map(|buffer| ArgRef::new(buffer, 0));
        interpret::run_kernel(&kernel, &args, &mut buffers).unwrap();
        let word = |at: usize| u32::from_le_bytes(buffers[1][at..at + 4].try_into().unwrap());
        [word(0), word(4)]
    }

    /// `kat_vectors` of Random123, threefry2x32 with 20 rounds.
    #[test]
    fn known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
