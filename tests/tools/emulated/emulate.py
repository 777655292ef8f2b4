"""Runs the code of the tests of nnc-codegen for instruction sets that this machine lacks, in the CPU of the Bochs emulator.

    pip install bochscpu-python==0.4.0
    mkdir cases && NNC_EXPORT=$PWD/cases cargo test --release -p nnc-codegen
    python tests/tools/emulated/emulate.py cases/avxvnni [PART PARTS]

The tests write each program that they check as a file in a folder for each instruction set: its code, the memory before,
and what the interpreter says that is in memory after. Here each launch is called on an emulated processor that has the
set that the folder is named after and no better one, and memory compared, any NaN with any. No case may fail.
With a C library older than 2.38, preload a library that gives `__isoc23_strtol`, `__isoc23_strtoull` and `__isoc23_sscanf`.
"""

import ctypes
import pathlib
import struct
import sys

import bochscpu
import bochscpu._bochscpu as native

CODE, DATA, STACK, STOP, SCRATCH, ARGS = (0x1_0000_0000 + 0x1000_0000 * place for place in range(6))
PAGE = 4096
SIZES = {"f32": 4, "f64": 8, "f16": 2, "bf16": 2, "i8": 1, "u8": 1, "i16": 2, "i32": 4, "i64": 8, "bool": 1}
# What is emulated for each instruction set, as Bochs numbers the models in its `cpudb.h`: Haswell, Arrow Lake, Ice Lake.
MODELS = {"avx2": 24, "avxvnni": 31, "avx512": 28}
# Bits without the sign above which a float is NaN.
INFINITY = {"f32": 0x7F80_0000, "f64": 0x7FF0_0000_0000_0000, "f16": 0x7C00, "bf16": 0x7F80}


def choose(model):
    """Sets the model of all processors to come, for which the package itself has no function."""
    library = ctypes.CDLL(native.__file__)
    library.sim_get_param_enum.restype = ctypes.c_void_p
    param = ctypes.c_void_p(library.sim_get_param_enum(b"cpu.model"))
    library._ZN14bx_param_num_c9set_rangeEmm(param, ctypes.c_uint64(0), ctypes.c_uint64(max(MODELS.values())))
    library._ZN15bx_param_enum_c3setEl(param, ctypes.c_int64(model))


class Machine:
    """An x86-64 processor in long mode, with page tables of its own."""

    def __init__(self):
        self.pages, self.tables, self.next_frame = {}, {}, 0x10_0000
        self.session = bochscpu.Session()
        self.session.missing_page_handler = self.missing
        self.root = self.table()

    def missing(self, frame):
        raise RuntimeError(f"no memory at {frame:#x}")

    def frame(self):
        host, guest = native.memory.allocate_host_page(), self.next_frame
        self.next_frame += PAGE
        native.memory.page_insert(guest, host)
        ctypes.memset(host, 0, PAGE)
        return guest, host

    def table(self):
        guest, host = self.frame()
        self.tables[guest] = host
        return guest

    def entry(self, table, index):
        return ctypes.cast(self.tables[table] + 8 * index, ctypes.POINTER(ctypes.c_uint64))

    def map(self, address, size):
        for page in range(address & -PAGE, (address + size + PAGE - 1) & -PAGE, PAGE):
            if page in self.pages:
                continue
            table = self.root
            for shift in (39, 30, 21):
                entry = self.entry(table, page >> shift & 511)
                entry[0] = entry[0] or self.table() | 7
                table = entry[0] & -PAGE
            guest, self.pages[page] = self.frame()
            self.entry(table, page >> 12 & 511)[0] = guest | 7

    def write(self, address, data):
        self.map(address, len(data))
        at = 0
        while at < len(data):
            page, offset = address + at & -PAGE, (address + at) % PAGE
            piece = data[at : at + PAGE - offset]
            ctypes.memmove(self.pages[page] + offset, piece, len(piece))
            at += len(piece)

    def read(self, address, size):
        data = b""
        while len(data) < size:
            at = address + len(data)
            data += ctypes.string_at(self.pages[at & -PAGE] + at % PAGE, min(size - len(data), PAGE - at % PAGE))
        return data

    def call(self, code, *arguments):
        """Calls a function by the System V convention; says why it did not return, or nothing."""
        top = STACK + 0x3_FF00 - 8
        self.write(top, struct.pack("<Q", STOP))
        state = bochscpu.State()
        state.cr0, state.cr3, state.cr4, state.efer = 0x8005_0033, self.root, 0x4_0668, 0xD01
        state.xcr0, state.mxcsr, state.mxcsr_mask, state.rflags = 0xE7, 0x1F80, 0xFFBF, 2
        state.rip, state.rsp = code, top
        state.rdi, state.rsi, state.rdx, state.rcx = arguments
        state.cs = segment(0x10, 0x209B)
        state.ds = state.es = state.ss = state.fs = state.gs = segment(0x18, 0xC093)
        self.session.cpu.state = state
        end = []
        hook = bochscpu.Hook()

        def stop(session, reason):
            end.append(reason)
            session.stop()

        hook.hlt = lambda session, _: stop(session, "")
        hook.exception = lambda session, _, number, __: stop(session, f"exception {number}")
        self.session.run([hook])
        state = self.session.cpu.state
        if end[0]:
            return f"{end[0]} at {state.rip - code:#x}"
        return "" if state.rsp == top + 8 else "the stack is not as it was"


def segment(selector, attributes):
    made = bochscpu.Segment()
    made.present, made.selector, made.base, made.limit, made.attr = True, selector, 0, 0xFFFFF, attributes
    return made


def is_nan(elem, data):
    bits = int.from_bytes(data, "little") & (1 << 8 * len(data) - 1) - 1
    return bits > INFINITY.get(elem, bits)


def run(machine, path, code_at):
    """What is wrong with a case, or nothing, and where the next one's code may lie: code is never written over."""
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    of = lambda word: [line[1:] for line in lines if line[0] == word]
    buffers, at = [], DATA
    for [text] in of("buffer"):
        buffers.append(at)
        machine.write(at, bytes.fromhex(text))
        at += len(text) // 2 + PAGE & -64
    machine.map(SCRATCH, int(of("scratch")[0][0]) + 64)
    places = {}
    for name, text in of("code"):
        machine.write(code_at, bytes.fromhex(text))
        places[name], code_at = code_at, code_at + len(text) // 2 + 63 & -64
    code_at = code_at + PAGE & -PAGE
    for name, tasks, *args in of("launch"):
        pairs = [map(int, arg.split("+")) for arg in args]
        machine.write(ARGS, b"".join(struct.pack("<Q", buffers[buffer] + offset) for buffer, offset in pairs))
        wrong = machine.call(places[name], ARGS, 0, int(tasks), SCRATCH)
        if wrong:
            return f"{name}: {wrong}", code_at
    for buffer, elem, text in of("expect"):
        expected, size = bytes.fromhex(text), SIZES[elem]
        found = machine.read(buffers[int(buffer)], len(expected))
        for place in range(0, len(expected), size):
            pair = expected[place : place + size], found[place : place + size]
            if pair[0] != pair[1] and not all(is_nan(elem, data) for data in pair):
                return f"buffer {buffer}, element {place // size}: {pair[0].hex()}, not {pair[1].hex()}", code_at
    return "", code_at


def main():
    folder, (part, parts) = pathlib.Path(sys.argv[1]), map(int, sys.argv[2:4] or (0, 1))
    choose(MODELS[folder.resolve().name])
    machine = Machine()
    machine.map(STACK, 0x4_0000)
    machine.write(STOP, b"\xf4")
    cases, failed, code_at = sorted(folder.glob("*.txt"))[part::parts], 0, CODE
    for path in cases:
        wrong, code_at = run(machine, path, code_at)
        if wrong:
            failed += 1
            print(f"{path.name}: {wrong}", flush=True)
    print(f"{len(cases)} cases, {failed} failed")


if __name__ == "__main__":
    main()
