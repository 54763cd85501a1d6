"""SMT-LIB scripts in the form that a proof checker can read.

The symbolic compiler writes SMT-LIB that cvc5 reads and Ethos does not: a datatype and its constructor share a name (`R0`), which
is lawful because sorts and terms have namespaces of their own, but Ethos has one namespace; `Option` is generic; bit-vectors are
written as numerals; `set.insert` takes many elements. So each sort `S` is renamed `S_sort`, each instance of `Option` gets a
datatype of its own, the others are written out, and nothing else is changed. Whoever holds a script can make the form that its
proof is about, and needs to believe nobody that the two say the same.

A proof object (cvc5's CPC) repeats the problem before its steps. A forged one could state another problem, or a rule of its own,
and Ethos would call it correct. So what is given to Ethos takes the problem from the script and from the proof only its steps.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, Union

Node: TypeAlias = Union[str, list["Node"]]  # noqa: UP007 - a forward reference cannot stand beside `|`

_NUMERAL = re.compile(r"bv\d+")
_LAYOUT = " \t\r\n"


class UnreadableScript(ValueError):
    """The script holds what the symbolic compiler is not known to write; the message names it."""


class UnfitProof(ValueError):
    """The text is no proof of that script; the message says why."""


def checkable(script: str) -> str:
    """`script` in the form that proofs are about: one command a line, without comments, options and models.

    Raises UnreadableScript.
    """
    return _lines(_rewritten(script))


def checker_input(script: str, proof: str) -> str:
    """A file that Ethos finds correct, given the signature of CPC, only if `proof` shows that no model satisfies `script`.

    Raises UnreadableScript, and UnfitProof where the proof assumes what the script does not assert, does not end in `false`, or
    holds anything but steps.
    """
    problem: list[Node] = []
    asserted: set[str] = set()
    for command in _rewritten(script):
        match command:
            case ["assert", term]:
                asserted.add(_print(term))
            case ["declare-fun", name, list(arguments), sort] if arguments:
                problem.append(["declare-const", name, ["->", *arguments, sort]])
            case ["declare-fun", name, _, sort]:
                problem.append(["declare-const", name, sort])
            case ["define-fun", name, [], _, term]:
                problem.append(["define", name, [], term])
            case ["declare-datatype" | "declare-const" | "declare-sort", *_]:
                problem.append(command)
            case _:
                pass
    return _lines([*problem, *_steps(proof, asserted)])


_REPEATED = {"declare-datatypes", "declare-datatype", "declare-const", "declare-sort"}
_DEPTH = {"assume": 0, "step": 0, "assume-push": 1, "step-pop": -1}


def _steps(proof: str, asserted: set[str]) -> list[list[Node]]:
    try:
        commands = list(_commands(proof))
    except UnreadableScript as error:
        raise UnfitProof(f"the proof cannot be read: {error}") from None
    kept: list[list[Node]] = []
    depth = 0
    for command in commands:
        name = str(command[0])
        if name in _REPEATED:
            continue
        if name == "define":
            # The others repeat definitions of the script.
            if str(command[1]).startswith("@"):
                kept.append(command)
            continue
        if name not in _DEPTH:
            raise UnfitProof(f"`{name[:80]}` is no step of a proof")
        if name == "assume" and _print(command[2]) not in asserted:
            raise UnfitProof(f"the proof assumes `{_print(command[2])[:80]}`, which the script does not assert")
        depth += _DEPTH[name]
        kept.append(command)
    match kept[-1:]:
        case [["step", _, "false", *_]] if depth == 0:
            return kept
        case _:
            raise UnfitProof("the proof does not end in `false`")


def _rewritten(script: str) -> list[list[Node]]:
    commands = list(_commands(script))
    names = set(_symbols(commands))
    if any(name.startswith("@") for name in names):
        raise UnreadableScript("names that begin with `@` are those of proofs")
    rewriting = _Rewriting(lambda name: name not in names)
    for command in commands:
        rewriting.add(command)
    return rewriting.written


def _lines(commands: Iterable[Node]) -> str:
    return "".join(f"{_print(command)}\n" for command in commands)


class _Rewriting:
    """One script, command by command. Keeps the sorts of what has been declared."""

    def __init__(self, is_free: Callable[[str], bool]) -> None:
        self.written: list[list[Node]] = []
        self._is_free = is_free
        self._sorts: dict[str, str] = {}
        self._results: dict[str, Node] = {}
        self._generic: tuple[str, str, str, str] | None = None
        self._instances: dict[str, tuple[str, Node]] = {}
        """By the name of the instance: the suffix of its constructors and the sort of its value."""

    def add(self, command: list[Node]) -> None:
        match command:
            case ["set-option" | "get-model", *_]:
                return
            case ["declare-datatype", str(name), ["par", [str(value)], [[str(none)], [str(some), [str(val), inner]]]]]:
                if inner != value or self._generic is not None:
                    raise UnreadableScript(f"the generic datatype `{name}` is not known here")
                # Its instances are declared where they are needed.
                self._generic = (name, none, some, val)
            case _:
                # Not in one expression: what it needs is written first.
                rewritten = self._command(command)
                self.written.append(rewritten)

    def _command(self, command: list[Node]) -> list[Node]:
        match command:
            case ["set-logic" | "check-sat", *_]:
                return command
            case ["declare-datatype", str(name), list(constructors)]:
                sort = self._new_sort(name)
                return ["declare-datatype", sort, [self._constructor(each, sort) for each in constructors]]
            case ["declare-const", str(name), sort]:
                self._results[name] = self._sort(sort)
                return ["declare-const", name, self._results[name]]
            case ["declare-fun", str(name), list(arguments), sort]:
                self._results[name] = self._sort(sort)
                return ["declare-fun", name, [self._sort(each) for each in arguments], self._results[name]]
            case ["define-fun", str(name), [], sort, term]:
                self._results[name] = self._sort(sort)
                return ["define-fun", name, [], self._results[name], self._term(term)]
            case ["assert", term]:
                return ["assert", self._term(term)]
            case _:
                raise UnreadableScript(f"the command `{_print(command)[:80]}` is not known here")

    def _fresh(self, name: str) -> str:
        while not self._is_free(name):
            name += "_"
        return name

    def _new_sort(self, name: str) -> str:
        self._sorts[name] = self._fresh(f"{name}_sort")
        return self._sorts[name]

    def _constructor(self, constructor: Node, sort: str) -> Node:
        match constructor:
            case [str(name), *fields]:
                self._results[name] = sort
                written: list[Node] = [name]
                for each in fields:
                    match each:
                        case [str(selector), field]:
                            self._results[selector] = self._sort(field)
                            written.append([selector, self._results[selector]])
                        case _:
                            raise UnreadableScript(f"the field `{_print(each)}` is not known here")
                return written
            case _:
                raise UnreadableScript(f"the constructor `{_print(constructor)}` is not known here")

    def _sort(self, sort: Node) -> Node:
        match sort:
            case str():
                return self._sorts.get(sort, sort)
            case [str(generic), inner] if self._generic is not None and generic == self._generic[0]:
                return self._instance(self._sort(inner))
            case _:
                return [self._sort(part) for part in sort]

    def _instance(self, value: Node) -> str:
        """The instance of the generic datatype for `value`, declared with its first use."""
        for name, (_, known) in self._instances.items():
            if known == value:
                return name
        if self._generic is None:
            raise AssertionError("INVARIANT: asked for by a sort that names the generic datatype")
        generic, none, some, val = self._generic
        suffix = f"_{len(self._instances)}"
        name = self._fresh(f"{generic}{suffix}")
        self._instances[name] = (suffix, value)
        none, some, val = (self._fresh(f"{each}{suffix}") for each in (none, some, val))
        self._results |= {none: name, some: name, val: value}
        self.written.append(["declare-datatype", name, [[none], [some, [val, value]]]])
        return name

    def _of_instance(self, member: str, sort: Node) -> str:
        """The constructor or selector `member` of the instance `sort`."""
        if not isinstance(sort, str) or sort not in self._instances:
            raise UnreadableScript(f"`{member}` of `{_print(sort)}`, which is no instance")
        return self._fresh(f"{member}{self._instances[sort][0]}")

    def _term(self, term: Node) -> Node:  # noqa: PLR0911 - one return per kind of term
        none, some, val = self._generic[1:] if self._generic is not None else ("", "", "")
        match term:
            case str():
                return term
            case ["as", str(name), sort] if name == none:
                return self._of_instance(none, self._sort(sort))
            case ["as", inner, sort]:
                return ["as", self._term(inner), self._sort(sort)]
            case ["_", str(numeral), str(width)] if _NUMERAL.fullmatch(numeral):
                return f"#b{int(numeral[2:]):0{int(width)}b}"
            case [["_", "is", str(name)], inner] if name in {none, some}:
                known = self._term(inner)
                return [["_", "is", self._of_instance(name, self._sort_of(known))], known]
            case [str(name), inner] if name == some:
                known = self._term(inner)
                return [self._of_instance(some, self._instance(self._sort_of(known))), known]
            case [str(name), inner] if name == val:
                known = self._term(inner)
                return [self._of_instance(val, self._sort_of(known)), known]
            case ["set.insert", *elements, rest]:
                union: Node = self._term(rest)
                for element in reversed(elements):
                    union = ["set.union", ["set.singleton", self._term(element)], union]
                return union
            case ["forall" | "exists" | "let" | "match", *_]:
                raise UnreadableScript(f"`{term[0]}` is not known here")
            case _:
                return [self._term(part) for part in term]

    def _sort_of(self, term: Node) -> Node:  # noqa: PLR0911 - one return per kind of term
        """The sort of a rewritten term, as far as values of `Option` need it."""
        match term:
            case "true" | "false":
                return "Bool"
            case str() if term.startswith("#b"):
                return ["_", "BitVec", str(len(term) - 2)]
            case str() if term.startswith('"'):
                return "String"
            case str(name) | [str(name), *_] if name in self._results:
                return self._results[name]
            case ["as", _, sort]:
                return sort
            case ["ite", _, then, _]:
                return self._sort_of(then)
            case ["set.union", _, rest]:
                return self._sort_of(rest)
            case [str(name), first, *_] if (
                name.startswith("bv") and not name.endswith("o") and name[2:4] not in _ORDERS
            ):
                return self._sort_of(first)
            case _:
                raise UnreadableScript(f"the sort of `{_print(term)[:80]}` is not known here")


_ORDERS = {"sl", "sg", "ul", "ug"}
"""`bvslt` and its like are of sort Bool, as are `bvsaddo` and its like."""


def _commands(script: str) -> Iterator[list[Node]]:
    for node in _parse(script):
        if isinstance(node, str) or not node:
            raise UnreadableScript(f"`{_print(node)}` is no command")
        yield node


def _symbols(nodes: Iterable[Node]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        else:
            yield from _symbols(node)


def _print(node: Node) -> str:
    return node if isinstance(node, str) else f"({' '.join(_print(part) for part in node)})"


def _parse(script: str) -> list[Node]:
    stack: list[list[Node]] = [[]]
    for word in _tokens(script):
        if word == "(":
            stack.append([])
        elif word == ")":
            if len(stack) == 1:
                raise UnreadableScript("a closing bracket has no opening one")
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    if len(stack) != 1:
        raise UnreadableScript("a bracket is not closed")
    return stack[0]


def _tokens(script: str) -> Iterator[str]:
    """SMT-LIB 2.7, section 3.1. A string literal doubles its quotes; a quoted symbol has no escapes."""
    at, end = 0, len(script)
    while at < end:
        here = script[at]
        if here in _LAYOUT:
            at += 1
        elif here == ";":
            found = script.find("\n", at)
            at = end if found < 0 else found
        elif here in "()":
            yield here
            at += 1
        elif here in '"|':
            start = at
            at = _after(script, here, at + 1)
            while here == '"' and script[at : at + 1] == '"':
                at = _after(script, '"', at + 1)
            yield script[start:at]
        else:
            start = at
            while at < end and script[at] not in _LAYOUT + '();"|':
                at += 1
            yield script[start:at]


def _after(script: str, what: str, start: int) -> int:
    found = script.find(what, start)
    if found < 0:
        raise UnreadableScript(f"a `{what}` is not closed")
    return found + 1
