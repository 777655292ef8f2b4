//! Random kernels on the interpreter and compiled.

mod common;
#[path = "common/kernels.rs"]
mod kernels;

use common::{Numbers, check, single};
use kernels::{ELEMS, ROOM, TASKS, grow};
use nnc_kernel::ir::{Elem, text};
use proptest::prelude::*;

fn buffers() -> (Vec<Vec<u8>>, Vec<Elem>) {
    let mut numbers = Numbers(11);
    let mut buffers = vec![vec![]];
    buffers.extend(ELEMS.iter().map(|&elem| numbers.memory(elem, 200)));
    buffers.push([0i64, 1, 2, 3, 4, 5, 7, -1].iter().flat_map(|count| count.to_le_bytes()).collect());
    buffers.extend(ELEMS.iter().map(|elem| vec![0; ROOM as usize * TASKS as usize * elem.size()]));
    (buffers, [ELEMS.as_slice(), &[Elem::I64], ELEMS.as_slice()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn compiled_kernels_do_as_the_interpreter(
        decisions in prop::collection::vec(any::<u32>(), 1..300),
        lanes in prop::sample::select(vec![1u8, 2, 4, 8, 16]),
    ) {
        let (kernel, args) = grow(&decisions, lanes);
        let printed = text::print(&kernel);
        let parsed = text::parse(&printed).map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?;
        prop_assert_eq!(&parsed, &kernel);
        let (buffers, elems) = buffers();
        check(&single(kernel, args), &buffers, &elems).map_err(TestCaseError::fail)?;
    }
}
