"""Commands that ask at an address that was typed, with and without a configuration."""

import contextlib
import pathlib

import pytest
from nginy.cli import main

from kit.place import Place
from kit.program import Nginy, free_port

Capture = pytest.CaptureFixture[str]
TOKEN = "0123456789abcdef" * 2


@pytest.mark.slow
def test_an_address_is_enough_and_a_configuration_has_the_token(
    tmp_path: pathlib.Path, capsys: Capture
) -> None:
    place = Place(tmp_path, 1)
    port = free_port(place.host)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    admin = (
        "admin:\n"
        f"- unix:{place.socket}\n"
        f"- {{listen: '{place.host}:{port}', access: full, token_file: ./token}}\n"
        f"- {{listen: '{place.host}:{free_port(place.host)}'}}\n"
    )

    def typed(*words: str) -> tuple[int, str]:
        status = main(list(words))
        out, errors = capsys.readouterr()
        return status, out + errors

    with contextlib.closing(place), Nginy(tmp_path, place.config(admin)) as nginy:
        unix, path = ("-a", f"unix:{place.socket}"), str(nginy.path)
        backend = f"web/{place.addresses[0]}"
        for words, said in (
            (("status", *unix), "upstreams:\n  web: 2 of 2 backends usable"),
            (("status", "--check", *unix), "ready"),
            (("drain", *unix, backend), f"{backend}: draining"),
            (("ready", *unix, backend, "--wait", "5s"), f"{backend}: up"),
            (("weight", *unix, backend, "7"), "weight 7"),
            (("sessions", *unix), "no sessions"),
            (("sessions", *unix, "state=queued"), "no sessions"),
            (("log", *unix), "set web/"),
            (("reload", "--dry-run", *unix), "nothing changes"),
            (("reload", *unix), "nothing changes"),
            (("trace", *unix, "--for", "100ms", "-o", f"{tmp_path}/t.json"), "turns"),
            (("maint", *unix, path, backend), f"{backend}: maintenance"),
            (("sessions", *unix, path, "state=queued"), "no sessions"),
        ):
            status, out = typed(*words)
            assert (status, said in out) == (0, True), (words, out)
        assert "configuration reloaded" in "".join(nginy.said("configuration reloaded"))

        # By TCP, for which the configuration has a token.
        there = "-a", f"{place.host}:{port}"
        asks = f"{place.host}:{port} asks for a token, expected CONFIG as well"
        assert asks in typed("status", *there)[1]
        assert typed("status", *there, path)[0] == 0
        assert typed("weight", *there, path, backend, "5")[0] == 0
        for words, said in (
            (("drain", *unix, "wbe/1:1"), 'no upstream "wbe", did you mean "web"?'),
            (("drain", *unix, "web/1:1"), "there is no backend 1:1 in web"),
            (("drain", *unix, path, "wbe/1:1"), 'has no upstream "wbe" (did you mean "web"?)'),
            (("sessions", *unix, "--kill"), "--kill needs a filter"),
        ):
            status, out = typed(*words)
            assert (status, said in out) == (1, True), (words, out)
        nginy.stop()
