"""Secrets in `.env`: added without touching other lines, set in place, private from the first byte."""

from pathlib import Path

from dotenv import dotenv_values

from restsource_dagster.authoring.env_variables import add_variables, set_variable

ODD = """it's $HOME "quoted" \\ # x"""


def test_variables_are_added_and_those_with_a_line_keep_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nA=1\nexport B=2")
    added = add_variables({"A": "9", "B": "", "C": ODD, "D": ""}, tmp_path)
    assert (added.missing, added.kept) == (("D",), ("A",))
    assert file.read_text().startswith("# mine\nA=1\nexport B=2\n")
    assert dotenv_values(file) == {"A": "1", "B": "2", "C": ODD, "D": ""}


def test_a_variable_is_set_in_place_of_its_value(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    set_variable("A", "1", tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("AA=0\nA=\n# end\n")
    set_variable("A", ODD, tmp_path)
    set_variable("AA", "2", tmp_path)
    assert dotenv_values(file) == {"AA": "2", "A": ODD}
    assert file.read_text().endswith("# end\n")
    assert [one.name for one in tmp_path.iterdir()] == [".env"]
