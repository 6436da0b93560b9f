"""Whatever calls what: an edit changes the digests of what can reach it."""

from __future__ import annotations

from digesting import changed, digests
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def programs(draw):
    """Functions that call later ones, by what kind of way each; and which of them is edited."""
    size = draw(st.integers(2, 7))
    calls = [
        draw(
            st.dictionaries(
                st.integers(at + 1, size - 1),
                st.sampled_from(("name", "default", "closure", "table", "method", "module")),
                max_size=3,
            )
            if at < size - 1
            else st.just({})
        )
        for at in range(size)
    ]
    return (
        calls,
        draw(st.integers(0, size - 1)),
        draw(st.sets(st.integers(0, size - 1), max_size=2)),
    )


def written(calls, edited: int | None) -> str:
    """The program; later functions come first, so that they are there."""
    lines = []
    for at in reversed(range(len(calls))):
        args, body = "x", [f"x + {at + (100 if at == edited else 0)}"]
        for to, way in calls[at].items():
            match way:
                case "name":
                    body.append(f"f{to}(x)")
                case "default":
                    args += f", d{to}=f{to}"
                    body.append(f"d{to}(x)")
                case "closure":
                    lines.append(f"def outer{at}_{to}(g):\n    return lambda x: g(x)")
                    lines.append(f"c{at}_{to} = outer{at}_{to}(f{to})")
                    body.append(f"c{at}_{to}(x)")
                case "table":
                    lines.append(f"t{at}_{to} = {{'f': [f{to}]}}")
                    body.append(f"t{at}_{to}['f'][0](x)")
                case "method":
                    lines.append(f"class C{at}_{to}:\n    def m(self, x): return f{to}(x)")
                    body.append(f"C{at}_{to}().m(x)")
                case "module":
                    body.append(f"aside.via(f{to}, x)")
        lines.append(f"def f{at}({args}):\n    return {' + '.join(body)}")
    return "\n".join(lines)


def reached(calls, roots) -> set[int]:
    found, left = set(), [*roots]
    while left:
        at = left.pop()
        if at not in found:
            found.add(at)
            left += calls[at]
    return found


@settings(max_examples=30, deadline=None)
@given(programs())
def test_an_edit_of_any_function_changes_what_can_reach_it_and_nothing_else(program) -> None:
    calls, edited, roots = program
    aside = {"aside.py": "def via(f, x): return f(x)\n"}
    head = "import aside\n"
    tail = "\ndef mapper(k, v): yield k, 0" + "".join(f" + f{root}(1)" for root in sorted(roots))
    tail += "\ndef reducer(k, vs): yield k, f0(1)\n"
    before = digests(head + written(calls, None) + tail, aside)
    after = digests(head + written(calls, edited) + tail, aside)
    # The call that makes a closure might do anything with what it is given.
    given = {to for some in calls for to, way in some.items() if way == "closure"}
    roots_of = {"map": roots | given, "reduce": {0} | given}
    sides = [side for side, of in roots_of.items() if edited in reached(calls, of)]
    assert changed(before, after) == " ".join(sides)
