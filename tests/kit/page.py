"""What tests of pages for browsers share: a strict reader of HTML, and contrasts of colors."""

import html.parser

VOID = {"meta", "link", "input"}
EVIL = '<script>alert("1")</script>\'"&'


class Reader(html.parser.HTMLParser):
    """Fails for tags that do not close; keeps text, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def luminance(color: str) -> float:
    parts = color.lstrip("#")
    parts = "".join(2 * each for each in parts) if len(parts) == 3 else parts
    channels = [int(parts[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
