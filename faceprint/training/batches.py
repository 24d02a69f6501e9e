"""The batches of a run: which images, in which order, how they are read and changed."""

from __future__ import annotations

from faceprint.config import Augment, Config
from faceprint.data.augment import Augmentation
from faceprint.data.cache import cached
from faceprint.data.gpu_decoder import nvimagecodec
from faceprint.data.loader import Loader, default_workers
from faceprint.data.local_order import LocalDraw, storage_of
from faceprint.data.mixed import MixedSource
from faceprint.data.sampler import BalancedOrder, BatchOrder, Draw, IdentityOrder, Order
from faceprint.data.source import Source
from faceprint.distributed import rank, world_size
from faceprint.errors import UserError
from faceprint.training.trainer import Trainer


def build_loader(config: Config, trainer: Trainer, first_step: int) -> Loader:
    """This process's batches from `first_step` to the end; `accumulate` of them make one step."""
    accumulate = trainer.plan.accumulate
    order = build_order(config, trainer, first_step * accumulate, trainer.plan.total_steps * accumulate)
    return Loader(
        cached(trainer.source, config.loader.cache, trainer.spec),
        order,
        trainer.spec,
        workers=default_workers() if config.loader.workers is None else config.loader.workers,
        prefetch=config.loader.prefetch,
        max_unreadable=config.loader.max_unreadable,
        pin_memory=trainer.device.type == "cuda",
        decoder=nvimagecodec(trainer.device) if config.loader.decoder == "nvimagecodec" else None,
    )


def build_order(config: Config, trainer: Trainer, first: int, last: int) -> Order:
    """The images of this process's batches `first` .. `last` - 1, as `config.sampler` has them."""
    position = {"seed": config.seed, "first": first, "last": last, "rank": rank(), "world": world_size()}
    if config.sampler.name == "shuffle":
        draw = build_draw(config, trainer.source)
        return BatchOrder(num_images=trainer.plan.num_images, batch_size=config.batch_size, **position, draw=draw)
    if config.sampler.window is not None or trainer.plan.num_images != len(trainer.source):
        raise UserError(f"sampler.name={config.sampler.name} takes neither sampler.window nor weights of data.parts")
    if config.sampler.name == "balanced":
        return BalancedOrder(
            labels=trainer.source.labels, power=config.sampler.power, batch_size=config.batch_size, **position
        )
    identities, rest = divmod(config.batch_size, config.sampler.images_per_identity)
    if rest or not identities:
        raise UserError(
            f"sampler.name=pk needs a batch_size that is a multiple of sampler.images_per_identity, got"
            f" {config.batch_size} and {config.sampler.images_per_identity}"
        )
    return IdentityOrder(
        labels=trainer.source.labels,
        identities=identities,
        images_per_identity=config.sampler.images_per_identity,
        **position,
    )


def build_draw(config: Config, source: Source) -> Draw | None:
    """What stands where in an epoch; None for any image anywhere."""
    if config.sampler.window is not None:
        return LocalDraw(storage_of(source), config.sampler.window)
    return source.draw if isinstance(source, MixedSource) else None


def build_augmentation(augment: Augment) -> Augmentation:
    return Augmentation(**augment.model_dump(exclude={"preset"}))
