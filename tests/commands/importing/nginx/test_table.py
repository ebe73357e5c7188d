"""What becomes of nginx's directives, case by case."""

import pytest
from nginy.commands.importing import nginx
from nginy.commands.importing.model import Texts
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render


def imported(text: str) -> tuple[str, list[str]]:
    """The configuration that a text becomes, and what is not the same, without places."""
    made = nginx.read("nginx.conf", Texts({"nginx.conf": text}))
    differences = [
        f"{entry.fate.value}: {entry.directive}: {entry.text}"
        for entry in made.entries
        if not entry.is_exact
    ]
    return render(tidy(made.document)), differences


@pytest.mark.parametrize(
    ("directives", "keys"),
    [
        ("listen 80; proxy_pass 10.0.0.1:80;", "listen: 0.0.0.0:80\nproxy_pass: 10.0.0.1:80"),
        ("listen 80 udp; return 'a\\n';", 'listen: 0.0.0.0:80\nprotocol: udp\nreturn: "a\\n"'),
        ("listen 80; return x; proxy_timeout 90;", "proxy_timeout: 1m30s"),
        ("listen 80; return x; allow 10.1.0.0/8; deny all;", "access: [{allow: 10.0.0.0/8}"),
    ],
)
def test_a_server(directives: str, keys: str) -> None:
    text, differences = imported(f"events {{}} stream {{ server {{ {directives} }} }}")
    for line in keys.splitlines():
        assert line in text
    assert differences == []
