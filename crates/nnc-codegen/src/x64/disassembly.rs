//! The bytes of a function as text, with names for blocks and constants.

use super::Function;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, SymbolResolver, SymbolResult};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Names of places in a function.
struct Names {
    labels: BTreeMap<u64, String>,
}

impl SymbolResolver for Names {
    fn symbol(&mut self, _: &Instruction, _: u32, _: Option<u32>, address: u64, _: u32) -> Option<SymbolResult<'_>> {
        self.labels.get(&address).map(|name| SymbolResult::with_str(address, name.as_str()))
    }
}

/// The function in Intel's notation: blocks as `b3`, constants as `c0` with their bytes at the end.
pub(crate) fn disassemble(function: &Function) -> String {
    let end = function.pool.unwrap_or(function.bytes.len());
    let instructions: Vec<Instruction> =
        Decoder::with_ip(64, &function.bytes[..end], 0, DecoderOptions::NONE).iter().collect();
    let mut labels: BTreeMap<u64, String> =
        function.labels.iter().enumerate().map(|(at, &start)| (start as u64, format!("b{at}"))).collect();
    let constants = constants(&instructions, end as u64);
    for (at, (&place, _)) in constants.iter().enumerate() {
        labels.insert(place, format!("c{at}"));
    }
    let mut formatter = IntelFormatter::with_options(Some(Box::new(Names { labels: labels.clone() })), None);
    formatter.options_mut().set_rip_relative_addresses(false);
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    let mut text = String::new();
    for instruction in &instructions {
        if instruction.is_invalid() {
            continue;
        }
        if let Some(label) = labels.get(&instruction.ip()) {
            let _ = writeln!(text, "{label}:");
        }
        let mut line = String::new();
        formatter.format(instruction, &mut line);
        let _ = writeln!(text, "    {line}");
    }
    for (place, size) in constants {
        let bytes = function.bytes.get(place as usize..place as usize + size).unwrap_or_default();
        let _ = writeln!(text, "{}: {}", labels[&place], words(bytes));
    }
    text
}

/// The places of constants and how many bytes are read there.
fn constants(instructions: &[Instruction], end: u64) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for instruction in instructions.iter().filter(|instruction| instruction.is_ip_rel_memory_operand()) {
        let place = instruction.ip_rel_memory_address();
        if place >= end {
            let size = instruction.memory_size().info().size();
            let size = if instruction.is_broadcast() { instruction.memory_size().info().element_size() } else { size };
            let known = found.entry(place).or_insert(size);
            *known = size.max(*known);
        }
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
