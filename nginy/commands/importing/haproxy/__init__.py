"""Reads haproxy.cfg: turns what balances TCP into a document for nginy.

    words          a line, cut into words                  formula        conditions as OR of ANDs
    sections       sections, `defaults`, what holds        acls           acl, if, unless
    values         times, numbers, addresses               routes         tcp-request, use_backend
    table          the keywords of proxies                 variables      what a route cannot say
    options        those of bind and server                servers        server, default-server
    table_global   those of global and the rest            balance        balance, stick on
    ledger         what became of each line                checks         check, option ...-check
    world          what all readers share                  scripts        tcp-check
    globals        global, resolvers                       http_checks    http-check
    binds          bind                                    tls            ssl
    fronts         a frontend as listeners                 logs           log, log-format
    leading        timeouts, retries, source               backends       a backend as an upstream
    maps           use_backend by a map

Each keyword is a row of a table with its fate, which its value may worsen. `reader.py` goes through
the sections, and judges by the table what no other module has judged.
"""

from nginy.commands.importing.haproxy.reader import read, recognizes

__all__ = ("read", "recognizes")
