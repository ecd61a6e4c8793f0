"""PTX to C, so that the very device code that a GPU would run is executed and checked where there is none.

A kernel becomes one C function `step(thread)`: its registers in a struct, one `switch` on the point where it resumes
after a barrier, a warp sync, a shuffle or a vote. `machine.h` beside this file holds the memory (bounds, alignment and
race checks, poisoned with NaN) and the scheduler. What this file does not know is refused at translation, not guessed.

Source of the semantics: NVIDIA, Parallel Thread Execution ISA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

C_TYPE = {"pred": "uint8_t", "f32": "float", "f64": "double"} | {
    f"{letter}{bits}": f"{'' if letter == 's' else 'u'}int{bits}_t" for letter in "bus" for bits in (8, 16, 32, 64)
}
SPACES = {"global": "GLOBAL", "const": "GLOBAL", "shared": "SHARED", "local": "LOCAL"}
SPECIAL = {"%laneid": "t->lane", "%warpid": "t->warp", "WARP_SZ": "WARP", "%dynamic_smem_size": "M.dynamic_bytes"} | {
    f"%{name}.{axis}": f"{where}[{k}]"
    for name, where in (("tid", "t->tid"), ("ntid", "M.block"), ("ctaid", "M.ctaid"), ("nctaid", "M.grid"))
    for k, axis in enumerate("xyz")
}

# One row an operation: a, b, c, d are the operands, f the suffix of C's float functions, T the C type, bits its width.
ON_BOTH = {
    "add": "{a} + {b}",
    "sub": "{a} - {b}",
    "neg": "-{a}",
    "selp": "{c} ? {a} : {b}",
}
ON_FLOATS = {
    "mul": "{a} * {b}",
    "div": "{a} / {b}",
    "fma": "fma{f}({a}, {b}, {c})",
    "sqrt": "sqrt{f}({a})",
    "rsqrt": "1 / sqrt{f}({a})",
    "rcp": "1 / {a}",
    "abs": "fabs{f}({a})",
    "min": "fmin{f}({a}, {b})",
    "max": "fmax{f}({a}, {b})",
    "copysign": "copysign{f}({b}, {a})",
    "ex2": "exp2{f}({a})",
    "lg2": "log2{f}({a})",
}
ON_INTEGERS = {
    "mul": "({W}){a} * {b}",
    "mad": "({W}){a} * {b} + {c}",
    "mul.hi": "({T})(({sign} __int128){a} * {b} >> {bits})",
    "mad.hi": "({T})(({sign} __int128){a} * {b} >> {bits}) + {c}",
    "div": "{b} ? {a} / {b} : -1",
    "rem": "{b} ? {a} % {b} : {a}",
    "abs": "{a} < 0 ? -{a} : {a}",
    "min": "{a} < {b} ? {a} : {b}",
    "max": "{a} > {b} ? {a} : {b}",
    "and": "{a} & {b}",
    "or": "{a} | {b}",
    "xor": "{a} ^ {b}",
    "not": "~{a}",
    "shl": "{b} < {bits} ? {a} << {b} : 0",
    "shr": "{b} < {bits} ? {a} >> {b} : {a} < 0 ? -1 : 0",
    "bfi": "bit_field_insert({a}, {b}, {c}, {d})",
    "clz": "{a} ? __builtin_clzll({a}) - (64 - {bits}) : {bits}",
    "popc": "__builtin_popcountll({a})",
}
# The kinds of the source operands where they are not all that of the instruction (k): w is the product's width.
OPERANDS = {
    "selp": ("k", "k", "pred"), "shl": ("k", "u32"), "shr": ("k", "u32"), "bfi": ("k", "k", "u32", "u32"),
    "mad": ("k", "k", "w"),
}  # fmt: skip
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
               "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}  # fmt: skip
COMBINE = {"and": "&", "or": "|", "xor": "^"}
ROUNDING = {"rzi": "trunc", "rni": "nearbyint", "rmi": "floor", "rpi": "ceil"}
ATOMIC = {"add": "old + {a}", "and": "old & {a}", "or": "old | {a}", "xor": "old ^ {a}", "exch": "{a}",
          "min": "{a} < old ? {a} : old", "max": "{a} > old ? {a} : old", "cas": "old == {a} ? {b} : old"}  # fmt: skip
SHUFFLES = {  # lane that a shuffle reads from, and whether it lies inside the segment
    "up": ("(int)t->lane - (int){b}", "j >= (int)last"),
    "down": ("(int)(t->lane + {b})", "j <= (int)last"),
    "bfly": ("(int)(t->lane ^ {b})", "j <= (int)last"),
    "idx": ("(int)((t->lane & segment) | ({b} & ~segment & 31))", "j <= (int)last"),
}

WINDOW_START = 64  # address of the first byte of shared and of local memory: a null pointer is out of bounds
GAP = 64  # unaddressable bytes after an array, so that an overrun does not land in its neighbour


class UnsupportedPTX(Exception):
    """The kernel uses something that this translator does not know."""


def size_of(kind: str) -> int:
    return 1 if kind == "pred" else int(kind[1:]) // 8


def align_up(offset: int, align: int) -> int:
    return -(-offset // align) * align


def c_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


# -- reading --


@dataclass
class Statement:
    what: str  # label, brace, header or text
    text: str
    line: int


TOKEN = re.compile(
    r"""\s*(?: (?P<label>[\w$]+):(?!:)
             | (?P<brace>[{}])
             | (?P<header>(?:\.(?:visible|weak|extern)[ ]+)*\.(?:entry|func)\b[^{;]*)
             | (?P<text>[^;{}]+(?:\{[^}]*\}[^;{}]*)*);
             | ;
             | $ )""",
    re.X,
)


def statements(ptx: str) -> Iterator[Statement]:
    """Instructions, directives, labels and braces, each with its line; comments and debug lines are dropped."""
    ptx = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), ptx, flags=re.S)
    ptx = re.sub(r"//[^\n]*|^[ \t]*\.(?:loc|file|version|target|address_size)\b[^\n]*", "", ptx, flags=re.M)
    line, counted = 1, 0
    for match in TOKEN.finditer(ptx):
        if match.lastgroup:
            start = match.start(match.lastgroup)
            line, counted = line + ptx.count("\n", counted, start), start
            yield Statement(match.lastgroup, " ".join(match[match.lastgroup].split()), line)


def split(text: str) -> list[str]:
    """Operands separated by commas outside of brackets and braces."""
    return [part.strip() for part in re.split(r",(?![^{]*\})(?![^(]*\))", text) if part.strip()]


@dataclass
class Variable:
    name: str
    space: str
    kind: str
    size: int  # bytes; 0: as large as the launch says
    align: int
    values: list[str]


VARIABLE = re.compile(
    r"""(?:\.\w+[ ])*? \.(?P<space>global|const|shared|local|param)[ ] (?:\.align[ ](?P<align>\d+)[ ])?
        \.(?P<kind>\w+)[ ] (?P<name>[\w$]+) (?:\[(?P<count>\d*)\])? (?:[ ]=[ ]\{?(?P<values>.*?)\}?)?""",
    re.X,
)


def variable(text: str) -> Variable:
    v = VARIABLE.fullmatch(text)
    if not v:
        raise UnsupportedPTX(text)
    unit = size_of(v["kind"])
    size = unit if v["count"] is None else unit * int(v["count"] or 0)
    return Variable(v["name"], v["space"], v["kind"], size, int(v["align"] or unit), split(v["values"] or ""))


# -- writing --


@dataclass
class Function:
    """One `.entry` or `.func` on its way to C."""

    name: str
    is_entry: bool
    result: Variable | None
    params: list[Variable]
    shared: dict[str, int]  # address of each shared array of the module
    functions: set[str]  # names of the module's functions
    body: list[str] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)  # C name -> kind
    scopes: list[dict[str, str]] = field(default_factory=lambda: [{}])  # PTX name -> C name, innermost last
    local: dict[str, int] = field(default_factory=dict)
    local_bytes: int = 0  # with those of the functions before: no two frames overlap
    points: int = 0  # resume points so far
    labels: set[str] = field(default_factory=set)  # labels so far: a branch to one of them closes a loop
    granule: int = 8  # bytes of the smallest shared access
    line: int = 0

    def add(self, s: Statement) -> None:
        self.line = s.line
        if s.what == "brace":
            self.scopes = [*self.scopes, {}] if s.text == "{" else self.scopes[:-1]
            self.body.append(f"    {s.text}")
        elif s.what == "label":
            self.labels.add(c_name(s.text))
            self.body.append(f"{c_name(s.text)}:;")
        elif s.text.startswith(".reg"):
            self.declare(s.text)
        elif s.text.startswith(".local"):
            v = variable(s.text)
            self.local[v.name] = align_up(WINDOW_START + self.local_bytes, v.align)
            self.local_bytes = self.local[v.name] + v.size - WINDOW_START
        elif s.text.startswith(".param"):
            v = variable(s.text)
            self.body.append(f"    _Alignas(16) uint8_t {c_name(v.name)}[{v.size}];")
        elif not s.text.startswith(".pragma"):
            guard, opcode, operands = re.fullmatch(r"(?:@(!?[%\w]+) )?([\w.:]+)(?: (.*))?", s.text).groups()
            base, *mods = opcode.replace("::", "").split(".")
            code = self.instruction(base, mods, split(operands or ""))
            code = f"VISIT({s.line}) {code}" if base != "ld" or "param" not in mods else code
            self.body.append(f"    if ({self.get(guard, 'pred')}) {{ {code} }}" if guard else f"    {code}")

    def unsupported(self, what: str) -> UnsupportedPTX:
        return UnsupportedPTX(f"line {self.line}: {what}")

    # -- registers and operands --

    def declare(self, text: str) -> None:
        kind, names = re.fullmatch(r"\.reg \.(\w+) (.*)", text).groups()
        for name in split(names):
            bank = re.fullmatch(r"(.*)<(\d+)>", name)
            for each in [f"{bank[1]}{k}" for k in range(int(bank[2]))] if bank else [name]:
                unique = f"{c_name(each)}_{len(self.registers)}" if len(self.scopes) > 1 else c_name(each)
                self.scopes[-1][each] = unique
                self.registers[unique] = kind

    def register(self, name: str) -> str | None:
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def get(self, text: str, kind: str) -> str:
        """C expression of an operand read as `kind`: bits are reinterpreted between float and integer registers."""
        c_type, is_float = C_TYPE[kind], kind[0] == "f"
        if text[0] == "!":
            return f"!{self.get(text[1:], kind)}"
        if name := self.register(text):
            stored = self.registers[name]
            if is_float != (stored[0] == "f"):
                return f"{kind}_of(r->{name})" if is_float else f"(({c_type})bits_{stored}(r->{name}))"
            return f"r->{name}" if is_float else f"(({c_type})r->{name})"
        if text in SPECIAL:
            return f"(({c_type}){SPECIAL[text]})"
        if re.fullmatch(r"0[dDfF][0-9a-fA-F]+", text):
            bits = f"0x{text[2:]}ull"
            return f"f{4 * len(text) - 8}_of({bits})" if is_float else f"(({c_type}){bits})"
        if re.fullmatch(r"-?(\d+|0[xX][0-9a-fA-F]+)U?", text):
            return f"(({c_type}){int(text.rstrip('U'), 0) & (256 ** size_of(kind) - 1)}ull)"
        if text in self.local or text in self.shared:
            return f"(({c_type}){(self.local | self.shared)[text]})"
        if re.fullmatch(r"[A-Za-z_$][\w$]*", text):
            return f"(({c_type}){c_name(text)})"
        raise self.unsupported(f"operand {text}")

    def put(self, target: str, kind: str, value: str) -> str:
        """C statement that stores `value`, of kind `kind`, in a register."""
        if target == "_":
            return ""
        name = self.register(target)
        if name is None:
            raise self.unsupported(f"register {target}")
        stored = self.registers[name]
        value = f"({C_TYPE[kind]})({value})"
        if (stored[0] == "f") != (kind[0] == "f"):
            value = f"{stored}_of({value})" if stored[0] == "f" else f"bits_{kind}({value})"
        return f"r->{name} = {value};"

    # -- instructions --

    def instruction(self, base: str, mods: list[str], ops: list[str]) -> str:
        kinds = [m for m in mods if m in C_TYPE]
        kind = kinds[-1] if kinds else ""
        match base:
            case "ld" | "ldu" | "st":
                return self.memory(base, mods, kind, ops)
            case "atom" | "red":
                return self.atomic(mods, kind, ops if base == "atom" else ["_", *ops])
            case "bar" | "barrier" | "shfl" | "vote":
                return self.meet(base, mods, kind, ops)
            case "bra":
                loop = f"LOOP({self.line}) " if c_name(ops[0]) in self.labels else ""
                return f"{loop}goto {c_name(ops[0])};"
            case "ret" | "exit":
                return "t->state = EXITED; return;" if self.is_entry else "return;"
            case "trap":
                return f"fault(TRAPPED, t, {self.line}, 0);"
            case "membar" | "fence":
                return ""
            case "call":
                return self.call(ops)
            case "mov":
                return self.move(kind, ops)
            case "cvta":
                sign, space = ("-", mods[1]) if mods[0] == "to" else ("+", mods[0])
                window = "0" if SPACES[space] == "GLOBAL" else f"WINDOW({SPACES[space]})"
                return self.put(ops[0], kind, f"{self.get(ops[1], kind)} {sign} {window}")
            case "set" | "setp":
                return self.compare(mods, kind, ops)
            case "cvt":
                return self.put(ops[0], kinds[0], self.convert(mods, *kinds, self.get(ops[1], kinds[1])))
            case "add" | "addc" | "sub" | "subc" | "mad" | "madc" if base.endswith("c") or "cc" in mods:
                return self.carry(base, mods, f"u{8 * size_of(kind)}", ops)
            case _:
                return self.arithmetic(base, mods, kind, ops)

    def arithmetic(self, base: str, mods: list[str], kind: str, ops: list[str]) -> str:
        real, bits = kind[0] == "f", 8 * size_of(kind)
        wide = f"{kind[0]}{2 * bits}" if "wide" in mods else kind
        row = (ON_BOTH | (ON_FLOATS if real else ON_INTEGERS)).get(f"{base}.hi" if "hi" in mods else base)
        logical = {**dict.fromkeys(COMBINE, row), "not": "!{a}"}
        if kind == "pred":
            row = logical.get(base)
        if row is None or set(mods) - {kind, "rn", "lo", "hi", "wide", "approx", *(["ftz"] if real else [])}:
            raise self.unsupported(f"{base}.{'.'.join(mods)}")
        kinds = OPERANDS.get(base, ("k",) * (len(ops) - 1))
        values = [self.get(op, {"k": kind, "w": wide}.get(k, k)) for op, k in zip(ops[1:], kinds, strict=True)]
        if "ftz" in mods:  # subnormals flushed; of a double only rcp has this form, and it sees the upper half alone
            flush = "flush" if kind == "f32" else "upper"
            row, values = f"{flush}({row})", [f"{flush}({v})" for v in values]
        suffix, sign = "f" if kind == "f32" else "", "" if kind[0] == "s" else "unsigned"
        operands = dict(zip("abcd", values, strict=False))
        expression = row.format(**operands, f=suffix, T=C_TYPE[kind], W=C_TYPE.get(wide), bits=bits, sign=sign)
        return self.put(ops[0], "u32" if base in ("clz", "popc") else wide, expression)

    def carry(self, base: str, mods: list[str], kind: str, ops: list[str]) -> str:
        """Links of long sums: `.cc` leaves the carry, or borrow, for the next one: `addc`, `subc`, `madc`."""
        first, *factors, last = [self.get(op, kind) for op in ops[1:]]
        bits, sign = 8 * size_of(kind), "-" if base.startswith("sub") else "+"
        if base.startswith("mad"):
            product = f"(unsigned __int128){first} * {factors[0]}"
            first = f"({C_TYPE[kind]})({product} >> {bits if 'hi' in mods else 0})"
        taken = f" {sign} r->carry" if base.endswith("c") else ""
        left = f"r->carry = total >> {bits} & 1;" if "cc" in mods else ""
        total = f"(unsigned __int128){first} {sign} {last}{taken}"
        return f"{{ unsigned __int128 total = {total}; {self.put(ops[0], kind, 'total')} {left} }}"

    def move(self, kind: str, ops: list[str]) -> str:
        """A copy, or the packing of two halves into one register, or the reverse."""
        target, source = ops
        half, bits = f"u{4 * size_of(kind)}" if kind != "pred" else kind, 4 * size_of(kind)
        if target.startswith("{"):
            value = self.get(source, kind)
            low, high = split(target[1:-1])
            return f"{self.put(low, half, value)} {self.put(high, half, f'{value} >> {bits}')}"
        if source.startswith("{"):
            low, high = (self.get(part, half) for part in split(source[1:-1]))
            return self.put(target, kind, f"{low} | ({C_TYPE[kind]}){high} << {bits}")
        return self.put(target, kind, self.get(source, kind))

    def compare(self, mods: list[str], kind: str, ops: list[str]) -> str:
        test, a, b = mods[0], self.get(ops[1], kind), self.get(ops[2], kind)
        if test in ("num", "nan"):
            truth = f"({'!' if test == 'num' else ''}(isnan({a}) || isnan({b})))"
        elif kind[0] == "f" and test == "ne":  # ordered: false on NaN, unlike != in C
            truth = f"({a} < {b} || {a} > {b})"
        elif kind[0] == "f" and test.endswith("u"):  # unordered: true on NaN
            truth = f"(isnan({a}) || isnan({b}) || {a} {COMPARISONS[test[:-1]]} {b})"
        else:
            truth = f"({a} {COMPARISONS[test]} {b})"
        combine = f" {COMBINE[mods[1]]} {self.get(ops[3], 'pred')}" if mods[1] in COMBINE else ""
        pair = zip(ops[0].split("|"), (truth, f"!{truth}"), strict=False)
        return " ".join(self.put(target, "pred", value + combine) for target, value in pair)

    def convert(self, mods: list[str], to: str, of: str, value: str) -> str:
        rounding = next((ROUNDING[m] for m in mods if m in ROUNDING), "")
        if set(mods) - {to, of, "rn", *ROUNDING}:
            raise self.unsupported(f"cvt.{'.'.join(mods)}")
        if not rounding:
            return value
        if to[0] == "f":
            return f"{rounding}((double){value})"
        bits = 8 * size_of(to)  # to an integer: clamped, and NaN becomes 0
        low, high = (f"-0x1p{bits - 1}", f"0x1p{bits - 1}") if to[0] == "s" else ("0.0", f"0x1p{bits}")
        return f"CLAMPED({C_TYPE[to]}, {low}, {high}, {rounding}((double){value}))"

    def call(self, ops: list[str]) -> str:
        result = [ops.pop(0)] if ops[0].startswith("(") else []
        name, *arguments = ops
        if name not in self.functions:
            raise self.unsupported(f"call of {name}, which the module does not define")
        inner = [c_name(part) for group in result + arguments for part in split(group.strip("() "))]
        return f"{c_name(name)}({', '.join(['t', *inner])});"

    # -- memory --

    def place(self, at: str, space: str, kind: str, writes: int, atomic: int = 0) -> str:
        """C lvalue of the cell at the address `at`."""
        if space != "GLOBAL":
            self.granule = min(self.granule, size_of(kind))
        return f"*({C_TYPE[kind]} *)locate({space}, {at}, {size_of(kind)}, {writes}, {atomic}, t, {self.line})"

    def address(self, text: str) -> tuple[str, int]:
        base, offset = re.fullmatch(r"\[([^+\]]+)(?:\+(-?\d+))?\]", text).groups()
        return base, int(offset or 0)

    def memory(self, base: str, mods: list[str], kind: str, ops: list[str]) -> str:
        where, data = ops if base == "st" else reversed(ops)
        registers = split(data[1:-1]) if data.startswith("{") else [data]
        name, offset = self.address(where)
        offsets = [offset + k * size_of(kind) for k in range(len(registers))]
        if "param" in mods:
            cells = [f"*({C_TYPE[kind]} *)({c_name(name)} + {k})" for k in offsets]
        else:
            space = next((SPACES[m] for m in mods if m in SPACES), "GENERIC")
            cells = [self.place(f"{self.get(name, 'u64')} + {k}", space, kind, int(base == "st")) for k in offsets]
        if base == "st":
            return " ".join(f"{cell} = {self.get(r, kind)};" for r, cell in zip(registers, cells, strict=True))
        return " ".join(self.put(r, kind, cell) for r, cell in zip(registers, cells, strict=True))

    def atomic(self, mods: list[str], kind: str, ops: list[str]) -> str:
        space = next((SPACES[m] for m in mods if m in SPACES), "GENERIC")
        row = next(ATOMIC[m] for m in mods if m in ATOMIC)
        new = row.format(**dict(zip("ab", (self.get(op, kind) for op in ops[2:]), strict=False)))
        name, offset = self.address(ops[1])
        cell = self.place(f"{self.get(name, 'u64')} + {offset}", space, kind, 1, 1)
        return f"{{ {C_TYPE[kind]} *cell = &{cell}, old = *cell; *cell = {new}; {self.put(ops[0], kind, 'old')} }}"

    # -- where threads meet --

    def wait(self, why: str, shown: str, also: str = "") -> str:
        if not self.is_entry:
            raise self.unsupported(f"threads meet inside {self.name}, which was not inlined")
        self.points += 1
        return f"t->shown = {shown}; {also} YIELD({self.points}, {why}, {self.line})"

    def meet(self, base: str, mods: list[str], kind: str, ops: list[str]) -> str:
        if base in ("bar", "barrier") and mods[0] != "warp":
            return self.barrier(mods, ops)
        mask = f"t->mask = {self.get(ops[-1], 'u32')};"
        if base == "bar":
            return self.wait("AT_WARP", "0", mask)
        if base == "vote":
            vote = {"ballot": "ballot(t)", "any": "ballot(t) != 0", "all": "ballot(t) == t->mask"}
            value = next(vote[m] for m in mods if m in vote)
            return f"{self.wait('AT_WARP', self.get(ops[1], 'pred'), mask)} {self.put(ops[0], kind, value)}"
        target, valid = [*ops[0].split("|"), "_"][:2]
        clamp = self.get(ops[3], "u32")
        source, test = next(SHUFFLES[m] for m in mods if m in SHUFFLES)
        return " ".join([
            self.wait("AT_WARP", self.get(ops[1], "b32"), mask),
            f"{{ uint32_t segment = {clamp} >> 8 & 31, last = (t->lane & segment) | ({clamp} & ~segment & 31);",
            f"int j = {source.format(b=self.get(ops[2], 'u32'))}, valid = {test};",
            self.put(valid, "pred", "valid"),
            self.put(target, "b32", f"from_lane(t, valid ? j : (int)t->lane, {self.line})") + " }",
        ])  # fmt: skip

    def barrier(self, mods: list[str], ops: list[str]) -> str:
        if "red" not in mods:
            number, code = ops[0], self.wait("AT_BARRIER", "0", "t->reduction = 0;") if len(ops) == 1 else ""
        else:
            target, number, shown = ops if len(ops) == 3 else (ops[0], "", ops[-1])
            how = next(m for m in mods if m in ("or", "and", "popc"))
            code = self.wait("AT_BARRIER", self.get(shown, "pred"), f"t->reduction = '{how[0]}';")
            code += self.put(target, "u32" if how == "popc" else "pred", "t->result")
        if number != "0" or not code:
            raise self.unsupported("a barrier other than that of the whole block")
        return code

    # -- the finished function --

    def layout(self) -> tuple[list[int], int]:
        """The offset of each parameter in the parameter block, and the size of the block."""
        offsets, end = [], 0
        for param in self.params:
            offsets.append(align_up(end, param.align))
            end = offsets[-1] + param.size
        return offsets, end

    def prototype(self) -> str:
        if self.is_entry:
            return "static void step(Thread *t)"
        passed = [f"uint8_t *{c_name(p.name)}" for p in ([self.result] if self.result else []) + self.params]
        return f"static void {c_name(self.name)}({', '.join(['Thread *t', *passed])})"

    def code(self) -> str:
        fields = " ".join(f"{C_TYPE[kind]} {name};" for name, kind in self.registers.items())
        lines = [f"{self.prototype()} {{", f"    typedef struct {{ uint8_t carry; {fields} }} Registers;"]
        if self.is_entry:
            lines.append("    Registers *r = (Registers *)t->registers;")
            for param, offset in zip(self.params, self.layout()[0], strict=True):
                lines.append(f"    const uint8_t *{c_name(param.name)} = M.params + {offset};")
            cases = "".join(f"case {k}: goto resume{k}; " for k in range(1, self.points + 1))
            lines.append(f"    switch (t->point) {{ {cases}default: break; }}")
        else:
            lines.append("    Registers own, *r = memset(&own, POISON, sizeof own);")
        return "\n".join([*lines, *self.body, "}"])


@dataclass
class Module:
    """PTX as C: the text, its one kernel, and its shared arrays as (begin, end) addresses; end 0: the launch says."""

    code: str
    entry: Function
    shared: list[tuple[int, int]]


HEADER = re.compile(
    r"""(?:\.(?:visible|weak|extern)[ ])* \.(?P<what>entry|func)[ ]? (?:\((?P<result>[^)]*)\)[ ]?)?
        (?P<name>[\w$]+)[ ]? \((?P<params>[^)]*)\) .*""",
    re.X,
)


def translate(ptx: str) -> Module:
    names = set(re.findall(r"\.func\s+(?:\([^)]*\)\s*)?([\w$]+)", ptx))
    arrays: list[Variable] = []
    functions: list[Function] = []
    begins: dict[str, int] = {}
    shared: list[tuple[int, int]] = []
    depth, end = 0, WINDOW_START
    for s in statements(ptx):
        opens, closes = s.text == "{", s.text == "}"
        depth -= closes
        if s.what == "header":
            header = HEADER.fullmatch(s.text)
            result = variable(header["result"].strip()) if header["result"] else None
            params = [variable(p) for p in split(header["params"])]
            f = Function(header["name"], header["what"] == "entry", result, params, begins, names)
            f.local_bytes = functions[-1].local_bytes if functions else 0
            functions.append(f)
        elif s.what == "text" and re.match(r"(\.\w+ )*\.shared\b", s.text):
            v = variable(s.text)
            begins[v.name] = align_up(end, max(v.align, 16))
            shared.append((begins[v.name], begins[v.name] + v.size if v.size else 0))
            end = begins[v.name] + v.size + (GAP if v.size else 0)
        elif depth:
            functions[-1].add(s)
        elif not opens and not closes:
            arrays.append(variable(s.text))
        depth += opens
    functions = [f for f in functions if f.body]
    entries = [f for f in functions if f.is_entry]
    if len(entries) != 1:
        raise UnsupportedPTX(f"one kernel expected, {len(entries)} came")
    return Module(whole(functions, entries[0], arrays), entries[0], shared)


def whole(functions: list[Function], entry: Function, arrays: list[Variable]) -> str:
    """The C file: the module's arrays, the machine, and the functions."""
    lines = ["#include <stdint.h>"]
    for v in arrays:
        unit = C_TYPE[f"u{8 * size_of(v.kind)}"]
        values = ", ".join(f"0x{x[2:]}ull" if re.match("0[dDfF]", x) else x for x in v.values) or "0"
        lines.append(f"_Alignas({v.align}) static {unit} {c_name(v.name)}[{v.size // size_of(v.kind)}] = {{{values}}};")
    sizes = {"REGISTER_BYTES": 8 + 8 * len(entry.registers), "LOCAL_BYTES": max(f.local_bytes for f in functions),
             "GRANULE": min(f.granule for f in functions)}  # fmt: skip
    lines += [f"enum {{ {', '.join(f'{name} = {value}' for name, value in sizes.items())} }};"]
    lines += [f"#define MODULE_REGIONS {' '.join(f'{{(uint8_t *){c_name(v.name)}, {v.size}}},' for v in arrays)}"]
    lines += ['#include "machine.h"', *(f"{f.prototype()};" for f in functions), *(f.code() for f in functions)]
    return "\n".join(lines) + "\n"
