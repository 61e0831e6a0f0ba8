"""What is asked of Ray, for the parts of a run or for the jobs of a sweep, and the way to it. Free of torch."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any

from eval.errors import InputError

_PATIENCE = 10.0  # seconds until an address counts as one that does not answer


@dataclass(frozen=True)
class Terms:
    """What workers get.

    Attributes:
        address: `local`, a Ray that is started for this; `auto` or `host:port`, a cluster that is running.
        cpus: per worker.
        gpus: per worker; `auto`: one where Ray has any and the device may be one.
        workers: how many are at work at the same time at most; None for as many as there is room for.
        retries: how often what a worker was at is begun again when it died, or a part when its machine failed it.
        where: the key of all this, for messages.
    """

    address: str = "local"
    cpus: float = 1
    gpus: float | str = "auto"
    workers: int | None = None
    retries: int = 2
    where: str = "hydra.launcher"

    def __post_init__(self) -> None:
        self._must("address", isinstance(self.address, str) and bool(self.address), "local, auto or host:port")
        self._must("cpus", _share(self.cpus) and self.cpus > 0, "a whole number of at least 1, or between 0 and 1")
        self._must("gpus", self.gpus == "auto" or _share(self.gpus), "auto, a whole number, or between 0 and 1")
        few = self.workers is None or (_whole(self.workers) and self.workers >= 1)
        self._must("workers", few, "null or a whole number of at least 1")
        self._must("retries", _whole(self.retries) and self.retries >= 0, "a whole number of at least 0")

    def _must(self, key: str, holds: bool, what: str) -> None:
        if not holds:
            raise InputError(f"{self.where}.{key}: must be {what}, got {getattr(self, key)}")

    def allows(self, device: str) -> None:
        """Check that a worker can have the device that a configuration asks for.

        Raises:
            InputError: it is one GPU among many, of which Ray shows a worker those alone that it gives it, from 0 on.
        """
        number = device.removeprefix("cuda:")
        shown = 1 if isinstance(self.gpus, str) else math.ceil(self.gpus)
        if shown and number != device and number.isdecimal() and int(number) >= shown:
            raise InputError(
                f"device: must be auto, cpu or cuda where Ray says which GPU a worker gets, got {device}; write "
                f"device=cuda, and CUDA_VISIBLE_DEVICES before the command that starts Ray, or {self.where}.gpus=0"
            )

    def gpus_of(self, device: str) -> float:
        """How many GPUs a worker gets where the `device` is this, from the Ray that is connected.

        Raises:
            InputError: see `allows`.
        """
        self.allows(device)
        if not isinstance(self.gpus, str):
            return self.gpus
        return float(device.startswith(("auto", "cuda")) and _has("GPU") > 0)


def _has(name: str) -> float:
    """How much the Ray that is connected has of a resource."""
    import ray

    found: Any = ray.cluster_resources  # Ray gives it no type
    return float(found().get(name, 0))


def places(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    """How many workers of so many CPUs and GPUs a node with these resources has room for."""
    room = resources.get("CPU", 0.0) // cpus
    return int(min(room, resources.get("GPU", 0.0) // gpus) if gpus else room)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _share(value: Any) -> bool:
    """Whether Ray can give so many of something: above 1 it gives no fractions."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1 or (value > 1 and float(value).is_integer())


def installed(where: str) -> None:
    """Check that Ray is there.

    Raises:
        InputError: it is not.
    """
    if find_spec("ray") is None:
        raise InputError(f"{where}: must have the package ray, which is not installed; pip install 'toastproof[ray]'")


def room(terms: Terms, gpus: float) -> None:
    """Check that a worker fits: a Ray of our own does not grow, and Ray would wait for ever.

    A Ray that is told how many workers there are to be has room for all of them, also on fewer processors; one worker
    must have its own.

    Raises:
        InputError: it does not.
    """
    has = _has("CPU")
    _fits(terms, gpus, min(has, os.cpu_count() or has), _has("GPU"))


def room_here(terms: Terms, gpus: int) -> None:
    """Check the same as `room` before a Ray is started here, which takes long: as far as can be known without it.

    Args:
        terms: what is asked for.
        gpus: that this machine has.

    Raises:
        InputError: a worker does not fit.
    """
    imported = sys.modules.get("ray")
    if imported is None or not imported.is_initialized():
        asked = 0.0 if isinstance(terms.gpus, str) else terms.gpus
        _fits(terms, asked, os.cpu_count() or terms.cpus, gpus)


def _fits(terms: Terms, gpus: float, has_cpus: float, has_gpus: float) -> None:
    """Check that a worker of so many `gpus` fits where a Ray of our own has that much.

    Raises:
        InputError: it does not.
    """
    if terms.address != "local":
        return
    for key, asked, has in (("cpus", terms.cpus, has_cpus), ("gpus", gpus, has_gpus)):
        if asked > has:
            raise InputError(f"{terms.where}.{key}: must be at most {has:g}, what this machine has, got {asked:g}")


@contextmanager
def connected(terms: Terms, **own: Any) -> Iterator[None]:
    """A Ray to give tasks to: one of our own, which ends with this, or the cluster at the address.

    Args:
        terms: what is asked for.
        own: of `ray.init`, where a Ray of our own is started.

    Raises:
        InputError: the address does not answer, or does not let us in.
    """
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # what Ray's next versions do, and its warning asks for
    address, local = terms.address, {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if "ray" not in sys.modules:  # which has made up its mind when it is imported
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as Ray does of itself, telling so at each start
        local = {"include_dashboard": False, "_system_config": {"task_oom_retries": terms.retries}, **own}
    else:  # what Ray's memory monitor ends is begun again for ever by default; read once a process
        os.environ.setdefault("RAY_task_oom_retries", str(terms.retries))
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    _answers(address, terms.where)
    import ray

    before = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False, **local)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if address == "auto" and isinstance(error, ConnectionError):
                raise InputError(
                    f"{terms.where}.address: must be that of a Ray that runs, none was found from this machine; "
                    "begin one with ray start --head, or write its host:port"
                ) from error
            what = "must start" if address == "local" else f"at {address} must let us in"
            raise InputError(f"{terms.where}.address: Ray {what}: {in_one_line(error)}") from error
        if callable(before):
            signal.signal(signal.SIGTERM, before)  # Ray has put its own in the place of ours
        yield
    finally:
        ray.shutdown()


def in_one_line(error: BaseException) -> str:
    """What an error says."""
    return " ".join(str(error).split()) or type(error).__name__


def reachable(terms: Terms) -> None:
    """Check what can be known before a cluster is needed: Ray is installed, and there is one at the address.

    Where `auto` is, Ray alone knows: it is asked, which takes a second.

    Raises:
        InputError: it is not, or there is none, or this process has another Ray, or is a worker of one.
    """
    installed(terms.where)
    imported = sys.modules.get("ray")
    there = imported is not None and imported.is_initialized()
    if terms.address == "auto" and not there:
        with connected(terms):
            return
    if there:
        _free(terms)
    _answers(terms.address, terms.where)
    if there:
        _same(terms)


def _free(terms: Terms) -> None:
    """Check that this process is no worker: while it holds its part of the cluster, it might wait for others for ever.

    Raises:
        InputError: it is one.
    """
    import ray

    if ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
        raise InputError(
            f"{terms.where}.backend: must be local in a task of Ray, such as a job of hydra/launcher=ray, which would "
            "wait for workers while it holds what they need; write run.backend=local, or leave out hydra/launcher=ray"
        )


def _same(terms: Terms) -> None:
    """Check that the Ray that this process has is the one at the address: a process can have one only.

    Raises:
        InputError: it is another one.
    """
    import ray

    if terms.address in ("local", "auto") or terms.address.startswith("ray://"):  # whose port is never Ray's own
        return
    has = ray.get_runtime_context().gcs_address
    if _differ(terms.address, has):
        raise InputError(
            f"{terms.where}.address: must be {has}, the Ray that this process has already, got {terms.address}"
        )


def _differ(*addresses: str) -> bool:
    """Whether addresses are of two places. A machine has several: one that is its own word for itself counts as any."""
    split = [address.rpartition(":") for address in addresses]
    hosts = {str(socket.getaddrinfo(host.strip("[]"), None)[0][4][0]) for host, _, _ in split}
    away = not any(ip_address(host).is_loopback for host in hosts)
    return len({port for _, _, port in split}) > 1 or (len(hosts) > 1 and away)


def _answers(address: str, where: str) -> None:
    """Check that something listens: Ray itself would try for a long time.

    Raises:
        InputError: nothing does.
    """
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{where}.address: must be local, auto or host:port, got {address}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(
            f"{where}.address: must be that of a Ray that runs, nothing answers at {address} ({why})"
        ) from None
