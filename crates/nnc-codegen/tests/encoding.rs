//! The bytes that the full-width backend makes, decoded: for every instruction set, on a machine that may have none.
//!
//! The code of a function ends with its only return; behind it lie the constants.

#[path = "common/kernels.rs"]
mod kernels;

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, Encoder, EncodingKind, FlowControl, Instruction, OpKind, Register,
};
use kernels::grow;
use nnc_codegen::Backend;
use nnc_graph::testing::{GraphOptions, graph_of_one_op, op_names};
use nnc_kernel::ir::{Elem, KernelBuilder, Target};
use nnc_kernel::lower;
use nnc_kernel::program::{ArgRef, Launch, Program};
use nnc_opt::fuse::{FuseOptions, partition};
use nnc_runtime::cpu::Isa;
use object::{Object, ObjectSection, ObjectSymbol};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

/// Constants lie from a multiple of this on.
const ALIGNMENT: u64 = 64;

/// What the processors of [`Isa::Avx2`] offer, of what the backend uses.
const BASE: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::CMOV,
    CpuidFeature::X64,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PREFETCHW,
    CpuidFeature::SSE,
    CpuidFeature::AVX,
    CpuidFeature::AVX2,
    CpuidFeature::FMA,
    CpuidFeature::F16C,
    CpuidFeature::BMI1,
    CpuidFeature::BMI2,
    CpuidFeature::LZCNT,
    CpuidFeature::MOVBE,
];

/// What those of [`Isa::AvxVnni`] offer besides.
const BYTES: &[CpuidFeature] = &[CpuidFeature::AVX_VNNI];

/// What those of [`Isa::Avx512`] offer besides. The first of them, Cascade Lake and Cooper Lake, have no permutations
/// of bytes (VBMI).
const WIDE: &[CpuidFeature] = &[
    CpuidFeature::AVX512F,
    CpuidFeature::AVX512BW,
    CpuidFeature::AVX512DQ,
    CpuidFeature::AVX512VL,
    CpuidFeature::AVX512_VNNI,
];

/// What the processors of a set offer besides [`BASE`].
fn added(isa: Isa) -> &'static [CpuidFeature] {
    match isa {
        Isa::Avx2 => &[],
        Isa::AvxVnni => BYTES,
        Isa::Avx512 => WIDE,
    }
}

/// The registers that an instruction names.
fn registers(instruction: &Instruction) -> impl Iterator<Item = Register> {
    let operands = (0..instruction.op_count())
        .filter(|&at| instruction.op_kind(at) == OpKind::Register)
        .map(|at| instruction.op_register(at));
    let others = [instruction.memory_base(), instruction.memory_index(), instruction.op_mask()];
    operands.chain(others).filter(|&register| register != Register::None)
}

/// Whether code for an instruction set may hold an instruction.
fn belongs(isa: Isa, instruction: &Instruction) -> bool {
    let offered = |feature: &CpuidFeature| BASE.contains(feature) || added(isa).contains(feature);
    let has_vector = registers(instruction).any(|register| register.is_vector_register());
    let encoding = instruction.code().encoding();
    let form = match (isa, encoding) {
        (_, EncodingKind::Legacy) => !has_vector,
        (Isa::Avx2 | Isa::AvxVnni, EncodingKind::VEX) => true,
        (Isa::Avx512, EncodingKind::VEX) => !has_vector,
        (Isa::Avx512, EncodingKind::EVEX) => true,
        _ => false,
    };
    let register = |register: Register| match isa {
        Isa::Avx512 => !register.is_mm(),
        Isa::Avx2 | Isa::AvxVnni => {
            let far = register.is_vector_register() && register.number() >= 16;
            !register.is_zmm() && !register.is_k() && !register.is_mm() && !far
        }
    };
    form && instruction.code().cpuid_features().iter().all(offered) && registers(instruction).all(register)
}

/// Encodes an instruction anew where it lies.
fn encode(instruction: &Instruction) -> Result<Vec<u8>, String> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, instruction.ip()).map_err(|error| error.to_string())?;
    Ok(encoder.take_buffer())
}

/// The instructions of a function up to its return, each known to be whole and its own.
fn decode(isa: Isa, bytes: &[u8]) -> Result<Vec<Instruction>, String> {
    let mut found = vec![];
    for instruction in &mut Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE) {
        let at = instruction.ip() as usize;
        let own = &bytes[at..at + instruction.len()];
        let complain = |what: &str| Err(format!("{what} at {at:#x}: {instruction} ({own:02x?})"));
        if instruction.is_invalid() {
            return complain("an invalid instruction");
        }
        if encode(&instruction)? != own {
            return complain("not what the encoder gives");
        }
        if !belongs(isa, &instruction) {
            return complain("not of this instruction set");
        }
        found.push(instruction);
        if instruction.flow_control() == FlowControl::Return {
            return Ok(found);
        }
    }
    Err("no return".to_string())
}

/// Looks at the bytes of one function.
fn inspect(isa: Isa, bytes: &[u8]) -> Result<(), String> {
    let instructions = decode(isa, bytes)?;
    let starts: BTreeSet<u64> = instructions.iter().map(Instruction::ip).collect();
    let Some(last) = instructions.last() else { return Err("no code".to_string()) };
    let pool = last.next_ip().next_multiple_of(ALIGNMENT);
    let mut read = false;
    for instruction in &instructions {
        let complain = |what: &str| Err(format!("{what} at {:#x}: {instruction}", instruction.ip()));
        let jumps =
            matches!(instruction.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch);
        if jumps && !starts.contains(&instruction.near_branch_target()) {
            return complain("a jump into an instruction or out of the function");
        }
        if instruction.is_ip_rel_memory_operand() {
            let (place, size) = (instruction.ip_rel_memory_address(), bytes_read(instruction));
            if place < pool || place + size > bytes.len() as u64 || place % size != 0 {
                return complain("no constant of that size");
            }
            read = true;
        }
    }
    let cleared = instructions.iter().rev().any(|instruction| instruction.code() == Code::VEX_Vzeroupper);
    match (cleared, read || last.next_ip() == bytes.len() as u64) {
        (false, _) => Err("the upper halves of the vector registers are not cleared".to_string()),
        (_, false) => Err("bytes after the code that nothing reads".to_string()),
        (true, true) => Ok(()),
    }
}

/// How many bytes the memory operand has.
fn bytes_read(instruction: &Instruction) -> u64 {
    let info = instruction.memory_size().info();
    if instruction.is_broadcast() { info.element_size() as u64 } else { info.size() as u64 }
}

/// Compiles a program for every instruction set and looks at the functions of its kernels.
fn check(program: &Program) -> Result<usize, String> {
    let mut functions = 0;
    for isa in Isa::ALL {
        let file = nnc_codegen::object(program, Backend::X64(isa), NonZeroUsize::MIN).unwrap();
        let object = object::File::parse(&*file).unwrap();
        for symbol in object.symbols().filter(|symbol| symbol.name().is_ok_and(|name| name.starts_with("kernel"))) {
            let section = object.section_by_index(symbol.section_index().unwrap()).unwrap();
            let bytes = section.data_range(symbol.address(), symbol.size()).unwrap().unwrap();
            let complain = |what: String| {
                let code = nnc_codegen::dump_asm(program, Backend::X64(isa)).unwrap();
                format!("{} for {}: {what}\n{code}", symbol.name().unwrap_or_default(), isa.name())
            };
            inspect(isa, bytes).map_err(complain)?;
            functions += 1;
        }
    }
    Ok(functions)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_kernels(
        decisions in prop::collection::vec(any::<u32>(), 1..300),
        lanes in prop::sample::select(vec![1u8, 2, 4, 8, 16, 32]),
    ) {
        let (kernel, args) = grow(&decisions, lanes);
        let program = Program { kernels: vec![kernel], launches: vec![Launch { kernel: 0, args, serial: false, work: 1 }], ..Program::default() };
        prop_assert!(check(&program).map_err(TestCaseError::fail)? >= Isa::ALL.len());
    }
}

/// Sums of products of bytes, from memory to memory, in so many lanes of 32 bits.
fn byte_products(lanes: u8, narrow: bool) -> Program {
    let mut kernel = KernelBuilder::new("bytes");
    let [sums, unsigned, signed] = [("sums", Elem::I32), ("unsigned", Elem::U8), ("signed", Elem::I8)]
        .map(|(name, elem)| kernel.input(name, elem));
    let to = kernel.output("to", Elem::I32);
    kernel.phase(1, |b, task| {
        let acc = b.load(sums, task, lanes);
        let [x, y] = [unsigned, signed].map(|bytes| b.load(bytes, task, 4 * lanes));
        let sum = if narrow { b.dot_i7(acc, x, y) } else { b.dot_i8(acc, x, y) };
        b.store(to, task, sum);
    });
    let args = (1..=4).map(|buffer| ArgRef::new(buffer, 0)).collect();
    let launches = vec![Launch { kernel: 0, args, serial: false, work: 1 }];
    Program { kernels: vec![kernel.finish()], launches, ..Program::default() }
}

/// The instructions of a program that multiply bytes, each with the parameters that its operands hold: followed from
/// the addresses of these through loads and moves.
fn multiplications(program: &Program, isa: Isa) -> Vec<String> {
    let listing = nnc_codegen::dump_asm(program, Backend::X64(isa)).unwrap();
    let (mut holds, mut found) = (BTreeMap::new(), vec![]);
    for line in listing.lines().map(str::trim) {
        let (code, param) = line.split_once(" ; ").unwrap_or((line, ""));
        let Some((name, operands)) = code.trim().split_once(' ') else { continue };
        let operands: Vec<&str> = operands.split(',').map(str::trim).collect();
        let held = |operand: &&str| {
            let place = operand.split_once('[').map_or(*operand, |(_, place)| place);
            let register = place.split(['+', '*', '-', ']']).next().unwrap_or_default();
            holds.get(register).copied().unwrap_or_default()
        };
        if name.starts_with("vpdp") || name.starts_with("vpmadd") {
            found.push(format!("{name} {}", operands.iter().map(held).collect::<Vec<_>>().join(" ")));
        } else if let [to, from] = operands[..] {
            let held = if param.is_empty() { held(&from) } else { param };
            holds.insert(to, held);
        }
    }
    found
}

/// The instruction for products of bytes has the operands of its wide form, in a form without masks, and is the one
/// that wraps. Without it words are multiplied.
#[test]
fn products_of_bytes_have_one_instruction_in_two_encodings() {
    for lanes in [1, 4, 8, 16] {
        for narrow in [false, true] {
            let program = byte_products(lanes, narrow);
            check(&program).unwrap();
            let [least, short, wide] = Isa::ALL.map(|isa| multiplications(&program, isa));
            let one = "vpdpbusd sums unsigned signed";
            assert_eq!(wide, [one], "{lanes} lanes");
            assert_eq!(short, vec![one; usize::from(lanes).div_ceil(8)], "{lanes} lanes");
            assert!(!least.is_empty() && least.iter().all(|line| line.starts_with("vpmadd")), "{least:?}");
        }
    }
}

#[test]
fn kernels_of_every_op() {
    let mut functions = 0;
    for name in op_names() {
        for f32_lanes in [8, 16] {
            let Some(graph) = graph_of_one_op(name, u64::from(f32_lanes), &GraphOptions::default()) else { continue };
            let Ok(lowered) = lower(&graph, &partition(&graph, &FuseOptions::ALL), &Target::new(f32_lanes)) else {
                continue;
            };
            functions += check(&lowered.program).unwrap_or_else(|what| panic!("{name} in {f32_lanes} lanes: {what}"));
        }
    }
    assert!(functions > 100, "only {functions} functions");
}
