"""What several processes must be able to share equally, and must read alike."""

from __future__ import annotations

from ..config import Config
from ..data import Domains
from ..errors import UserError
from ..system.distributed import Ranks


def check_batch(batch: int, count: int) -> None:
    """Refuse a batch that so many processes cannot share equally."""
    if batch % count:
        raise UserError(f"batch {batch} cannot be divided over {count} processes: give a multiple of {count}")


def check_divisible(config: Config, domains: Domains, count: int) -> None:
    """Refuse a run that so many processes cannot share.

    Raises:
        UserError: the batch, its pasted share or the rainy images.
    """
    check_batch(config.batch, count)
    if count > len(domains.rainy):
        raise UserError(f"{count} processes share {len(domains.rainy)} rainy images: start no more than there are")
    pasted = config.loss.pasted_share * config.batch / count
    if config.loss.pasted and abs(pasted - round(pasted)) > 1e-6:
        raise UserError(
            f"loss.pasted_share {config.loss.pasted_share:g} of {config.batch // count} crops is no whole number: give "
            "another share or batch"
        )


def check_alike(images: list[list[str]], domains: Domains, ranks: Ranks) -> None:
    """Refuse processes that read different images, or take pairs for different types of rain.

    Args:
        images: digests of this process's.
        domains: of the same; the types of pairs decide which of them are held out.
        ranks: the processes.

    Raises:
        UserError: on all of them.
    """
    kinds = [] if domains.pairs is None else domains.pairs.kinds
    if any(others != images for others in ranks.all_gather(images)):
        raise UserError("the processes of this run read different images: give all of them the same files")
    if any(others != kinds for others in ranks.all_gather(kinds)):
        raise UserError(
            "the processes of this run take labelled pairs for different types of rain: give data.cache_dir a folder "
            "that all of them read, or data.pairs_index the same index"
        )
