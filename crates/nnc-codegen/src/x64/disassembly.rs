//! The bytes of a function as text, with names for blocks, constants, and the memory that it is given.

use super::Function;
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, Mnemonic, OpKind, Register, SymbolResolver,
    SymbolResult,
};
use nnc_kernel::ir::Param;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Names of places in a function.
struct Names {
    labels: BTreeMap<u64, String>,
}

impl SymbolResolver for Names {
    /// Only targets of branches and places relative to the instruction pointer are addresses; a displacement or a
    /// number may happen to equal one.
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        operand: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        let is_address = match instruction.op_kind(operand?) {
            OpKind::NearBranch64 => true,
            OpKind::Memory => instruction.is_ip_rel_memory_operand(),
            _ => false,
        };
        if !is_address {
            return None;
        }
        self.labels.get(&address).map(|name| SymbolResult::with_str(address, name.as_str()))
    }
}

/// The function in Intel's notation: blocks as `b3`, constants as `c0` with their bytes at the end. Where the place of
/// a parameter comes into a register, its name follows.
pub(crate) fn disassemble(function: &Function, params: &[Param]) -> String {
    let code = &function.bytes[..function.code_end];
    let instructions: Vec<Instruction> = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().collect();
    let mut labels: BTreeMap<u64, String> =
        function.labels.iter().enumerate().map(|(at, &start)| (start as u64, format!("b{at}"))).collect();
    let constants = constants(&instructions);
    for (at, (&place, _)) in constants.iter().enumerate() {
        labels.insert(place, format!("c{at}"));
    }
    let mut formatter = IntelFormatter::with_options(Some(Box::new(Names { labels: labels.clone() })), None);
    formatter.options_mut().set_rip_relative_addresses(false);
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    let mut text = String::new();
    let places = places(&instructions);
    for instruction in &instructions {
        if let Some(label) = labels.get(&instruction.ip()) {
            let _ = writeln!(text, "{label}:");
        }
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        let name = places.get(&instruction.ip()).and_then(|&at| params.get(at)).map(|param| &param.name);
        let _ = writeln!(text, "    {line}{}", name.map_or(String::new(), |name| format!(" ; {name}")));
    }
    for (place, size) in constants {
        let bytes = function.bytes.get(place as usize..place as usize + size).unwrap_or_default();
        let _ = writeln!(text, "{}: {}", labels[&place], words(bytes));
    }
    text
}

/// The loads of the addresses of parameters, which are where RDI points when a function begins: places of instructions,
/// with the numbers of the parameters.
fn places(instructions: &[Instruction]) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for instruction in instructions.iter().take_while(|instruction| instruction.op0_kind() != OpKind::NearBranch64) {
        let is_load = instruction.mnemonic() == Mnemonic::Mov && instruction.op1_kind() == OpKind::Memory;
        if is_load && instruction.memory_base() == Register::RDI && instruction.memory_index() == Register::None {
            found.insert(instruction.ip(), instruction.memory_displacement64() as usize / 8);
        }
        if instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RDI {
            break;
        }
    }
    found
}

/// The places of constants and how many bytes are read there.
fn constants(instructions: &[Instruction]) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for instruction in instructions.iter().filter(|instruction| instruction.is_ip_rel_memory_operand()) {
        let info = instruction.memory_size().info();
        let size = if instruction.is_broadcast() { info.element_size() } else { info.size() };
        let known = found.entry(instruction.ip_rel_memory_address()).or_insert(size);
        *known = size.max(*known);
    }
    found
}

/// Bytes as words of 32 bits, and as floats where they are such.
fn words(bytes: &[u8]) -> String {
    let words: Vec<u32> =
        bytes.chunks(4).map(|chunk| chunk.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))).collect();
    let hex: Vec<String> = words.iter().map(|word| format!("{word:#010x}")).collect();
    match words[..] {
        [word] => format!("{} ({})", hex[0], f32::from_bits(word)),
        _ => hex.join(", "),
    }
}
