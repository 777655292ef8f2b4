//! Runs programs on every engine and compares all memory, bit for bit.
//!
//! The one freedom that the IR leaves is the sign and payload of a NaN: in memory of floats any NaN equals any.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod graphs;

use nnc_codegen::Backend;
use nnc_kernel::ir::{Elem, Kernel, interpret, scalar, text};
use nnc_kernel::program::verify::verify_program;
use nnc_kernel::program::{ArgRef, Launch, Program};
use nnc_runtime::cpu::Isa;
use nnc_runtime::{AlignedBuffer, Code, ExternalBuffer, Layout, Pool};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A small generator of test data (SplitMix64, Steele, Lea and Flood 2014).
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// The bits of an element: special values, small numbers, any bits.
    pub fn element(&mut self, elem: Elem) -> u64 {
        const SPECIAL: [f64; 14] = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -2.5,
            3.5,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            1e-40,
            -1e-310,
            65_519.99,
            3e9,
        ];
        let kind = self.below(4);
        if elem == Elem::Bool {
            return self.below(2);
        }
        if elem.is_int() {
            let numbers = [0, 1, u64::MAX, 1 << (elem.bits() - 1), (1 << (elem.bits() - 1)) - 1, 7, 200];
            let bits = if kind == 0 { numbers[self.below(7) as usize] } else { self.next() >> self.below(60) };
            return bits & scalar::mask(elem);
        }
        match kind {
            0 => scalar::of_f64(elem, SPECIAL[self.below(14) as usize]),
            1 => self.next() & scalar::mask(elem),
            _ => scalar::of_f64(elem, (self.next() as i32) as f64 / f64::from(1u32 << self.below(31))),
        }
    }

    /// So many elements as they lie in memory.
    pub fn memory(&mut self, elem: Elem, count: usize) -> Vec<u8> {
        (0..count).flat_map(|_| self.element(elem).to_le_bytes()[..elem.size()].to_vec()).collect()
    }
}

/// A program of one launch.
pub fn single(kernel: Kernel, args: Vec<ArgRef>) -> Program {
    Program {
        kernels: vec![kernel],
        launches: vec![Launch { kernel: 0, args, serial: false, work: 1 }],
        ..Program::default()
    }
}

fn pool() -> Arc<Pool> {
    static POOL: OnceLock<Arc<Pool>> = OnceLock::new();
    Arc::clone(POOL.get_or_init(|| Arc::new(Pool::new(NonZeroUsize::new(2).unwrap()).unwrap())))
}

/// The backends whose code this machine runs.
pub fn backends() -> Vec<Backend> {
    Backend::ALL.into_iter().filter(|backend| backend.check().is_ok()).collect()
}

/// Writes a program as code for every instruction set, with the memory before and after, for an emulator to run
/// (`tests/tools/emulated`): into a folder for each set in the one that `NNC_EXPORT` names, if it is set. `expected`
/// are the externals that are compared. Programs with loops are left out: the emulator makes each launch once, in
/// order.
pub fn export(program: &Program, before: &[Vec<u8>], expected: &[(usize, Elem, &[u8])]) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let Some(folder) = std::env::var_os("NNC_EXPORT").filter(|_| program.loops.is_empty()) else { return };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    for isa in Isa::ALL {
        let folder = std::path::Path::new(&folder).join(isa.name());
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{}-{number}.txt", std::process::id()));
        std::fs::write(path, exported(program, isa, before, expected)).unwrap();
    }
}

/// What is written for an instruction set.
fn exported(program: &Program, isa: Isa, before: &[Vec<u8>], expected: &[(usize, Elem, &[u8])]) -> String {
    use object::{Object, ObjectSection, ObjectSymbol};
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let file = nnc_codegen::object(program, Backend::X64(isa), NonZeroUsize::MIN).unwrap();
    let object = object::File::parse(&*file).unwrap();
    let mut lines = vec![format!("scratch {}", program.scratch_bytes())];
    lines.extend(before.iter().map(|bytes| format!("buffer {}", hex(bytes))));
    for symbol in object.symbols().filter(|symbol| symbol.name().is_ok_and(|name| name.starts_with("kernel"))) {
        let section = object.section_by_index(symbol.section_index().unwrap()).unwrap();
        let start = (symbol.address() - section.address()) as usize;
        let code = &section.data().unwrap()[start..start + symbol.size() as usize];
        lines.push(format!("code {} {}", symbol.name().unwrap(), hex(code)));
    }
    for launch in &program.launches {
        let same = |kernel: &Kernel| kernel.same_code(&program.kernels[launch.kernel as usize]);
        let kernel = program.kernels.iter().position(same).unwrap();
        for (number, phase) in program.kernels[kernel].phases.iter().enumerate() {
            let args: Vec<String> = launch.args.iter().map(|arg| format!("{}+{}", arg.buffer, arg.offset)).collect();
            lines.push(format!("launch kernel{kernel}_{number} {} {}", phase.tasks, args.join(" ")));
        }
    }
    lines.extend(expected.iter().map(|(at, elem, bytes)| format!("expect {at} {elem} {}", hex(bytes))));
    lines.join("\n")
}

/// Runs the program as code of a backend; `buffers[0]` is the arena.
pub fn run_compiled(program: &Program, backend: Backend, buffers: &mut [Vec<u8>]) {
    let (module, entry) = nnc_codegen::jit(program, backend, NonZeroUsize::new(2).unwrap()).unwrap();
    let layout = Layout {
        arena_bytes: buffers[0].len(),
        scratch_bytes: program.scratch_bytes() as usize,
        externals: buffers[1..].iter().map(Vec::len).collect(),
        ..Layout::default()
    };
    let mut compiled = nnc_runtime::Program::new(Code::from_jit(module, entry, layout).unwrap(), pool());
    let mut externals: Vec<AlignedBuffer> = buffers[1..].iter().map(|bytes| AlignedBuffer::from_slice(bytes)).collect();
    let mut passed: Vec<ExternalBuffer<'_>> = externals.iter_mut().map(Into::into).collect();
    compiled.run(&mut passed).unwrap();
    for (buffer, external) in buffers[1..].iter_mut().zip(&externals) {
        buffer.copy_from_slice(external.bytes());
    }
}

/// Runs a program on the interpreter and as code of every backend and compares the externals, whose elements are
/// `elems`.
pub fn check(program: &Program, buffers: &[Vec<u8>], elems: &[Elem]) -> Result<Vec<Vec<u8>>, String> {
    verify_program(program).map_err(|violations| format!("{violations:#?}\n{}", show(program)))?;
    let mut expected = buffers.to_vec();
    interpret::run(program, &mut expected).map_err(|fault| format!("{fault}\n{}", show(program)))?;
    let list = elems.iter().enumerate().map(|(number, &elem)| (number + 1, elem, &expected[number + 1][..]));
    export(program, buffers, &list.collect::<Vec<_>>());
    for backend in backends() {
        let mut found = buffers.to_vec();
        run_compiled(program, backend, &mut found);
        for (number, elem) in elems.iter().enumerate() {
            let (expected, found) = (&expected[number + 1], &found[number + 1]);
            if let Some(at) = first_difference(*elem, expected, found) {
                let size = elem.size();
                let range = at * size..(at + 1) * size;
                return Err(format!(
                    "element {at} ({elem}) of external {number}: the interpreter gives {:02x?}, {backend} {:02x?}\n{}",
                    &expected[range.clone()],
                    &found[range],
                    show(program)
                ));
            }
        }
    }
    Ok(expected)
}

/// The first element that differs, of two memories of one element type.
pub fn first_difference(elem: Elem, a: &[u8], b: &[u8]) -> Option<usize> {
    let size = elem.size();
    a.chunks(size).zip(b.chunks(size)).position(|(a, b)| a != b && !(is_nan(elem, a) && is_nan(elem, b)))
}

fn is_nan(elem: Elem, bytes: &[u8]) -> bool {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(word);
    match elem {
        Elem::F32 => f32::from_bits(bits as u32).is_nan(),
        Elem::F64 => f64::from_bits(bits).is_nan(),
        Elem::F16 => bits & 0x7fff > 0x7c00,
        Elem::Bf16 => bits & 0x7fff > 0x7f80,
        Elem::I8 | Elem::U8 | Elem::I16 | Elem::I32 | Elem::I64 | Elem::Bool => false,
    }
}

fn show(program: &Program) -> String {
    program.kernels.iter().map(text::print).collect()
}
