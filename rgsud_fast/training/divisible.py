"""What several processes must be able to share equally."""

from __future__ import annotations

from ..config import Config
from ..data import Domains
from ..errors import UserError


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
