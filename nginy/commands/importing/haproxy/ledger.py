"""The ledger: the fate of each line, and where its comments go.

Each reader of a line judges it, perhaps several times: the worst fate counts, and all different
texts. Lines of `defaults` are read once for each proxy that inherits them.

At the end, the ledger puts the notes about differences and the original comments into the document,
in the order of the file.

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

from nginy.commands.importing.haproxy.sections import Line
from nginy.commands.importing.model import Block, Document
from nginy.commands.importing.report import Entry, Fate, Verdict


class Ledger:
    """The verdicts on all lines of a configuration."""

    def __init__(self) -> None:
        self._verdicts: dict[Line, Verdict] = {}
        self._places: dict[Line, tuple[Block, str]] = {}
        self._shown: dict[Line, str] = {}

    def judge(self, line: Line | None, fate: Fate, text: str = "") -> None:
        """Note a verdict on a line; the worst one counts."""
        if line is not None:
            self._verdicts.setdefault(line, Verdict()).judge(fate, text)

    def exact(self, line: Line | None, block: Block | None = None, key: str = "") -> None:
        """Note that a line is carried over exactly, and the key that it became."""
        self.judge(line, Fate.EXACT)
        self.place(line, block, key)

    def close(self, line: Line | None, text: str) -> None:
        """Note that nginy does nearly the same, and what differs."""
        self.judge(line, Fate.CLOSE, text)

    def left_out(self, line: Line | None, text: str) -> None:
        """Note that a line has become nothing."""
        self.judge(line, Fate.LEFT_OUT, text)

    def place(self, line: Line | None, block: Block | None, key: str = "") -> None:
        """Say where the comments of a line belong; the first place counts."""
        if line is not None and block is not None:
            self._places.setdefault(line, (block, key))

    def show(self, line: Line, text: str) -> None:
        """Say how a line is shown in the report, in place of its words."""
        self._shown[line] = text

    def is_judged(self, line: Line) -> bool:
        """Whether a line has been judged."""
        return line in self._verdicts

    def entries(self) -> tuple[Entry, ...]:
        """Return an entry for each line, in the order of their judgement's files and numbers."""
        order = {line.file: index for index, line in reversed(list(enumerate(self._verdicts)))}
        lines = sorted(self._verdicts, key=lambda line: (order[line.file], line.number))
        return tuple(self._entry(line) for line in lines)

    def _entry(self, line: Line) -> Entry:
        verdict = self._verdicts[line]
        shown = self._shown.get(line, line.text)
        return Entry(line.file, line.number, shown, verdict.fate, verdict.text)

    def annotate(self, document: Document, lines: list[Line]) -> None:
        """Put comments and notes into the document."""
        for line in lines:
            block, key = self._places.get(line, (None, ""))
            entry = self._entry(line) if line in self._verdicts else None
            comments = [*line.above]
            if block is not None and key in block.values and line.behind:
                block.set(key, block.values[key], behind=line.behind)
            elif line.behind:
                comments.append(line.behind)
            if block is None:
                document.end.extend(comments)
                if entry is not None and not entry.is_exact and entry.text:
                    document.end.append(f" {entry.directive}: {entry.text}")
                continue
            if block is document.top and key not in block.values:
                # A comment above the whole file goes above its first key.
                block, key = _beginning(document)
            key = key if key in block.values else ""
            block.comment(comments, key)
            if entry is not None and not entry.is_exact and entry.text:
                block.note(entry, key)


def _beginning(document: Document) -> tuple[Block, str]:
    """Return where comments about everything go."""
    top = document.top
    return (top, next(iter(top.values))) if top.values else (document.upstreams, "")
