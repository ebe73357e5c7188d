"""`nginy check` against a nginy: what it prints in a second is what the service would find."""

import pathlib
import re

from kit.program import Nginy, free_port, own_host, run_once


def test_what_each_side_has_said_is_shown(tmp_path: pathlib.Path) -> None:
    host = own_host()
    good, bad = free_port(host), free_port(host)
    served = tmp_path / "served"
    served.mkdir()
    asking = tmp_path / "asking.yml"
    asking.write_text(
        f"upstreams:\n  mail:\n    health_check: pop3\n    backends: ['{host}:{good}', "
        f"'{host}:{bad}']\nlisteners: [{{listen: 127.0.0.1:80, proxy_pass: mail}}]\n"
    )
    config = (
        f'listeners:\n- {{listen: "{host}:{good}", return: "+OK hi\\r\\n"}}\n'
        f'- {{listen: "{host}:{bad}", return: "-ERR no\\r\\n"}}\n'
    )
    with Nginy(served, config):
        status, out, err = run_once("check", "-v", str(asking))
    assert (status, err) == (1, [])
    lines = [re.sub(r" +\d+ ms", " N ms", line) for line in out.splitlines()]
    width = max(len(str(good)), len(str(bad)))
    assert lines[0] == f"mail  {host}:{str(good).ljust(width)}  passed N ms"
    assert lines[1] == "  < 2b 4f 4b 20 68 69 0d 0a                          +OK hi.."
    assert lines[-2 if "goodbye" in lines[-1] else -1].startswith("  < 2d 45 52 52")
    failure = 'pop3: "-ERR no" came, "+OK" was expected'
    assert f"mail  {host}:{str(bad).ljust(width)}  failed N ms  {failure}" in lines
