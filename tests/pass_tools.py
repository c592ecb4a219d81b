"""What the tests of the passes share: awkward numbers, and a program before and after."""

from edgeml.errors import NonFiniteError
from edgeml.ir import interpreter
from edgeml.passes import run_passes

AWKWARD = [0.0, -0.0, 1.0, -1.5, 0.1, 5e-324, 1e-308, 1e300, 1.7976931348623157e308, -1.7976931348623157e308]
NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


def ops(program):
    return [node.op for node in program.nodes]


def apply(program, *passes, rows=None):
    """The program after passes that must each change something, compared on rows when given."""
    for each in passes:
        program, changed = run_passes(program, [each], rows)
        assert changed == (each.name,)
    return program


def unchanged(program, each):
    return run_passes(program, [each])[0] is program


def outcome(program, columns):
    try:
        return interpreter.run(program, columns)
    except NonFiniteError:
        return "refused"
