"""A document as YAML: its style, its comments, and texts that only come back from quotes."""

import pathlib
import random

import pytest
from nginy.commands.importing.model import Block, Document, Value
from nginy.commands.importing.report import Entry, Fate
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render, scalar
from nginy.config.load import load
from nginy.config.node import Findings, MappingNode, ScalarNode, SequenceNode
from nginy.config.parse import parse


def listener(**values: Value) -> Block:
    return Block({key.removesuffix("_"): value for key, value in values.items()})


def written(document: Document) -> str:
    return render(tidy(document))


def test_a_document_reads_as_a_person_would_write_it(tmp_path: pathlib.Path) -> None:
    document = Document()
    document.top.set("workers", "1", above=[" How many."])
    document.top.set("worker_connections", "512", behind=" few")
    document.top.set("error_log", Block({"path": "/e.log", "level": "notice"}))
    backends: list[Value] = [
        Block({"address": "10.0.0.1:80", "weight": "2", "max_fails": "1"}),
        Block({"address": "10.0.0.2:80"}),
    ]
    backends[1].comment([" the old one"])  # type: ignore[union-attr]
    backends[1].behind[""] = " rack two"  # type: ignore[union-attr]
    document.upstreams.set("web", Block({"balance": "round_robin", "backends": backends}))
    document.upstreams.set(
        "api",
        Block({"backends": [Block({"address": "10.0.0.3:80"}), Block({"address": "[::1]:80"})]}),
    )
    for port in ("80", "81"):
        document.listeners.append(
            listener(
                listen=f"0.0.0.0:{port}",
                protocol="tcp",
                proxy_pass="web",
                proxy_timeout="600s",
                proxy_half_close="off",
                proxy_next_upstream=Block({"tries": "0", "timeout": "off"}),
            )
        )
    document.listeners[1].set("proxy_half_close", "off", above=[" Old clients."], behind=" both")
    document.listeners.append(
        listener(listen="0.0.0.0:53", protocol="udp", proxy_pass="api", proxy_timeout="10m")
    )
    document.listeners[2].set("proxy_responses", "1")
    entry = Entry("x.conf", 7, "js_filter a", Fate.LEFT_OUT, "nginy runs no scripts")
    document.listeners[2].note(entry, "proxy_responses")
    document.end.append(" The end.")
    text = written(document)
    assert (
        text
        == """\
# How many.
worker_connections: 512  # few
error_log: /e.log

defaults:
  proxy_timeout: 600s
  # Old clients.
  proxy_half_close: off  # both

upstreams:
  web:
    backends:
      - {address: 10.0.0.1:80, weight: 2}
      # the old one
      - 10.0.0.2:80  # rack two
  api:
    backends: [10.0.0.3:80, "[::1]:80"]

listeners:
  - listen: 0.0.0.0:80
    proxy_pass: web
  - listen: 0.0.0.0:81
    proxy_pass: web
  - listen: 0.0.0.0:53
    protocol: udp
    proxy_pass: api
    # js_filter a: nginy runs no scripts
    proxy_responses: 1

# The end.
"""
    )
    path = tmp_path / "nginy.yml"
    path.write_text(text)
    config = load(str(path), {})
    assert [each.proxy_half_close for each in config.listeners] == [False, False, True]
    assert config.listeners[2].proxy_timeout_ms == 600_000
    assert config.error_log.path == "/e.log"


def test_one_of_many_that_differs_says_so() -> None:
    document = Document()
    for number in range(4):
        document.listeners.append(listener(listen=f"0.0.0.0:{number + 1}", return_="x"))
        document.listeners[-1].set("return", "x")
        document.listeners[-1].set("proxy_timeout", "5s")
    del document.listeners[2].values["proxy_timeout"]
    text = written(document)
    assert "defaults:\n  proxy_timeout: 5s\n" in text
    assert text.count("proxy_timeout: 10m") == 1


def test_upstreams_share_nothing_that_addresses_would_inherit() -> None:
    def document(target: str) -> Document:
        made = Document()
        for name in ("a", "b"):
            check = Block({"interval": "9s"})
            made.upstreams.set(name, Block({"backends": ["10.0.0.1:1"], "health_check": check}))
        made.listeners.append(listener(listen="0.0.0.0:80", proxy_pass=target))
        return made

    assert written(document("a")).count("health_check: {interval: 9s}") == 1
    assert written(document("10.0.0.9:1")).count("health_check: {interval: 9s}") == 2


def test_a_record_with_one_key_and_one_with_none_are_short() -> None:
    document = Document()
    one = listener(listen="0.0.0.0:80", proxy_pass="10.0.0.1:80")
    one.set("proxy_tls", Block({"verify": "on", "sni": "on"}))
    one.set("preread", Block({"size": "16384", "timeout": "30s"}))
    one.set("proxy_bind", Block({"address": "10.0.0.7", "transparent": "off"}))
    one.set("access_log", "off")
    document.listeners.append(one)
    assert written(document) == (
        "listeners:\n  - listen: 0.0.0.0:80\n    proxy_pass: 10.0.0.1:80\n"
        "    proxy_tls: on\n    proxy_bind: 10.0.0.7\n"
    )


def test_a_log_at_the_top_is_inherited_and_turned_off_by_name() -> None:
    document = Document()
    document.top.set("access_log", "/a.log")
    document.listeners.append(listener(listen="0.0.0.0:80", return_="x", access_log="/a.log"))
    document.listeners.append(listener(listen="0.0.0.0:81", return_="x", access_log="off"))
    assert written(document).count("access_log") == 2


def test_comments_of_what_need_not_be_said_stay() -> None:
    document = Document()
    one = listener(listen="0.0.0.0:80", return_="x")
    one.set("proxy_timeout", "10m", above=[" above"], behind=" behind")
    one.set("backlog", "9")
    one.set("freebind", "off", above=[" last"])
    one.comment([" first"])
    document.listeners.append(one)
    assert written(document) == (
        "listeners:\n  # first\n  - listen: 0.0.0.0:80\n    return: x\n    # above\n    # behind\n"
        "    backlog: 9\n    # last\n"
    )


TEXTS = (
    "", "~", "null", "on", "a b", "a: b", "a #b", "a:", "[::1]:80", "10.0.0.1:80", "unix:/a", "x,y",
    "{a}", "~^x{2}$", "*.example.com", "-", "- a", "-a", "$remote_addr", "a\nb\t\r\0", 'say "hi"',
    "it's", "back\\slash", "é", "\udcff", "\x07", "%x", "@x", "!x", "&x", "<<", "...", "5%", "a!b",
    "---", " a ", "http://x/y?z=1&b", "?x", "a\u2028b", "#x", "=", "|", ">", "`",
)  # fmt: skip


def read_back(text: str) -> list[str]:
    findings = Findings()
    root = parse(text, "x", findings)
    assert isinstance(root, MappingNode)
    (_, value), *_ = root.pairs
    assert isinstance(value, SequenceNode)
    found = []
    for item in value.items:
        assert isinstance(item, ScalarNode)
        assert not item.is_missing
        found.append(item.text if item.byte_text is None else item.byte_text)
    return found


def test_every_text_comes_back_in_both_styles() -> None:
    rng = random.Random(7)
    letters = "ab:#,[]{}&*!|>'\"%@`\\~-? .$\n\té\udc80"
    made = ["".join(rng.choices(letters, k=rng.randrange(1, 6))) for _ in range(1500)]
    texts = [*TEXTS, *made]
    assert read_back("a: [" + ", ".join(map(scalar, texts)) + "]") == texts
    assert read_back("a:\n" + "".join(f"- {scalar(each)}\n" for each in texts)) == texts


@pytest.mark.parametrize("text", ["a\x07b", "\udcff", "x\ny", "a\u2028"])
def test_a_comment_never_breaks_the_file(text: str) -> None:
    document = Document()
    document.listeners.append(listener(listen="0.0.0.0:80", return_="x"))
    document.listeners[0].comment([text], "return")
    document.listeners[0].behind["return"] = text
    assert parse(written(document), "x", Findings()) is not None
