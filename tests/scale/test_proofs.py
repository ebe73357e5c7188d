"""What etc/scale-out/README.md promises, shown in network namespaces; needs root.

`bin/scale-out` does it. The parts of it that need no network are tested without.
"""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from kit.program import ENVIRONMENT, SYSTEM_PATH, free_port, needs, own_host, run_once
from scale.client import Record
from scale.main import CANNOT, cannot, main, table
from scale.network import CHECKOUT, FILES
from scale.proofs import PROOFS, Numbers, changed_backend, moved, outage

PATIENCE_S = 150
MODES = {"network", "ready", "many/announce", "router/resilient"}


def prove(name: str) -> Numbers:
    """Run one proof, or skip the test with the sentence that says why it cannot be."""
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "bin" / "scale-out"), "--json", name],
        env={**ENVIRONMENT, "PATH": SYSTEM_PATH},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    numbers: Numbers = json.loads(done.stdout)[name]
    assert numbers.get("connections", 1) > 0
    return numbers


@pytest.mark.real
@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize("name", ["pair-kill", "pair-death"])
def test_a_pair_answers_again_in_less_than_three_seconds(name: str) -> None:
    numbers = prove(name)
    assert numbers["silence, s"] < 3
    assert numbers["in vain, s"] < 3
    assert numbers["changed backend"] == 0
    assert numbers["lost"] > 0  # otherwise there were no clients
    assert numbers["turned away"] <= 8  # a handshake under way, for each client at most


@pytest.mark.real
@pytest.mark.timeout(PATIENCE_S)
def test_a_drain_of_either_node_of_a_pair_fails_nobody() -> None:
    numbers = prove("pair-drain")
    assert numbers["failed"] == 0
    assert numbers["unanswered"] == 0
    assert numbers["handed over"] > 0


@pytest.mark.real
@pytest.mark.timeout(PATIENCE_S)
def test_the_death_of_one_of_four_moves_its_flows_alone_and_no_client_to_another_backend() -> None:
    numbers = prove("death")
    assert 0 < numbers["moved"] < numbers["flows"] / 3
    assert numbers["moved to another backend"] == 0
    assert numbers["changed backend"] == 0
    assert numbers["turned away"] <= 8  # a handshake under way, for each client at most
    assert numbers["in vain, s"] < 3
    # 4 clients that ask every 10 ms: what they lose is what the dead node had, until it is missed
    assert numbers["unanswered"] <= 4 * 3


@pytest.mark.real
@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize("name", ["upgrade", "restart"])
def test_an_upgrade_of_all_four_fails_nobody(name: str) -> None:
    numbers = prove(name)
    assert numbers["failed"] == 0
    assert numbers["unanswered"] == 0
    assert numbers["changed backend"] == 0


def test_without_root_it_says_so() -> None:
    assert cannot(1000) == "the proofs make networks, which needs root"


def test_a_proof_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["deth"])
    assert ended.value.code == 2
    assert "'deth' is none of pair-kill, pair-death, pair-drain, death, upgrade, restart" in (
        capsys.readouterr().err
    )


def test_what_was_lost_is_counted() -> None:
    records: list[Record] = [
        ("long", 0.0, 2.0, "a", "!Connection reset by peer"),
        ("short", 0.5, 0.6, "a", "b1 n1"),
        ("short", 1.25, 1.5, "a", "!no connection: Connection refused"),
        ("dns", 1.1, 1.4, "a", "!timed out"),
        ("short", 2.0, 2.6, "a", "b1 n2"),
    ]
    assert outage(records, 1.0) == {
        "lost": 1,
        "turned away": 1,
        "in vain, s": 0.25,
        "silence, s": 2.0,
    }


def test_a_client_keeps_a_backend_of_each_upstream() -> None:
    records: list[Record] = [
        ("short", 0, 1, "a", "b1 n1"),
        ("dns", 0, 1, "a", "b2 n1"),
        ("long", 0, 1, "a", "b1 n2"),
        ("long", 0, 1, "a", "!EOF"),
    ]
    assert changed_backend(records) == 0
    assert changed_backend([*records, ("dns", 0, 1, "a", "b3 n1")]) == 1


def test_flows_are_compared() -> None:
    before = {"a:1": "b1 n1", "a:2": "b1 n2", "c:1": "b2 n2"}
    after = {"a:1": "b1 n1", "a:2": "b1 n1", "c:1": "b3 n2"}
    assert moved(before, after) == {
        "flows": 3,
        "moved": 1,
        "moved to another backend": 1,
    }


def test_a_table_is_markdown() -> None:
    lines = table({"death": {"connections": 4000, "silence, s": 0.125}}).splitlines()
    assert lines[0].startswith("| proof | connections | failed |")
    assert lines[-1].startswith("| death | 4,000 | - |")
    assert "| 0.12 |" in lines[-1]
    assert len({line.count("|") for line in lines}) == 1


# -- the files --


def test_scripts_can_be_started_and_are_scripts() -> None:
    for path in FILES.rglob("*"):
        if path.is_file():
            is_script = path.read_text().startswith("#!/bin/sh")
            assert is_script == (str(path.relative_to(FILES)) in MODES), path
            assert bool(path.stat().st_mode & 0o100) == is_script, path


def test_prometheus_takes_the_rules() -> None:
    command = [needs("promtool", "prometheus"), "check", "rules"]
    done = subprocess.run(
        [*command, str(FILES / "scale-out.rules.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_configuration_of_the_nodes_is_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    text = (FILES / "nginy.yml").read_text().replace("/run/nginy/", f"{tmp_path}/")
    host = own_host()
    text = re.sub(r"0\.0\.0\.0:\d+", lambda _: f"{host}:{free_port(host)}", text)
    path.write_text(text.replace("allow: [10.1.0.0/24]", "allow: [127.0.0.0/8]"))
    assert run_once("-t", str(path)) == (
        0,
        "",
        [
            f"nginy: the configuration file {path} syntax is ok",
            f"nginy: configuration file {path} test is successful",
        ],
    )


def test_the_readme_shows_the_numbers_of_every_proof_and_names_every_file() -> None:
    text = (FILES / "README.md").read_text()
    assert table({}).splitlines()[0] in text
    for name in PROOFS:
        assert f"\n| {name} | " in text
    for path in FILES.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert f"{path.relative_to(FILES)}" in text
