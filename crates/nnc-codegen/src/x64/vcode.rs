//! Machine code before registers are chosen: blocks of instructions on virtual registers, in SSA form.
//!
//! An instruction is an iced-x86 [`Code`] with its operands in the order of the manual. Virtual registers are of three
//! classes: general (`Int`), vector (`Float`) and mask (`Vector`, the only name that regalloc2 has left). Values cross
//! blocks as block parameters, handed over by jumps. Blocks are laid out in the order in which they are begun.

use iced_x86::Code;
use regalloc2::{Inst as InstId, InstRange, Operand, PReg, PRegSet, RegClass, VReg};

/// How an instruction sees a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum View {
    /// A general register's lowest 8 bits.
    Byte,
    /// A general register's lowest 16 bits.
    Word,
    /// A general register's lower half; a write clears the upper one.
    Double,
    /// A whole general register.
    Quad,
    /// 16 bytes of a vector register.
    X,
    /// 32 bytes of a vector register.
    Y,
    /// 64 bytes of a vector register.
    Z,
    /// A mask register.
    Mask,
}

/// An operand of an instruction, in the order of the manual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arg {
    /// None.
    None,
    /// A register: a place in the instruction's list for the allocator, and how it is seen.
    Register(u8, View),
    /// The instruction's memory operand.
    Memory,
    /// A number of 8 bits.
    Byte(u8),
    /// A number of 32 bits.
    Double(i32),
    /// A number of 32 bits, extended by its sign to 64.
    Extended(i32),
    /// A number of 64 bits.
    Quad(i64),
}

/// Where the address of a memory operand begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A general register, by its place in the list.
    Register(u8),
    /// Bytes into the temporary memory of the frame.
    Frame,
    /// A constant of the function's pool, by its number.
    Pool(u32),
}

/// A memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Memory {
    pub origin: Origin,
    /// Place in the list and factor (1, 2, 4 or 8) of an index register.
    pub index: Option<(u8, u8)>,
    /// Bytes.
    pub displacement: i32,
    /// Whether one element is repeated in all lanes (EVEX).
    pub broadcast: bool,
}

/// What a branch asks of the comparison before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// Unsigned less.
    Below,
    /// Signed less.
    Less,
    /// Not equal, or not zero.
    NotEqual,
}

/// What an instruction is to the control flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One machine instruction.
    Plain(Code),
    /// `rdx:rax = rax / b`: sign extension and signed division of 64 bits.
    Divide,
    /// Gives the function's arguments.
    Entry,
    /// To the block's only successor.
    Jump,
    /// Compares as `code` says and goes to the first successor if the condition holds, else to the second.
    Branch(Code, Condition),
    /// Leaves the function.
    Return,
}

/// An instruction. Its registers are `operands[first..first + count]` of the function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inst {
    pub kind: Kind,
    pub args: [Arg; 4],
    pub memory: Option<Memory>,
    /// The mask register by its place in the list, and whether lanes without it become 0.
    pub mask: Option<(u8, bool)>,
    first: u32,
    count: u8,
}

/// A block: its parameters, and the instructions of a range.
#[derive(Clone, Debug, Default)]
struct BlockData {
    params: Vec<VReg>,
    range: Option<(u32, u32)>,
    successors: Vec<regalloc2::Block>,
    predecessors: Vec<regalloc2::Block>,
    /// What the jump at the end hands over.
    handed: Vec<VReg>,
}

/// Names a block while code is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(u32);

/// A function in the making, and for the allocator.
#[derive(Debug, Default)]
pub(super) struct VCode {
    pub insts: Vec<Inst>,
    operands: Vec<Operand>,
    blocks: Vec<BlockData>,
    /// Labels in the order in which their blocks begin.
    order: Vec<Label>,
    registers: usize,
    /// Constants: bytes, each aligned to its size.
    pub pool: Vec<Vec<u8>>,
    /// Bytes of temporary memory in the frame.
    pub temporary: usize,
    /// 64-bit slots that a spilled vector takes.
    vector_slots: usize,
}

/// An instruction in the making.
#[derive(Debug)]
pub(super) struct Draft {
    kind: Kind,
    args: [Arg; 4],
    used: usize,
    memory: Option<Memory>,
    mask: Option<(u8, bool)>,
    operands: [Operand; 8],
    count: u8,
}

impl Draft {
    /// An instruction without operands.
    pub(super) fn new(code: Code) -> Self {
        Self::of(Kind::Plain(code))
    }

    pub(super) fn of(kind: Kind) -> Self {
        let nothing = Operand::reg_use(VReg::new(0, RegClass::Int));
        Self { kind, args: [Arg::None; 4], used: 0, memory: None, mask: None, operands: [nothing; 8], count: 0 }
    }

    fn arg(mut self, arg: Arg) -> Self {
        self.args[self.used] = arg;
        self.used += 1;
        self
    }

    fn operand(&mut self, operand: Operand) -> u8 {
        self.operands[usize::from(self.count)] = operand;
        self.count += 1;
        self.count - 1
    }

    /// A register that the allocator sees but the encoding does not name.
    pub(super) fn implicit(mut self, operand: Operand) -> Self {
        self.operand(operand);
        self
    }

    /// The result.
    pub(super) fn def(mut self, register: VReg, view: View) -> Self {
        let place = self.operand(Operand::reg_def(register));
        self.arg(Arg::Register(place, view))
    }

    /// The result, in the register of an operand that it overwrites.
    pub(super) fn def_over(mut self, register: VReg, operand: VReg, view: View) -> Self {
        let place = self.operand(Operand::reg_use(operand));
        let place = self.operand(Operand::reg_reuse_def(register, usize::from(place)));
        self.arg(Arg::Register(place, view))
    }

    /// The result, in the register of the first operand, which the encoding names besides: what is carried from round
    /// to round of a loop so stays where it is.
    pub(super) fn def_onto(mut self, register: VReg, operand: VReg, view: View) -> Self {
        self = self.def_over(register, operand, view);
        let result = self.args[self.used - 1];
        self.arg(result)
    }

    /// The result of an operation of a register with itself, whose old value does not matter.
    pub(super) fn def_of_itself(mut self, register: VReg, view: View) -> Self {
        let place = self.operand(Operand::reg_def(register));
        (0..3).fold(self, |draft, _| draft.arg(Arg::Register(place, view)))
    }

    /// A register that is read.
    pub(super) fn reads(mut self, register: VReg, view: View) -> Self {
        let place = self.operand(Operand::reg_use(register));
        self.arg(Arg::Register(place, view))
    }

    /// A register that is read after others are written.
    pub(super) fn late(mut self, register: VReg, view: View) -> Self {
        let place = self.operand(Operand::reg_use_at_end(register));
        self.arg(Arg::Register(place, view))
    }

    pub(super) fn byte(self, number: u8) -> Self {
        self.arg(Arg::Byte(number))
    }

    pub(super) fn double(self, number: i32) -> Self {
        self.arg(Arg::Double(number))
    }

    pub(super) fn extended(self, number: i32) -> Self {
        self.arg(Arg::Extended(number))
    }

    pub(super) fn quad(self, number: i64) -> Self {
        self.arg(Arg::Quad(number))
    }

    /// A memory operand at base + index * factor + displacement.
    pub(super) fn memory(mut self, place: &Place) -> Self {
        let origin = match place.base {
            Base::Register(base) => Origin::Register(self.operand(Operand::reg_use(base))),
            Base::Frame => Origin::Frame,
            Base::Pool(number) => Origin::Pool(number),
        };
        let index = place.index.map(|(index, factor)| (self.operand(Operand::reg_use(index)), factor));
        self.memory = Some(Memory { origin, index, displacement: place.displacement, broadcast: place.broadcast });
        self.arg(Arg::Memory)
    }

    /// Works on the lanes of a mask only; the others become 0, or stay as the operand that the result overwrites.
    pub(super) fn masked(mut self, mask: VReg, zeroing: bool) -> Self {
        let place = self.operand(Operand::reg_use(mask));
        self.mask = Some((place, zeroing));
        self
    }
}

/// Where an address begins, in virtual registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Register(VReg),
    Frame,
    Pool(u32),
}

/// An address in virtual registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub base: Base,
    pub index: Option<(VReg, u8)>,
    pub displacement: i32,
    pub broadcast: bool,
}

impl Place {
    /// So many bytes into the frame's temporary memory.
    pub(super) fn frame(displacement: usize) -> Self {
        Self { base: Base::Frame, index: None, displacement: displacement as i32, broadcast: false }
    }

    /// So many bytes further.
    pub(super) fn plus(self, bytes: i32) -> Self {
        Self { displacement: self.displacement + bytes, ..self }
    }
}

impl VCode {
    /// An empty function whose vector registers have so many bytes.
    pub(super) fn new(vector_bytes: usize) -> Self {
        Self { vector_slots: vector_bytes / 8, ..Self::default() }
    }

    pub(super) fn general(&mut self) -> VReg {
        self.fresh(RegClass::Int)
    }

    pub(super) fn vector(&mut self) -> VReg {
        self.fresh(RegClass::Float)
    }

    pub(super) fn mask(&mut self) -> VReg {
        self.fresh(RegClass::Vector)
    }

    /// A register of the class of another.
    pub(super) fn like(&mut self, register: VReg) -> VReg {
        self.fresh(register.class())
    }

    fn fresh(&mut self, class: RegClass) -> VReg {
        self.registers += 1;
        VReg::new(self.registers - 1, class)
    }

    /// Adds an instruction to the open block.
    pub(super) fn push(&mut self, draft: Draft) {
        let first = self.operands.len() as u32;
        self.operands.extend_from_slice(&draft.operands[..usize::from(draft.count)]);
        self.insts.push(Inst {
            kind: draft.kind,
            args: draft.args,
            memory: draft.memory,
            mask: draft.mask,
            first,
            count: draft.count,
        });
    }

    /// A block to be begun later.
    pub(super) fn label(&mut self) -> Label {
        self.blocks.push(BlockData::default());
        Label(self.blocks.len() as u32 - 1)
    }

    /// Adds a parameter to a block.
    pub(super) fn param(&mut self, label: Label, like: VReg) -> VReg {
        let register = self.like(like);
        self.blocks[label.0 as usize].params.push(register);
        register
    }

    /// Begins a block; the one before must have ended.
    pub(super) fn begin(&mut self, label: Label) {
        let at = self.insts.len() as u32;
        self.blocks[label.0 as usize].range = Some((at, at));
        self.order.push(label);
    }

    fn end(&mut self, draft: Draft, successors: &[Label], handed: &[VReg]) {
        self.push(draft);
        let end = self.insts.len() as u32;
        let Some(&label) = self.order.last() else { unreachable!("a block is open") };
        let block = &mut self.blocks[label.0 as usize];
        block.range = block.range.map(|(start, _)| (start, end));
        block.successors = successors.iter().map(|label| regalloc2::Block::new(label.0 as usize)).collect();
        block.handed = handed.to_vec();
    }

    /// Ends the open block with a jump that hands values to the parameters of the next.
    pub(super) fn jump(&mut self, to: Label, handed: &[VReg]) {
        self.end(Draft::of(Kind::Jump), &[to], handed);
    }

    /// Ends the open block with a comparison and a branch; `draft` is of [`Kind::Branch`].
    pub(super) fn branch(&mut self, draft: Draft, then: Label, otherwise: Label) {
        self.end(draft, &[then, otherwise], &[]);
    }

    pub(super) fn finish(&mut self) {
        self.end(Draft::of(Kind::Return), &[], &[]);
        self.number_blocks();
    }

    /// Puts blocks in the order of layout and finds the predecessors of each.
    fn number_blocks(&mut self) {
        let mut place = vec![0; self.blocks.len()];
        for (at, label) in self.order.iter().enumerate() {
            place[label.0 as usize] = at;
        }
        let mut blocks: Vec<BlockData> =
            self.order.iter().map(|label| std::mem::take(&mut self.blocks[label.0 as usize])).collect();
        for block in &mut blocks {
            for successor in &mut block.successors {
                *successor = regalloc2::Block::new(place[successor.index()]);
            }
        }
        for at in 0..blocks.len() {
            for successor in blocks[at].successors.clone() {
                blocks[successor.index()].predecessors.push(regalloc2::Block::new(at));
            }
        }
        self.blocks = blocks;
    }

    /// The number of a constant in the pool.
    pub(super) fn constant(&mut self, bytes: &[u8]) -> u32 {
        let found = self.pool.iter().position(|known| known == bytes);
        let place = found.unwrap_or_else(|| {
            self.pool.push(bytes.to_vec());
            self.pool.len() - 1
        });
        place as u32
    }

    /// Makes sure of so much temporary memory.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.temporary = self.temporary.max(bytes);
    }

    /// The block that a jump or branch goes to.
    pub(super) fn successors(&self, block: usize) -> &[regalloc2::Block] {
        &self.blocks[block].successors
    }
}

impl regalloc2::Function for VCode {
    fn num_insts(&self) -> usize {
        self.insts.len()
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn entry_block(&self) -> regalloc2::Block {
        regalloc2::Block::new(0)
    }

    fn block_insns(&self, block: regalloc2::Block) -> InstRange {
        let Some((start, end)) = self.blocks[block.index()].range else {
            unreachable!("a block is laid out once begun")
        };
        InstRange::new(InstId::new(start as usize), InstId::new(end as usize))
    }

    fn block_succs(&self, block: regalloc2::Block) -> &[regalloc2::Block] {
        &self.blocks[block.index()].successors
    }

    fn block_preds(&self, block: regalloc2::Block) -> &[regalloc2::Block] {
        &self.blocks[block.index()].predecessors
    }

    fn block_params(&self, block: regalloc2::Block) -> &[VReg] {
        &self.blocks[block.index()].params
    }

    fn is_ret(&self, inst: InstId) -> bool {
        self.insts[inst.index()].kind == Kind::Return
    }

    fn is_branch(&self, inst: InstId) -> bool {
        matches!(self.insts[inst.index()].kind, Kind::Jump | Kind::Branch(..))
    }

    fn branch_blockparams(&self, block: regalloc2::Block, _: InstId, _: usize) -> &[VReg] {
        &self.blocks[block.index()].handed
    }

    fn inst_operands(&self, inst: InstId) -> &[Operand] {
        let inst = &self.insts[inst.index()];
        &self.operands[inst.first as usize..inst.first as usize + usize::from(inst.count)]
    }

    fn inst_clobbers(&self, _: InstId) -> PRegSet {
        PRegSet::empty()
    }

    fn num_vregs(&self) -> usize {
        self.registers
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        match class {
            RegClass::Int | RegClass::Vector => 1,
            RegClass::Float => self.vector_slots,
        }
    }
}

/// The general registers by number, as the encoding counts them.
pub(super) mod general {
    use super::{PReg, RegClass};

    /// Those that a function must leave as they were, the frame's own aside.
    pub(in super::super) const KEPT: [usize; 5] = [3, 12, 13, 14, 15];
    pub(in super::super) const RAX: PReg = PReg::new(0, RegClass::Int);
    pub(in super::super) const RCX: PReg = PReg::new(1, RegClass::Int);
    pub(in super::super) const RDX: PReg = PReg::new(2, RegClass::Int);
    pub(in super::super) const RSI: PReg = PReg::new(6, RegClass::Int);
    pub(in super::super) const RDI: PReg = PReg::new(7, RegClass::Int);
}
