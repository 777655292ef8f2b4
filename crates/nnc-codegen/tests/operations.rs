//! Every operation, on every element type that takes it, at every width: the interpreter against compiled code.

mod common;

use common::{Numbers, check, first_difference};
use nnc_kernel::ir::{
    BinaryOp, Builder, CompareOp, Elem, Kernel, KernelBuilder, Memory, ReduceOp, Type, UnaryOp, Value, text, verify,
};
use nnc_kernel::math;
use nnc_kernel::program::{ArgRef, Launch, Program};

/// Elements in each buffer.
const COUNT: usize = 4 * 64;

/// Lists the kernels of one width.
struct Suite {
    lanes: u8,
    kernels: Vec<(Kernel, Vec<ArgRef>, Elem)>,
}

impl Suite {
    /// A kernel whose three inputs hold `from` and whose output holds `to`; `body` makes one vector of the output from
    /// the memories at each of four offsets.
    fn add(&mut self, name: &str, from: Elem, to: Elem, body: impl Fn(&mut Builder, [Memory; 3], Value) -> Value) {
        let mut kernel = KernelBuilder::new(format!("{name} {from} {to} x{}", self.lanes));
        let inputs = ["a", "b", "c"].map(|name| kernel.input(name, from));
        let out = kernel.output("out", to);
        kernel.phase(4, |b, task| {
            let at = b.mul_index(task, i64::from(self.lanes));
            let value = body(b, inputs, at);
            let at = b.mul_index(task, 64);
            b.store(out, at, value);
        });
        let input = |k: u32| ArgRef::new(1 + input_buffer(from) as u32 + k, 0);
        let offset = (self.kernels.len() * COUNT * 8) as u64;
        let args = vec![input(0), input(1), input(2), ArgRef::new(OUT, offset)];
        self.kernels.push((kernel.finish(), args, to));
    }

    fn unary(&mut self, name: &str, elem: Elem, to: Elem, body: impl Fn(&mut Builder, Value) -> Value) {
        let lanes = self.lanes;
        self.add(name, elem, to, |b, [x, ..], at| {
            let x = b.load(x, at, lanes);
            body(b, x)
        });
    }

    fn ternary(&mut self, name: &str, elem: Elem, to: Elem, body: impl Fn(&mut Builder, [Value; 3]) -> Value) {
        let lanes = self.lanes;
        self.add(name, elem, to, |b, inputs, at| {
            let values = inputs.map(|input| b.load(input, at, lanes));
            body(b, values)
        });
    }

    fn run(self) {
        for (kernel, ..) in &self.kernels {
            verify::verify(kernel).unwrap_or_else(|violations| panic!("{violations:#?}\n{}", text::print(kernel)));
            let printed = text::print(kernel);
            let parsed = text::parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(&parsed, kernel, "{printed}");
        }
        let mut numbers = Numbers(u64::from(self.lanes));
        let mut buffers = vec![vec![]];
        for elem in Elem::ALL {
            buffers.extend((0..3).map(|_| numbers.memory(elem, COUNT)));
        }
        buffers.push(vec![0xee; self.kernels.len() * COUNT * 8]);
        let elems: Vec<Elem> = self.kernels.iter().map(|(.., elem)| *elem).collect();
        let mut program = Program::default();
        for (number, (kernel, args, _)) in self.kernels.into_iter().enumerate() {
            program.kernels.push(kernel);
            program.launches.push(Launch { kernel: number as u32, args, serial: number % 2 == 0, work: 1 });
        }
        let mut expected = buffers.clone();
        nnc_kernel::ir::interpret::run(&program, &mut expected).unwrap();
        for (number, &elem) in elems.iter().enumerate() {
            let mut launch = Launch { kernel: 0, ..program.launches[number].clone() };
            let range = launch.args[3].offset as usize..launch.args[3].offset as usize + COUNT * 8;
            launch.args[3].offset = 0;
            let used = |buffer: usize| launch.args.iter().any(|arg| arg.buffer as usize == buffer);
            let take = |(at, bytes): (usize, &Vec<u8>)| if used(at) { bytes.clone() } else { vec![] };
            let mut before: Vec<Vec<u8>> = buffers.iter().enumerate().map(take).collect();
            before[OUT as usize].truncate(COUNT * 8);
            let kernel = Program {
                kernels: vec![program.kernels[number].clone()],
                launches: vec![launch],
                ..Program::default()
            };
            common::export(&kernel, &before, &[(OUT as usize, elem, &expected[OUT as usize][range])]);
        }
        let mut wrong = String::new();
        for backend in common::backends() {
            let mut found = buffers.clone();
            common::run_compiled(&program, backend, &mut found);
            let (expected, found) = (&expected[OUT as usize], &found[OUT as usize]);
            for (number, elem) in elems.iter().enumerate() {
                let range = number * COUNT * 8..(number + 1) * COUNT * 8;
                let (expected, found) = (&expected[range.clone()], &found[range]);
                if let Some(at) = first_difference(*elem, expected, found) {
                    let range = at * elem.size()..(at + 1) * elem.size();
                    let (expected, found) = (&expected[range.clone()], &found[range]);
                    let name = &program.kernels[number].name;
                    wrong += &format!("{name}: element {at}: {expected:02x?}, {backend} {found:02x?}\n");
                }
            }
        }
        assert!(wrong.is_empty(), "interpreter and compiled code differ:\n{wrong}");
    }
}

const OUT: u32 = 31;

fn input_buffer(elem: Elem) -> usize {
    3 * Elem::ALL.iter().position(|&other| other == elem).unwrap()
}

fn suite(lanes: u8) -> Suite {
    Suite { lanes, kernels: vec![] }
}

const WIDTHS: [u8; 7] = [1, 2, 4, 8, 16, 32, 64];

#[test]
fn arithmetic() {
    for lanes in WIDTHS {
        let mut suite = suite(lanes);
        for elem in Elem::ALL {
            let (float, int, bool) = (elem.is_float(), elem.is_int(), elem == Elem::Bool);
            for &op in UnaryOp::ALL {
                let takes = match op {
                    UnaryOp::Neg | UnaryOp::Abs => float || int,
                    UnaryOp::Not => int || bool,
                    _ => float,
                };
                if takes {
                    suite.unary(op.name(), elem, elem, |b, x| b.unary(op, x));
                }
            }
            for &op in BinaryOp::ALL {
                let takes = match op {
                    BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Min | BinaryOp::Max => {
                        float || int
                    }
                    BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => int,
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => int || bool,
                };
                if takes {
                    suite.ternary(op.name(), elem, elem, |b, [x, y, _]| b.binary(op, x, y));
                    for number in [0.0, 1.0, 3.0, 8.0, -1.0, -5.0] {
                        suite.unary(&format!("{} constant {number}", op.name()), elem, elem, |b, x| {
                            let y = b.number(b.type_of(x), number);
                            b.binary(op, x, y)
                        });
                    }
                }
            }
            if float {
                suite.ternary("fma", elem, elem, |b, [x, y, z]| b.fma(x, y, z));
            }
        }
        suite.run();
    }
}

#[test]
fn comparisons_and_masks() {
    for lanes in WIDTHS {
        let mut suite = suite(lanes);
        for elem in Elem::ALL.into_iter().filter(|elem| elem.is_float() || elem.is_int()) {
            for &op in CompareOp::ALL {
                suite.ternary(op.name(), elem, Elem::Bool, |b, [x, y, _]| b.compare(op, x, y));
                suite.ternary(&format!("select {}", op.name()), elem, elem, |b, [x, y, z]| {
                    let mask = b.compare(op, x, y);
                    let other = b.lt(y, z);
                    let mask = b.xor(mask, other);
                    b.select(mask, z, x)
                });
            }
            // Masks of one width on values of another.
            for other in Elem::ALL.into_iter().filter(|&other| other.is_int() || other.is_float()) {
                suite.ternary(&format!("mask of {elem} on {other}"), elem, other, |b, [x, y, z]| {
                    let (first, second) = (b.lt(x, y), b.le(y, z));
                    let [u, v, w] = [x, y, z].map(|value| if elem == other { value } else { b.convert(value, other) });
                    let third = b.ne(u, v);
                    let mask = b.and(first, third);
                    let mask = b.or(mask, second);
                    let mask = b.not(mask);
                    let value = b.select(mask, u, w);
                    let scalar = b.extract(mask, 0);
                    b.select(scalar, value, v)
                });
            }
        }
        for &op in [ReduceOp::And, ReduceOp::Or].iter() {
            suite.unary(op.name(), Elem::Bool, Elem::Bool, |b, x| b.reduce(op, x));
        }
        suite.ternary("bool select", Elem::Bool, Elem::Bool, |b, [x, y, z]| b.select(x, y, z));
        suite.run();
    }
}

#[test]
fn conversions() {
    for lanes in WIDTHS {
        let mut suite = suite(lanes);
        for from in Elem::ALL {
            for to in Elem::ALL.into_iter().filter(|&to| to != from) {
                suite.unary("convert", from, to, |b, x| b.convert(x, to));
                if from == Elem::F32 && to.is_int() {
                    suite.unary("convert of nearest", from, to, |b, x| {
                        let rounded = b.nearest(x);
                        b.convert(rounded, to)
                    });
                }
                // The payload of a NaN may differ: only numbers are looked at as bits.
                let fits = usize::from(lanes) * from.size() % to.size() == 0;
                let few = usize::from(lanes) * from.size() / to.size() <= 64;
                if fits && few && from.is_int() && to != Elem::Bool {
                    suite.unary("bitcast", from, to, |b, x| b.bitcast(x, to));
                }
            }
        }
        suite.run();
    }
}

#[test]
fn lanes() {
    for lanes in WIDTHS {
        let mut suite = suite(lanes);
        let mut numbers = Numbers(7);
        for elem in Elem::ALL {
            for count in [1, 2, 4, 8, 16, 32, 64] {
                let pattern: Vec<u8> = (0..count).map(|_| numbers.below(2 * u64::from(lanes)) as u8).collect();
                suite.ternary(&format!("shuffle {pattern:?}"), elem, elem, |b, [x, y, _]| b.shuffle(x, y, &pattern));
                suite.ternary(&format!("look up {count}"), elem, elem, |b, [x, ..]| {
                    let indices = b.iota(Type::vector(Elem::I32, count));
                    let factor = b.i32(-5, count);
                    let indices = b.mul(indices, factor);
                    b.look_up(x, indices)
                });
            }
            suite.ternary("interleave", elem, elem, |b, [x, y, _]| {
                let pattern: Vec<u8> = (0..lanes).map(|i| i / 2 + (i % 2) * lanes).collect();
                b.shuffle(x, y, &pattern)
            });
            let lane = lanes - 1;
            suite.unary("extract", elem, elem, |b, x| b.extract(x, lane));
            suite.unary("splat", elem, elem, |b, x| {
                let scalar = b.extract(x, lane / 2);
                b.splat(scalar, lanes)
            });
            suite.ternary("insert", elem, elem, |b, [x, y, _]| {
                let scalar = b.extract(y, 0);
                b.insert(x, scalar, lane)
            });
            if elem.is_float() || elem.is_int() {
                suite.unary("iota", elem, elem, |b, x| {
                    let iota = b.iota(b.type_of(x));
                    b.add(x, iota)
                });
                for &op in ReduceOp::ALL {
                    if elem.is_int() || !matches!(op, ReduceOp::And | ReduceOp::Or) {
                        suite.unary(&format!("reduce {}", op.name()), elem, elem, |b, x| b.reduce(op, x));
                    }
                }
            }
            if lanes <= 16 {
                for row in 0..lanes {
                    suite.add(&format!("transpose {row}"), elem, elem, |b, [x, ..], _| {
                        let rows: Vec<Value> = (0..lanes)
                            .map(|row| {
                                let at = b.index(i64::from(row) * 3);
                                b.load(x, at, lanes)
                            })
                            .collect();
                        b.transpose(&rows)[usize::from(row)]
                    });
                }
            }
        }
        suite.run();
    }
}

#[test]
fn dot_steps() {
    for lanes in [1, 2, 4, 8, 16] {
        let mut suite = suite(lanes);
        suite.add("dot_i8", Elem::I8, Elem::I32, |b, [x, y, z], at| {
            let (x, y) = (b.load(x, at, 4 * lanes), b.load(y, at, 4 * lanes));
            let x = b.bitcast(x, Elem::U8);
            let acc = b.load(z, at, 4 * lanes);
            let acc = b.bitcast(acc, Elem::I32);
            b.dot_i8(acc, x, y)
        });
        suite.add("dot_i7", Elem::I8, Elem::I32, |b, [x, y, z], at| {
            let (x, y) = (b.load(x, at, 4 * lanes), b.load(y, at, 4 * lanes));
            let x = b.bitcast(x, Elem::U8);
            let one = b.number(Type::vector(Elem::I8, 4 * lanes), 1.0);
            let y = b.binary(BinaryOp::Sar, y, one);
            let acc = b.load(z, at, 4 * lanes);
            let acc = b.bitcast(acc, Elem::I32);
            b.dot_i7(acc, x, y)
        });
        suite.add("dot_i7 of 7 bits by 8", Elem::I8, Elem::I32, |b, [x, y, z], at| {
            let (x, y) = (b.load(x, at, 4 * lanes), b.load(y, at, 4 * lanes));
            let seven = b.number(Type::vector(Elem::I8, 4 * lanes), 127.0);
            let x = b.and(x, seven);
            let x = b.bitcast(x, Elem::U8);
            let acc = b.load(z, at, 4 * lanes);
            let acc = b.bitcast(acc, Elem::I32);
            b.dot_i7(acc, x, y)
        });
        suite.add("dot_bf16", Elem::Bf16, Elem::F32, |b, [x, y, z], at| {
            let (x, y) = (b.load(x, at, 2 * lanes), b.load(y, at, 2 * lanes));
            let acc = b.load(z, at, lanes);
            let acc = b.convert(acc, Elem::F32);
            b.dot_bf16(acc, x, y)
        });
        suite.run();
    }
}

#[test]
fn memory() {
    for lanes in WIDTHS {
        let mut suite = suite(lanes);
        for elem in Elem::ALL {
            suite.add("load_splat", elem, elem, |b, [x, ..], at| b.load_splat(x, at, lanes));
            for stride in [3, -1, 0] {
                suite.add(&format!("load_strided {stride}"), elem, elem, |b, [x, ..], at| {
                    let stride = b.index(stride);
                    let at = b.min(at, stride);
                    let at = b.add_index(at, if lanes == 64 { 63 } else { 65 });
                    let stride = if lanes == 64 { b.index(1) } else { stride };
                    b.load_strided(x, at, stride, lanes)
                });
            }
            for less in [-2, 0, 1, 2, 70] {
                suite.add(&format!("load_tail -{less}"), elem, elem, |b, [x, ..], at| {
                    let divided = b.index(1);
                    let count = b.rem(at, divided);
                    let count = b.add(count, at);
                    let count = b.add_index(count, i64::from(lanes) - less);
                    b.load_tail(x, at, count, lanes)
                });
            }
            suite.add("load_masked", elem, elem, |b, [x, ..], at| {
                let iota = b.iota(Type::vector(Elem::I64, lanes));
                let three = b.number(Type::vector(Elem::I64, lanes), 3.0);
                let rest = b.rem(iota, three);
                let zero = b.zero(Type::vector(Elem::I64, lanes));
                let mask = b.ne(rest, zero);
                b.load_masked(x, at, mask)
            });
            for indices in [Elem::I32, Elem::I64] {
                suite.add(&format!("load_indexed {indices}"), elem, elem, |b, [x, ..], at| {
                    let ty = Type::vector(indices, lanes);
                    let (iota, back) = (b.iota(ty), b.number(ty, -1.0));
                    let indices = b.mul(iota, back);
                    let at = b.add_index(at, 63);
                    let last = b.index(COUNT as i64 - 1);
                    let at = b.min(at, last);
                    b.load_indexed(x, at, indices)
                });
            }
        }
        suite.run();
    }
}

/// Each way to store, at a moving place, over memory that must otherwise stay as it was.
#[test]
fn stores() {
    for lanes in WIDTHS {
        for elem in Elem::ALL {
            let mut kernel = KernelBuilder::new(format!("stores {elem} x{lanes}"));
            let (x, counts) = (kernel.input("x", elem), kernel.input("counts", Elem::I64));
            let out: Vec<Memory> = (0..5).map(|i| kernel.output(format!("out{i}"), elem)).collect();
            kernel.phase(4, |b, task| {
                let width = i64::from(lanes);
                let value = {
                    let at = b.mul_index(task, width);
                    b.load(x, at, lanes)
                };
                let count = b.load(counts, task, 1);
                let at = b.mul_index(task, 4 * width);
                b.store(out[0], at, value);
                b.store_tail(out[1], at, count, value);
                let three = b.index(3);
                b.store_strided(out[2], at, three, value);
                let ty = Type::vector(Elem::I32, lanes);
                let (iota, limit) = (b.iota(ty), b.convert(count, Elem::I32));
                let limit = b.splat(limit, lanes);
                let mask = b.gt(iota, limit);
                b.store_masked(out[3], at, mask, value);
                let half = b.number(ty, 2.0);
                let indices = b.div(iota, half);
                b.store_indexed(out[4], at, indices, value);
            });
            let mut numbers = Numbers(u64::from(lanes));
            let size = elem.size();
            let counts: Vec<u8> = [0, i64::from(lanes), i64::from(lanes) / 2, -3]
                .iter()
                .flat_map(|count: &i64| count.to_le_bytes())
                .collect();
            let mut buffers = vec![vec![], numbers.memory(elem, 4 * usize::from(lanes)), counts];
            buffers.extend((0..5).map(|_| vec![1; 16 * usize::from(lanes) * size]));
            let args = (1..=7).map(|buffer| ArgRef::new(buffer, 0)).collect();
            let elems = [[elem, Elem::I64].as_slice(), &[elem; 5]].concat();
            check(&common::single(kernel.finish(), args), &buffers, &elems).unwrap();
        }
    }
}

#[test]
fn math_functions() {
    for lanes in [1, 2, 4, 8, 16] {
        let mut suite = suite(lanes);
        type Function = fn(&mut Builder, Value) -> Value;
        let functions: [(&str, Function); 8] = [
            ("exp", math::exp),
            ("log", math::log),
            ("tanh", math::tanh),
            ("sigmoid", math::sigmoid),
            ("erf", math::erf),
            ("sin", math::sin),
            ("cos", math::cos),
            ("rsqrt", math::rsqrt),
        ];
        for elem in [Elem::F32, Elem::F64] {
            for (name, function) in functions {
                suite.unary(name, elem, elem, function);
            }
            suite.ternary("pow", elem, elem, |b, [x, y, _]| math::pow(b, x, y));
            suite.ternary("rem", elem, elem, |b, [x, y, _]| math::rem(b, x, y));
        }
        suite.ternary("threefry", Elem::I32, Elem::I32, |b, [x, y, z]| math::threefry2x32(b, [x, y], [z, x])[1]);
        suite.ternary("uniform", Elem::I64, Elem::F32, |b, [x, y, z]| {
            let position = b.convert(z, Elem::I32);
            math::uniform(b, x, 0x1234_5678_9abc_def0, y, position)
        });
        suite.run();
    }
}
