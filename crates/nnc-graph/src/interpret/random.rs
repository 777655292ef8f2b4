//! The counter-based generator: Threefry-2x32 with 20 rounds.
//!
//! Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). No state: a draw is a pure
//! function of seed, stream, counter and position, so it is the same on any number of threads.

use super::array::Array;
use crate::DType;

const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
const PARITY: u32 = 0x1BD1_1BDA;

/// Threefry-2x32-20 of a key and a counter.
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for block in 0..5u32 {
        for rotation in ROTATIONS[(block % 2) as usize] {
            x[0] = x[0].wrapping_add(x[1]);
            x[1] = x[1].rotate_left(rotation) ^ x[0];
        }
        let next = block + 1;
        x[0] = x[0].wrapping_add(keys[(next % 3) as usize]);
        x[1] = x[1].wrapping_add(keys[((next + 1) % 3) as usize]).wrapping_add(next);
    }
    x
}

fn words(number: i64) -> [u32; 2] {
    [number as u32, (number as u64 >> 32) as u32]
}

pub(super) fn uniform(stream: u64, seed: &Array, counter: &Array, drawn: usize, dims: &[usize]) -> Array {
    let (seed, stream) = (words(seed.to_ints()[0]), words(stream as i64));
    let mut values = Vec::with_capacity(dims.iter().product());
    for count in counter.to_ints() {
        let count = words(count);
        let key = [seed[0] ^ stream[0], seed[1] ^ stream[1] ^ count[1]];
        values.extend((0..drawn as u32).map(|at| f64::from(threefry(key, [at, count[0]])[0] >> 8) / 16_777_216.0));
    }
    Array::floats(DType::F32, dims, values)
}

#[cfg(test)]
mod tests {
    use super::threefry;

    /// The known answers that the authors publish with Random123.
    #[test]
    fn known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
