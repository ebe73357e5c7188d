"""What bin/nginy and bin/test do before nginy can be imported: find a Python and the packages.

In order: a Python of 3.10 or newer, this one or another on PATH, and an optimized one unless a
virtual environment is active; the packages, if this Python has them; else a private environment,
made once; else one command for the reader to type. Nothing is installed where it need not be, and
never outside the checkout, or the user's cache directory where the checkout cannot be written.

A private environment is complete or absent: it is built under another name, renamed when it is
done, and never changed afterwards. Starts at the same time are serialized by a file lock, which
the kernel drops when an interrupted start dies. Each purpose and each Python version has an
environment of its own, so that none is in another's way.

Not here: what nginy does once it runs (nginy/cli.py). The file has to compile on Python 3.6, or
a user with an old Python would see a SyntaxError and not the sentence that helps.
"""

import fcntl
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig

CHECKOUT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
OLDEST = (3, 10)
NEWEST_MINOR = 14  # the newest name worth looking for on PATH

# The module that is imported -> the package that has it. A test compares them with setup.cfg.
RUN = {"yaml": "PyYAML", "docopt": "docopt"}
TEST = {**RUN, "pytest": "pytest"}
# Packages without which some tests are skipped: nice to have where an environment is made anyway.
TEST_OPTIONAL = ("aioquic",)

# How a system's own Python gets a package: the program to look for, the command, the name there.
SYSTEM_PACKAGES = (
    ("apt-get", "apt install", lambda module, _: "python3-" + module.replace("_", "-")),
    ("dnf", "dnf install", lambda _, package: "python3-" + package.lower()),
    ("apk", "apk add", lambda module, _: "py3-" + module.replace("_", "-")),
)


class ImpossibleError(Exception):
    """The private environment cannot be made; the text says why."""


def prepare(purpose, needed, optional=(), prefers_optimized=False):
    """Return once the modules of `needed` can be imported: at once, or after an exec.

    An exec keeps the process id, so that signals reach what was started. `purpose` names the
    environment, and where one has to be made, it is given the packages of `optional`, too, if
    they can be had. Where nothing helps: the reason and the one command to type, status 1.
    """
    if sys.version_info < OLDEST:
        run_newer_python()
    if prefers_optimized and not is_optimized():
        run_optimized_python(needed)
    missing = {name: package for name, package in needed.items() if not is_importable(name)}
    if not missing:
        return
    try:
        path = environment(purpose, needed, optional)
    except ImpossibleError as reason:
        give_up(missing, reason)
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell reports what Ctrl-C ended
    python = os.path.join(path, "bin", "python")
    os.execv(python, [python, *sys.argv])


def run_newer_python():
    """Become the newest Python on PATH that is new enough; end with one sentence if none is."""
    for minor in range(NEWEST_MINOR, OLDEST[1] - 1, -1):
        python = shutil.which(f"python3.{minor}")
        # a version manager's shim has the name of every version, and fails when it is run
        if python and subprocess.call([python, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            os.execv(python, [python, *sys.argv])
    found = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"nginy: Python 3.10 or newer is needed; {sys.executable} is {found}, no other found")


def is_optimized():
    """Tell whether this Python was built with --enable-optimizations.

    One that was not, as version managers build it, takes 6 % more time for a connection. Systems
    build theirs so, and some do not record it.
    """
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return sys.base_prefix == "/usr" or "--enable-optimizations" in arguments


def run_optimized_python(needed):
    """Become the first optimized Python on PATH that has the modules `needed`, if there is one.

    Not from inside a virtual environment: its user has chosen that Python.
    """
    if sys.prefix != sys.base_prefix:
        return
    home = os.path.dirname(os.path.realpath(__file__))
    has_all = f"all(map(b.is_importable, {sorted(needed)}))"
    suits = f"b.OLDEST <= sys.version_info and b.is_optimized() and {has_all}"
    code = f"import sys; sys.path[0] = {home!r}; import bootstrap as b; sys.exit(not ({suits}))"
    for python in pythons():
        if subprocess.call([python, "-c", code], stderr=subprocess.DEVNULL) == 0:
            os.execv(python, [python, *sys.argv])


def pythons():
    """Return the paths of the other Pythons on PATH, without the scripts of version managers."""
    names = ["python3"] + [f"python3.{minor}" for minor in range(NEWEST_MINOR, 9, -1)]
    found = {os.path.realpath(sys.executable): None}
    for directory in os.get_exec_path():
        for name in names:
            path = os.path.join(directory, name)
            if os.path.realpath(path) not in found and is_program(path):
                found[os.path.realpath(path)] = path
    return list(found.values())[1:]


def is_program(path):
    """Tell whether a file is a program in machine code, which a script is not."""
    try:
        with open(path, "rb") as file:
            return os.access(path, os.X_OK) and file.read(4) == b"\x7fELF"
    except OSError:
        return False


def is_importable(module):
    """Tell whether `module` can be found. It is not run: docopt warns on newer Pythons."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.loader is not None


def homes():
    """Return the directories for environments: in the checkout, else in the user's cache.

    The second is for a checkout that belongs to another user (XDG Base Directory Specification).
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(CHECKOUT, ".venv"), os.path.join(cache, "nginy")


def environment(purpose, needed, optional):
    """Return the path of a complete private environment; build it first if there is none.

    Raises ImpossibleError.
    """
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    paths = [os.path.join(home, f"{purpose}-{version}") for home in homes()]

    def is_complete(path):
        packages_path = os.path.join(path, "lib", f"python{version}", "site-packages")
        # a dangling link is left when the Python that it was built with has been removed
        return os.access(os.path.join(path, "bin", "python"), os.X_OK) and all(
            importlib.machinery.PathFinder.find_spec(module, [packages_path]) for module in needed
        )

    for path in paths:
        if is_complete(path):
            if os.path.realpath(path) == os.path.realpath(sys.prefix):  # it would exec itself
                raise ImpossibleError(f"{path} is damaged; remove it")
            return path
    path = first_writable(paths)
    with open(os.path.join(os.path.dirname(path), "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_complete(path):  # it was built while this start waited for the lock
            try:
                build(path, needed, optional)
            except OSError as error:
                raise ImpossibleError(error) from None
    return path


def first_writable(paths):
    """Return the first of `paths` in whose directory a file can be made; or ImpossibleError."""
    reasons = []
    for path in paths:
        home = os.path.dirname(path)
        try:
            os.makedirs(home, exist_ok=True)
            with open(os.path.join(home, "lock"), "a"):
                return path
        except OSError as error:
            reasons.append(error)
    raise ImpossibleError(reasons[0])


def build(path, needed, optional):
    """Make the environment `path` with the packages of `needed`, and those of `optional` if it can.

    The caller holds the lock. Raises ImpossibleError.
    """
    for module in ("venv", "ensurepip"):
        if not is_importable(module):
            raise ImpossibleError(f"{sys.executable} has no module {module}")
    home = os.path.dirname(path)
    for name in os.listdir(home):
        if name.startswith(".new-"):  # left by an interrupted start
            shutil.rmtree(os.path.join(home, name), ignore_errors=True)
    packages = sorted(needed.values())
    tell(f"installing {', '.join([*packages, *optional])} in {path}, once")
    new = os.path.join(home, f".new-{os.getpid()}")
    try:
        run([sys.executable, "-m", "venv", new])
        pip = [os.path.join(new, "bin", "python"), "-m", "pip"]
        install = [*pip, "install", "--quiet", "--no-input", "--retries", "1"]
        run([*install, *packages])
        for package in optional:
            try:
                run([*install, "--only-binary", ":all:", package])  # no compiler is looked for
            except ImpossibleError as reason:
                tell(f"going on without {package}: {reason}")
        shutil.rmtree(path, ignore_errors=True)
        os.rename(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def tell(sentence):
    """Say what is being done, before it is done."""
    print(f"nginy: {sentence}", file=sys.stderr, flush=True)


def run(command):
    """Run `command` to its end in silence. Raises ImpossibleError with its last line."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise ImpossibleError(f"{command[2]} failed ({last})")


def give_up(missing, reason):
    """End with the reason why `missing` cannot be had, and with the one command that helps."""
    names = " and ".join(missing.values())
    sys.exit(
        f"nginy: {names} not found; no private environment: {reason}. Type\n"
        f"    {install_command(missing)}"
    )


def install_command(missing):
    """Return the command that gives this Python the packages of `missing`."""
    is_system_python = sys.prefix == sys.base_prefix and sys.prefix in ("/usr", "/")
    for program, command, name in SYSTEM_PACKAGES:
        if is_system_python and shutil.which(program):
            names = [name(module, package) for module, package in missing.items()]
            sudo = "sudo " if os.geteuid() and shutil.which("sudo") else ""
            return f"{sudo}{command} {' '.join(names)}"
    return f"{sys.executable} -m pip install {' '.join(missing.values())}"
