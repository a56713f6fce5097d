"""The sample's variables in `.env`, beside those of the person whose file it is."""

from pathlib import Path

import pytest
from dotenv import dotenv_values

from sample.env_file import write_sample_variables


def test_a_new_file_has_a_random_token_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    one = write_sample_variables(tmp_path / "one", port=8001, environment={})
    other = write_sample_variables(tmp_path / "other", port=8001, environment={})
    assert one.token != other.token
    assert len(one.token) >= 32
    assert dotenv_values(tmp_path / "one") == one.as_environment()
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600


def test_the_token_stays_and_the_port_follows(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    first = write_sample_variables(path, port=8001, environment={})
    second = write_sample_variables(path, port=9001, environment={})
    assert second.token == first.token
    assert dotenv_values(path)["NYC_FLIGHTS_PORT"] == "9001"


def test_a_token_of_the_environment_is_used_and_written(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_sample_variables(path, port=8001, environment={})
    token = "a 'quoted' #token"
    environment = {"NYC_FLIGHTS_TOKEN": token}
    assert write_sample_variables(path, port=8001, environment=environment).token == token
    assert dotenv_values(path)["NYC_FLIGHTS_TOKEN"] == token


@pytest.mark.parametrize("end", ["", "\n"])
def test_all_other_lines_stay_as_they_are(tmp_path: Path, end: str) -> None:
    path = tmp_path / ".env"
    others = f"# mine\nexport SHOP_TOKEN='a b'  # shop\n\nRESTSOURCE_CONFIGS=configs{end}"
    path.write_text(others, encoding="utf-8")
    write_sample_variables(path, port=8001, environment={})
    write_sample_variables(path, port=8002, environment={})
    assert path.read_text(encoding="utf-8").startswith(others.rstrip("\n") + "\n")


def test_a_file_that_is_up_to_date_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    write_sample_variables(path, port=8001, environment={})
    path.chmod(0o440)
    before = path.stat().st_mtime_ns
    write_sample_variables(path, port=8001, environment={})
    assert (path.stat().st_mtime_ns, path.stat().st_mode & 0o777) == (before, 0o440)


def test_the_token_is_in_no_representation(tmp_path: Path) -> None:
    variables = write_sample_variables(tmp_path / ".env", port=8001, environment={})
    assert variables.token not in repr(variables)
