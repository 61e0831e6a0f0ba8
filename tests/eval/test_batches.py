"""How batches get smaller: what counts as memory, what is done again, and what a run that goes on begins with."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from eval.batches import Batch, halving, in_batches, shortage
from models.errors import ModelError

MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
]
OTHER = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
    RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
    ValueError("out of memory"),  # no allocator raises it
    KeyError("DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_memory_is_known_by_its_error(error):
    assert shortage(error).startswith(type(error).__name__)
    assert "\n" not in shortage(error)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_errors_are_not_taken_for_it(error):
    assert shortage(error) == ""
    batch, tries = Batch("net", 8), []

    def call(size: int) -> None:
        tries.append(size)
        raise error

    with pytest.raises(type(error)) as raised:
        halving(batch, call)
    assert raised.value is error
    assert tries == [8]
    assert batch.size == 8


@pytest.mark.filterwarnings("ignore")
def test_an_error_that_took_the_place_of_the_one_of_memory_is_seen_through():
    def wrapped(how: str) -> BaseException:
        try:
            try:
                raise MemoryError("no room")
            except MemoryError as error:
                if how == "from":
                    raise ValueError("the network failed") from error
                if how == "none":
                    raise ValueError("the network failed") from None
                raise ValueError("the network failed")  # noqa: B904
        except ValueError as error:
            return error

    for how in ("from", "none", "while"):
        assert shortage(wrapped(how)) == "MemoryError: no room"


def test_errors_that_lead_to_each_other_have_an_end():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert shortage(one) == ""


def fits(limit: int, done: list[int]):
    """A call on a slice that has room for so many samples, and notes those that it has done."""

    def call(part: slice) -> list[int]:
        some = list(range(23))[part]
        if len(some) > limit:
            raise MemoryError
        done.extend(some)
        return some

    return call


@pytest.mark.parametrize(("limit", "left"), [(1, 1), (3, 2), (5, 4), (64, 16)])
def test_each_sample_is_done_once_and_in_order(limit, left):
    batch, done = Batch("net", 16), []
    parts = list(in_batches(batch, 23, fits(limit, done)))
    assert done == list(range(23)) == [sample for part in parts for sample in part]
    assert batch.size == left
    assert batch.first == 16


def test_a_small_rest_is_halved_by_its_own_size():
    batch, tries = Batch("net", 256), []

    def call(part: slice) -> None:
        tries.append(part.stop - part.start)
        if tries[-1] > 2:
            raise MemoryError

    list(in_batches(batch, 10, call))
    assert tries == [10, 5, 2, 2, 2, 2, 2]


def test_a_single_image_is_tried_again_and_then_told():
    batch, tries = Batch("net", 8), []

    def call(part: slice) -> None:
        tries.append(part)
        raise MemoryError("no room")

    with pytest.raises(ModelError) as told:
        list(in_batches(batch, 1, call))
    assert str(told.value) == (
        "model net: one image at once must fit into memory, got MemoryError: no room; take smaller images, a smaller "
        "network, or a device with more free memory"
    )
    assert len(tries) == 2  # the second without what the larger batches had left behind


def test_a_network_keeps_to_the_smaller_batch():
    batch = Batch("net", 16)
    sizes: list[int] = []

    def call(size: int) -> int:
        sizes.append(size)
        if size > 5:
            raise MemoryError
        return size

    assert [halving(batch, call) for _ in range(2)] == [4, 4]
    assert sizes == [16, 8, 4, 4]
    assert batch.about() == {"batch_size": 4, "batch_size_first": 16}


def test_nothing_of_an_abandoned_try_is_alive_when_the_next_begins():
    gc.disable()  # cycles are not to be broken by chance
    try:
        batch, earlier, alive = Batch("net", 8), [], []

        def inner(x: torch.Tensor, size: int) -> None:
            if size > 2:
                try:
                    raise MemoryError
                except MemoryError as error:
                    raise RuntimeError("wrapped") from error

        def call(size: int) -> None:
            alive.append(sum(reference() is not None for reference in earlier))
            x = torch.zeros(size)
            cycle = [x]
            cycle.append(cycle)  # type: ignore[arg-type]
            earlier.append(weakref.ref(x))
            inner(x, size)

        halving(batch, call)
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def test_what_is_held_for_larger_batches_is_released(monkeypatch):
    released: list[int] = []
    batch = Batch("net", 8)
    monkeypatch.setattr("eval.batches.forget", lambda: released.append(batch.size))
    batch.halve(8)
    batch.halve(3)
    assert released == [4, 1]


def earlier(first: int, size: int) -> dict[str, object]:
    return {"name": "net", "batch_size_first": first, "batch_size": size}


@pytest.mark.parametrize(
    ("batch", "before", "begins", "first"),
    [
        (Batch("net", 256), earlier(256, 64), 64, 256),
        (Batch("net", 256, measured=True), earlier(128, 64), 64, 128),  # more is free than then
        (Batch("net", 32, measured=True), earlier(256, 64), 32, 32),  # less is free than then
        (Batch("net", 100), earlier(256, 64), 100, 100),  # somebody asks for another number
        (Batch("net", 256), earlier(256, 256), 256, 256),
        (Batch("net", 256, measured=True), earlier(16, 16), 256, 256),  # nothing ran out
        (Batch("net", 256), {"name": "net", "batch_size": 64}, 256, 256),  # of a version that did not say
    ],
)
def test_a_run_that_goes_on_begins_with_what_was_left(batch, before, begins, first):
    batch.go_on(before)
    assert batch.about() == {"batch_size": begins, "batch_size_first": first}
