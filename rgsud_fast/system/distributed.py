"""The processes of a run: one, or several that torchrun started; what they agree on and who does what."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import UserError
from .device import pick_device

T = TypeVar("T")
LOST = (
    "another process of this run was lost, and its own message says why: start again with --resume, which goes on from "
    "the last checkpoint"
)
# For a rank that is silent; one whose process dies is noticed at once. Hosts wait longer, as one of them may decode a
# whole set of images for the first time, or measure the figures at the end, while the others wait.
PATIENCE, HOSTS_PATIENCE = timedelta(minutes=15), timedelta(days=1)


class Ranks:
    """The processes that train together; each has a rank from 0. Alone, every method does nothing and costs nothing.

    What tensors hold is exchanged between devices (NCCL on GPUs, gloo on CPUs); what hosts decide, over gloo.

    Args:
        device: of this process.
        count: processes of the run; several need the default process group.
    """

    def __init__(self, device: torch.device, count: int = 1) -> None:
        self.device, self.count = device, count
        self.rank = dist.get_rank() if count > 1 else 0
        self.local = int(os.environ.get("LOCAL_RANK", "0")) if count > 1 else 0  # among those of one machine
        self._hosts: dist.ProcessGroup | None = None
        if count > 1:
            self._hosts = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=HOSTS_PATIENCE))

    @property
    def first(self) -> bool:
        """Whether this process is the one that logs and saves."""
        return self.rank == 0

    def slots(self, batch: int) -> range:
        """The places of this rank in a global batch, an equal share for each."""
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def broadcast_weights(self, networks: Iterable[nn.Module]) -> None:
        """Give every rank the first weights and buffers of rank 0."""
        if self.count > 1:
            for network in networks:
                for value in (*network.parameters(), *network.buffers()):
                    dist.broadcast(value.detach(), 0)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make every gradient the mean over ranks, by one exchange; one that a rank lacks counts as 0 there.

        One that all lack becomes 0 too, which Adam without weight decay leaves alone.
        """
        if self.count == 1 or not parameters:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for parameter, mean in zip(parameters, flat.split([g.numel() for g in gradients]), strict=True):
            parameter.grad = mean.view_as(parameter)

    def all_reduce(self, value: Tensor) -> Tensor:
        """The sum over ranks of a tensor on the device, on every rank."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank."""
        if self.count == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self._hosts)
        return bool(flags)

    def all_gather(self, value: T) -> list[T]:
        """What each rank has, in the order of ranks, on every rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self._hosts)
        return values

    def broadcast(self, value: T | None) -> T:
        """What rank 0 has, on every rank."""
        if self.count == 1:
            return cast(T, value)
        values = [value]
        dist.broadcast_object_list(values, src=0, group=self._hosts, device=torch.device("cpu"))
        return cast(T, values[0])

    def gather_bytes(self, value: Tensor, shapes: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """Bytes of each rank in turn, of these shapes, to rank 0 and there to the host; the other ranks get nothing."""
        if not self.first:
            for part in _pieces(value.cpu().contiguous()):
                dist.send(part, 0, group=self._hosts)
            return
        yield value.cpu()
        for rank in range(1, self.count):
            came = torch.empty(*shapes[rank], dtype=torch.uint8)
            for part in _pieces(came):
                dist.recv(part, rank, group=self._hosts)
            yield came

    @contextlib.contextmanager
    def one_after_another(self) -> Iterator[None]:
        """The first process of each machine does what is inside, then the others do: so a cache is built once."""
        if self.local > 0:
            self.wait()
        yield
        if self.local == 0:
            self.wait()

    def wait(self) -> None:
        """Until every rank has come here."""
        self.all_gather(None)


@contextlib.contextmanager
def process_group(device: str, lost: str = LOST) -> Iterator[Ranks]:
    """The ranks of this run: those of torchrun where it started this process, of a process group that exists, or one.

    Args:
        device: auto, cpu, cuda or cuda:N; of several processes on GPUs each takes the one of its LOCAL_RANK.
        lost: what to say where another process was lost.

    Raises:
        UserError: a device for several processes that only one can have, several that torchrun did not start, or
            another process was lost meanwhile.
    """
    existed = dist.is_available() and dist.is_initialized()
    count = dist.get_world_size() if existed else int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(pick_device(device))
        return
    if ":" in device:
        raise UserError(f"device {device}: each of {count} processes takes its own GPU; give cuda or auto")
    own = pick_device(device)
    if own.type == "cuda":
        own = pick_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(own)
    if not existed:
        try:
            dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
        except ValueError as error:  # torchrun's other variables are missing
            raise UserError(f"WORLD_SIZE is {count} ({error}): start with torchrun, or unset WORLD_SIZE") from None
    whole = False
    try:
        yield Ranks(own, count)
        whole = True
    except (RuntimeError, ValueError) as error:
        if not _is_lost_rank(error):
            raise
        raise UserError(lost) from error
    finally:
        # NCCL would wait there for the others, of which one is gone, or which wait for this one in a collective.
        if not existed and (whole or own.type != "cuda"):
            dist.destroy_process_group()


def _is_lost_rank(error: Exception) -> bool:
    """Whether a collective failed since another process is gone: gloo knows no exception of its own for that."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "connection closed" in text or "gloo" in text or "nccl" in text


def _pieces(value: Tensor, most: int = 2**28) -> Sequence[Tensor]:
    """A contiguous tensor as flat views that one message can carry."""
    return value.view(-1).split(most) if value.numel() else []
