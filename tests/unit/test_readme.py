"""The README tells the truth: its examples run, its generated table is current, its commands exist."""

import contextlib
import dataclasses
import io
import re

from edgeml.quantize.budget import Budget
from edgeml.quantize.forms import QUANTIZE
from tests.docs import DOCUMENTS, ROOT, rendered
from tests.unit.test_layout import files

README = (ROOT / "README.md").read_text()


def test_generated_parts_are_current():
    for path in DOCUMENTS:
        text = path.read_text()
        assert rendered(text) == text, f"{path.name}: run `python -m tests.docs`"


def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"<!-- example: .*? -->\n```python\n(.*?)```", README, re.S)
    assert len(examples) == 3
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for example in examples:
            exec(compile(example, "README", "exec"), {})
    lines = printed.getvalue().splitlines()
    assert lines[0] == "['Adelie' 'Adelie' 'Adelie']"
    assert lines[1:] == ["Gentoo", "['Gentoo']"]


def test_every_setting_is_documented():
    code = "".join(path.read_text() for _, path in files("*.py"))
    assert set(re.findall(r"`(EDGEML_[A-Z_]+)`", README)) == set(re.findall(r"EDGEML_[A-Z_]+", code))


def _first_column(header):
    """The first cells of the table with this header, without quotes."""
    table = README.partition(f"| {header} |")[2].partition("\n\n")[0]
    return [row.split("|")[1].strip().strip("`").strip('"') for row in table.splitlines()[2:]]


def test_every_way_to_quantise_and_every_limit_is_documented():
    assert _first_column("`quantize=`") == [mode for mode in QUANTIZE if mode != "none"]
    limits = dataclasses.fields(Budget)
    assert _first_column("`Budget(…)`, `--budget`") == [limit.name for limit in limits]
    for limit in limits:
        shown = re.search(rf"^\| `{limit.name}` \|.*\| ([^|]*) \|$", README, re.M)[1]
        assert shown.startswith(str(limit.default)) or (limit.default is None and "no limit" in shown)


def test_commands_exist():
    from edgeml.cli.app import cli

    shown = set(re.findall(r"^edgeml (\w+)", README, re.M))
    assert shown
    assert shown <= set(cli.list_commands(None))
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert f"\n{target}:" in makefile
