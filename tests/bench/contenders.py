"""The contenders: how each proxy is found, configured and started for a work.

Each gets one worker, no access log unless the work is about it, errors in a file, the same
time-outs and the same descriptors. "Tuned" is what an administrator who measures would set:
nginx accepts and drains UDP until nothing is left and reads into 1 MiB, or 64 KiB where it speaks
TLS, and HAProxy has buffers of 1 MiB and may splice. Starting and ending them is measure.py's and
processes.py's.
"""

import shutil
import signal
import subprocess
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.works import Work

CHECKOUT: Final = Path(__file__).resolve().parents[2]
SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONNECTIONS: Final = 20_000  # idle-8000 needs 16,000 and a few
HAPROXY_CONNECTIONS: Final = 9_500  # two descriptors each, and some for pipes and listeners
VERSION_TIMEOUT_S: Final = 90  # the first start of nginy may install what it needs


@dataclass(frozen=True, slots=True)
class Setup:
    """The task of a contender: the work, the ports, a directory of its own."""

    work: Work
    directory: Path
    port: int  # the contender's own; TCP or UDP, as the work is
    backend_port: int
    has_access_log: bool = False

    @property
    def admin(self) -> Path:
        """nginy's admin socket."""
        return self.directory / "admin.sock"

    def backends(self) -> Iterator[str]:
        """Yield the addresses of the backends: loopback addresses, all of the one port."""
        for number in range(self.work.backends):
            yield f"127.0.{number // 250}.{number % 250 + 1}:{self.backend_port}"

    def networks(self) -> Iterator[str]:
        """Yield networks with gaps between them, so that none can be joined with the next."""
        for number in range(self.work.networks):
            first = (20 << 24) + number * 512
            yield f"{first >> 24}.{first >> 16 & 255}.{first >> 8 & 255}.0/24"

    def write_certificate(self) -> Path:
        """Write a file with a new key of the work's kind and its certificate; return its path."""
        path = self.directory / "site.pem"
        key = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1") if self.work.tls == "ec" else None
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=bench.test"),
                *("-newkey", *(key or ("rsa:2048",)), "-keyout", str(path), "-out", f"{path}.crt"),
            ],
            check=True,
            capture_output=True,
        )
        path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
        return path

    def names(self) -> Iterator[str]:
        """Yield the names that clients ask for, as load.c has them."""
        for number in range(self.work.names):
            yield f"n{number:03}.example.net"

    def write_networks(self, form: str = "{}") -> Path:
        """Write a file with a line for each network; return its path."""
        path = self.directory / "networks"
        path.write_text("".join(f"{form.format(network)}\n" for network in self.networks()))
        return path


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a contender, how many processes it becomes, how to make it reload."""

    argv: Sequence[str]
    processes: int
    reload_signal: signal.Signals = signal.SIGHUP


class Contender(ABC):
    """One proxy in one configuration. It has no state: whatever starts a process owns it."""

    is_udp_capable = True
    has_checks = True  # asks its backends by itself
    is_proxy = True  # False: the clients talk to the backend

    def __init__(self, name: str, title: str) -> None:
        self.name = name
        self.title = title

    @abstractmethod
    def missing(self, path: str = SEARCH_PATH) -> str | None:
        """Return what must be installed in `path` before it can run; None if nothing."""

    @abstractmethod
    def version(self) -> str:
        """Return the line in which the program names its version."""

    @abstractmethod
    def command(self, setup: Setup) -> Command:
        """Write the configuration into the setup's directory and return how to start it."""


def _program(name: str, path: str = SEARCH_PATH) -> str | None:
    return shutil.which(name, path=path)


def _first_line(argv: Sequence[str]) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=VERSION_TIMEOUT_S,
    )
    return (done.stdout.strip() or f"status {done.returncode}").splitlines()[0]


class Direct(Contender):
    """No proxy at all: what the generator and the kernel can do."""

    has_checks = False
    is_proxy = False

    def missing(self, path: str = SEARCH_PATH) -> str | None:
        return None

    def version(self) -> str:
        return "clients talk to the backend"

    def command(self, setup: Setup) -> Command:
        raise LookupError("there is no program behind a direct connection")


class Nginx(Contender):
    """nginx's stream module."""

    has_checks = False  # nginx Plus has them
    MODULES: Final = (
        Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
        Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
    )

    LOG_FORMAT: Final = (
        "log_format main '$remote_addr:$remote_port [$time_iso8601] $protocol $status "
        "$bytes_received/$bytes_sent $session_time $upstream_addr';"
    )

    def __init__(
        self, name: str, title: str, *, is_tuned: bool = False, has_half_close: bool = False
    ) -> None:
        super().__init__(name, title)
        self.is_tuned = is_tuned
        self.has_half_close = has_half_close
        self.is_udp_capable = not has_half_close  # UDP knows no half-close

    def missing(self, path: str = SEARCH_PATH) -> str | None:
        program = _program("nginx", path)
        if program is None:
            return "Debian packages nginx and libnginx-mod-stream"
        if self._module() is None and not self._has_stream(program):
            return "Debian package libnginx-mod-stream"
        return None

    def version(self) -> str:
        return _first_line([_program("nginx") or "nginx", "-v"])

    def command(self, setup: Setup) -> Command:
        path = setup.directory / "nginx.conf"
        path.write_text(self._configuration(setup))
        program = _program("nginx") or "nginx"
        errors = str(setup.directory / "error.log")
        argv = (program, "-e", errors, "-p", str(setup.directory), "-c", str(path))
        return Command(argv, processes=1 + setup.work.workers)

    def _module(self) -> Path | None:
        return next((path for path in self.MODULES if path.exists()), None)

    @staticmethod
    def _has_stream(program: str) -> bool:
        built = subprocess.run(
            [program, "-V"], capture_output=True, text=True, check=False, timeout=10
        )
        return "--with-stream " in built.stderr + " "

    @staticmethod
    def _buffers(work: Work) -> str:
        # 64 KiB are four records of TLS, and what the bar of bulk over TLS was set for.
        return f"proxy_buffer_size {'64k' if work.tls else '1m'};"

    def _configuration(self, setup: Setup) -> str:
        work, module = setup.work, self._module()
        # several workers: sockets of their own, or one of them takes most of the connections
        reuseport = " reuseport" if work.workers > 1 else ""
        protocol = " udp" if work.is_udp else ""
        accepts = " proxy_protocol" if work.is_announced else ""
        pem = setup.write_certificate() if work.tls else None
        secure = " ssl" if pem else ""
        log = f"access_log {setup.directory}/access.log main" + (
            " buffer=64k flush=1s" if self.is_tuned else ""
        )
        lines = [
            f"load_module {module};" if module else "",
            "daemon off;",
            f"pid {setup.directory}/nginx.pid;",
            f"worker_processes {work.workers};",
            f"worker_rlimit_nofile {CONNECTIONS};",
            f"error_log {setup.directory}/error.log error;",
            f"events {{ worker_connections {CONNECTIONS};",
            "multi_accept on;" if self.is_tuned else "",
            "}",
            "stream {",
            self.LOG_FORMAT,
            f"{log};" if setup.has_access_log else "access_log off;",
            self._buffers(setup.work) if self.is_tuned else "",
            "proxy_half_close on;" if self.has_half_close and not work.is_udp else "",
            "upstream u {",
            "least_conn;" if work.balance == "least_conn" else "",
            *(f"server {address};" for address in setup.backends()),
            "}",
            "map $ssl_preread_server_name $by_name {" if work.names else "",
            *(f"{name} u;" for name in setup.names()),
            "}" if work.names else "",
            f"server {{ listen 127.0.0.1:{setup.port}{protocol}{reuseport}{accepts}{secure};",
            "ssl_preread on; proxy_pass $by_name;" if work.names else "proxy_pass u;",
            f"ssl_certificate {pem}; ssl_certificate_key {pem};" if pem else "",
            "ssl_protocols TLSv1.2 TLSv1.3;" if pem else "",
            "proxy_protocol on;" if work.is_announced else "",
            f"include {setup.write_networks('deny {};')};" if work.networks else "",
            f"proxy_timeout {work.udp_timeout_ms}ms;" if work.is_udp else "",
            "" if work.udp_responses is None else f"proxy_responses {work.udp_responses};",
            "}",
            "}",
        ]
        return "\n".join(filter(None, lines)) + "\n"


class HAProxy(Contender):
    """HAProxy in TCP mode. It does not balance UDP."""

    has_checks = False  # it has, but its descriptors do not suffice for 10,000 servers here
    is_udp_capable = False

    def __init__(self, name: str, title: str, *, is_tuned: bool) -> None:
        super().__init__(name, title)
        self.is_tuned = is_tuned

    def missing(self, path: str = SEARCH_PATH) -> str | None:
        return None if _program("haproxy", path) else "Debian package haproxy"

    def version(self) -> str:
        return _first_line([_program("haproxy") or "haproxy", "-v"])

    def command(self, setup: Setup) -> Command:
        path = setup.directory / "haproxy.cfg"
        path.write_text(self._configuration(setup))
        argv = [_program("haproxy") or "haproxy", "-db", "-f", str(path)]
        if not setup.work.reloads:
            return Command(argv, processes=1)
        return Command([*argv, "-W"], processes=2, reload_signal=signal.SIGUSR2)

    def _configuration(self, setup: Setup) -> str:
        log = "log stdout format raw local0 info"
        is_announced = setup.work.is_announced
        binding = " accept-proxy" if is_announced else ""
        if setup.work.tls:
            binding += f" ssl crt {setup.write_certificate()}"
        lines = [
            "global",
            f"nbthread {setup.work.workers}",
            f"maxconn {HAPROXY_CONNECTIONS}",
            "tune.bufsize 1048576\nmaxpipes 64" if self.is_tuned else "",
            log if setup.has_access_log else "",
            "defaults",
            "mode tcp",
            "timeout connect 60s",
            "timeout client 10m",
            "timeout server 10m",
            "option splice-auto" if self.is_tuned else "",
            "log global" if setup.has_access_log else "",
            "option tcplog" if setup.has_access_log else "",
            *self._frontend(setup, binding),
            f"tcp-request connection reject if {{ src -f {setup.write_networks()} }}"
            if setup.work.networks
            else "",
            f"balance {'leastconn' if setup.work.balance == 'least_conn' else 'roundrobin'}",
            *(
                f"server s{number} {address}{' send-proxy-v2' if is_announced else ''}"
                for number, address in enumerate(setup.backends())
            ),
        ]
        return "\n".join(filter(None, lines)) + "\n"

    @staticmethod
    def _frontend(setup: Setup, binding: str) -> list[str]:
        """Return the lines up to the servers."""
        bind = f"bind 127.0.0.1:{setup.port}{binding}"
        if not setup.work.names:
            return ["listen l", bind]
        path = setup.directory / "names"
        path.write_text("".join(f"{name} u\n" for name in setup.names()))
        return [
            "frontend f",
            bind,
            "tcp-request inspect-delay 5s",
            "tcp-request content accept if { req.ssl_hello_type 1 }",
            f"use_backend %[req.ssl_sni,lower,map({path})]",
            "backend u",
        ]


class Nginy(Contender):
    """nginy from this checkout, run by the Python that runs the benchmark."""

    PROGRAM: Final = CHECKOUT / "bin" / "nginy"

    def missing(self, path: str = SEARCH_PATH) -> str | None:
        return None if self.PROGRAM.exists() else "bin/nginy of this checkout"

    def version(self) -> str:
        said = _first_line([sys.executable, str(self.PROGRAM), "-v"])
        return f"{said} on {python_build()}"

    def command(self, setup: Setup) -> Command:
        path = setup.directory / "nginy.yml"
        path.write_text(self._configuration(setup))
        workers = setup.work.workers
        argv = (sys.executable, str(self.PROGRAM), str(path))
        return Command(argv, processes=1 if workers == 1 else 1 + workers)

    @staticmethod
    def _configuration(setup: Setup) -> str:
        work = setup.work
        interval_ms = work.check_interval_ms
        log = f"{{path: {setup.directory}/access.log, buffer: 64k, flush: 1s}}"
        leads = "proxy_pass: u"
        if work.names:
            routes = ", ".join(f"{{sni: {name}, proxy_pass: u}}" for name in setup.names())
            leads = f"routes: [{routes}]"
        listener = f'listen: "127.0.0.1:{setup.port}", {leads}'
        if work.is_udp:
            listener += f", protocol: udp, proxy_timeout: {work.udp_timeout_ms}ms"
        if work.udp_responses is not None:
            listener += f", proxy_responses: {work.udp_responses}"
        if work.is_announced:
            listener += ", accept_proxy_protocol: {from: 127.0.0.0/8}, proxy_protocol: v2"
        if work.tls:
            pem = setup.write_certificate()
            listener += f", tls: {{certificate: {pem}, key: {pem}}}"
        if work.networks:
            listener += f", access: {{deny: {{file: {setup.write_networks()}}}}}"
        lines = [
            f"admin: unix:{setup.admin}" if work.is_watched else "admin: off",
            f"workers: {work.workers}" if work.workers > 1 else "",
            f"worker_connections: {CONNECTIONS}",
            f"access_log: {log}" if setup.has_access_log else "access_log: off",
            f"error_log: {{path: {setup.directory}/error.log, level: error}}",
            "upstreams:",
            "  u:",
            f"    balance: {work.balance}",
            f"    health_check: {{interval: {interval_ms}ms}}" if interval_ms else "",
            "    backends:",
            *(f'      - "{address}"' for address in setup.backends()),
            "listeners:",
            f"  - {{{listener}}}",
        ]
        return "\n".join(filter(None, lines)) + "\n"


def python_build() -> str:
    """Name the Python that runs this benchmark, and nginy in it, as far as its speed depends on it.

    A CPython built without --enable-optimizations, as version managers build it, needs 6 % more
    CPU time for most works. A system's own does not say how it was built; it is built with them.
    """
    name = f"Python {'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}"
    return name if is_optimized() else f"{name}, built without optimizations: some 6 % slower"


def is_optimized(
    prefix: str = sys.base_prefix, arguments: str | None = sysconfig.get_config_var("CONFIG_ARGS")
) -> bool:
    """Whether this Python was built with profile-guided optimization, as far as it tells."""
    return prefix == "/usr" or "--enable-optimizations" in (arguments or "")


NGINY: Final = "nginy"

CONTENDERS: Final[tuple[Contender, ...]] = (
    Nginy(NGINY, "nginy"),
    Nginx("nginx", "nginx, defaults", is_tuned=False),
    Nginx("nginx-half-close", "nginx, half-close forwarded as nginy does", has_half_close=True),
    Nginx("nginx-tuned", "nginx, multi_accept, 1 MiB buffers (64 KiB with TLS)", is_tuned=True),
    HAProxy("haproxy", "HAProxy, defaults", is_tuned=False),
    HAProxy("haproxy-tuned", "HAProxy, 1 MiB buffers, splice", is_tuned=True),
    Direct("direct", "no proxy"),
)
