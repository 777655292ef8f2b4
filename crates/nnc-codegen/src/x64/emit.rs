//! Allocated code to bytes: the frame, the moves of the allocator, branches and the pool of constants.
//!
//! Instructions are encoded one by one with iced-x86. Branches and constants are reached relative to the instruction
//! pointer by 32 bits, patched when all places are known, so the bytes are position independent. Blocks that only jump
//! are left out. The frame, from its low end: spilled registers, temporary memory; both are aligned to 64 bytes. Every
//! page of a frame is touched, from its high end. (System V Application Binary Interface, AMD64 Architecture Processor
//! Supplement, 3.2.)

use super::forms::{self, Encoding};
use super::vcode::{self, Arg, Condition, Inst, Kind, Memory, Origin, VCode, View};
use super::{Frame, Function};
use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, OpKind, Register};
use regalloc2::{Allocation, Edit, Function as _, InstOrEdit, Output, PReg, RegClass};

/// The stack is touched after so many bytes at most: a page, less what aligning the frame skips.
const PROBED: i32 = 4096 - 64;

/// A field of 32 bits to be filled in, relative to the end of its instruction.
struct Fixup {
    field: usize,
    end: usize,
    target: Target,
}

enum Target {
    Block(usize),
    Pool(usize),
}

struct Emitter<'a> {
    encoding: Encoding,
    code: &'a VCode,
    output: &'a Output,
    encoder: Encoder,
    bytes: Vec<u8>,
    fixups: Vec<Fixup>,
    starts: Vec<Option<usize>>,
    saved: Vec<PReg>,
    frame: Frame,
}

/// Encodes allocated code.
pub(super) fn emit(encoding: Encoding, code: &VCode, output: &Output) -> Result<Function, IcedError> {
    let mut emitter = Emitter {
        encoding,
        code,
        output,
        encoder: Encoder::new(64),
        bytes: vec![],
        fixups: vec![],
        starts: vec![None; code.num_blocks()],
        saved: saved_registers(output),
        frame: Frame {
            spilled: (output.num_spillslots * 8).next_multiple_of(64),
            temporary: code.temporary.next_multiple_of(64),
        },
    };
    emitter.blocks()?;
    let code_end = emitter.bytes.len();
    let pool = emitter.pool();
    emitter.patch(&pool);
    let labels = emitter.starts.iter().flatten().copied().collect();
    Ok(Function { bytes: emitter.bytes, labels, code_end, frame: emitter.frame })
}

/// The registers that belong to the caller and are written.
fn saved_registers(output: &Output) -> Vec<PReg> {
    let moved = output.edits.iter().map(|(_, Edit::Move { to, .. })| to);
    let mut written: Vec<PReg> = output.allocs.iter().chain(moved).filter_map(|place| place.as_reg()).collect();
    written.retain(|register| register.class() == RegClass::Int && vcode::general::KEPT.contains(&register.hw_enc()));
    written.sort();
    written.dedup();
    written
}

impl Emitter<'_> {
    fn blocks(&mut self) -> Result<(), IcedError> {
        let count = self.code.num_blocks();
        let kept: Vec<usize> = (0..count).filter(|&block| block == 0 || self.forwards_to(block).is_none()).collect();
        for (at, &block) in kept.iter().enumerate() {
            let next = kept.get(at + 1).copied();
            self.starts[block] = Some(self.bytes.len());
            if block == 0 {
                self.prologue()?;
            }
            let (code, output) = (self.code, self.output);
            for item in output.block_insts_and_edits(code, regalloc2::Block::new(block)) {
                match item {
                    InstOrEdit::Edit(Edit::Move { from, to }) => self.transfer(*from, *to)?,
                    InstOrEdit::Inst(inst) => {
                        let allocations = output.inst_allocs(inst);
                        self.inst(&code.insts[inst.index()], allocations, block, next)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Where a block goes that does nothing but jump.
    fn forwards_to(&self, block: usize) -> Option<usize> {
        let block = regalloc2::Block::new(block);
        let mut items = self.output.block_insts_and_edits(self.code, block);
        let only = items.next();
        match (only, items.next()) {
            (Some(InstOrEdit::Inst(inst)), None) if self.code.insts[inst.index()].kind == Kind::Jump => {
                Some(self.code.successors(block.index())[0].index())
            }
            _ => None,
        }
    }

    fn destination(&self, mut block: usize) -> usize {
        while let Some(next) = self.forwards_to(block) {
            block = next;
        }
        block
    }

    fn prologue(&mut self) -> Result<(), IcedError> {
        self.put(&Instruction::with1(Code::Push_r64, Register::RBP)?)?;
        self.put(&Instruction::with2(Code::Mov_r64_rm64, Register::RBP, Register::RSP)?)?;
        for register in self.saved.clone() {
            self.put(&Instruction::with1(Code::Push_r64, general(register.hw_enc(), View::Quad))?)?;
        }
        self.make_frame((self.frame.spilled + self.frame.temporary) as i32)
    }

    /// Makes room for the frame. A large one is made in steps that are each shorter than a page, and touched, so that
    /// an overflow of the stack meets the page that guards it and does not go past it.
    fn make_frame(&mut self, mut bytes: i32) -> Result<(), IcedError> {
        if bytes == 0 {
            return Ok(());
        }
        self.put(&Instruction::with2(Code::And_rm64_imm8, Register::RSP, -64)?)?;
        while bytes > PROBED {
            self.put(&Instruction::with2(Code::Sub_rm64_imm32, Register::RSP, PROBED)?)?;
            let top = MemoryOperand::with_base(Register::RSP);
            self.put(&Instruction::with2(Code::Test_rm64_r64, top, Register::RSP)?)?;
            bytes -= PROBED;
        }
        self.put(&Instruction::with2(Code::Sub_rm64_imm32, Register::RSP, bytes)?)
    }

    fn epilogue(&mut self) -> Result<(), IcedError> {
        self.put(&Instruction::with(Code::VEX_Vzeroupper))?;
        let saved = MemoryOperand::with_base_displ(Register::RBP, -8 * self.saved.len() as i64);
        self.put(&Instruction::with2(Code::Lea_r64_m, Register::RSP, saved)?)?;
        for register in self.saved.clone().into_iter().rev() {
            self.put(&Instruction::with1(Code::Pop_r64, general(register.hw_enc(), View::Quad))?)?;
        }
        self.put(&Instruction::with1(Code::Pop_r64, Register::RBP)?)?;
        self.put(&Instruction::with(Code::Retnq))?;
        Ok(())
    }

    /// Encodes an instruction at the end.
    fn put(&mut self, instruction: &Instruction) -> Result<(), IcedError> {
        let ip = self.bytes.len() as u64;
        self.encoder.set_buffer(std::mem::take(&mut self.bytes));
        let result = self.encoder.encode(instruction, ip);
        self.bytes = self.encoder.take_buffer();
        result.map(|_| ())
    }

    fn inst(
        &mut self,
        inst: &Inst,
        allocations: &[Allocation],
        block: usize,
        next: Option<usize>,
    ) -> Result<(), IcedError> {
        match inst.kind {
            Kind::Plain(code) => self.plain(code, inst, allocations),
            Kind::Divide => {
                self.put(&Instruction::with(Code::Cqo))?;
                self.plain(Code::Idiv_rm64, inst, allocations)
            }
            Kind::Entry => Ok(()),
            Kind::Jump => {
                let to = self.destination(self.code.successors(block)[0].index());
                if next == Some(to) { Ok(()) } else { self.branch(Code::Jmp_rel32_64, to) }
            }
            Kind::Branch(code, condition) => {
                self.plain(code, inst, allocations)?;
                let [then, otherwise] = [0, 1].map(|way| self.destination(self.code.successors(block)[way].index()));
                if next == Some(then) {
                    return self.branch(jump_unless(condition), otherwise);
                }
                self.branch(jump_if(condition), then)?;
                if next == Some(otherwise) { Ok(()) } else { self.branch(Code::Jmp_rel32_64, otherwise) }
            }
            Kind::Return => self.epilogue(),
        }
    }

    fn branch(&mut self, code: Code, to: usize) -> Result<(), IcedError> {
        let mut instruction = Instruction::new();
        instruction.set_code(code);
        instruction.try_set_op_kind(0, OpKind::NearBranch64)?;
        instruction.set_near_branch64(self.bytes.len() as u64 + 64);
        self.put(&instruction)?;
        let end = self.bytes.len();
        self.fixups.push(Fixup { field: end - 4, end, target: Target::Block(to) });
        Ok(())
    }

    fn plain(&mut self, code: Code, inst: &Inst, allocations: &[Allocation]) -> Result<(), IcedError> {
        let mut instruction = Instruction::new();
        instruction.set_code(code);
        for (at, arg) in inst.args.iter().enumerate() {
            self.arg(&mut instruction, at as u32, *arg, allocations)?;
        }
        let pool = inst.memory.and_then(|memory| self.memory(&mut instruction, &memory, allocations));
        if let Some((mask, zeroing)) = inst.mask {
            instruction.set_op_mask(register(allocations[usize::from(mask)], View::Mask));
            instruction.set_zeroing_masking(zeroing);
        }
        let start = self.bytes.len();
        self.put(&instruction)?;
        if let Some(number) = pool {
            let field = start + self.encoder.get_constant_offsets().displacement_offset();
            self.fixups.push(Fixup { field, end: self.bytes.len(), target: Target::Pool(number) });
        }
        Ok(())
    }

    fn arg(
        &self,
        instruction: &mut Instruction,
        at: u32,
        arg: Arg,
        allocations: &[Allocation],
    ) -> Result<(), IcedError> {
        match arg {
            Arg::None => Ok(()),
            Arg::Register(place, view) => {
                instruction.try_set_op_kind(at, OpKind::Register)?;
                instruction.try_set_op_register(at, register(allocations[usize::from(place)], view))
            }
            Arg::Memory => instruction.try_set_op_kind(at, OpKind::Memory),
            Arg::Byte(number) => {
                instruction.try_set_op_kind(at, OpKind::Immediate8)?;
                instruction.set_immediate8(number);
                Ok(())
            }
            Arg::Double(number) => {
                instruction.try_set_op_kind(at, OpKind::Immediate32)?;
                instruction.set_immediate32(number as u32);
                Ok(())
            }
            Arg::Extended(number) => {
                instruction.try_set_op_kind(at, OpKind::Immediate32to64)?;
                instruction.set_immediate32to64(i64::from(number));
                Ok(())
            }
            Arg::Quad(number) => {
                instruction.try_set_op_kind(at, OpKind::Immediate64)?;
                instruction.set_immediate64(number as u64);
                Ok(())
            }
        }
    }

    /// Sets the memory operand; gives the constant it reads, if it is one.
    fn memory(&self, to: &mut Instruction, memory: &Memory, allocations: &[Allocation]) -> Option<usize> {
        to.set_is_broadcast(memory.broadcast);
        let mut displacement = memory.displacement;
        let base = match memory.origin {
            Origin::Register(place) => register(allocations[usize::from(place)], View::Quad),
            Origin::Frame => {
                displacement += self.frame.spilled as i32;
                Register::RSP
            }
            Origin::Pool(number) => {
                debug_assert!(displacement == 0 && memory.index.is_none(), "constants are read whole");
                to.set_memory_base(Register::RIP);
                to.set_memory_displ_size(8);
                to.set_memory_displacement64(self.bytes.len() as u64 + 64);
                return Some(number as usize);
            }
        };
        to.set_memory_base(base);
        if let Some((index, factor)) = memory.index {
            to.set_memory_index(register(allocations[usize::from(index)], View::Quad));
            to.set_memory_index_scale(u32::from(factor));
        }
        to.set_memory_displ_size(u32::from(displacement != 0));
        to.set_memory_displacement64(i64::from(displacement) as u64);
        None
    }

    /// A move that the allocator wants.
    fn transfer(&mut self, from: Allocation, to: Allocation) -> Result<(), IcedError> {
        if from == to {
            return Ok(());
        }
        let class = from.as_reg().or(to.as_reg()).map_or(RegClass::Int, PReg::class);
        let width = self.encoding.full_width();
        let (view, load, store, between) = match class {
            RegClass::Int => (View::Quad, Code::Mov_r64_rm64, Code::Mov_rm64_r64, Code::Mov_r64_rm64),
            RegClass::Float => (
                super::view(width),
                forms::LOAD.code(self.encoding, width),
                forms::STORE.code(self.encoding, width),
                forms::MOVE.code(self.encoding, width),
            ),
            RegClass::Vector => (View::Mask, Code::VEX_Kmovq_kr_km64, Code::VEX_Kmovq_m64_kr, Code::VEX_Kmovq_kr_km64),
        };
        let slot = |place: Allocation| {
            place.as_stack().map(|slot| MemoryOperand::with_base_displ(Register::RSP, 8 * slot.index() as i64))
        };
        let instruction = match (slot(from), slot(to)) {
            (None, None) => Instruction::with2(between, register(to, view), register(from, view))?,
            (Some(memory), _) => Instruction::with2(load, register(to, view), memory)?,
            (None, Some(memory)) => Instruction::with2(store, memory, register(from, view))?,
        };
        self.put(&instruction)
    }

    /// Appends the constants, the largest first; gives the place of each.
    fn pool(&mut self) -> Vec<usize> {
        let mut places = vec![0; self.code.pool.len()];
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|&number| std::cmp::Reverse(self.code.pool[number].len()));
        if !order.is_empty() {
            self.bytes.resize(self.bytes.len().next_multiple_of(64), 0);
        }
        for number in order {
            places[number] = self.bytes.len();
            self.bytes.extend_from_slice(&self.code.pool[number]);
        }
        places
    }

    fn patch(&mut self, pool: &[usize]) {
        for Fixup { field, end, target } in &self.fixups {
            let target = match target {
                Target::Block(block) => match self.starts[*block] {
                    Some(start) => start,
                    None => unreachable!("block {block} is jumped to, but left out"),
                },
                Target::Pool(number) => pool[*number],
            };
            let distance = target as i64 - *end as i64;
            self.bytes[*field..field + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
    }
}

/// The physical register of an allocation.
fn register(place: Allocation, view: View) -> Register {
    let Some(physical) = place.as_reg() else { unreachable!("every operand is constrained to a register") };
    let number = physical.hw_enc() as u32;
    match view {
        View::Byte | View::Word | View::Double | View::Quad => general(physical.hw_enc(), view),
        View::X => Register::XMM0 + number,
        View::Y => Register::YMM0 + number,
        View::Z => Register::ZMM0 + number,
        View::Mask => Register::K0 + number,
    }
}

fn general(number: usize, view: View) -> Register {
    const BYTES: [Register; 16] = [
        Register::AL,
        Register::CL,
        Register::DL,
        Register::BL,
        Register::SPL,
        Register::BPL,
        Register::SIL,
        Register::DIL,
        Register::R8L,
        Register::R9L,
        Register::R10L,
        Register::R11L,
        Register::R12L,
        Register::R13L,
        Register::R14L,
        Register::R15L,
    ];
    match view {
        View::Byte => BYTES[number],
        View::Word => Register::AX + number as u32,
        View::Double => Register::EAX + number as u32,
        _ => Register::RAX + number as u32,
    }
}

fn jump_if(condition: Condition) -> Code {
    match condition {
        Condition::Below => Code::Jb_rel32_64,
        Condition::Less => Code::Jl_rel32_64,
        Condition::NotEqual => Code::Jne_rel32_64,
    }
}

fn jump_unless(condition: Condition) -> Code {
    match condition {
        Condition::Below => Code::Jae_rel32_64,
        Condition::Less => Code::Jge_rel32_64,
        Condition::NotEqual => Code::Je_rel32_64,
    }
}
