"""`nginy import`: turns a configuration for nginx or HAProxy into one for nginy, with a report.

    front     the only module that touches files: which reader, reading, checking, writing OUT
    model     what a reader makes: a Document of Blocks with comments, and the texts it reads
    report    what became of each directive, and the exit status
    tidy      drops keys at their defaults, and moves what most listeners share to `defaults`
    writer    a Document as YAML that a person would write
    nginx/    the reader of nginx.conf
    haproxy/  the reader of haproxy.cfg

A reader is one function and one predicate, in a package of its own:

    def read(path: str, files: Files) -> Imported: ...
    def recognizes(text: str) -> bool: ...

`read` gets the path of the configuration and asks `files` for its text, and for that of each file
it includes; `files` may be a dictionary in a test. It returns `Imported(document, entries)`:

- `document` has every setting, also those at nginy's defaults: `tidy` drops these, and moves to
  `defaults` what most listeners or upstreams share. So a reader writes out, for each listener,
  what the other program does by default: `listener.set("proxy_half_close", "off")`.
  Values are texts as nginy.yml has them ("10s", "off"), lists, and `Block`s. A comment goes with
  the key that its directive becomes: `block.set(key, value, above=comments, behind=comment)`;
  comments of a directive that becomes nothing go to `block.comment(...)` or `document`.
- `entries` has one `Entry` for each directive, in the order of the file, with its `Fate`: EXACT,
  CLOSE (`text`: what differs, and the consequence) or LEFT_OUT (`text`: what that means for
  clients). Where something differs, the reader adds one line of comment there, with
  `block.note(entry, key)`.

A text that cannot be read raises ConfigError with the place: `model.refuse(...)`. A relative path
of the other program becomes absolute (`model.absolute`), since OUT may be anywhere.

To add a reader: a row in `front.READERS`, with its table, and a package beside nginx/. The table
has a row for each directive or keyword; a test walks it.

Not here: nginy's own configuration (config/), and what any key does.

Tested in tests/commands/importing/.
"""
