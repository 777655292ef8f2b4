//! Whole programs: launches, shared kernels, phases, scratch; as JIT code, object file and image.

mod common;

use common::check;
use cranelift_module::{Linkage, Module};
use nnc_codegen::Backend;
use nnc_kernel::ir::{Elem, Kernel, KernelBuilder};
use nnc_kernel::program::{ArgRef, Launch, Program};
use nnc_runtime::cpu::Isa;
use nnc_runtime::{AlignedBuffer, Code, Layout, Pool};
use object::{Object, ObjectSymbol};
use std::num::NonZeroUsize;
use std::sync::Arc;

/// `y[i] = a * x[i] + y[i]` over 1024 elements, then the sum of each eighth in a second phase by way of scratch.
fn sums(name: &str) -> Kernel {
    let mut kernel = KernelBuilder::new(name);
    let x = kernel.input("x", Elem::F32);
    let y = kernel.param("y", Elem::F32, nnc_kernel::ir::Direction::InOut);
    let out = kernel.output("sums", Elem::F32);
    let copy = kernel.scratch(Elem::F32, 128);
    kernel.phase(16, |b, task| {
        let base = b.mul_index(task, 64);
        let factor = b.f32(0.75, 16);
        b.for_each(4, |b, i| {
            let at = b.affine(&[(base, 1), (i, 16)], 0);
            let (u, v) = (b.load(x, at, 16), b.load(y, at, 16));
            let v = b.fma(factor, u, v);
            b.store(y, at, v);
        });
    });
    kernel.phase(8, |b, task| {
        let base = b.mul_index(task, 128);
        b.for_each(16, |b, i| {
            let i = b.mul_index(i, 8);
            let at = b.add(base, i);
            let v = b.load(y, at, 8);
            b.store(copy, i, v);
        });
        let zero = b.f32(0.0, 8);
        let sum = b.for_count(16, &[zero], |b, i, sum| {
            let i = b.mul_index(i, 8);
            let v = b.load(copy, i, 8);
            vec![b.add(sum[0], v)]
        });
        let sum = b.reduce(nnc_kernel::ir::ReduceOp::Add, sum[0]);
        b.store(out, task, sum);
    });
    kernel.finish()
}

fn program() -> (Program, Vec<Vec<u8>>, Vec<Elem>) {
    let at = |buffer, offset| ArgRef::new(buffer, offset);
    let launch = |kernel, out, serial| Launch { kernel, args: vec![at(1, 0), at(2, 0), at(3, out)], serial, work: 1 };
    let kernels = vec![sums("first"), sums("second")];
    let launches = vec![launch(0, 0, false), launch(1, 32, true), launch(0, 64, false)];
    let floats =
        |count: usize, of: fn(usize) -> f32| -> Vec<u8> { (0..count).flat_map(|i| of(i).to_le_bytes()).collect() };
    let buffers =
        vec![vec![], floats(1024, |i| i as f32 * 0.37 - 100.0), floats(1024, |i| 1.0 / (i + 1) as f32), vec![0; 96]];
    (Program { kernels, launches, ..Program::default() }, buffers, vec![Elem::F32; 3])
}

fn threads() -> NonZeroUsize {
    NonZeroUsize::new(2).unwrap()
}

#[test]
fn jit_runs_a_program() {
    let (program, buffers, elems) = program();
    check(&program, &buffers, &elems).unwrap();
}

#[test]
fn the_object_needs_nothing_and_has_one_copy_of_equal_kernels() {
    let (program, ..) = program();
    for backend in Backend::ALL {
        let file = nnc_codegen::object(&program, backend, threads()).unwrap();
        let object = object::File::parse(&*file).unwrap();
        let names: Vec<&str> = object.symbols().filter_map(|symbol| symbol.name().ok()).collect();
        assert!(object.symbols().all(|symbol| !symbol.is_undefined()), "{names:?}");
        assert!(names.contains(&nnc_codegen::ENTRY));
        let kernels = names.iter().filter(|name| name.starts_with("kernel")).count();
        assert_eq!(kernels, 2, "two phases, once: {names:?}");
    }
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let (program, ..) = program();
    for backend in Backend::ALL {
        let one = nnc_codegen::object(&program, backend, NonZeroUsize::MIN).unwrap();
        assert!((0..4).all(|_| nnc_codegen::object(&program, backend, threads()).unwrap() == one));
    }
}

/// The image is run by way of the JIT: a jump to its entry is put before it.
#[test]
fn the_image_gives_the_same_bits() {
    let (program, buffers, elems) = program();
    let expected = check(&program, &buffers, &elems).unwrap();
    common::backends().into_iter().for_each(|backend| run_image(&program, backend, &buffers, &expected));
}

fn run_image(program: &Program, backend: Backend, buffers: &[Vec<u8>], expected: &[Vec<u8>]) {
    let image = nnc_codegen::image(program, backend, threads()).unwrap();
    let mut bytes = vec![0xe9];
    bytes.extend((64 - 5 + image.entry_offset as i32).to_le_bytes());
    bytes.resize(64, 0x90);
    bytes.extend(&image.bytes);
    if !cfg!(target_arch = "x86_64") {
        return;
    }
    let builder = cranelift_jit::JITBuilder::with_isa(
        nnc_codegen::target(backend.isa()).unwrap(),
        cranelift_module::default_libcall_names(),
    );
    let mut module = cranelift_jit::JITModule::new(builder);
    let mut signature = module.make_signature();
    signature.params.push(cranelift_codegen::ir::AbiParam::new(cranelift_codegen::ir::types::I64));
    let id = module.declare_function("image", Linkage::Export, &signature).unwrap();
    module.define_function_bytes(id, 4096, &bytes, &[]).unwrap();
    let layout = Layout {
        scratch_bytes: program.scratch_bytes() as usize,
        externals: buffers[1..].iter().map(Vec::len).collect(),
        ..Layout::default()
    };
    let pool = Arc::new(Pool::new(threads()).unwrap());
    let mut compiled = nnc_runtime::Program::new(Code::from_jit(module, id, layout).unwrap(), pool);
    let mut memory: Vec<AlignedBuffer> = buffers[1..].iter().map(|bytes| AlignedBuffer::from_slice(bytes)).collect();
    let mut externals: Vec<_> = memory.iter_mut().map(Into::into).collect();
    compiled.run(&mut externals).unwrap();
    for (found, expected) in memory.iter().zip(&expected[1..]) {
        assert_eq!(found.bytes(), expected.as_slice());
    }
}

/// Copies 16 lanes many times over, all loads before all stores: far more values than registers.
fn crowded(vectors: i64) -> Kernel {
    let mut kernel = KernelBuilder::new("crowded");
    let x = kernel.input("x", Elem::F32);
    let y = kernel.output("y", Elem::F32);
    kernel.phase(1, |b, task| {
        let places: Vec<_> = (0..vectors).map(|at| b.add_index(task, 16 * at)).collect();
        let values: Vec<_> = places.iter().map(|&at| b.load(x, at, 16)).collect();
        places.into_iter().zip(values).rev().for_each(|(at, value)| b.store(y, at, value));
    });
    kernel.finish()
}

#[test]
fn a_large_frame_is_touched_page_by_page() {
    for (vectors, at_least) in [(4, 0), (100, 1), (600, 8)] {
        let args = (1..=2).map(|buffer| ArgRef::new(buffer, 0)).collect();
        let program = common::single(crowded(vectors), args);
        let bytes = vectors as usize * 64;
        let given: Vec<u8> = (0..bytes).map(|at| (at % 64) as u8).collect();
        check(&program, &[vec![], given, vec![0; bytes]], &[Elem::F32; 2]).unwrap();
        for backend in Backend::ALL.into_iter().filter(|backend| *backend != Backend::Cranelift) {
            let dump = nnc_codegen::dump_asm(&program, backend).unwrap();
            let steps = dump.lines().filter_map(|line| line.trim().strip_prefix("sub rsp,"));
            let sizes: Vec<u64> = steps.map(|size| hexadecimal(size.trim())).collect();
            let touched = dump.lines().filter(|line| line.contains("test [rsp], rsp")).count();
            assert!(sizes.iter().all(|&size| size < 4096 - 63), "{backend}: {sizes:?}");
            assert_eq!(touched, sizes.len().saturating_sub(1), "{backend}: {sizes:?}");
            assert!(touched >= at_least, "{backend}: {touched} pages for {vectors} vectors\n{dump}");
        }
    }
}

/// `0FC0h`, as assembly has it, or a decimal number.
fn hexadecimal(text: &str) -> u64 {
    match (text.strip_prefix("0x"), text.strip_suffix('h')) {
        (Some(digits), _) | (None, Some(digits)) => u64::from_str_radix(digits, 16).unwrap(),
        (None, None) => text.parse().unwrap(),
    }
}

#[test]
fn dumps_show_each_kernel_once() {
    let (program, ..) = program();
    let assembly = Backend::ALL.map(|backend| nnc_codegen::dump_asm(&program, backend).unwrap());
    for dump in std::iter::once(nnc_codegen::dump_clif(&program).unwrap()).chain(assembly) {
        assert!(dump.contains("`first`, phase 1") && !dump.contains("second"), "{dump}");
    }
}

/// What comes where: parameters by name, type and use, tasks, scratch memory; and in which registers parameters are.
#[test]
fn assembly_begins_with_its_arguments() {
    let (program, ..) = program();
    for backend in Backend::ALL {
        let dump = nnc_codegen::dump_asm(&program, backend).unwrap();
        for (at, param) in program.kernels[0].params.iter().enumerate() {
            let line = format!(";   [rdi+{}] {}: {} {}\n", 8 * at, param.name, param.elem, param.direction.name());
            assert!(dump.contains(&line), "{line}{dump}");
            let is_told =
                dump.lines().any(|line| line.contains("[rdi") && line.ends_with(&format!(" ; {}", param.name)));
            assert_eq!(is_told, backend != Backend::Cranelift, "{} in {dump}", param.name);
        }
        assert!(dump.contains(";   rsi, rdx: the first task and the one behind the last, of 16\n"), "{dump}");
        assert_eq!(dump.contains(";   rcx: "), program.kernels[0].scratch > 0, "{dump}");
    }
    let args = (1..=2).map(|buffer| ArgRef::new(buffer, 0)).collect();
    let dump = nnc_codegen::dump_asm(&common::single(crowded(600), args), Backend::X64(Isa::Avx2)).unwrap();
    assert!(dump.contains(";   [rsp]: "), "{dump}");
}

#[test]
fn assembly_names_places_not_numbers() {
    let (program, ..) = program();
    for backend in Backend::ALL.into_iter().filter(|backend| *backend != Backend::Cranelift) {
        let dump = nnc_codegen::dump_asm(&program, backend).unwrap();
        assert!(dump.contains("jae b"), "{dump}");
        for line in dump.lines().filter(|line| line.starts_with("    ") && !line.trim_start().starts_with('j')) {
            let operands = line.split_once(' ').map_or("", |(_, rest)| rest).replace("bp", "").replace("bx", "");
            let names_block = operands.split(|c: char| !c.is_alphanumeric()).any(|word| {
                word.strip_prefix('b').is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()))
            });
            assert!(!names_block && !line.contains("(bad)") && !line.contains("add [rax], al"), "{line}\n{dump}");
        }
    }
}
