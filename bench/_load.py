"""The benchmarks under load: a server on one core, the generator of `bench/load` on another, run after run.

The server's processor time is read by its process clock, which is what getrusage counts, from outside: to the
nanosecond, threads that have ended included, children added, and the server does nothing for it. Memory is the
proportional set size, so that what worker processes share counts once.

The generator is Go over Pion; `make peers` builds it, and Pion's echo server with it. It measures lateness by the
kernel's receive times against the RTP timestamps.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from bench._progress import say
from bench.report import Options

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "build" / "peers"
GENERATOR, PION = BUILT / "bench_generator", BUILT / "bench_pion"
SERVER_CORE, LOAD_CORE = 0, 1
START_PATIENCE = 40.0
WARM = 2.0
PERCENTILES = (50, 95, 99, 99.9, 100)
"""Those that the generator tells."""
MAX_RUN = 300.0
"""Seconds beyond its own length after which a run is given up."""


class Absent(Exception):
    """Something that a benchmark needs is not there; the message is one line that says what."""


@dataclass(frozen=True)
class Contestant:
    """A server: its name in the tables and how it is started."""

    name: str
    command: Sequence[str]


@dataclass
class Run:
    """What one run brought: figures by their names, and what the generator said."""

    contestant: str
    result: dict[str, Any]
    cpu: float
    seconds: float
    memory_before: float
    memory: float
    load_cpu: float = 0.0

    def core(self) -> float:
        """Return the share of a core that the server took."""
        return self.cpu / self.seconds

    def us_per_packet(self) -> float:
        """Return the microseconds of processor time for a packet in and its answer out."""
        return self.cpu / max(1, int(self.result["went"])) * 1e6

    def load_us_per_packet(self) -> float:
        """Return what the generator itself spends on a packet out and its answer in, in microseconds."""
        return self.load_cpu / max(1, int(self.result["went"])) * 1e6

    def us_per_frame(self) -> float:
        """Return the microseconds of processor time for 20 ms of one call."""
        return self.core() / self.calls * 0.02 * 1e6

    def ms_per_call(self) -> float:
        """Return the milliseconds of processor time for one of the calls that came and went."""
        return self.cpu / self.calls * 1e3

    def kilobytes_per_call(self) -> float:
        """Return by how much the server grew for each call."""
        return (self.memory - self.memory_before) / self.calls

    @property
    def calls(self) -> int:
        """How many came about, at least one."""
        return max(1, int(self.result["calls"]))


@dataclass
class Samples:
    """The runs of one cell of a table."""

    runs: list[Run] = field(default_factory=list)

    def spread(self, value: Callable[[Run], float]) -> tuple[float, float, float]:
        """Return the median, the least and the most of a figure."""
        values = [value(run) for run in self.runs]
        return median(values), min(values), max(values)

    def median(self, value: Callable[[Run], float]) -> float:
        """Return the median of a figure."""
        return self.spread(value)[0]

    def late(self, *percentiles: float) -> list[float]:
        """Return the medians of some percentiles of the lateness, in milliseconds."""
        return [self.percentile("late_ms", percentile)[0] for percentile in percentiles]

    def percentile(self, name: str, percentile: float) -> tuple[float, float, float]:
        """Return the spread of one of the percentiles that the generator tells of `name`."""
        place = PERCENTILES.index(percentile)
        return self.spread(lambda run: float(run.result[name][place]))


def ours(mode: str, options: Options, *arguments: str) -> list[Contestant]:
    """Return this checkout, with and without workers, and those of `--against`, as contestants."""
    command = [sys.executable, "-m", "bench.servers.ours", mode, *arguments]
    found = [Contestant("ours", command)]
    for number in options.workers:
        found.append(Contestant(f"ours, workers={number}", [*command, "--workers", str(number)]))
        if number > 1 and options.forwarder:
            found.append(Contestant(f"{found[-1].name}, forwarder", [*found[-1].command, "--forwarder"]))
    for name in options.against:
        folder = Path(name).resolve()
        if not (folder / "stack").is_dir():
            raise Absent(f"--against {name}: there is no `stack` in it")
        found.append(Contestant(f"ours, {folder.name}", [*command, "--checkout", str(folder)]))
    return found


def aiortc(mode: str, *arguments: str) -> Contestant:
    """Return aiortc as a contestant."""
    return Contestant("aiortc", [sys.executable, "-m", "bench.servers.aiortc_server", mode, *arguments])


def pion(*arguments: str) -> Contestant:
    """Return Pion's echo without a codec as a contestant."""
    return Contestant("Pion v4, bare" if arguments else "Pion v4", [str(PION), *arguments])


def side_by_side(number: int, contestant: Contestant) -> Contestant:
    """Return so many servers of a kind that share nothing but the core, as one contestant."""
    command = [sys.executable, "-m", "bench.servers.side_by_side", str(number), *contestant.command]
    return Contestant(f"{contestant.name}, {number} apart", command)


def require_generator() -> None:
    """Raise `Absent` unless the generator is built and no older than its sources."""
    if not sys.platform.startswith("linux"):
        raise Absent("the load is measured on Linux only: process clocks, pinned cores, kernel receive times")
    if not GENERATOR.exists() or not PION.exists():
        raise Absent("the load generator is not built: make peers (needs go)")
    newest = max(path.stat().st_mtime for path in (ROOT / "bench" / "load").rglob("*.go"))
    if min(GENERATOR.stat().st_mtime, PION.stat().st_mtime) < newest:
        raise Absent("the load generator is older than its sources: make peers (needs go)")
    if shutil.which("taskset") is None:
        raise Absent("taskset is missing: apt-get install util-linux")


def _apart(first: bool, realtime: bool) -> Callable[[], None]:
    """Return what a child does before it begins: it dies with us, and is `first` in line or even real time.

    That is for a machine that others use (`--realtime`). One that never pauses is killed by the kernel.
    """
    libc = ctypes.CDLL(None)

    def begin() -> None:
        os.setsid()  # a scheduling group of its own, sched(7)
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if first:
            with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
                group.write("-19")
            with contextlib.suppress(OSError):  # where the kernel makes no such groups
                os.setpriority(os.PRIO_PROCESS, 0, -19)
        if first and realtime:
            import resource

            resource.setrlimit(resource.RLIMIT_RTTIME, (4_000_000, 6_000_000))
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))

    return begin


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):  # it may end meanwhile
            for task in Path(f"/proc/{each}/task").glob("*/children"):
                found.extend(map(int, task.read_text().split()))
    return found


def process_seconds(pid: int) -> float:
    """Return the processor time of a process by its clock (clock_getcpuclockid(3)); 0 if it is gone."""
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its descendants."""
    return sum(map(process_seconds, family(pid)))


def memory_kb(pid: int) -> float:
    """Return the proportional set size of a process and its descendants, in kB."""
    total = 0.0
    for each in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += float(line.split()[1])
    return total


class Target(Protocol):
    """What takes calls: where, and the process whose use of the machine is told."""

    contestant: Contestant
    pid: int
    offer: str


class Server:
    """A contestant that runs and listens."""

    def __init__(self, contestant: Contestant, log: Any, cores: str, first: bool, realtime: bool) -> None:
        self.contestant = contestant
        environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        environment["GOMAXPROCS"] = "1"
        self._process = subprocess.Popen(
            ["taskset", "-c", cores, *contestant.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=tempfile.gettempdir(),
            preexec_fn=_apart(first, realtime),
        )
        self.pid = self._process.pid
        watch = _Deadline(self._process, START_PATIENCE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        watch.done()
        if not line:
            self.stop()
            raise Absent(f"{contestant.name} did not start: {_tail(log.name)}")
        self.offer: str = json.loads(line)["offer"]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _Deadline:
    """Kills a process that takes too long."""

    def __init__(self, process: subprocess.Popen[Any], seconds: float) -> None:
        self._timer = threading.Timer(seconds, process.kill)
        self._timer.daemon = True
        self._timer.start()

    def done(self) -> None:
        self._timer.cancel()


def _tail(name: str) -> str:
    lines = Path(name).read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


class Place:
    """Where the runs of a benchmark happen: a scratch folder with what is said, and the logs."""

    def __init__(self, options: Options, folder: Path) -> None:
        from bench._voices import Missing, people

        self.options = options
        self.folder = folder
        self.packets, self.sound = folder / "speech.packets", folder / "speech.wav"
        try:
            _write_speech(people(), self.packets, self.sound)
        except Missing as missing:
            raise Absent(str(missing)) from missing

    @contextlib.contextmanager
    def server(
        self, contestant: Contestant, cores: str = str(SERVER_CORE), realtime: bool = True
    ) -> Iterator[Server]:
        """Context: a contestant that listens; without `realtime` it is never a real-time process."""
        with open(self.folder / "server.log", "ab") as log:
            server = Server(contestant, log, cores, self.options.realtime, realtime)
            try:
                yield server
            finally:
                server.stop()

    def load(
        self, server: Target, mode: str, calls: int, seconds: float, *arguments: str, warm: float = WARM,
        on_mark: Callable[[], object] | None = None,
    ) -> Run:  # fmt: skip
        """Call a server and return what came of it; raises `Absent` if nothing did.

        `on_mark` is called when the measured time begins, and when it is over.
        """
        command = ["taskset", "-c", str(LOAD_CORE), str(GENERATOR), "-mode", mode, "-offer", server.offer]
        command += ["-calls", str(calls), "-seconds", str(seconds), "-warm", str(warm)]
        command += ["-packets", str(self.packets), *arguments]
        memory_before, marks, result = memory_kb(server.pid), [], None
        memory = memory_before
        with open(self.folder / "load.log", "ab") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=dict(os.environ, GOMAXPROCS="1"),
                preexec_fn=_apart(self.options.realtime, True),
            )
            watch = _Deadline(process, warm + seconds + MAX_RUN)
            assert process.stdout is not None
            for line in process.stdout:
                word, _, rest = line.partition(" ")
                if word.strip() in ("START", "STOP"):
                    if on_mark is not None:
                        on_mark()
                    marks.append((cpu_seconds(server.pid), time.monotonic(), cpu_seconds(process.pid)))
                    if len(marks) == 2:  # reading it holds the server up for a moment
                        memory = memory_kb(server.pid)
                elif word == "RESULT":
                    result = json.loads(rest)
            process.stdout.close()
            process.wait()
            watch.done()
        if result is None or len(marks) != 2:
            raise Absent(f"{server.contestant.name} took no load: {_tail(str(self.folder / 'load.log'))}")
        cpu, seconds, load_cpu = (after - before for before, after in zip(*marks, strict=True))
        return Run(server.contestant.name, result, cpu, seconds, memory_before, memory, load_cpu)


@contextlib.contextmanager
def place_of(options: Options) -> Iterator[Place]:
    """Context: a place to measure in. Raises `Absent`."""
    require_generator()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Place(options, Path(folder))


def _write_speech(sentences: Sequence[Any], packets: Path, sound: Path) -> None:
    """Write recorded speech with pauses: as Opus packets, as a browser would send them, and as a WAV file."""
    import numpy as np

    from stack.audio import OpusEncoder, write_wav
    from stack.audio.resample import resample

    pause = np.zeros(19_200, np.float32)
    line = np.concatenate([part for sentence in sentences for part in (sentence, pause)])
    line += np.random.default_rng(1).normal(0, 8, len(line)).astype(np.float32)
    write_wav(sound, np.clip(line, -32768, 32767).astype(np.int16), 16_000)
    wide = np.clip(resample(line, 16_000, 48_000), -32768, 32767).astype(np.int16)
    encoder = OpusEncoder(48_000, 1, 32_000, 9, "voip", fec=True)
    with packets.open("wb") as file:
        for place in range(0, len(wide) - 959, 960):
            packet = encoder.encode(wide[place : place + 960])
            file.write(len(packet).to_bytes(2, "big") + packet)


def interleaved(
    part: str, options: Options, contestants: Sequence[Contestant], repetitions: int,
    measure: Callable[[Contestant], Run],
) -> dict[str, Samples]:  # fmt: skip
    """Return the runs by contestant: in each repetition each has its turn, and another one begins.

    `part` says of what these are the runs, to those who wait.
    """
    samples = {contestant.name: Samples() for contestant in contestants}
    for repetition in range(repetitions):
        first = repetition % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            say(f"{part}, run {repetition + 1} of {repetitions}: {contestant.name}")
            samples[contestant.name].runs.append(measure(contestant))
            if options.verbose:
                run = samples[contestant.name].runs[-1]
                say(f"{contestant.name}: {run.core():.1%} of a core, {run.result}")
    return samples


def note_of(options: Options, seconds: float, repetitions: int, cores: str = str(SERVER_CORE)) -> str:
    """Return how it was measured, for the foot of a table."""
    order = ", both before other processes" if options.realtime else ""
    return (
        f"Runs of {seconds:.0f} s, {repetitions} each, in turn; median (least-most). Server on core {cores}, "
        f"the Pion generator on core {LOAD_CORE}{order}. CPU is the server's alone."
    )
